//! Backends that see the client's own address on connections that user space accepts: relayed, or handed over to the
//! kernel. Answers come back through the gateway, which is a router with a strict opinion of where packets come from.
//! Needs root; fails where the kernel plane cannot be had.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use harness::authority::Authority;
use harness::bulk::{self, Plan};
use harness::client::{LIMIT, line, read_line};
use harness::documents::{self, annotated_gateway, service, sni_route, tcp_route, tcp_service};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{self, Family, Lab};
use harness::program::run;
use harness::serve::{Place, Server};
use harness::steered::{connect_from, prepare_for_xdp};
use harness::tls::TlsClient;
use harness::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// TLS, passed through by either name.
const TLS: u16 = 443;
/// The same, to the echo service alone.
const OTHER_TLS: u16 = 8443;
/// Steered from the first packet on, to the echo service.
const STEERED: u16 = 9000;
/// TCP whose backend hears the PROXY protocol's header, to the service of large transfers.
const HEADED: u16 = 9001;
const ECHO: &str = "echo.test";
const BULK: &str = "bulk.test";

const PRESERVE: &str = "sluice.dev/source-address: preserve";
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const MEBIBYTE: u64 = 1 << 20;

/// A network behind the backend's whose link carries less than its ends are told.
const BEHIND_BACKEND: usize = 101;
const NARROW: u32 = 1380;

/// Ends before what it stands on.
struct Site {
    gateway: Gateway,
    echo: Server,
    bulk: Server,
    lab: Lab,
    family: Family,
}

/// Without the annotation if there is none.
fn site(annotation: Option<&str>, [echo, bulk]: [SocketAddr; 2]) -> String {
    let annotations: Vec<&str> = annotation.into_iter().collect();
    let with_header = [&annotations[..], &["sluice.dev/proxy-protocol: v1"]].concat();
    let servers = [
        documents::Server::passthrough(TLS, &[ECHO, BULK]),
        documents::Server::passthrough(OTHER_TLS, &[ECHO]),
        documents::Server::tcp(STEERED),
    ];
    annotated_gateway("edge", &annotations, &servers)
        + &annotated_gateway("headed", &with_header, &[documents::Server::tcp(HEADED)])
        + &sni_route("echo", TLS, ECHO, "edge", "echo")
        + &sni_route("bulk", TLS, BULK, "edge", "bulk")
        + &sni_route("other", OTHER_TLS, ECHO, "edge", "echo")
        + &tcp_route("steered", STEERED, "edge", "plain-echo")
        + &tcp_route("headed", HEADED, "headed", "plain-bulk")
        + &service("echo", "https", &[echo])
        + &service("bulk", "https", &[bulk])
        + &tcp_service("plain-echo", &[echo])
        + &tcp_service("plain-bulk", &[bulk])
}

impl Site {
    fn start(family: Family, annotation: Option<&str>, flags: &[&str]) -> Self {
        let lab = Lab::new(1).expect("namespaces");
        prepare_for_xdp(&lab);
        let address = SocketAddr::new(lab.backend_address(family, 0), 0);
        let place = || Place::within(&lab.backends[0], address);
        let (echo, bulk) = (start(place(), Then::Echo), start(place(), Then::Transfer));
        Self::before(lab, family, [echo, bulk], annotation, flags)
    }

    fn before(
        lab: Lab,
        family: Family,
        [echo, bulk]: [Server; 2],
        annotation: Option<&str>,
        flags: &[&str],
    ) -> Self {
        route_strictly(&lab);
        let gateway = Gateway::arrange()
            .within(&lab.gateway)
            .kernel(Kernel::Require)
            .flags(&["--interface", "c0"])
            .flags(flags)
            .document("site", &site(annotation, [echo.address, bulk.address]))
            .start();
        Self { gateway, echo, bulk, lab, family }
    }

