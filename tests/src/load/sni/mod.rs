//! Connections that begin with a ClientHello, whose server name chooses the backend.
//!
//! There are two backends, `a` and `b`, each with half of the arena's backend addresses, and a server name for each kind
//! of work on each of them. But for [`Kind::Tls`], the backend reads the ClientHello, says which one it is in one byte,
//! and goes on in plain TCP: what TLS itself costs is the same behind every gateway, and hides what differs.

pub mod backend;
pub mod behaviour;
pub mod client;
pub mod handshake;
pub mod idle;
pub mod touch;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use rustls::{ClientConfig, ServerConfig};

use crate::arena::Arena;
use crate::authority::Authority;
use crate::tls::TlsClient;

/// Bytes of a request.
pub const REQUEST: usize = 1024;
/// Bytes of an answer.
pub const ANSWER: usize = 1024;
/// Bits a second of a [`Kind::Paced`] stream: what every gateway can carry.
pub const PACE: u64 = 1_000_000_000;
/// Below it are all server names.
pub const DOMAIN: &str = "sluice.example";

/// What a backend does when it has read the ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sends bytes without end.
    Bulk,
    /// Sends [`PACE`] without end.
    Paced,
    /// Answers each [`REQUEST`] bytes.
    Answers,
    /// Goes on with the handshake, and then answers each [`REQUEST`] bytes.
    Tls,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bulk, Self::Paced, Self::Answers, Self::Tls];

    /// Where backends listen for it. Below every range of outgoing ports.
    pub fn port(self) -> u16 {
        match self {
            Self::Bulk => 711,
            Self::Paced => 712,
            Self::Answers => 713,
            Self::Tls => 714,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Paced => "paced",
            Self::Answers => "answers",
            Self::Tls => "tls",
        }
    }
}

/// One of the backends that names choose between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first.
    A,
    /// The second.
    B,
}

impl Choice {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// In turns.
    pub fn nth(number: u64) -> Self {
        if number.is_multiple_of(2) { Self::A } else { Self::B }
    }

    /// What it says about itself.
    pub fn letter(self) -> u8 {
        match self {
            Self::A => b'a',
            Self::B => b'b',
        }
    }

    /// Its share of the arena's backend addresses.
    pub fn addresses(self, arena: &Arena, port: u16) -> Vec<SocketAddr> {
        let all = arena.backends(port);
        let (first, second) = all.split_at(all.len() / 2);
        match self {
            Self::A => first.to_vec(),
            Self::B => second.to_vec(),
        }
    }
}

/// A server name, and who is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The work.
    pub kind: Kind,
    /// The backend.
    pub choice: Choice,
}

impl Name {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().flat_map(|kind| Choice::ALL.map(|choice| Self { kind, choice }))
    }

    /// Its first label, which configurations call the backend by.
    pub fn label(self) -> String {
        format!("{}-{}", self.kind.word(), char::from(self.choice.letter()))
    }

    /// As a client says it.
    pub fn host(self) -> String {
        format!("{}.{DOMAIN}", self.label())
    }

    /// Where it leads.
    pub fn addresses(self, arena: &Arena) -> Vec<SocketAddr> {
        self.choice.addresses(arena, self.kind.port())
    }
}

/// Keys, certificates and what both ends do with them: a full handshake each time.
#[derive(Debug, Clone)]
pub struct Ends {
    /// A server's, by [`Choice`].
    pub servers: [Arc<ServerConfig>; 2],
    /// A client's.
    pub client: Arc<ClientConfig>,
}

impl Ends {
    /// New keys. Each backend has a certificate of its own, so that a handshake shows which one answers.
    pub fn new() -> Result<Self> {
        let authority = Authority::new("the backends'");
        let server = |choice| -> Result<Arc<ServerConfig>> {
            let identity = authority.issue(&[&Name { kind: Kind::Tls, choice }.host()]);
            let built = ServerConfig::builder().with_no_client_auth();
            let mut config = built.with_single_cert(identity.chain(), identity.private_key())?;
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            Ok(Arc::new(config))
        };
        let mut client =
            ClientConfig::builder().with_root_certificates(authority.roots()).with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { servers: [server(Choice::A)?, server(Choice::B)?], client: Arc::new(client) })
    }
}

/// A real ClientHello for a name, in one record.
pub fn hello(name: Name) -> Vec<u8> {
    TlsClient::new(rustls::RootCertStore::empty(), &name.host()).hello()
}

/// Bytes of the record that begins here, head included (RFC 8446 section 5.1); none until its head is there.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(3..5)?;
    Some(5 + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_one_record_with_its_name_in_it() {
        for name in Name::all() {
            let hello = hello(name);
            assert_eq!(record_length(&hello), Some(hello.len()));
            assert_eq!(record_length(&hello[..4]), None);
            let host = name.host();
            assert!(hello.windows(host.len()).any(|window| window == host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn no_two_names_are_the_same() {
        let hosts: std::collections::HashSet<_> = Name::all().map(Name::host).collect();
        assert_eq!(hosts.len(), Name::all().count());
    }
}
