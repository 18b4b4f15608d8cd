//! TCP flows steered in the kernel, seen from both ends and from the agent: real namespaces, real programs, the real
//! agent. Needs root; fails where the kernel plane cannot be had.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc;

use harness::bulk::{self, Plan};
use harness::client::{self, line};
use harness::documents::{Server, gateway, tcp_route, tcp_service};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::serve::Place;
use harness::{echo, wait};

const PORT: u16 = 31400;
const GIBIBYTE: u64 = 1 << 30;

/// One TCP port, and the service behind it.
fn documents(backends: &[SocketAddr]) -> String {
    [
        gateway("edge", &[Server::tcp(PORT)]),
        tcp_route("edge", PORT, "edge", "backend"),
        tcp_service("backend", backends),
    ]
    .join("\n---\n")
}

fn start(lab: &Lab, kernel: Kernel, backends: &[SocketAddr]) -> Gateway {
    // Clients' side alone is named; the programs find the way to the backends themselves.
    let arranged = Gateway::arrange().within(&lab.gateway).kernel(kernel).flags(&["--interface", "c0"]);
    arranged.document("documents", &documents(backends)).start()
}

fn connect(lab: &Lab, family: Family) -> TcpStream {
    let address = SocketAddr::new(lab.gateway_address(family), PORT);
    lab.client.enter(move || client::connect(address))
}

fn place(lab: &Lab, family: Family, index: usize) -> Place {
    Place::within(&lab.backends[index], SocketAddr::new(lab.backend_address(family, index), 0))
}

/// The pinned flows, as a program would read them.
fn flows(gateway: &Gateway) -> String {
    gateway.sluice(&["maps", "dump", "FLOWS", "-o", "json"]).expect_success().out
}

/// Established TCP sockets in the gateway's namespace, the agent's among them.
fn sockets(lab: &Lab) -> String {
    let said = harness::program::run(lab.gateway.command("ss").args(["-Htn", "state", "established"]));
    said.expect_success().out
}

#[test]
fn a_gibibyte_crosses_without_a_socket_of_the_agent() {
    let lab = Lab::new(1).expect("namespaces");
    let server = bulk::start(place(&lab, Family::V4, 0));
    let plan = Plan { up: GIBIBYTE / 4, down: GIBIBYTE, seed: 11 };
    let mut speeds = Vec::new();
    for kernel in [Kernel::Require, Kernel::Off] {
        let gateway = start(&lab, kernel, &[server.address]);
        let stream = connect(&lab, Family::V4);
        let client = stream.local_addr().expect("an address").to_string();
        let mut looked = false;
        let times = bulk::transfer(stream, plan, |moved| {
            if !looked && moved > GIBIBYTE / 2 {
                looked = true;
                let sockets = sockets(&lab);
                if kernel == Kernel::Require {
                    assert_eq!(sockets, "", "the gateway holds sockets");
                    let flows = flows(&gateway);
                    assert!(flows.contains(&client), "{client} is not among the flows:\n{flows}");
                } else {
                    let (_, port) = client.rsplit_once(':').expect("a port");
                    assert!(
                        sockets.contains(&format!(":{port}")),
                        "the check above could not fail:\n{sockets}"
                    );
                }
            }
        })
        .expect("equal digests at both ends");
        assert!(looked);
        let gigabits = |bytes: u64, time: std::time::Duration| bytes as f64 * 8e-9 / time.as_secs_f64();
        speeds.push((kernel, gigabits(plan.up, times.up), gigabits(plan.down, times.down)));
    }
    for (kernel, up, down) in speeds {
        println!("kernel plane {kernel:?}: {up:.1} Gbit/s up, {down:.1} Gbit/s down");
    }
}

#[test]
fn flows_of_both_families_are_steered_to_backends_of_their_own() {
    let lab = Lab::new(1).expect("namespaces");
    let v4 = bulk::start(place(&lab, Family::V4, 0));
    let v6 = bulk::start(place(&lab, Family::V6, 0));
    let gateway = start(&lab, Kernel::Require, &[v4.address, v6.address]);
    for (seed, family) in [(3, Family::V4), (4, Family::V6)] {
        let stream = connect(&lab, family);
        let client = stream.local_addr().expect("an address").to_string();
        let mut seen = false;
        bulk::transfer(stream, Plan { up: 4 << 20, down: 4 << 20, seed }, |moved| {
            if moved > 5 << 20 && !seen {
                seen = flows(&gateway).contains(&client);
            }
        })
        .expect("equal digests at both ends");
        assert!(seen, "{client} was not among the flows");
    }
}

#[test]
fn new_flows_follow_a_change_and_the_old_one_goes_on() {
    let lab = Lab::new(2).expect("namespaces");
    let first = echo::start("first", place(&lab, Family::V4, 0));
    let second = echo::start("second", place(&lab, Family::V4, 1));
    let gateway = start(&lab, Kernel::Require, &[first.address]);
    let mut old = connect(&lab, Family::V4);
    let greeting = client::read_line(&mut old);
    assert!(greeting.contains("first"), "{greeting}");

    gateway.apply("documents", &documents(&[second.address]));
    wait::until("a new flow at the new backend", || {
        let greeting = client::read_line(&mut connect(&lab, Family::V4));
        greeting.contains("second").then_some(())
    });
    for _ in 0..20 {
        let greeting = client::read_line(&mut connect(&lab, Family::V4));
        assert!(greeting.contains("second"), "{greeting}");
    }
    skip_greeting(&mut old);
    assert_eq!(line(&mut old, "still here\n"), "still here\n");
    assert_eq!(sockets(&lab), "", "flows went through user space");
}