    fn documents(&self, annotation: Option<&str>) -> String {
        site(annotation, [self.echo.address, self.bulk.address])
    }

    fn client(&self) -> IpAddr {
        self.lab.client_address(self.family)
    }

    /// The gateway's own address on the backend's link.
    fn gateway_towards_backend(&self) -> IpAddr {
        lab::address(self.family, 1, 1)
    }

    /// A connection from a port of the client's that has said its hello, and whom the backend took it for.
    #[track_caller]
    fn connect(&self, source_port: u16, port: u16, name: &'static str) -> (TcpStream, SocketAddr) {
        let (client, to) = (self.client(), SocketAddr::new(self.lab.gateway_address(self.family), port));
        let mut stream =
            self.lab.client.enter(move || connect_from(client, source_port, to)).expect("a connection");
        stream.set_write_timeout(Some(LIMIT)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream.write_all(&hello(name)).expect("sending");
        let seen = read_line(&mut stream).trim().parse().expect("an address");
        (stream, seen)
    }

    fn handed_over(&self) -> u64 {
        self.gateway.status()["kernel"]["handoff"]["handedOver"].as_u64().expect("a number")
    }

    fn verdict(&self, label: &str) -> u64 {
        self.gateway.status()["kernel"]["verdicts"][label].as_u64().unwrap_or(0)
    }

    /// What the gateway's namespace knows of rules and routes for answers to clients.
    fn rules(&self) -> Vec<String> {
        let ip = |words: &[&str]| run(self.lab.gateway.command("ip").args(words)).out;
        let rules = ["-4", "-6"].map(|family| ip(&[family, "rule", "show"])).concat();
        let rules = rules.lines().filter(|line| line.contains("lookup 21356")).map(str::to_owned);
        let routes = ["-4", "-6"].map(|family| ip(&[family, "route", "show", "table", "21356"])).concat();
        let mut all: Vec<String> = rules.chain(routes.lines().map(str::to_owned)).collect();
        all.sort_unstable();
        all
    }
}

/// A router that drops what comes by a way that its answer would not take, also where marks say what that is.
fn route_strictly(lab: &Lab) {
    for (setting, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/conf/all/rp_filter", "1"),
        ("net/ipv4/conf/all/src_valid_mark", "1"),
    ] {
        lab.gateway.sysctl(setting, value).expect("a setting");
    }
}

/// What a backend does when it has told the client who that is.
#[derive(Debug, Clone, Copy)]
enum Then {
    Echo,
    Transfer,
}

fn start(place: Place, then: Then) -> Server {
    Server::start(place, move |stream| async move {
        // A client that breaks off is the client's matter.
        let _ = introduce(stream, then).await;
    })
}

async fn introduce(mut stream: tokio::net::TcpStream, then: Then) -> std::io::Result<()> {
    let peer = stream.peer_addr()?;
    skip_hello(&mut stream).await?;
    stream.write_all(format!("{peer}\n").as_bytes()).await?;
    match then {
        Then::Transfer => bulk::serve(stream).await,
        Then::Echo => {
            let mut buffer = [0; 1024];
            while let length @ 1.. = stream.read(&mut buffer).await? {
                stream.write_all(&buffer[..length]).await?;
            }
            Ok(())
        }
    }
}

/// The record of a ClientHello, and the PROXY protocol's line if that comes before it.
async fn skip_hello(stream: &mut tokio::net::TcpStream) -> std::io::Result<()> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    if head == *b"PROXY" {
        while stream.read_u8().await? != b'\n' {}
        stream.read_exact(&mut head).await?;
    }
    let length = u16::from_be_bytes([head[3], head[4]]);
    stream.read_exact(&mut vec![0; length.into()]).await?;
    Ok(())
}

fn hello(name: &'static str) -> Vec<u8> {
    TlsClient::new(Authority::new("nobody's").roots(), name).hello()
}

