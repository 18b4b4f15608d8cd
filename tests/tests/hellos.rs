//! The ClientHellos of real clients, recorded as they come and read whole, in two pieces cut at every byte, and byte
//! by byte.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use gateway_userspace::tls::{ClientHello, HelloReader};
use harness::authority::Authority;
use harness::foreign::Language;
use harness::program::{curl, run, run_with_input};
use harness::tls::{TlsClient, in_records};
use harness::wait;
use rustls::client::{EchConfig, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::{self, hpke, kx_group};
use rustls::crypto::hpke::Hpke as _;
use rustls::pki_types::EchConfigListBytes;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

const NAME: &str = "simple-sni-1.istioinaction.io";

/// More than a segment can carry; where it begins, a hello spans two packets.
const SEGMENT: usize = 1448;

/// What a client sends that is closed upon when its hello is whole.
fn record(call: impl FnOnce(SocketAddr)) -> Vec<u8> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listening");
    let address = listener.local_addr().expect("an address");
    let recording = std::thread::spawn(move || read_hello(listener.accept().expect("a connection").0));
    call(address);
    recording.join().expect("a hello")
}

fn read_hello(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout");
    let (mut reader, mut all) = (HelloReader::default(), Vec::new());
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).expect("receiving");
        assert_ne!(count, 0, "the client went after {} bytes: {all:?}", all.len());
        all.extend_from_slice(&buffer[..count]);
        if reader.feed(&buffer[..count]).expect("a hello").is_some() {
            return all;
        }
    }
}

/// Reads a hello in every way that it can come, and holds each against the first.
#[track_caller]
fn read(who: &str, bytes: &[u8]) -> ClientHello {
    let fed = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut reader = HelloReader::default();
        let mut read = pieces.map(|piece| reader.feed(piece).expect("a hello"));
        read.find_map(|hello| hello)
    };
    let whole = fed(&mut [bytes].into_iter()).unwrap_or_else(|| panic!("{who}: half a hello"));
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(fed(&mut [first, second].into_iter()).as_ref(), Some(&whole), "{who}, cut at {cut}");
    }
    assert_eq!(fed(&mut bytes.chunks(1)).as_ref(), Some(&whole), "{who}, byte by byte");
    for size in [1, 100, 1000] {
        let records = in_records(bytes, size);
        assert_eq!(fed(&mut records.chunks(77)).as_ref(), Some(&whole), "{who}, in records of {size}");
    }
    whole
}

#[track_caller]
fn expect(who: &str, bytes: &[u8], name: Option<&str>, protocols: &[&str]) {
    let hello = read(who, bytes);
    assert_eq!(hello.sni.as_deref(), name, "{who}");
    let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    assert_eq!(hello.alpn, protocols, "{who}");
}

/// Enough of them to be more than a segment.
fn many_protocols() -> Vec<String> {
    (0..200).map(|number| format!("protocol-{number}")).collect()
}

fn openssl(address: SocketAddr, words: &[&str]) {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &address.to_string()]).args(words);
    // It says that the connection was closed, which it was.
    run_with_input(&mut openssl, b"");
}

#[test]
fn those_of_openssl() {
    let recorded = |words: &[&str]| record(|address| openssl(address, words));
    let named = ["-servername", "Simple-SNI-1.istioinaction.io"];
    expect("openssl", &recorded(&named), Some(NAME), &[]);
    expect("openssl, TLS 1.2", &recorded(&[&named[..], &["-tls1_2"]].concat()), Some(NAME), &[]);
    expect("openssl, nameless", &recorded(&["-noservername", "-alpn", "h2"]), None, &["h2"]);
    let dotted = recorded(&["-servername", "a.test.", "-alpn", "h2,http/1.1"]);
    expect("openssl, a dot behind", &dotted, Some("a.test."), &["h2", "http/1.1"]);
    let literal = recorded(&["-servername", "192.0.2.1"]);
    expect("openssl, an address for a name", &literal, Some("192.0.2.1"), &[]);

    let many = many_protocols();
    let large = recorded(&[&named[..], &["-alpn", &many.join(",")]].concat());
    assert!(large.len() > SEGMENT, "{} bytes", large.len());
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    expect("openssl, many protocols", &large, Some(NAME), &many);
}

#[test]
fn those_of_curl() {
    for (flag, protocols) in [("--http1.1", &["http/1.1"][..]), ("--http2", &["h2", "http/1.1"])] {
        let recorded = record(|address| {
            let port = address.port();
            let resolve = format!("{NAME}:{port}:127.0.0.1");
            run(curl().args([flag, "--resolve", &resolve]).arg(format!("https://{NAME}:{port}/")));
        });
        expect("curl", &recorded, Some(NAME), protocols);
    }
    // RFC 6066 wants no addresses as names, and curl obeys.
    let recorded = record(|address| drop(run(curl().arg(format!("https://{address}/")))));
    assert_eq!(read("curl, to an address", &recorded).sni, None);
}

#[test]
fn those_of_python() {
    const PROGRAM: &str = "import socket, ssl, sys\n\
         context = ssl._create_unverified_context()\n\
         context.set_alpn_protocols(['h2', 'http/1.1'])\n\
         stream = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
         context.wrap_socket(stream, server_hostname=sys.argv[2])";
    let recorded = record(|address| {
        run(Command::new("python3").args(["-c", PROGRAM, &address.port().to_string(), NAME]));
    });
    expect("python", &recorded, Some(NAME), &["h2", "http/1.1"]);
}

