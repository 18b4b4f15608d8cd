//! A flood of SYNs that fills the ring of handshakes: who means it connects all the same, by the kernel's cookies, and
//! flows that there are notice nothing. Needs root; fails where the kernel plane cannot be had.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpStream};

use harness::bulk::{self, Plan};
use harness::client::{self, line};
use harness::documents::{self, Server, tcp_route, tcp_service};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::load::flood::Flood;
use harness::serve::Place;
use harness::steered::prepare_for_xdp;
use harness::wait;

const PORT: u16 = 31400;
/// Another listener, before another backend.
const BULK: u16 = 31401;

/// Fills the ring of 64 handshakes, which have a second each, within 20 ms.
const PER_SECOND: u32 = 6_400;

/// Clients that come during a flood.
const CLIENTS: usize = 40;

/// A gateway with a small ring.
struct Rig {
    gateway: Gateway,
    lab: Lab,
}

impl Rig {
    /// `tcp_syncookies` is the gateway's; the flags are the agent's.
    fn new(lab: Lab, tcp_syncookies: u32, backends: [SocketAddr; 2], flags: &[&str]) -> Self {
        lab.gateway.sysctl("net/ipv4/tcp_syncookies", &tcp_syncookies.to_string()).expect("a sysctl");
        let documents = documents::gateway("edge", &[Server::tcp(PORT), Server::tcp(BULK)])
            + &tcp_route("echo", PORT, "edge", "echo")
            + &tcp_route("bulk", BULK, "edge", "bulk")
            + &tcp_service("echo", &backends[..1])
            + &tcp_service("bulk", &backends[1..]);
        let gateway = Gateway::arrange()
            .within(&lab.gateway)
            .kernel(Kernel::Require)
            // What came by a cookie stays in user space, to be counted there.
            .flags(&["--interface", "c0", "--max-flows", "256", "--tier", "copy"])
            .flags(flags)
            .document("site", &documents)
            .start();
        Self { gateway, lab }
    }

    fn connect(&self, port: u16) -> TcpStream {
        let address = SocketAddr::new(self.lab.gateway_address(Family::V4), port);
        self.lab.client.enter(move || client::connect(address))
    }

    fn flood(&self) -> Flood {
        let IpAddr::V4(ip) = self.lab.gateway_address(Family::V4) else { unreachable!("an IPv4 address") };
        Flood::start(&self.lab.client, SocketAddrV4::new(ip, PORT), PER_SECOND)
    }

    fn count(&self, verdict: &str) -> u64 {
        self.gateway.status()["kernel"]["verdicts"][verdict].as_u64().unwrap_or(0)
    }

    /// Where the programs meet clients' packets.
    fn hook(&self) -> String {
        let status = self.gateway.status();
        let interfaces = status["kernel"]["interfaces"].as_array().expect("interfaces");
        let of_clients = interfaces.iter().find(|interface| interface["name"] == "c0");
        of_clients.expect("the clients' interface")["hook"].as_str().expect("a hook").to_owned()
    }

    /// A counter of the gateway's own TCP, as `nstat` shows it.
    fn stack(&self, name: &str) -> u64 {
        let text = self.lab.gateway.enter(|| std::fs::read_to_string("/proc/thread-self/net/netstat"));
        let text = text.expect("counters of the stack");
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
        let [names, values] = [0, 1].map(|_| lines.next().expect("a line of names and one of values"));
        let found = names.zip(values).find(|(known, _)| *known == name);
        found.expect("a counter").1.parse().expect("a number")
    }

    /// Connections that user space serves.
    fn sockets(&self) -> usize {
        let said =
            harness::program::run(self.lab.gateway.command("ss").args(["-Htn", "state", "established"]));
        let clients = format!(":{PORT} ");
        said.expect_success().out.lines().filter(|line| line.contains(&clients)).count()
    }
}

fn backends(lab: &Lab) -> [harness::serve::Server; 2] {
    let place = || Place::within(&lab.backends[0], SocketAddr::new(lab.backend_address(Family::V4, 0), 0));
    [harness::echo::start_silent(place()), bulk::start(place())]
}

#[track_caller]
fn echo(streams: &mut [TcpStream], text: &str) {
    for stream in streams {
        assert_eq!(line(stream, text), text);
    }
}