/// Digests of what goes each way are held against each other.
#[track_caller]
fn transfer(stream: TcpStream, bytes: u64) {
    let plan = Plan { up: bytes, down: bytes, seed: 77 };
    bulk::transfer(stream, plan, |_| {}).expect("equal digests");
}

/// How connections are carried, and how many of two are handed over.
const TIERS: [(&str, u64); 3] = [("copy", 0), ("splice", 0), ("handoff", 2)];

fn shows_clients(family: Family, flags: &[&str]) {
    for (tier, handed_over) in TIERS {
        let site = Site::start(family, Some(PRESERVE), &[&["--tier", tier], flags].concat());
        for (source_port, port) in [(50_001, TLS), (50_002, HEADED)] {
            let (stream, seen) = site.connect(source_port, port, BULK);
            assert_eq!(seen, SocketAddr::new(site.client(), source_port), "{tier} {port}");
            transfer(stream, 3 * MEBIBYTE);
        }
        assert_eq!(site.handed_over(), handed_over, "{tier}");
        assert!(site.verdict("transparent") > 0, "no answer was for a socket under the client's address");
        let shown = site.gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
        assert_eq!(shown.matches(", source preserved").count(), 5, "{shown}");
    }
}

#[test]
fn backends_see_clients_of_what_user_space_accepts() {
    shows_clients(Family::V4, &[]);
}

#[test]
fn backends_see_ipv6_clients_of_what_user_space_accepts() {
    shows_clients(Family::V6, &[]);
}

#[test]
fn backends_see_clients_where_xdp_comes_before_the_classifier() {
    for family in FAMILIES {
        shows_clients(family, &["--datapath", "xdp"]);
    }
}

#[test]
fn a_hand_over_on_the_way_leaves_the_address_as_it_is() {
    for family in FAMILIES {
        let site = Site::start(family, Some(PRESERVE), &["--tier", "lasting"]);
        let (mut stream, seen) = site.connect(50_001, TLS, ECHO);
        assert_eq!(seen, SocketAddr::new(site.client(), 50_001));
        // More than it takes to be a lasting one.
        let long = "to and fro ".repeat(30_000) + "\n";
        let mut sending = stream.try_clone().expect("a second handle");
        for (round, handed_over) in [(1, 0), (2, 1)] {
            assert!(site.handed_over() >= handed_over, "round {round}");
            let said = long.clone();
            let mut hand = sending.try_clone().expect("a third handle");
            let speaking = std::thread::spawn(move || hand.write_all(said.as_bytes()).expect("sending"));
            assert!(read_line(&mut stream) == long, "round {round}");
            speaking.join().expect("a thread that does not panic");
            wait::until("a hand-over", || (site.handed_over() == 1).then_some(()));
        }
        sending.write_all(b"still here\n").expect("sending");
        assert_eq!(read_line(&mut stream), "still here\n");
    }
}

#[test]
fn without_the_annotation_backends_see_the_gateway_and_routing_is_left_alone() {
    for family in FAMILIES {
        let site = Site::start(family, None, &["--tier", "copy"]);
        let (stream, seen) = site.connect(50_001, TLS, BULK);
        assert_eq!(seen.ip(), site.gateway_towards_backend());
        transfer(stream, MEBIBYTE);
        assert_eq!(site.verdict("transparent"), 0);
        assert_eq!(site.rules(), Vec::<String>::new());
    }
}

/// A client may use a port towards one listener that it uses towards another at the same time. To a backend of both it
/// would be one connection.
#[test]
fn a_port_that_the_client_uses_twice_is_seen_once() {
    for family in FAMILIES {
        for tier in ["copy", "handoff"] {
            let site = Site::start(family, Some(PRESERVE), &["--tier", tier]);
            let mut streams = Vec::new();
            for port in [TLS, OTHER_TLS, STEERED] {
                let (stream, seen) = site.connect(50_001, port, ECHO);
                assert_eq!(seen.ip(), site.client(), "{tier} {port}");
                assert_eq!(seen.port() == 50_001, port == TLS, "{tier} {port}: {seen}");
                streams.push(stream);
            }
            assert_eq!(
                site.verdict("port_taken"),
                1,
                "{tier}: the steered listener's was user space's to serve"
            );
            for stream in &mut streams {
                assert_eq!(line(stream, "still here\n"), "still here\n", "{tier}");
            }
        }
    }
}

