//! What agents leave in the kernel, find there, and must not touch: takeovers, failed starts, interfaces and routes
//! that changed in between.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod kernel;

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gateway_userspace::cli::cleanup;
use gateway_userspace::datapath::Refusal;
use gateway_userspace::datapath::interfaces::{self, Interface};
use gateway_userspace::model::Snapshot;
use gateway_userspace::settings::{Datapath, KernelArgs, KernelMode};
use kernel::lab::{GATEWAY, Lab, PORT, arguments, parse, report};
use kernel::{Connection, Namespace, PinDirectory, eventually, snapshot};

/// Interfaces that the programs know of.
fn links(pins: &Path) -> Vec<u64> {
    let links: Vec<serde_json::Value> = serde_json::from_str(&report(pins, "dump LINKS -o json")).unwrap();
    links.iter().filter_map(|link| link["interface"].as_u64()).collect()
}

/// Pods come and go by the thousand, each with an interface of its own; the table has room for a thousand.
#[test]
fn interfaces_that_are_gone_are_forgotten() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let backends = [lab.backend(0, "first")[0], lab.backend(1, "second")[0]];
    let mut plane = lab.start(pins.path());
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &backends))).unwrap();
    assert_eq!(links(pins.path()).len(), 3);
    lab.gateway.ip("link del backend.0");
    lab.gateway.enter(|| plane.tick()).unwrap();
    assert_eq!(links(pins.path()).len(), 2);
    // While there is no agent.
    drop(plane);
    lab.gateway.ip("link del backend.1");
    let _plane = lab.start(pins.path());
    assert_eq!(links(pins.path()).len(), 1);
}

#[test]
fn an_interface_keeps_its_number_while_it_is_renamed() {
    let namespace = Namespace::new();
    namespace.ip("link add one type veth peer name other");
    namespace.ip("addr add 198.18.7.1/24 dev one label one:web");
    namespace.ip("link set one up");
    let listed = namespace.enter(interfaces::list).unwrap();
    let named = |interface: &&Interface| interface.name == "one";
    let Interface { index: number, addresses, .. } = listed.values().find(named).unwrap().clone();
    assert_eq!(addresses, ["198.18.7.1".parse::<IpAddr>().unwrap()]);
    // By one process: a new one each time would leave hardly a chance to meet a rename in the middle of a listing.
    let mut renames = tempfile::NamedTempFile::new().unwrap();
    for _ in 0..2_000 {
        renames.write_all(b"link set one name two\nlink set two name one\n").unwrap();
    }
    std::thread::scope(|scope| {
        let renaming = scope.spawn(|| namespace.ip(&format!("-batch {}", renames.path().display())));
        namespace.enter(|| {
            while !renaming.is_finished() {
                let found = interfaces::list().unwrap();
                assert!(found.contains_key(&number), "{found:?}");
            }
        });
    });
}

#[test]
fn flows_go_on_by_another_route_when_theirs_is_gone() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let backend = lab.backend(0, "first")[0];
    lab.gateway.connect("second.way", &["10.67.0.1/24"], &lab.backends[0], "eth1", &["10.67.0.2/24"]);
    let mut plane = lab.start(pins.path());
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &[backend]))).unwrap();
    let mut watched = lab.connect(GATEWAY[0]).unwrap();
    watched.echo(b"the first way");
    let cut = |lab: &Lab| {
        lab.gateway.ip("link set backend.0 down");
        lab.gateway.ip("route add 10.66.0.2/32 via 10.67.0.2 dev second.way src 10.66.0.1");
        lab.backends[0].ip("route add 10.66.0.1/32 via 10.67.0.1 dev eth1");
    };
    let mend = |lab: &Lab| {
        lab.backends[0].ip("route del 10.66.0.1/32 via 10.67.0.1 dev eth1");
        lab.gateway.ip("route del 10.66.0.2/32 via 10.67.0.2 dev second.way src 10.66.0.1");
        lab.gateway.ip("link set backend.0 up");
    };
    cut(&lab);
    lab.gateway.enter(|| plane.tick()).unwrap();
    watched.echo(b"the second way");
    mend(&lab);
    lab.gateway.enter(|| plane.tick()).unwrap();
    watched.echo(b"the first way again");
    // The backend is no new flow's any more, and then there is no agent for a while.
    lab.gateway.enter(|| plane.apply(snapshot(2, PORT, &[lab.backend(1, "second")[0]]))).unwrap();
    drop(plane);
    cut(&lab);
    let mut plane = lab.start(pins.path());
    lab.gateway.enter(|| plane.apply(snapshot(2, PORT, &[lab.backend(1, "second")[0]]))).unwrap();
    watched.echo(b"and the second way");
}

