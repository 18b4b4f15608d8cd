//! Session tickets (RFC 5077; RFC 8446, 4.6.1): by which keys they are sealed, for how long, and where they are taken.

mod context;
mod key;
mod keys;
mod session;

use std::sync::Arc;

use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::UnixTime;

pub(super) use self::context::Context;
pub use self::key::HandedKey;
pub use self::keys::TicketKeys;

/// Gives and takes the tickets of one chain.
#[derive(Debug)]
pub(super) struct Ticketer {
    keys: Arc<TicketKeys>,
    context: Context,
    /// Who says which clients get in, where they are asked for a certificate.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Ticketer {
    /// One for all that is served under a context.
    pub(super) fn new(
        keys: Arc<TicketKeys>,
        context: Context,
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Self {
        Self { keys, context, clients }
    }

    fn seal(&self, session: &[u8], now: i64) -> Option<Vec<u8>> {
        self.keys.sealing(now)?.seal(&self.context, session)
    }

    fn open(&self, ticket: &[u8], now: i64) -> Option<Vec<u8>> {
        let key = self.keys.opening(ticket.first_chunk()?, now)?;
        key.open(&self.context, ticket)
    }

    /// Whether the client would still get in with what it has shown. One that does not makes a full handshake, and may show
    /// another certificate there. Sessions that are resumed over and over would go on for ever otherwise (RFC 8446, 4.6.1).
    fn is_still_welcome(&self, session: &[u8], now: UnixTime) -> bool {
        let Some(clients) = &self.clients else { return true };
        match session::client_certificates(session).as_deref() {
            Some([own, others @ ..]) => clients.verify_client_cert(own, others, now).is_ok(),
            Some([]) => !clients.client_auth_mandatory(),
            None => false,
        }
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        keys::OPENS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, keys::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, keys::now()).filter(|session| self.is_still_welcome(session, UnixTime::now()))
    }
}

#[cfg(test)]
mod tests;