/// What a program of ours in another language sends.
fn recorded_from(language: Language, protocols: &str) -> Option<Vec<u8>> {
    let mut command = language.program()?;
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("nobody's").write(directory.path());
    Some(record(|address| {
        command.arg("client").arg(address.to_string()).arg(NAME).arg(authority).arg(protocols);
        let said = run_with_input(command.stderr(Stdio::piped()), b"7 0 0 0\n");
        assert!(said.out.starts_with("7 "), "{}", said.all());
    }))
}

#[test]
fn those_of_go() {
    let Some(recorded) = recorded_from(Language::Go, "h2,http/1.1") else { return };
    assert!(recorded.len() > SEGMENT, "{} bytes with a post-quantum key share", recorded.len());
    expect("Go", &recorded, Some(NAME), &["h2", "http/1.1"]);
}

#[test]
fn those_of_java() {
    let Some(recorded) = recorded_from(Language::Java, "h2,http/1.1") else { return };
    expect("Java", &recorded, Some(NAME), &["h2", "http/1.1"]);
}

/// Recorded, as `tests/data/hellos` tells: to install the browser takes 96 MB of downloads.
#[test]
fn those_of_chromium() {
    let first = include_bytes!("../data/hellos/chromium-156.bin").as_slice();
    let second = include_bytes!("../data/hellos/chromium-156-again.bin").as_slice();
    assert_ne!(first.len(), second.len(), "its GREASE and the order of its extensions change");
    for recorded in [first, second] {
        assert!(recorded.len() > SEGMENT, "{} bytes with a post-quantum key share", recorded.len());
        expect("Chromium", recorded, Some(NAME), &["h2", "http/1.1"]);
    }
}

/// A client with one group for its key share.
fn rustls_client(group: &'static dyn rustls::crypto::SupportedKxGroup, ech: Option<EchMode>) -> ClientConfig {
    let provider = rustls::crypto::CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = match ech {
        Some(mode) => builder.with_ech(mode),
        None => builder.with_safe_default_protocol_versions(),
    };
    let mut config = builder
        .expect("a usable provider")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// What rustls sends, which needs no connection for that.
fn recorded_from_rustls(config: ClientConfig, name: &'static str) -> Vec<u8> {
    let name = name.try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut sent = Vec::new();
    client.write_tls(&mut sent).expect("writing into memory");
    sent
}

#[test]
fn those_of_rustls() {
    let classic = recorded_from_rustls(rustls_client(kx_group::X25519, None), NAME);
    assert!(classic.len() < SEGMENT);
    expect("rustls", &classic, Some(NAME), &["h2"]);
    let quantum = recorded_from_rustls(rustls_client(kx_group::X25519MLKEM768, None), NAME);
    // The key share holds a key of ML-KEM-768 besides: a segment does not hold the hello any more.
    assert_eq!(quantum.len(), classic.len() + 1184);
    assert!(quantum.len() > SEGMENT);
    expect("rustls, post-quantum", &quantum, Some(NAME), &["h2"]);
    let roots = Authority::new("nobody's").roots();
    expect("rustls, nameless", &TlsClient::new(roots, NAME).without_name().hello(), None, &[]);
}

/// A list of one ECH configuration (RFC 9849, 4) with a public name.
fn ech_configuration(public_name: &str, key: &[u8]) -> Vec<u8> {
    let vector = |content: &[u8]| [&(content.len() as u16).to_be_bytes(), content].concat();
    // Configuration 7; DHKEM(X25519, HKDF-SHA256) with HKDF-SHA256 and AES-128-GCM.
    let mut contents = vec![7, 0, 0x20];
    contents.extend(vector(key));
    contents.extend(vector(&[0, 1, 0, 1]));
    contents.push(64);
    contents.push(public_name.len() as u8);
    contents.extend(public_name.as_bytes());
    contents.extend(vector(&[]));
    vector(&[&[0xfe, 0x0d], &*vector(&contents)].concat())
}

#[test]
fn an_encrypted_hello_is_known_by_its_outer_name() {
    let suite = hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (key, _) = suite.generate_key_pair().expect("a key");
    let grease = EchMode::Grease(EchGreaseConfig::new(suite, key.clone()));
    let greased = recorded_from_rustls(rustls_client(kx_group::X25519, Some(grease)), NAME);
    expect("ECH, as GREASE", &greased, Some(NAME), &["h2"]);

    let list = EchConfigListBytes::from(ech_configuration("public.test", &key.0));
    let real = EchMode::Enable(EchConfig::new(list, hpke::ALL_SUPPORTED_SUITES).expect("a configuration"));
    let encrypted = recorded_from_rustls(rustls_client(kx_group::X25519, Some(real)), "secret.test");
    let hello = read("ECH", &encrypted);
    assert_eq!(hello.sni.as_deref(), Some("public.test"));
    assert!(
        !encrypted.windows(11).any(|window| window == b"secret.test"),
        "the inner name is not to be seen"
    );
}