#[test]
fn a_stop_without_flows_leaves_those_of_another_version() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let backend = lab.backend(0, "first");
    let mut plane = lab.start(pins.path());
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &backend))).unwrap();
    let mut old = lab.connect(GATEWAY[0]).unwrap();
    drop(plane);
    let theirs = pins.path().join("v1");
    fs::rename(pins.path().join(gateway_common::SCHEMA), &theirs).unwrap();
    let plane = lab.start(pins.path());
    assert_eq!(lab.gateway.enter(|| plane.stop()).unwrap().flows, 0);
    assert!(theirs.exists());
    // The kernel detaches a link some time after its last pin is gone.
    for _ in 0..20 {
        old.echo(&vec![7; 50_000]);
    }
}

#[test]
fn an_agent_of_another_version_that_is_running_is_another_agent() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let mut running = lab.start(pins.path());
    lab.gateway.enter(|| running.apply(snapshot(1, PORT, &lab.backend(0, "first")))).unwrap();
    fs::rename(pins.path().join(gateway_common::SCHEMA), pins.path().join("v1")).unwrap();
    let words = lab.start_by(&arguments(pins.path(), "clients")).err().unwrap().to_string();
    assert!(words.starts_with("another agent is running at "), "{words}");
    assert_eq!(lab.connect(GATEWAY[0]).unwrap().name, "first");
}

#[test]
fn a_running_agent_is_not_cleaned_up() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let mut running = lab.start(pins.path());
    lab.gateway.enter(|| running.apply(snapshot(1, PORT, &lab.backend(0, "first")))).unwrap();
    let error = cleanup::run(&parse(pins.path(), "")).unwrap_err().to_string();
    assert!(error.contains("an agent is running"), "{error}");
    assert_eq!(lab.connect(GATEWAY[0]).unwrap().name, "first");
    drop(running);
    // A child that another test is just starting may still have a copy of the lock's descriptor.
    eventually("the lock", || cleanup::run(&parse(pins.path(), "")).is_ok());
    assert!(!pins.path().exists());
}

#[test]
fn a_failed_start_leaves_nothing() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    // A child that another test is just starting may still have a copy of the lock's descriptor.
    eventually("nothing", || {
        assert!(lab.start_by(&arguments(pins.path(), "lo")).is_err());
        !pins.path().exists()
    });
}

/// Otherwise an agent's new documents would be in force for some clients, and those of one long dead for others.
#[test]
fn an_agent_without_a_kernel_plane_steers_nothing_by_the_tables_of_a_killed_one() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let mut killed = lab.start(pins.path());
    lab.gateway.enter(|| killed.apply(snapshot(1, PORT, &lab.backend(0, "first")))).unwrap();
    let mut old = lab.connect(GATEWAY[0]).unwrap();
    let off = KernelArgs { kernel: KernelMode::Off, ..arguments(pins.path(), "clients") };
    assert!(lab.start_by(&off).is_err());
    assert_eq!(lab.connect(GATEWAY[0]).unwrap().name, "first", "one that is running is left alone");
    drop(killed);
    eventually("the end of steering", || {
        assert!(lab.start_by(&off).is_err());
        lab.connect(GATEWAY[0]).is_err()
    });
    old.echo(b"still there");
    let mut next = lab.start(pins.path());
    lab.gateway.enter(|| next.apply(snapshot(1, PORT, &lab.backend(1, "second")))).unwrap();
    assert_eq!(lab.connect(GATEWAY[0]).unwrap().name, "second");
    old.echo(b"and still there");
}

