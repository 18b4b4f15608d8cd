//! The access log of connections that user space carries, those that fail among them.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};

use harness::authority::Authority;
use harness::client::{self, read_to_end};
use harness::documents::{self, Server, service, sni_route, tcp_route, tcp_service};
use harness::gateway::Gateway;
use harness::serve::Place;
use harness::tls::TlsClient;
use harness::{echo, port, wait};
use serde_json::Value;

const NAME: &str = "sni.istioinaction.io";

/// Says something and that it was all; returns how many bytes came back.
fn talk(mut stream: TcpStream, bytes: &[u8]) -> usize {
    // A gateway without a backend may have closed already.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    read_to_end(&mut stream).0.len()
}

#[test]
fn connections_have_their_bytes_their_server_name_and_the_flag_of_their_failure() {
    let ports = [0; 3].map(|_| port::free());
    let server = echo::start_silent(Place::loopback());
    let nobody = ([127, 0, 0, 1], port::free()).into();
    let servers = [Server::tcp(ports[0]), Server::tcp(ports[1]), Server::passthrough(ports[2], &[NAME])];
    let documents = documents::gateway("edge", &servers)
        + &tcp_route("refused", ports[0], "edge", "refused")
        + &tcp_route("empty", ports[1], "edge", "empty")
        + &sni_route("sni", ports[2], NAME, "edge", "sni")
        + &tcp_service("refused", &[nobody])
        + &tcp_service("empty", &[])
        + &service("sni", "https", &[server.address]);
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access");
    let flags = ["--access-log", log.to_str().expect("a path"), "--access-log-format", "json"];
    let gateway = Gateway::arrange().document("site", &documents).flags(&flags).start();
    let line = |number: usize| -> Value {
        let text = wait::until("a line in the access log", || {
            let text = std::fs::read_to_string(&log).ok()?;
            text.lines().nth(number).map(str::to_owned)
        });
        serde_json::from_str(&text).expect("JSON")
    };

    assert_eq!(talk(client::connect(gateway.at(ports[0])), b"x"), 0);
    let told = line(0);
    assert_eq!((&told["response_flags"], &told["bytes_sent"]), (&"UF,URX".into(), &0.into()), "{told}");
    assert_eq!(told["downstream_local_address"], gateway.at(ports[0]).to_string(), "{told}");

    assert_eq!(talk(client::connect(gateway.at(ports[1])), b"x"), 0);
    assert_eq!(line(1)["response_flags"], "UH", "{}", line(1));

    let hello = TlsClient::new(Authority::new("nobody's").roots(), NAME).hello();
    assert_eq!(talk(client::connect(gateway.at(ports[2])), &hello), hello.len());
    let told = line(2);
    assert_eq!(
        (&told["response_flags"], &told["requested_server_name"]),
        (&"-".into(), &NAME.into()),
        "{told}"
    );
    assert_eq!(told["upstream_host"], server.address.to_string(), "{told}");
    assert_eq!(
        (&told["bytes_received"], &told["bytes_sent"]),
        (&hello.len().into(), &hello.len().into()),
        "{told}"
    );
}
