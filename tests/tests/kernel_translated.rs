//! Connections whose destination the node's netfilter translates, as kube-proxy does for NodePorts and load balancers' addresses:
//! the programs see them under another address than the socket has, so that they stay with user space. Needs root; fails where
//! the kernel plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use harness::authority::Authority;
use harness::documents::{self, Server, service, sni_route};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::program::run_with_input;
use harness::steered::place;
use harness::tls::TlsClient;
use harness::{client, echo, wait};
use serde_json::Value;

const PORT: u16 = 443;
const NODE_PORT: u16 = 30443;
const NAME: &str = "vault.test";

fn translate(lab: &Lab) {
    let rules = format!(
        "table inet nat {{ chain prerouting {{ type nat hook prerouting priority dstnat; \
         tcp dport {NODE_PORT} redirect to :{PORT}; }} }}\n"
    );
    run_with_input(lab.gateway.command("nft").args(["-f", "-"]), rules.as_bytes()).expect_success();
}

fn gateway(lab: &Lab, backend: SocketAddr) -> Gateway {
    let documents = documents::gateway("edge", &[Server::passthrough(PORT, &[NAME])])
        + &sni_route("vault", PORT, NAME, "edge", "vault")
        + &service("vault", "https", &[backend]);
    let arranged = Gateway::arrange().within(&lab.gateway).kernel(Kernel::Require);
    arranged.flags(&["--interface", "c0", "--tier", "handoff"]).document("site", &documents).start()
}

fn says(mut stream: TcpStream, words: &[u8]) -> TcpStream {
    stream.write_all(words).expect("a connection that is open");
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).expect("an echo");
    assert_eq!(heard, words);
    stream
}

fn reason(gateway: &Gateway, client: SocketAddr) -> Option<String> {
    let flows = gateway.sluice(&["flows", "-o", "json"]).expect_success().out;
    let flows: Vec<Value> = serde_json::from_str(&flows).expect("JSON");
    let flow = flows.into_iter().find(|flow| flow["client"] == client.to_string())?;
    flow["reason"].as_str().map(str::to_owned)
}

#[test]
fn what_comes_by_a_node_port_stays_with_user_space_and_whole() {
    for family in [Family::V4, Family::V6] {
        let lab = Lab::new(1).expect("namespaces");
        translate(&lab);
        let echo = echo::start_silent(place(&lab, family, 0));
        let gateway = gateway(&lab, echo.address);
        let hello = TlsClient::new(Authority::new("nobody's").roots(), NAME).hello();
        let connect = |port: u16| {
            let (address, hello) = (SocketAddr::new(lab.gateway_address(family), port), hello.clone());
            lab.client.enter(move || says(client::connect(address), &hello))
        };
        let translated = connect(NODE_PORT);
        let from = translated.local_addr().expect("an address");
        let why = wait::until("why it stays", || reason(&gateway, from));
        assert!(why.contains("translated"), "{family:?}: {why}");
        let translated = says(translated, b"still there");
        assert_eq!(gateway.handed_over(), 0);

        let direct = connect(PORT);
        wait::until("a hand-over", || (gateway.handed_over() == 1).then_some(()));
        drop(says(direct, b"by the kernel"));
        drop(says(translated, b"to the end"));
    }
}
