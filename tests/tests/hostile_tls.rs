//! Hostile first octets at a TLS port, a table: what the gateway says to each. Nothing of it may reach the backend, and
//! who comes next is served.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::authority::Authority;
use harness::documents::{Server, gateway, http_route, http_service, secret};
use harness::gateway::Gateway;
use harness::hostile::Recorder;
use harness::program::Said;
use harness::tls::{TlsClient, exchange, in_records};
use harness::{client, port, wait};

const NAME: &str = "a.test";
/// No row is waited for longer.
const PATIENCE: Duration = Duration::from_secs(10);

const SERVER_NAME: u16 = 0;
const GROUPS: u16 = 10;
const SIGNATURES: u16 = 13;
const ALPN: u16 = 16;
const EARLY_DATA: u16 = 42;
const RENEGOTIATION: u16 = 0xff01;

/// What the gateway says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It closes without a word: nobody is served by that name, or it is no TLS.
    Nothing,
    /// An alert, and it closes.
    Alert,
    /// Its own hello: all is well so far.
    Hello,
}

/// A ClientHello of TLS 1.2 that is well-formed unless a row says otherwise.
#[derive(Clone)]
struct Hello {
    version: [u8; 2],
    session: Vec<u8>,
    suites: Vec<u8>,
    compressions: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    fn new() -> Self {
        let signatures = b"\x00\x06\x04\x03\x08\x04\x04\x01".to_vec();
        Self {
            version: [3, 3],
            session: Vec::new(),
            suites: b"\xc0\x2b\xc0\x2f".to_vec(),
            compressions: vec![0],
            extensions: vec![
                (SERVER_NAME, names(&[(0, NAME.as_bytes())])),
                (GROUPS, b"\x00\x02\x00\x1d".to_vec()),
                (SIGNATURES, signatures),
                (11, b"\x01\x00".to_vec()),
                (23, Vec::new()),
            ],
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// In place of the name that is asked for.
    fn asking(self, content: Vec<u8>) -> Self {
        self.with(|hello| hello.extensions[0].1 = content)
    }

    fn and(self, kind: u16, content: &[u8]) -> Self {
        self.with(|hello| hello.extensions.push((kind, content.to_vec())))
    }

    fn body(&self) -> Vec<u8> {
        let mut body = self.version.to_vec();
        body.extend([7; 32]);
        body.push(self.session.len() as u8);
        body.extend(&self.session);
        body.extend(vector(&self.suites));
        body.push(self.compressions.len() as u8);
        body.extend(&self.compressions);
        let list = self
            .extensions
            .iter()
            .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &vector(content)].concat());
        body.extend(vector(&list.collect::<Vec<_>>()));
        body
    }

    fn record(&self) -> Vec<u8> {
        record(22, &message(1, &self.body()))
    }
}

fn vector(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes()[..], content].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1], &*vector(payload)].concat()
}

/// A list of server names, each with its kind.
fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    vector(&names.iter().flat_map(|(kind, name)| [&[*kind], &*vector(name)].concat()).collect::<Vec<_>>())
}

fn named(name: &[u8]) -> Vec<u8> {
    Hello::new().asking(names(&[(0, name)])).record()
}

/// The hello's body, changed octet by octet.
fn body(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Hello::new().body();
    change(&mut body);
    record(22, &message(1, &body))
}

