//! TLS sessions that are resumed, by openssl: where the gateway still says the same, whichever worker or process answers, and
//! nowhere else.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;

use harness::backend::{Backend, hex};
use harness::documents::{self, Server, http_route, http_service, opaque_secret};
use harness::gateway::Gateway;
use harness::program::{Said, run_with_input};
use harness::workshop::{Extensions, Key, Workshop};
use harness::{port, wait};
use serde_json::Value;

const HOST: &str = "web.test";
const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// A gateway whose servers all have the host, each on a port of its own, and the certificates of those who meet there.
struct Site {
    shop: Workshop,
    gateway: Gateway,
    ports: Vec<u16>,
    documents: Vec<(&'static str, String)>,
    _backend: Backend,
}

impl Site {
    /// With what stands in the `tls` of each server.
    fn new(servers: &[&str], flags: &[&str]) -> Self {
        let (shop, backend) = (workshop(), Backend::http("web"));
        let ports: Vec<u16> = servers.iter().map(|_| port::free()).collect();
        let rest = http_route("web", "*.test", "edge", "web")
            + &http_service("web", &[backend.server.address])
            + &credential(&shop, "other", "server")
            + &authority(&shop, "other-cacert", "guests");
        let documents = vec![
            ("edge", edge(&ports, servers, &[])),
            ("own", credential(&shop, "own", "server")),
            ("own-cacert", authority(&shop, "own-cacert", "staff")),
            ("rest", rest),
        ];
        let all = documents.iter();
        let arranged = all.fold(Gateway::arrange(), |it, (name, text)| it.document(name, text));
        Self { shop, gateway: arranged.flags(flags).start(), ports, documents, _backend: backend }
    }

    /// Puts a document back.
    #[track_caller]
    fn restore(&self, name: &str) {
        let (_, text) = self.documents.iter().find(|(own, _)| *own == name).expect("one of the documents");
        self.gateway.apply(name, text);
    }

    /// A request by `openssl s_client`.
    fn request(&self, at: usize, arguments: &str) -> Said {
        let mut command = Command::new("openssl");
        command.current_dir(self.shop.directory()).args(["s_client", "-ign_eof", "-CAfile", "root.crt"]);
        command.args(["-servername", HOST, "-connect", &self.gateway.at(self.ports[at]).to_string()]);
        command.args(arguments.split_whitespace());
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        run_with_input(&mut command, request.as_bytes())
    }

    /// Keeps a session in a file.
    #[track_caller]
    fn begin(&self, at: usize, version: &str, arguments: &str) {
        let said = self.request(at, &format!("{version} -sess_out {version} {arguments}"));
        assert!(is_served(&said) && !is_resumed(&said), "{version}: {}\n{}", said.all(), self.gateway.log());
        assert!(self.shop.path(version).exists(), "{version}: no session: {}", said.all());
    }

    /// Comes back with the session.
    fn back(&self, at: usize, version: &str, arguments: &str) -> Said {
        self.request(at, &format!("{version} -sess_in {version} {arguments}"))
    }

    #[track_caller]
    fn resumes(&self, at: usize, version: &str, arguments: &str) {
        let said = self.back(at, version, arguments);
        assert!(is_served(&said) && is_resumed(&said), "{version}: {}", said.all());
    }

