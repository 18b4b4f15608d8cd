//! `sluice flows` on connections that user space carries: who talks to whom, by which tier, and why by no better.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use harness::authority::Authority;
use harness::client::{self, echoed, line};
use harness::documents::{self, Server, secret, sni_route, tcp_route, tcp_service};
use harness::gateway::Gateway;
use harness::serve::{self, Place};
use harness::tls::TlsClient;
use harness::{echo, port, wait};
use serde_json::Value;

const THROUGH: &str = "through.istioinaction.io";
const WITHIN: &str = "within.istioinaction.io";

/// A gateway before an echo server: by TCP, by TLS that is passed through, and by TLS that ends at the gateway.
struct Site {
    gateway: Gateway,
    authority: Authority,
    plain: SocketAddr,
    tls: SocketAddr,
    backend: serve::Server,
}

impl Site {
    fn new(flags: &[&str]) -> Self {
        let authority = Authority::new("the test's");
        let backend = echo::start_silent(Place::loopback());
        let [plain, tls] = [0; 2].map(|_| port::free());
        let terminated = Server::terminated(tls, "within-credential", &[WITHIN]);
        let documents = documents::gateway(
            "edge",
            &[Server::tcp(plain), Server::passthrough(tls, &[THROUGH]), terminated],
        ) + &tcp_route("plain", plain, "edge", "echo")
            + &sni_route("through", tls, THROUGH, "edge", "echo")
            + &tcp_route("within", tls, "edge", "echo")
            + &tcp_service("echo", &[backend.address])
            + &secret("within-credential", &authority.issue(&[WITHIN]), None);
        let gateway = Gateway::arrange().flags(flags).document("site", &documents).start();
        let (plain, tls) = (gateway.at(plain), gateway.at(tls));
        Self { gateway, authority, plain, tls, backend }
    }

    fn flows(&self, more: &[&str]) -> Vec<Value> {
        let said = self.gateway.sluice(&[&["flows", "-o", "json"], more].concat()).expect_success();
        assert!(said.err.contains("flows in the kernel are not shown"), "{}", said.err);
        serde_json::from_str(&said.out).expect("JSON")
    }
}

#[test]
fn connections_are_shown_with_their_tier_and_filtered() {
    let site = Site::new(&[]);
    assert_eq!(site.flows(&[]), Vec::<Value>::new());
    let mut busy = client::connect(site.plain);
    echoed(&mut busy, 4 << 20);
    let mut named = client::connect(site.tls);
    let hello = TlsClient::new(site.authority.roots(), THROUGH).hello();
    named.write_all(&hello).expect("sending");
    named.read_exact(&mut vec![0; hello.len()]).expect("the hello, echoed");
    let mut within = TlsClient::new(site.authority.roots(), WITHIN).connect(site.tls).expect("a handshake");
    assert_eq!(line(&mut within, "hello\n"), "hello\n");

    let seen = site.flows(&["--sort", "age"]);
    let of = |stream: &TcpStream| {
        let own = stream.local_addr().expect("an address").to_string();
        seen.iter().find(|flow| flow["client"] == own).unwrap_or_else(|| panic!("no {own} in {seen:?}"))
    };
    assert_eq!(seen.len(), 3, "{seen:?}");
    for (stream, gateway, tier, reason, sni, bytes) in [
        (&busy, site.plain, "splice", "noKernelPlane", Value::Null, 4 << 20),
        (&named, site.tls, "copy", "noKernelPlane", THROUGH.into(), hello.len()),
        (&within.sock, site.tls, "copy", "terminatesTls", WITHIN.into(), 6),
    ] {
        let flow = of(stream);
        assert_eq!((&flow["tier"], &flow["reason"]), (&tier.into(), &reason.into()), "{flow}");
        assert_eq!((&flow["gateway"], &flow["sni"]), (&gateway.to_string().into(), &sni), "{flow}");
        assert_eq!(
            (&flow["bytesToBackend"], &flow["bytesToClient"]),
            (&bytes.into(), &bytes.into()),
            "{flow}"
        );
        assert_eq!(
            (&flow["plane"], &flow["backend"]),
            (&"user space".into(), &site.backend.address.to_string().into())
        );
    }
    let listener = format!(":{}", site.tls.port());
    for (filter, count) in [(["--listener", &listener], 2), (["--client", "192.0.2.1"], 0)] {
        assert_eq!(site.flows(&filter).len(), count, "{filter:?}");
    }

    let narrow = site.gateway.sluice(&["flows"]).expect_success().out;
    let wide = site.gateway.sluice(&["flows", "-o", "wide"]).expect_success().out;
    assert!(narrow.contains("PLANE        TIER     STATE") && !narrow.contains("REASON"), "{narrow}");
    for reason in ["terminates TLS", "no kernel plane"] {
        assert!(wide.contains(reason), "{reason} in\n{wide}");
    }
    assert!(wide.contains("REASON") && wide.lines().any(|row| row.ends_with(THROUGH)), "{wide}");

    drop((busy, named, within));
    wait::until("the end of all of them", || site.flows(&[]).is_empty().then_some(()));
}

#[test]
fn a_flag_bounds_the_tier() {
    for (flag, tier) in [("copy", "copy"), ("splice", "splice")] {
        let site = Site::new(&["--tier", flag]);
        let mut stream = client::connect(site.plain);
        echoed(&mut stream, 100);
        let seen = site.flows(&[]);
        let reason = if flag == "copy" { "limited" } else { "fewBytes" };
        assert_eq!((&seen[0]["tier"], &seen[0]["reason"]), (&"copy".into(), &reason.into()), "{seen:?}");
        echoed(&mut stream, 4 << 20);
        let seen = site.flows(&[]);
        assert_eq!((&seen[0]["tier"], &seen[0]["reason"]), (&tier.into(), &"limited".into()), "{seen:?}");
        let listeners = site.gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
        let row = |condition: &str| listeners.lines().find(|row| row.contains(condition)).expect("a row");
        assert!(row(THROUGH).ends_with(&format!(", up to {flag}")), "{listeners}");
        assert!(row(WITHIN).ends_with(", up to copy"), "{listeners}");
    }
}

#[test]
fn rates_are_of_what_was_carried_between_two_readings() {
    let site = Site::new(&[]);
    let (mut busy, mut quiet) = (client::connect(site.plain), client::connect(site.plain));
    echoed(&mut quiet, 1 << 20);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                echoed(&mut busy, 1000);
            }
        });
        let seen = site.flows(&[]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen[0]["bytesPerSecond"].as_u64() > Some(0), "{seen:?}");
        assert_eq!(seen[1]["bytesPerSecond"], 0, "{seen:?}");
    });
}