/// Real clients during a flood, and flows from before it.
fn stands_a_flood(rig: &Rig) {
    let mut before: Vec<_> = (0..3).map(|_| rig.connect(PORT)).collect();
    echo(&mut before, "before\n");
    assert_eq!(rig.sockets(), 0, "the kernel carries them");
    let (steady, plan) = (rig.connect(BULK), Plan { up: 8 << 20, down: 8 << 20, seed: 3 });
    let flood = rig.flood();
    wait::until("a full ring, and cookies", || (rig.count("cookie_sent") > 0).then_some(()));
    let bulk = std::thread::spawn(move || bulk::transfer(steady, plan, |_| {}));
    let mut during = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = rig.connect(PORT);
        let text = format!("{number}\n");
        assert_eq!(line(&mut stream, &text), text);
        during.push(stream);
        echo(&mut before, &text);
    }
    bulk.join().expect("the transfer").expect("equal digests at both ends");
    let long = "x".repeat(100_000) + "\n";
    echo(&mut during, &long);
    let served = rig.sockets();
    let accepted = rig.stack("SyncookiesRecv");
    assert!(served > CLIENTS / 2, "user space serves {served}");
    assert!(
        accepted > CLIENTS as u64 / 2,
        "the stack took {accepted} cookies, and user space serves {served}"
    );
    let sent = flood.end().expect("a raw socket");
    let cookies = rig.count("cookie_sent");
    assert!(cookies > sent / 2, "{cookies} cookies for {sent} SYNs");
    echo(&mut before, "after\n");
    assert_eq!(rig.sockets(), served, "flows from before stayed in the kernel");
    for words in [&["status"][..], &["maps", "dump", "VERDICTS"]] {
        let said = rig.gateway.sluice(words).expect_success().out;
        assert!(said.contains("cookie_sent"), "{said}");
    }
    wait::until("a flow in the kernel again", || {
        let steered = rig.count("established");
        assert_eq!(line(&mut rig.connect(PORT), "calm\n"), "calm\n");
        (rig.count("established") > steered).then_some(())
    });
}

#[test]
fn at_tc_clients_connect_by_cookies_during_a_flood() {
    let lab = Lab::new(1).expect("namespaces");
    let servers = backends(&lab);
    let rig = Rig::new(lab, 2, servers.each_ref().map(|server| server.address), &["--datapath", "tc"]);
    stands_a_flood(&rig);
    assert_eq!(rig.stack("SyncookiesSent"), 0, "the stack never saw a SYN of the flood");
}

#[test]
fn at_xdp_in_the_driver_clients_connect_by_cookies_during_a_flood() {
    let lab = Lab::new(1).expect("namespaces");
    prepare_for_xdp(&lab);
    // What a program sends back by a veth device arrives only where there is a program too (veth_xdp_flush): another
    // gateway's, which leaves all of it alone.
    let _other = Gateway::arrange()
        .within(&lab.client)
        .kernel(Kernel::Require)
        .flags(&["--interface", "e0", "--datapath", "xdp"])
        .document("site", &documents::gateway("other", &[Server::tcp(9)]))
        .start();
    let servers = backends(&lab);
    let rig = Rig::new(lab, 2, servers.each_ref().map(|server| server.address), &["--datapath", "xdp"]);
    assert_eq!(rig.hook(), "xdp (driver), tcx");
    stands_a_flood(&rig);
    assert_eq!(rig.stack("SyncookiesSent"), 0, "the stack never saw a SYN of the flood");
}

#[test]
fn at_xdp_in_the_stack_clients_connect_by_cookies_during_a_flood() {
    let lab = Lab::new(1).expect("namespaces");
    prepare_for_xdp(&lab);
    // The driver of veth takes no program when packets are longer than a page.
    lab.gateway.ip(&["link", "set", "c0", "mtu", "9000"]).expect("a device with a large MTU");
    lab.client.ip(&["link", "set", "e0", "mtu", "9000"]).expect("a device with a large MTU");
    let servers = backends(&lab);
    let rig = Rig::new(lab, 2, servers.each_ref().map(|server| server.address), &["--datapath", "xdp"]);
    assert_eq!(rig.hook(), "xdp (generic), tcx");
    stands_a_flood(&rig);
    assert_eq!(rig.stack("SyncookiesSent"), 0, "the stack never saw a SYN of the flood");
}

/// As the kernel is by default: it makes cookies when the listener's queue of requests is full, and until then the SYNs
/// go to the stack and fill it.
#[test]
fn cookies_begin_when_the_listeners_queue_is_full() {
    let lab = Lab::new(1).expect("namespaces");
    lab.gateway.sysctl("net/core/somaxconn", "32").expect("a sysctl");
    // A request is kept only if its answer has a way to go.
    let client = lab.client_address(Family::V4).to_string();
    lab.gateway.ip(&["route", "add", "198.19.0.0/16", "via", &client]).expect("a route");
    let servers = backends(&lab);
    let rig = Rig::new(lab, 1, servers.each_ref().map(|server| server.address), &["--datapath", "tc"]);
    stands_a_flood(&rig);
    assert!(rig.count("handshakes_full") > 0, "the queue was filled by what passed");
}