fn rows() -> Vec<(&'static str, Vec<u8>, Answer)> {
    use Answer::{Alert, Hello as Greeting};
    let hello = Hello::new;
    let plain = hello().record();
    [no_tls(), wrong_names(), wrong_shapes()]
        .concat()
        .into_iter()
        .chain([
            ("a plain hello", plain.clone(), Greeting),
            ("a name in capitals", named(b"A.TEST"), Greeting),
            ("octet by octet, each in a record", in_records(&plain, 1), Greeting),
            ("garbage behind the hello", [&*plain, &[0; 100]].concat(), Alert),
            (
                "cleartext behind the hello",
                [&*plain, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"].concat(),
                Alert,
            ),
            (
                "an oversized record behind the hello",
                [&*plain, b"\x17\x03\x03\xff\xff", &[0; 400]].concat(),
                Alert,
            ),
            ("application data before the handshake", [&*plain, &*record(23, b"GET /")].concat(), Alert),
            ("a second hello", [&*plain, &*plain].concat(), Alert),
            ("TLS 1.1", hello().with(|it| it.version = [3, 2]).record(), Alert),
            ("TLS 1.0", hello().with(|it| it.version = [3, 1]).record(), Alert),
            ("SSL 3", hello().with(|it| it.version = [3, 0]).record(), Alert),
            ("version 2.0", hello().with(|it| it.version = [2, 0]).record(), Alert),
            ("a suite without encryption", hello().with(|it| it.suites = vec![0, 2]).record(), Alert),
            ("an export suite", hello().with(|it| it.suites = vec![0, 3]).record(), Alert),
            ("an anonymous suite", hello().with(|it| it.suites = vec![0xc0, 0x18]).record(), Alert),
            ("RSA without forward secrecy", hello().with(|it| it.suites = vec![0, 0x2f]).record(), Alert),
            ("suites that nobody knows", hello().with(|it| it.suites = vec![0xda; 64]).record(), Alert),
            ("compression alone", hello().with(|it| it.compressions = vec![1]).record(), Alert),
            ("groups said twice", hello().and(GROUPS, b"\x00\x02\x00\x1d").record(), Alert),
            ("groups cut off", hello().with(|it| it.extensions[1].1 = vec![0, 9, 0]).record(), Alert),
            (
                "no signature that is known",
                hello().with(|it| it.extensions[2].1 = vec![0, 2, 0xff, 0xff]).record(),
                Alert,
            ),
            ("protocols that nobody speaks", hello().and(ALPN, b"\x00\x07\x06spdy/9").record(), Alert),
            ("early data out of nothing", hello().and(EARLY_DATA, b"").record(), Greeting),
            ("a renegotiation of nothing", hello().and(RENEGOTIATION, b"\x00").record(), Greeting),
        ])
        .collect()
}

/// What is told from TLS before anything is read of it.
fn no_tls() -> Vec<(&'static str, Vec<u8>, Answer)> {
    let plain = Hello::new().record();
    let changed = |at: usize, to: u8| {
        let mut bytes = plain.clone();
        bytes[at] = to;
        bytes
    };
    let rows = [
        ("nothing", Vec::new()),
        ("one octet", vec![22]),
        ("half a hello", plain[..plain.len() / 2].to_vec()),
        ("all but an octet", plain[..plain.len() - 1].to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("zeros", vec![0; 4096]),
        ("ones", vec![0xff; 4096]),
        ("an SSL 2 hello", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80".to_vec()),
        (
            "a TLS hello in the frame of SSL 2",
            b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10\x00\x00\x2f".to_vec(),
        ),
        ("an alert", record(21, &[2, 0])),
        ("a change of ciphers", record(20, &[1])),
        ("application data", record(23, b"GET / HTTP/1.1\r\n\r\n")),
        ("a heartbeat", record(24, b"\x01\x40\x00")),
        ("a record of kind 0", changed(0, 0)),
        ("a record of kind 255", changed(0, 255)),
        ("a record of version 2", changed(1, 2)),
        ("a record of version 4", changed(1, 4)),
        ("an empty record", [&*record(22, b""), &*plain].concat()),
        ("a record of 16385 octets", [b"\x16\x03\x01\x40\x01", &*vec![1; 16385]].concat()),
        ("a record of 65535 octets", [b"\x16\x03\x01\xff\xff", &*vec![1; 4096]].concat()),
    ];
    rows.map(|(name, bytes)| (name, bytes, Answer::Nothing)).to_vec()
}

/// Names that nobody is served by.
fn wrong_names() -> Vec<(&'static str, Vec<u8>, Answer)> {
    let hello = Hello::new;
    let rows = [
        ("no name", hello().with(|it| drop(it.extensions.remove(0))).record()),
        ("another name", named(b"b.test")),
        ("a name with a dot at its end", named(b"a.test.")),
        ("a name with a NUL behind it", named(b"a.test\0")),
        ("a name with a NUL and another", named(b"a.test\0.evil.test")),
        ("a NUL", named(b"\0")),
        ("an empty name", named(b"")),
        ("a blank", named(b"a.test ")),
        ("a line end", named(b"a.test\r\n")),
        ("a slash", named(b"a.test/x")),
        ("a port", named(b"a.test:443")),
        ("user information", named(b"me@a.test")),
        ("a wildcard", named(b"*.test")),
        ("eight bits", named(b"\xe4.test")),
        ("UTF-8", named("ä.test".as_bytes())),
        ("an address", named(b"127.0.0.1")),
        ("256 octets", named(&[b'a'; 256])),
        ("16,000 octets", named(&[b'a'; 16000])),
        ("two names", hello().asking(names(&[(0, b"a.test"), (0, b"b.test")])).record()),
        ("a name twice", hello().asking(names(&[(0, b"a.test"), (0, b"a.test")])).record()),
        ("a name of another kind", hello().asking(names(&[(1, b"a.test")])).record()),
        ("no names in a list", hello().asking(names(&[])).record()),
        ("no list of names", hello().asking(Vec::new()).record()),
        ("a list shorter than its name", hello().asking(b"\x00\x04\x00\x00\x06a.test".to_vec()).record()),
        ("octets behind the names", hello().asking([names(&[(0, b"a.test")]), vec![0]].concat()).record()),
        ("names said twice", hello().and(SERVER_NAME, &names(&[(0, b"a.test")])).record()),
    ];
    rows.map(|(name, bytes)| (name, bytes, Answer::Nothing)).to_vec()
}

/// Hellos that are not in the form of one.
fn wrong_shapes() -> Vec<(&'static str, Vec<u8>, Answer)> {
    let hello = Hello::new;
    let plain = hello().record();
    let between = |kind: u8, payload: &[u8]| {
        let records = in_records(&plain, 60);
        [&records[..65], &*record(kind, payload), &records[65..]].concat()
    };
    let rows = [
        ("a ServerHello", record(22, &message(2, &hello().body()))),
        ("a HelloRequest", record(22, &message(0, b""))),
        ("a Finished", record(22, &message(20, &[0; 12]))),
        ("a message of 16 MiB", record(22, b"\x01\xff\xff\xff\x03\x03")),
        ("an empty message", record(22, &message(1, b""))),
        ("octets behind the extensions", body(|body| body.push(0))),
        ("extensions cut off", body(|body| body.truncate(body.len() - 1))),
        ("a session of 33 octets", hello().with(|it| it.session = vec![1; 33]).record()),
        ("a session longer than the hello", body(|body| body[34] = 255)),
        ("no suites", hello().with(|it| it.suites = Vec::new()).record()),
        ("half a suite", hello().with(|it| it.suites = vec![0xc0, 0x2b, 0xc0]).record()),
        ("no compression", hello().with(|it| it.compressions = Vec::new()).record()),
        ("an empty list of protocols", hello().and(ALPN, b"\x00\x00").record()),
        ("an empty protocol", hello().and(ALPN, b"\x00\x01\x00").record()),
        ("a protocol cut off", hello().and(ALPN, b"\x00\x03\x08ht").record()),
        ("protocols said twice", hello().and(ALPN, b"\x00\x03\x02h2").and(ALPN, b"\x00\x03\x02h2").record()),
        ("an alert in the middle", between(21, &[1, 0])),
        ("a change of ciphers in the middle", between(20, &[1])),
        ("an empty record in the middle", between(22, b"")),
        ("application data in the middle", between(23, b"x")),
    ];
    rows.map(|(name, bytes)| (name, bytes, Answer::Nothing)).to_vec()
}

/// What comes back, until the gateway closes or greets.
fn answer(address: SocketAddr, bytes: &[u8]) -> Result<Answer, String> {
    let mut stream = TcpStream::connect_timeout(&address, client::LIMIT).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // The gateway may close before it has read all.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let (read, error) = client::read_to_end(&mut stream);
    if matches!(error, Some(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)) {
        return Err(format!("still open after {} octets", read.len()));
    }
    match read.first() {
        None => Ok(Answer::Nothing),
        Some(21) => Ok(Answer::Alert),
        // What came behind the client's hello was bad.
        Some(22) if has_alert(&read) => Ok(Answer::Alert),
        Some(22) => Ok(Answer::Hello),
        Some(other) => Err(format!("a record of kind {other}")),
    }
}

fn has_alert(mut records: &[u8]) -> bool {
    while let [kind, _, _, high, low, rest @ ..] = records {
        if *kind == 21 {
            return true;
        }
        records = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    false
}

/// A gateway that ends TLS, and who records what comes to its backend.
struct Site {
    authority: Authority,
    backend: Recorder,
    gateway: Gateway,
    port: u16,
}

impl Site {
    fn start() -> Self {
        let (authority, backend, port) = (Authority::new("the test's"), Recorder::start(), port::free());
        let documents = gateway("edge", &[Server::https(port, "SIMPLE", "a-credential", &[NAME])])
            + &http_route("a", NAME, "edge", "a")
            + &http_service("a", &[backend.address])
            + &secret("a-credential", &authority.issue(&[NAME]), None);
        Self { gateway: Gateway::arrange().document("site", &documents).start(), authority, backend, port }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.at(self.port)
    }

    /// Nothing has reached the backend, and who comes next does.
    #[track_caller]
    fn expect_unharmed(&self) {
        assert_eq!(self.backend.take(0), []);
        let client = TlsClient::new(self.authority.roots(), NAME);
        let mut stream = client.connect(self.address()).expect("a connection");
        let request = format!("GET /next HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
        let answer = exchange(&mut stream, &request).expect("an answer");
        assert!(answer.ends_with("/next"), "{answer}");
    }
}

#[test]
fn hostile_hellos_are_refused_and_reach_nobody() {
    let (site, rows) = (Site::start(), rows());
    let address = site.address();
    assert!(rows.len() > 80, "{} rows", rows.len());
    let wrong: Vec<_> = std::thread::scope(|scope| {
        let parts = rows.chunks(rows.len().div_ceil(8));
        let threads: Vec<_> = parts.map(|part| scope.spawn(|| faults(address, part))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("rows that can be asked")).collect()
    });
    assert!(wrong.is_empty(), "of {} rows:\n{}", rows.len(), wrong.join("\n"));
    site.expect_unharmed();
}

/// RFC 5746 has made it safe to do so again; it is not safe from whoever has a server make handshakes without end.
#[test]
fn a_client_that_wants_to_negotiate_again_is_refused() {
    let site = Site::start();
    let mut client = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-servername", NAME, "-connect", &site.address().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl; install it with: apt-get install openssl");
    // It reads this once the handshake is through, and would end with its input.
    let mut input = client.stdin.take().expect("standard input is piped");
    input.write_all(b"R\n").expect("a word for openssl");
    let ended = wait::within(PATIENCE, || client.try_wait().expect("state of a child"));
    if ended.is_none() {
        client.kill().expect("openssl");
    }
    drop(input);
    let said = Said::from(client.wait_with_output().expect("output of a child"));
    assert!(ended.is_some(), "still open: {}", said.all());
    assert!(said.all().contains("RENEGOTIATING"), "it has not asked: {}", said.all());
    assert!(said.all().contains("no renegotiation"), "{}", said.all());
    site.expect_unharmed();
}

fn faults(address: SocketAddr, rows: &[(&str, Vec<u8>, Answer)]) -> Vec<String> {
    let told = rows.iter().map(|(name, bytes, want)| (name, want, answer(address, bytes)));
    let wrong = told.filter(|(_, want, found)| found.as_ref() != Ok(*want));
    wrong.map(|(name, want, found)| format!("{name}: {found:?}, not {want:?}")).collect()
}