#[test]
fn tables_that_nobody_uses_are_made_anew_when_their_size_or_their_ports_changed() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let ports = |range: &str| {
        lab.gateway.enter(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", range)).unwrap();
    };
    let backends = [lab.backend(0, "first")[0], lab.backend(1, "second")[0]];
    let mut killed = lab.start(pins.path());
    lab.gateway.enter(|| killed.apply(snapshot(1, PORT, &backends))).unwrap();
    drop(killed);
    ports("60000 61000");
    let larger = KernelArgs { max_flows: 2048, ..arguments(pins.path(), "clients") };
    let mut plane = lab.start_by(&larger).unwrap_or_else(|error| panic!("{error}"));
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &backends))).unwrap();
    assert_eq!(plane.status().unwrap().max_flows, 2048);
    let shown = report(pins.path(), "dump CONFIG");
    assert!(shown.contains("1024-59967"), "{shown}");
    // With flows in it the table stays, and they go on.
    let mut old: Vec<Connection> = (0..4).map(|_| lab.connect(GATEWAY[0]).unwrap()).collect();
    drop(plane);
    ports("32768 60999");
    let plane = lab.start(pins.path());
    assert_eq!(plane.status().unwrap().max_flows, 2048);
    for connection in &mut old {
        connection.echo(b"still there");
    }
}

/// A client that gave up, or a scan, leaves half a handshake for as long as its place in the ring is not needed.
#[test]
fn a_handshake_that_nobody_answers_keeps_nothing_in_the_kernel() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let nobody: SocketAddr = "10.66.0.77:80".parse().unwrap();
    let mut plane = lab.start(pins.path());
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &[nobody]))).unwrap();
    let address = SocketAddr::new(GATEWAY[0].parse().unwrap(), PORT);
    let waiting = Duration::from_millis(100);
    lab.client.enter(|| std::net::TcpStream::connect_timeout(&address, waiting)).unwrap_err();
    assert_eq!(report(pins.path(), "dump HALF").lines().count(), 3);
    drop(plane);
    eventually("a stop that leaves nothing", || {
        let plane = lab.start(pins.path());
        lab.gateway.enter(|| plane.stop()).unwrap().flows == 0
    });
    assert!(!pins.path().exists());
}

#[test]
fn a_clsact_qdisc_that_somebody_removes_is_put_back() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let clsact = KernelArgs { datapath: Datapath::Clsact, ..arguments(pins.path(), "clients") };
    let mut plane = lab.start_by(&clsact).unwrap_or_else(|error| panic!("{error}"));
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &lab.backend(0, "first")))).unwrap();
    let mut old = lab.connect(GATEWAY[0]).unwrap();
    let removed = lab
        .gateway
        .enter(|| Command::new("tc").args(["qdisc", "del", "dev", "clients", "clsact"]).status().unwrap());
    assert!(removed.success());
    assert!(lab.connect(GATEWAY[0]).is_err(), "steered by nothing");
    lab.gateway.enter(|| plane.tick()).unwrap();
    assert_eq!(lab.connect(GATEWAY[0]).unwrap().name, "first");
    old.echo(b"still there");
    lab.gateway.enter(|| plane.stop()).unwrap();
}

#[test]
fn an_xdp_program_of_somebody_else_is_told_of() {
    let (lab, theirs, pins) = (Lab::new(), PinDirectory::new(), PinDirectory::new());
    let xdp = |pins: &Path| KernelArgs { datapath: Datapath::Xdp, ..arguments(pins, "clients") };
    let _somebody = lab.start_by(&xdp(theirs.path())).unwrap_or_else(|error| panic!("{error}"));
    let words = lab.start_by(&xdp(pins.path())).err().unwrap().to_string();
    assert!(words.starts_with("another XDP program is on clients "), "{words}");
    assert!(!pins.path().exists());
}

/// More addresses and ports than the tables hold: those that have room are steered, the others refused by name.
#[test]
fn a_full_table_of_listeners_refuses_the_rest() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    lab.gateway.ip("addr add 198.18.0.9/24 dev clients");
    let backend = lab.backend(0, "first")[0];
    let one = |port| snapshot(1, port, &[backend]).listeners[0].clone();
    let listeners = (PORT..PORT + 2_100).map(one).collect();
    let many = Snapshot { generation: 1, listeners, ..Snapshot::default() };
    let mut plane = lab.start(pins.path());
    let applied = lab.gateway.enter(|| plane.apply(many.into())).unwrap();
    let refused: Vec<_> = applied.placements.values().flat_map(|placement| &placement.refusals).collect();
    assert!(refused.iter().any(|refusal| **refusal == Refusal::NoRoom), "{}", refused.len());
    assert_eq!(plane.status().unwrap().listeners, 4096);
    assert_eq!(lab.connect(GATEWAY[0]).unwrap().name, "first");
    lab.gateway.enter(|| plane.apply(snapshot(2, PORT, &[backend]))).unwrap();
    assert_eq!(plane.status().unwrap().listeners, 2);
}