/// The other way round: the kernel's flow has the port, and user space finds it.
#[test]
fn a_port_that_a_steered_flow_has_is_no_sockets() {
    for family in FAMILIES {
        let site = Site::start(family, Some(PRESERVE), &["--tier", "copy"]);
        let (mut steered, seen) = site.connect(50_001, STEERED, ECHO);
        assert_eq!(seen, SocketAddr::new(site.client(), 50_001));
        let (mut relayed, seen) = site.connect(50_001, TLS, ECHO);
        assert_eq!(seen.ip(), site.client());
        assert_ne!(seen.port(), 50_001);
        for stream in [&mut steered, &mut relayed] {
            assert_eq!(line(stream, "still here\n"), "still here\n");
        }
    }
}

/// A router on the way to the backend tells the client, whom it takes for the sender, of its narrow link.
#[test]
fn errors_of_routers_reach_the_socket_that_they_are_meant_for() {
    for family in FAMILIES {
        let lab = Lab::new(1).expect("namespaces");
        let far = lab.behind(1, BEHIND_BACKEND, NARROW).expect("a network");
        let address = SocketAddr::new(lab::address(family, BEHIND_BACKEND, 2), 0);
        let servers = [Then::Echo, Then::Transfer].map(|then| start(Place::within(&far, address), then));
        let site = Site::before(lab, family, servers, Some(PRESERVE), &["--tier", "copy"]);
        let (stream, seen) = site.connect(50_001, TLS, BULK);
        assert_eq!(seen, SocketAddr::new(site.client(), 50_001));
        transfer(stream, 2 * MEBIBYTE);
        let known = site.lab.gateway.ip(&["route", "get", &address.ip().to_string()]).expect("a route");
        assert!(known.contains(&format!("mtu {NARROW}")), "the link was not too narrow: {known}");
    }
}

#[test]
fn rules_of_routing_are_there_for_as_long_as_they_are_of_use() {
    let family = Family::V6;
    let mut site = Site::start(family, None, &["--tier", "copy"]);
    assert_eq!(site.rules(), Vec::<String>::new());
    site.gateway.apply("site", &site.documents(Some(PRESERVE)));
    wait::until("rules", || (!site.rules().is_empty()).then_some(()));
    let rules = site.rules();
    // One for each interface that the programs are on, and a route.
    assert_eq!(rules.len(), 3, "{rules:?}");
    assert!(rules.iter().any(|rule| rule.contains("fwmark 0x1000/0xffff iif b0")), "{rules:?}");

    // What somebody takes away comes back.
    site.lab.gateway.ip(&["-6", "rule", "del", "pref", "60", "iif", "b0"]).expect("a rule");
    wait::until("the rule again", || (site.rules() == rules).then_some(()));

    assert!(site.gateway.stop().success());
    assert_eq!(site.rules(), Vec::<String>::new(), "after a stop");

    site.gateway.restart();
    assert_eq!(site.rules(), rules, "after a start");
    site.gateway.kill();
    assert_eq!(site.rules(), rules, "a death removes nothing");
    site.gateway.sluice(&["cleanup"]).expect_success();
    assert_eq!(site.rules(), Vec::<String>::new(), "after a cleanup");

    site.gateway.restart();
    site.gateway.kill();
    site.gateway.write("site", &site.documents(None));
    site.gateway.restart();
    wait::until("an agent without use for them to remove them", || site.rules().is_empty().then_some(()));
}

