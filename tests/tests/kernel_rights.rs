//! The agent with the rights that `deploy` gives it in a cluster, and with each of them taken away: it is told to need no more
//! and no less. Needs root; fails where the kernel plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use harness::authority::Authority;
use harness::deploy::{kustomized, objects, texts, the};
use harness::documents::{self, Server, service, sni_route, tcp_route, tcp_service};
use harness::gateway::{Arrangement, Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::steered::{greet, place};
use harness::tls::TlsClient;
use harness::{client, echo, wait};

const TCP: u16 = 31400;
/// Below 1024.
const TLS: u16 = 443;
const NAME: &str = "vault.test";

/// Those of the DaemonSet.
fn granted() -> Vec<String> {
    let container =
        the("DaemonSet", &objects(&kustomized("base")))["spec"]["template"]["spec"]["containers"][0].clone();
    let granted = &container["securityContext"]["capabilities"];
    assert_eq!(texts(&granted["drop"]), ["ALL"]);
    texts(&granted["add"]).into_iter().map(str::to_owned).collect()
}

fn arrange(lab: &Lab, capabilities: &[String], backend: SocketAddr) -> Arrangement {
    let names: Vec<_> = capabilities.iter().map(String::as_str).collect();
    let documents = documents::annotated_gateway(
        "edge",
        &["sluice.dev/source-address: preserve"],
        &[Server::tcp(TCP), Server::passthrough(TLS, &[NAME])],
    ) + &tcp_route("tcp", TCP, "edge", "tcp")
        + &tcp_service("tcp", &[backend])
        + &sni_route("vault", TLS, NAME, "edge", "vault")
        + &service("vault", "https", &[backend]);
    let arranged = Gateway::arrange().within(&lab.gateway).kernel(Kernel::Require).capabilities(&names);
    arranged.flags(&["--interface", "c0"]).document("site", &documents)
}

/// Has each way in which the kernel carries a connection carried.
fn serve(lab: &Lab, gateway: &Gateway) {
    let at = |port| SocketAddr::new(lab.gateway_address(Family::V4), port);
    let tcp = at(TCP);
    let steered = lab.client.enter(move || greet(tcp));
    let client = steered.local_addr().expect("an address").to_string();
    let flows = gateway.sluice(&["maps", "dump", "FLOWS", "-o", "json"]).expect_success().out;
    assert!(flows.contains(&client), "{client} is not steered: {flows}");
    let (tls, before) = (at(TLS), gateway.handed_over());
    let passed = lab.client.enter(move || {
        let mut stream = client::connect(tls);
        let hello = TlsClient::new(Authority::new("nobody's").roots(), NAME).hello();
        stream.write_all(&hello).expect("a hello");
        let mut heard = vec![0; hello.len()];
        stream.read_exact(&mut heard).expect("an echoed hello");
        assert_eq!(heard, hello);
        stream
    });
    wait::until("a hand-over", || (gateway.handed_over() > before).then_some(()));
    drop((steered, passed));
}

#[test]
fn what_it_is_given_is_enough() {
    let lab = Lab::new(1).expect("namespaces");
    let echo = echo::start_silent(place(&lab, Family::V4, 0));
    let mut gateway = arrange(&lab, &granted(), echo.address).start();
    serve(&lab, &gateway);
    // What is pinned is adopted by the same rights.
    gateway.kill();
    gateway.restart();
    serve(&lab, &gateway);
    assert!(gateway.stop().success());
    assert!(!gateway.log().contains("ermission"), "{}", gateway.log());
    assert!(!gateway.log().contains("not permitted"), "{}", gateway.log());
}

#[test]
fn nothing_that_it_is_given_is_too_much() {
    let lab = Lab::new(1).expect("namespaces");
    let echo = echo::start_silent(place(&lab, Family::V4, 0));
    for missing in granted() {
        let rest: Vec<_> = granted().into_iter().filter(|name| *name != missing).collect();
        if missing == "NET_BIND_SERVICE" {
            let gateway = arrange(&lab, &rest, echo.address).start();
            let log = || gateway.log().contains("CAP_NET_BIND_SERVICE").then_some(());
            wait::until("word of the port that it may not listen to", log);
        } else {
            let said = arrange(&lab, &rest, echo.address).start_and_fail();
            assert!(
                said.code != Some(0) && said.all().contains("--kernel require"),
                "without {missing}: {}",
                said.all()
            );
        }
    }
}