/// The rest of the greeting is read with the first echo, as nobody knows where it ends.
fn skip_greeting(stream: &mut TcpStream) {
    let mark = "mark\n";
    let mut seen = line(stream, mark);
    while !seen.ends_with(mark) {
        seen = client::read_line(stream);
    }
}

#[test]
fn a_killed_agent_stops_no_flow_and_the_next_one_takes_them_over() {
    let lab = Lab::new(1).expect("namespaces");
    let server = bulk::start(place(&lab, Family::V4, 0));
    let silent = echo::start_silent(place(&lab, Family::V4, 0));
    let mut gateway = start(&lab, Kernel::Require, &[server.address]);
    let stream = connect(&lab, Family::V4);
    let (tell, told) = mpsc::channel();
    let transfer = std::thread::spawn(move || {
        bulk::transfer(stream, Plan { up: GIBIBYTE / 8, down: GIBIBYTE / 4, seed: 5 }, |moved| {
            // Whoever listens has heard enough after the first word.
            let _ = tell.send(moved);
        })
    });
    told.recv().expect("progress");
    gateway.kill();
    transfer.join().expect("a thread").expect("equal digests at both ends");
    assert!(flows(&gateway).contains(&server.address.to_string()), "the dead agent's maps can be read");
    // Steering needs no agent either: a new flow goes the old way.
    bulk::transfer(connect(&lab, Family::V4), Plan { up: 1 << 20, down: 1 << 20, seed: 6 }, |_| {})
        .expect("a new flow");

    gateway.restart();
    bulk::transfer(connect(&lab, Family::V4), Plan { up: 1 << 20, down: 1 << 20, seed: 7 }, |_| {})
        .expect("a flow");
    gateway.apply("documents", &documents(&[silent.address]));
    wait::until("the new agent's backend", || {
        let mut stream = connect(&lab, Family::V4);
        silent_answers(&mut stream).then_some(())
    });
}

/// The bulk server waits for the rest of its plan instead of answering.
fn silent_answers(stream: &mut TcpStream) -> bool {
    use std::io::{Read, Write};
    stream.set_read_timeout(Some(std::time::Duration::from_millis(500))).expect("a timeout");
    let mut answer = [0; 3];
    stream.write_all(b"hi\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"hi\n"
}

#[test]
fn local_clients_are_served_in_user_space() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let gateway = start(&lab, Kernel::Require, &[server.address]);
    let local = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), PORT);
    let mut stream = lab.gateway.enter(move || client::connect(local));
    assert_eq!(line(&mut stream, "from here\n"), "from here\n");
    assert!(!sockets(&lab).is_empty());
    let listeners = gateway.sluice(&["proxy-config", "listeners"]).expect_success().out;
    let path = listeners.lines().find(|line| line.contains("31400")).expect("the listener");
    assert!(path.ends_with("kernel"), "{listeners}");
}

/// Where routers spread packets over several nodes, these have the address there.
#[test]
fn an_address_of_loopback_is_steered_when_clients_come_for_it() {
    let lab = Lab::new(1).expect("namespaces");
    for (family, own) in [(Family::V4, "198.18.9.1"), (Family::V6, "fd00:18:9::1")] {
        let server = echo::start_silent(place(&lab, family, 0));
        let gateway = start(&lab, Kernel::Require, &[server.address]);
        let length = if family == Family::V4 { 32 } else { 128 };
        lab.gateway.ip(&["addr", "add", &format!("{own}/{length}"), "dev", "lo"]).expect("an address");
        let address = SocketAddr::new(own.parse().expect("an address"), PORT);
        wait::until("a flow in the kernel", || {
            let mut stream = lab.client.enter(move || client::connect(address));
            assert_eq!(line(&mut stream, "from there\n"), "from there\n");
            flows(&gateway).contains(&stream.local_addr().expect("an address").to_string()).then_some(())
        });
    }
}

#[test]
fn a_clean_stop_without_flows_leaves_nothing() {
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let mut gateway = start(&lab, Kernel::Require, &[server.address]);
    let pins = gateway.pin_directory().to_owned();
    // tcx programs are held by their pinned links alone, so pins are all there is to look for.
    let pinned = || std::fs::read_dir(&pins).map_or(0, Iterator::count);
    assert!(pinned() > 0);
    assert!(gateway.stop().success());
    assert_eq!(pinned(), 0, "pins are left below {}", pins.display());
    let address = SocketAddr::new(lab.gateway_address(Family::V4), PORT);
    let refused = lab.client.enter(move || TcpStream::connect(address).map_err(|error| error.kind()));
    assert_eq!(refused.err(), Some(std::io::ErrorKind::ConnectionRefused));
}