#[test]
fn another_mark_does_as_well() {
    let site = Site::start(Family::V4, Some(PRESERVE), &["--tier", "copy", "--mark", "0x20000/0xff0000"]);
    let (stream, seen) = site.connect(50_001, TLS, BULK);
    assert_eq!(seen, SocketAddr::new(site.client(), 50_001));
    transfer(stream, MEBIBYTE);
    let rules = site.rules();
    assert!(rules.iter().any(|rule| rule.contains("fwmark 0x20000/0xff0000 iif b0")), "{rules:?}");
}

/// What comes out of TLS that ends at the gateway is for backends that see who sent it, too.
#[test]
fn clients_of_terminated_tls_are_seen() {
    const PORT: u16 = 8444;
    let authority = Authority::new("the gateway's");
    let site = Site::start(Family::V6, None, &[]);
    let documents =
        annotated_gateway("edge", &[PRESERVE], &[documents::Server::terminated(PORT, "key", &[ECHO])])
            + &tcp_route("echo", PORT, "edge", "echo")
            + &tcp_service("echo", &[site.echo.address])
            + &documents::secret("key", &authority.issue(&[ECHO]), None);
    site.gateway.apply("site", &documents);
    let address = SocketAddr::new(site.lab.gateway_address(site.family), PORT);
    let client = TlsClient::new(authority.roots(), ECHO);
    let mut stream = wait::until("a listener with a key", || {
        let client = client.clone();
        site.lab.client.enter(move || client.connect(address).ok())
    });
    stream.write_all(&hello(ECHO)).expect("sending");
    let seen: SocketAddr = read_line(&mut stream).trim().parse().expect("an address");
    assert_eq!(seen, stream.sock.local_addr().expect("an address"));
    assert_eq!(line(&mut stream, "and back\n"), "and back\n");
}

/// Connections that are handed over need no rule, nor an agent.
#[test]
fn handed_over_ones_outlive_agent_and_rules() {
    for family in FAMILIES {
        let mut site = Site::start(family, Some(PRESERVE), &["--tier", "handoff"]);
        let (mut stream, seen) = site.connect(50_001, TLS, ECHO);
        assert_eq!(seen, SocketAddr::new(site.client(), 50_001));
        wait::until("a hand-over", || (site.handed_over() == 1).then_some(()));
        site.gateway.kill();
        assert_eq!(line(&mut stream, "without an agent\n"), "without an agent\n");
        site.gateway.restart();
        assert_eq!(line(&mut stream, "with the next\n"), "with the next\n");
        assert!(site.gateway.stop().success());
        assert_eq!(site.rules(), Vec::<String>::new());
        assert_eq!(line(&mut stream, "without rules\n"), "without rules\n");
        // The backend's FIN and the client's go the same way.
        stream.shutdown(std::net::Shutdown::Write).expect("half-closing");
        assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    }
}

/// Those that cannot be handed over have the time that a stop leaves them.
#[test]
fn relayed_ones_go_on_while_a_stop_waits_for_them() {
    let mut site = Site::start(Family::V4, Some(PRESERVE), &["--tier", "copy", "--drain-time", "60"]);
    let (mut stream, seen) = site.connect(50_001, TLS, ECHO);
    assert_eq!(seen, SocketAddr::new(site.client(), 50_001));
    site.gateway.ask_to_stop();
    let asked = Instant::now();
    wait::until("longer than the kernel plane is kept for others", || {
        assert_eq!(line(&mut stream, "still here\n"), "still here\n");
        (asked.elapsed() > Duration::from_secs(5)).then_some(())
    });
    assert!(site.gateway.ended().is_none() && !site.rules().is_empty());
    drop(stream);
    wait::until("the gateway's end", || site.gateway.ended());
    assert_eq!(site.rules(), Vec::<String>::new());
    assert!(!site.gateway.pin_directory().exists(), "nothing is left");
}