    #[track_caller]
    fn begins_anew(&self, at: usize, version: &str, arguments: &str) {
        let said = self.back(at, version, arguments);
        assert!(is_served(&said) && !is_resumed(&said), "{version}: {}", said.all());
    }
}

fn workshop() -> Workshop {
    let shop = Workshop::new();
    for authority in ["root", "staff", "guests"] {
        shop.authority(authority);
    }
    for server in ["server", "renewed"] {
        shop.issue("root", server, Key::Ecdsa, Extensions::Names("DNS:web.test"));
    }
    for client in ["alice", "bob"] {
        shop.issue("staff", client, Key::Ecdsa, Extensions::Names("DNS:staff.test"));
    }
    shop.revoke("staff", &["bob"]);
    shop
}

/// Servers of the host, and more of other hosts on the first one's port.
fn edge(ports: &[u16], servers: &[&str], more: &[(&str, &str)]) -> String {
    let own = ports.iter().zip(servers).map(|(port, tls)| Server::https_with(*port, tls, &[HOST]));
    let more = more.iter().map(|(host, tls)| Server::https_with(ports[0], tls, &[host]));
    documents::gateway("edge", &own.chain(more).collect::<Vec<_>>())
}

fn credential(shop: &Workshop, secret: &str, name: &str) -> String {
    let (certificate, key) = (shop.read(&format!("{name}.crt")), shop.read(&format!("{name}.key")));
    opaque_secret(secret, &[("tls.crt", &certificate), ("tls.key", &key)])
}

fn authority(shop: &Workshop, secret: &str, name: &str) -> String {
    opaque_secret(secret, &[("ca.crt", &shop.read(&format!("{name}.crt")))])
}

fn is_served(said: &Said) -> bool {
    said.out.contains("HTTP/1.1 200")
}

fn is_resumed(said: &Said) -> bool {
    said.out.lines().any(|line| line.starts_with("Reused, TLSv1."))
}

const SIMPLE: &str = "mode: SIMPLE, credentialName: own";
const OPTIONAL: &str = "mode: OPTIONAL_MUTUAL, credentialName: own";
const STAFF: &str = "mode: MUTUAL, credentialName: own";
const GUESTS: &str = "mode: MUTUAL, credentialName: other";
const ALICE: &str = "-cert alice.crt -key alice.key";

#[test]
fn every_worker_takes_the_tickets_of_each_and_of_generations_before() {
    let site = Site::new(&[SIMPLE], &["--workers", "4"]);
    for version in VERSIONS {
        site.begin(0, version, "");
        // Which worker a connection comes to is the kernel's to choose, by its port.
        for _ in 0..16 {
            site.resumes(0, version, "");
        }
    }
    let changes = [
        ("more", http_route("more", "more.test", "edge", "web")),
        ("edge", edge(&site.ports, &[SIMPLE], &[("beside.test", STAFF)])),
        ("others", credential(&site.shop, "third", "renewed")),
        ("edge", edge(&site.ports, &[SIMPLE], &[("beside.test", GUESTS)])),
        ("edge", edge(&site.ports, &[SIMPLE], &[])),
    ];
    for (name, text) in changes {
        site.gateway.apply(name, &text);
        for version in VERSIONS {
            site.resumes(0, version, "");
        }
    }
    // A chain that goes and comes back is the same.
    site.gateway.apply("edge", &edge(&site.ports, &[GUESTS], &[]));
    for version in VERSIONS {
        assert!(!is_resumed(&site.back(0, version, "")));
    }
    site.gateway.apply("edge", &edge(&site.ports, &[SIMPLE], &[]));
    wait::until("the chain of before", || is_served(&site.request(0, "")).then_some(()));
    for version in VERSIONS {
        site.resumes(0, version, "");
    }
}

#[test]
fn chains_take_the_tickets_of_those_alone_that_ask_for_the_same() {
    let servers = [SIMPLE, OPTIONAL, STAFF, GUESTS, STAFF];
    let site = Site::new(&servers, &[]);
    let lets_alice_in = |server: &str| server != GUESTS;
    for version in VERSIONS {
        for (from, giver) in servers.iter().enumerate().filter(|(_, giver)| lets_alice_in(giver)) {
            site.begin(from, version, ALICE);
            for (to, taker) in servers.iter().enumerate() {
                let said = site.back(to, version, ALICE);
                let case = format!("{version} from {giver} to {taker}: {}", said.all());
                assert_eq!(is_resumed(&said), giver == taker, "{case}");
                assert_eq!(is_served(&said), lets_alice_in(taker), "{case}");
            }
        }
        // A session that is worth nothing gets nobody in.
        for from in [0, 1] {
            site.begin(from, version, "");
            for to in [2, 3, 4] {
                let said = site.back(to, version, "");
                assert!(!is_served(&said) && !is_resumed(&said), "{version} {from} {to}: {}", said.all());
            }
        }
        // One of somebody who was let in needs no certificate, where it is taken.
        site.begin(2, version, ALICE);
        site.resumes(4, version, "");
    }
}

#[test]
fn what_decides_who_gets_in_and_who_answers_ends_sessions_when_it_changes() {
    let site = Site::new(&[STAFF], &[]);
    let shop = &site.shop;
    let both = shop.read("staff.crt") + &shop.read("guests.crt");
    let (authority, list) = (shop.read("staff.crt"), shop.read("staff.crl"));
    let server = |more: &str| edge(&site.ports, &[&format!("{STAFF}, {more}")], &[]);
    let names = documents::gateway("edge", &[Server::https_with(site.ports[0], STAFF, &[HOST, "more.test"])]);
    for (what, name, text) in [
        ("the client CA", "own-cacert", opaque_secret("own-cacert", &[("ca.crt", &both)])),
        (
            "the revoked",
            "own-cacert",
            opaque_secret("own-cacert", &[("ca.crt", &authority), ("ca.crl", &list)]),
        ),
        ("certificate and key", "own", credential(shop, "own", "renewed")),
        ("the clients' names", "edge", server("subjectAltNames: [staff.test]")),
        ("the curves", "edge", server("ecdhCurves: [X25519]")),
        ("the server's names", "edge", names),
        ("the highest version", "edge", server("maxProtocolVersion: TLSV1_2")),
        ("the lowest version", "edge", server("minProtocolVersion: TLSV1_3")),
    ] {
        let spoken = |version: &&str| match what {
            "the highest version" => *version == "-tls1_2",
            "the lowest version" => *version == "-tls1_3",
            _ => true,
        };
        println!("{what}");
        for version in VERSIONS {
            site.begin(0, version, ALICE);
        }
        site.gateway.apply(name, &text);
        for version in VERSIONS.into_iter().filter(spoken) {
            site.begins_anew(0, version, ALICE);
        }
        site.restore(name);
        for version in VERSIONS {
            site.resumes(0, version, ALICE);
        }
    }
    // Whoever was let in and is revoked by now.
    let bob = "-cert bob.crt -key bob.key";
    for version in VERSIONS {
        site.begin(0, version, bob);
    }
    let revoking = opaque_secret("own-cacert", &[("ca.crt", &authority), ("ca.crl", &list)]);
    site.gateway.apply("own-cacert", &revoking);
    for version in VERSIONS {
        let said = site.back(0, version, bob);
        assert!(!is_served(&said) && !is_resumed(&said), "{version}: {}", said.all());
    }
}

#[test]
fn a_successor_takes_the_tickets_of_the_agent_before_and_a_new_agent_does_not() {
    let mut site = Site::new(&[STAFF, SIMPLE], &["--drain-time", "1"]);
    for version in VERSIONS {
        site.begin(0, version, ALICE);
    }
    for _ in 0..3 {
        site.gateway.replace().expect_end();
        for version in VERSIONS {
            site.resumes(0, version, ALICE);
            assert!(!is_resumed(&site.back(1, version, ALICE)), "another chain is another chain");
        }
    }
    assert!(site.gateway.stop().success());
    site.gateway.restart();
    for version in VERSIONS {
        site.begins_anew(0, version, ALICE);
    }
}

/// What an agent gives to whoever asks for its sockets.
fn offered(gateway: &Gateway) -> Value {
    let mut stream = UnixStream::connect(gateway.socket()).expect("the admin socket");
    stream.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout");
    let request = "POST /hand-over HTTP/1.1\r\nhost: sluice\r\nconnection: upgrade\r\nupgrade: sluice\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a length");
    let mut offer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut offer).expect("an offer");
    serde_json::from_slice(&offer).expect("JSON")
}

#[test]
fn keys_are_given_to_a_successor_and_told_to_nobody() {
    let site = Site::new(&[SIMPLE], &["--log", "trace"]);
    for version in VERSIONS {
        site.begin(0, version, "");
    }
    let mut offer = offered(&site.gateway);
    let keys = offer["ticketKeys"].take();
    let keys = keys.as_array().expect("keys");
    assert_eq!(keys.len(), 1, "both sessions have the same one");
    let secret: Vec<u8> = serde_json::from_value(keys[0]["secret"].clone()).expect("octets");
    assert_eq!(secret.len(), 32);
    for version in VERSIONS {
        site.resumes(0, version, "");
    }
    let list = |separator| secret.iter().map(u8::to_string).collect::<Vec<_>>().join(separator);
    let forms = [hex(&secret), hex(&secret).to_uppercase(), list(", "), list(",")];
    let told = ["/config_dump", "/status", "/proxy-config/secrets"].map(|path| site.gateway.ask(path));
    for (index, text) in told.into_iter().flatten().chain([site.gateway.log()]).enumerate() {
        assert!(text.len() > 100, "{index}: {text}");
        assert!(forms.iter().all(|form| !text.contains(form)), "{index} tells the key");
    }
}
