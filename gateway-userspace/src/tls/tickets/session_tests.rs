//! Sessions of rustls's own making, and clients that are let in again or not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection, version,
};
use rustls_pki_types::{PrivateKeyDer, ServerName, UnixTime};

use super::super::{Context, TicketKeys, Ticketer};
use super::*;
use crate::model::{Credential, ServerTls, TlsMode};

/// Keeps the sessions that it is given.
#[derive(Debug, Default)]
struct Collector(Mutex<Vec<Vec<u8>>>);

impl ProducesTickets for Collector {
    fn enabled(&self) -> bool {
        true
    }
    fn lifetime(&self) -> u32 {
        60
    }
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.lock().unwrap().push(plain.to_vec());
        Some(b"ticket".to_vec())
    }
    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// A certificate authority, and a certificate of a client's that it has signed, good until 2030, with its key.
struct People {
    authority: CertifiedIssuer<'static, KeyPair>,
    client: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl People {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2030, 1, 1));
        let key = KeyPair::generate().unwrap();
        let client = params.signed_by(&key, &authority).unwrap().der().clone();
        Self { authority, client, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn verifier(&self, is_optional: bool) -> Arc<dyn rustls::server::danger::ClientCertVerifier> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(self.roots(), provider);
        let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
        builder.build().unwrap()
    }

    /// The sessions of a handshake. The server shows the client's certificate too: nobody minds here.
    fn sessions(&self, version: &'static rustls::SupportedProtocolVersion, client: Client) -> Vec<Vec<u8>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let collector = Arc::new(Collector::default());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(self.verifier(true));
        let mut server = builder.with_single_cert(vec![self.client.clone()], self.key.clone_key()).unwrap();
        server.ticketer = collector.clone();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots());
        let mut own = if client.shows {
            let chain = vec![self.client.clone(), self.authority.der().clone()];
            builder.with_client_auth_cert(chain, self.key.clone_key()).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        own.enable_sni = client.names;
        if client.offers {
            own.alpn_protocols = vec![b"h2".to_vec()];
            server.alpn_protocols = vec![b"h2".to_vec()];
        }
        let client = ClientConnection::new(Arc::new(own), ServerName::try_from("a.test").unwrap());
        let server = ServerConnection::new(Arc::new(server));
        shake(&mut client.unwrap().into(), &mut server.unwrap().into());
        std::mem::take(&mut collector.0.lock().unwrap())
    }
}

/// What a client does.
#[derive(Debug, Clone, Copy)]
struct Client {
    shows: bool,
    names: bool,
    offers: bool,
}

fn shake(client: &mut Connection, server: &mut Connection) {
    for _ in 0..4 {
        pass(client, server);
        pass(server, client);
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
}

fn pass(from: &mut Connection, to: &mut Connection) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets().unwrap();
    }
}

#[test]
fn certificates_are_found_in_sessions_as_rustls_makes_them() {
    let people = People::new();
    let both = [false, true];
    for version in [&version::TLS12, &version::TLS13] {
        for (shows, names, offers) in
            both.iter().flat_map(|a| both.iter().flat_map(move |b| both.map(|c| (*a, *b, c))))
        {
            let client = Client { shows, names, offers };
            let sessions = people.sessions(version, client);
            assert!(!sessions.is_empty(), "{client:?}");
            let all = [people.client.clone(), people.authority.der().clone()];
            let wanted = if shows { &all[..] } else { &[] };
            for session in sessions {
                assert_eq!(client_certificates(&session).as_deref(), Some(wanted), "{client:?}");
                for length in 0..session.len() {
                    assert_eq!(client_certificates(&session[..length]), None, "{client:?}: {length}");
                }
                assert_eq!(client_certificates(&[&*session, &[0]].concat()), None, "{client:?}");
            }
        }
    }
}

#[test]
fn who_would_not_get_in_by_now_is_not_resumed() {
    let (people, strangers) = (People::new(), People::new());
    let session = |people: &People, shows| {
        people.sessions(&version::TLS13, Client { shows, names: true, offers: true }).remove(0)
    };
    let (known, unknown) = (session(&people, true), session(&strangers, true));
    let anonymous = session(&people, false);
    let ticketer = |clients| {
        let credential = Arc::new(Credential { certificates: Vec::new(), client_authority: None });
        let tls = ServerTls {
            mode: TlsMode::Mutual,
            asked: Vec::new(),
            credential: Ok(credential.clone()),
            clients: crate::model::ClientPolicy::default(),
            protocol: crate::model::ProtocolPolicy::default(),
        };
        Ticketer::new(Arc::new(TicketKeys::default()), Context::of(&[], &tls, &credential).unwrap(), clients)
    };
    let nobody_is_asked = ticketer(None);
    let must = ticketer(Some(people.verifier(false)));
    let may = ticketer(Some(people.verifier(true)));
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    // Of 2025; and the first second of 2030, and the next.
    let (now, last, over) = (at(1_750_000_000), at(1_893_456_000), at(1_893_456_001));
    for (what, ticketer, session, now, wanted) in [
        ("good", &must, &known[..], now, true),
        ("good to the last second", &must, &known, last, true),
        ("run out", &must, &known, over, false),
        ("run out, where none is needed", &may, &known, over, false),
        ("run out, where none is asked for", &nobody_is_asked, &known, over, true),
        ("of another authority", &must, &unknown, now, false),
        ("of another authority, where none is needed", &may, &unknown, now, false),
        ("none", &must, &anonymous, now, false),
        ("none, where none is needed", &may, &anonymous, now, true),
        ("no session", &must, b"", now, false),
        ("no session, where none is needed", &may, &known[..known.len() - 1], now, false),
    ] {
        assert_eq!(ticketer.is_still_welcome(session, now), wanted, "{what}");
    }
}
