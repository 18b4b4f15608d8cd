//! The kernel plane on a real kernel: a client, a gateway and backends in network namespaces of their own, and TCP
//! through them. There is no listening socket on the gateway, so whatever gets through was steered.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod kernel;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use gateway_userspace::cli::{cleanup, maps};
use gateway_userspace::datapath::{KernelPlane, Placement};
use gateway_userspace::model::ListenerKey;
use gateway_userspace::model::{Fitness, Published};
use kernel::lab::{GATEWAY, Lab, PORT, arguments, parse, report};
use kernel::{Connection, Namespace, PinDirectory, bulk, eventually, snapshot};

fn steered(placement: &Placement) -> Vec<IpAddr> {
    placement.steered.iter().map(SocketAddr::ip).collect()
}

#[test]
fn flows_are_steered_follow_changes_and_outlive_the_agent() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let (first, second) = (lab.backend(0, "first"), lab.backend(1, "second"));
    let key = ListenerKey { bind: None, port: PORT };

    let mut plane = lab.start(pins.path());
    let applied = lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &first))).unwrap();
    let gateway: Vec<IpAddr> = GATEWAY.iter().map(|ip| ip.parse().unwrap()).collect();
    assert_eq!(steered(&applied.placements[&key]), gateway, "{applied:?}");

    let mut old: Vec<Connection> = GATEWAY.iter().map(|address| lab.connect(address).unwrap()).collect();
    for connection in &mut old {
        assert_eq!(connection.name, "first");
        connection.echo(&vec![7; 300_000]);
    }

    // Another backend: new flows follow, old ones stay.
    lab.gateway.enter(|| plane.apply(snapshot(2, PORT, &second))).unwrap();
    for (address, old) in GATEWAY.iter().zip(&mut old) {
        assert_eq!(lab.connect(address).unwrap().name, "second");
        old.echo(b"still there");
    }

    // Without an agent.
    drop(plane);
    for (address, old) in GATEWAY.iter().zip(&mut old) {
        assert_eq!(lab.connect(address).unwrap().name, "second");
        old.echo(b"nobody at home");
    }

    // The next agent.
    let mut plane = lab.start(pins.path());
    for (address, old) in GATEWAY.iter().zip(&mut old) {
        assert_eq!(lab.connect(address).unwrap().name, "second", "before the first snapshot");
        old.echo(b"somebody new");
    }
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &first))).unwrap();
    for (address, old) in GATEWAY.iter().zip(&mut old) {
        assert_eq!(lab.connect(address).unwrap().name, "first");
        old.echo(b"and another snapshot");
    }
    let ticked = lab.gateway.enter(|| plane.tick()).unwrap();
    assert!(ticked.flows.ipv4 >= 1 && ticked.flows.ipv6 >= 1, "{ticked:?}");
    let status = plane.status().unwrap();
    assert_eq!(status.interfaces.len(), 3, "{status:?}");
    assert!(status.verdicts["steered"] >= 10 && status.verdicts["forwarded"] > 100, "{status:?}");
    assert_eq!(status.verdicts["miss"], 0, "{status:?}");

    // A clean stop: no new flows, old ones go on.
    // Those that were closed at once may still be at it.
    eventually("the short flows to end", || {
        let flows: Vec<serde_json::Value> =
            serde_json::from_str(&report(pins.path(), "dump FLOWS -o json")).unwrap();
        flows.iter().filter(|flow| flow["state"] != "closing").count() == 4
    });
    let stopped = lab.gateway.enter(|| plane.stop()).unwrap();
    assert_eq!(stopped.flows, 2);
    for (address, old) in GATEWAY.iter().zip(&mut old) {
        assert!(lab.connect(address).is_err());
        old.echo(b"after the stop");
    }
    drop(old);

    // With no flow left nothing is left.
    eventually("the last flows to end", || {
        let plane = lab.start(pins.path());
        lab.gateway.enter(|| plane.stop()).unwrap().flows == 0
    });
    assert!(!pins.path().exists());
}

/// Super-packets with checksums left to hardware that is not there, as between pods.
#[test]
fn bulk_data_comes_through_whole() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let backend = lab.backend(0, "first");
    let mut plane = lab.start(pins.path());
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &backend))).unwrap();
    for address in GATEWAY {
        let mut connection = lab.connect(address).unwrap();
        bulk(&mut connection, 16 << 20);
    }
    let flows = report(pins.path(), "dump FLOWS -o json");
    let flows: Vec<serde_json::Value> = serde_json::from_str(&flows).unwrap();
    assert_eq!(flows.len(), 4);
    for flow in flows {
        let (packets, bytes) = (flow["packets"].as_u64().unwrap(), flow["bytes"].as_u64().unwrap());
        assert!(bytes >= 16 << 20, "{flow}");
        // Counted as on the wire: more than 1500 bytes to a packet would be a super-packet counted as one.
        assert!(bytes / packets < 1600, "{flow}");
    }
}

#[test]
fn addresses_routes_and_interfaces_that_come_and_go_are_followed() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let backend = lab.backend(0, "first");
    let key = ListenerKey { bind: None, port: PORT };
    let mut plane = lab.start(pins.path());
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &backend[..1]))).unwrap();
    assert_eq!(lab.gateway.enter(|| plane.tick()).unwrap().changed, None);

    lab.gateway.ip("addr add 198.18.0.9/24 dev clients");
    let changed = lab.gateway.enter(|| plane.tick()).unwrap().changed.unwrap();
    assert_eq!(changed.placements[&key].steered.len(), 2, "{changed:?}");
    assert_eq!(lab.connect("198.18.0.9").unwrap().name, "first");
    lab.gateway.ip("addr del 198.18.0.9/24 dev clients");
    let changed = lab.gateway.enter(|| plane.tick()).unwrap().changed.unwrap();
    assert_eq!(changed.placements[&key].steered.len(), 1, "{changed:?}");

    // Off the interface that leads to the backend: its address leads nowhere any more.
    lab.gateway.ip("link del backend.0");
    let changed = lab.gateway.enter(|| plane.tick()).unwrap().changed.unwrap();
    let refusals: Vec<String> = changed.placements[&key].refusals.iter().map(ToString::to_string).collect();
    assert!(refusals.contains(&format!("backend {}: no route", backend[0])), "{refusals:?}");
    assert_eq!(plane.status().unwrap().listeners, 0);
    assert_eq!(plane.status().unwrap().interfaces.len(), 1);

    let local = "10.66.1.1:80".parse().unwrap();
    let applied = lab.gateway.enter(|| plane.apply(snapshot(2, PORT, &[local]))).unwrap();
    let refusals: Vec<String> = applied.placements[&key].refusals.iter().map(ToString::to_string).collect();
    assert_eq!(refusals[0], "backend 10.66.1.1:80: address of this node itself");
}

#[test]
fn a_machine_that_cannot_have_a_kernel_plane_says_why() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let start = |namespace: &Namespace, pins: &Path, interface: &str| {
        let problem = namespace.enter(|| {
            KernelPlane::start(
                &arguments(pins, interface),
                &Fitness::default(),
                Published::default(),
                std::time::Duration::ZERO,
            )
            .err()
        });
        problem.map(|problem| problem.to_string()).unwrap_or_default()
    };
    assert_eq!(
        start(&lab.gateway, pins.path(), "eth9"),
        "--interface eth9: there is no such interface; there are lo, clients, backend.0, backend.1"
    );
    assert_eq!(start(&lab.gateway, pins.path(), "lo"), "lo carries no Ethernet");

    let occupied = tempfile::tempdir().unwrap();
    std::fs::write(occupied.path().join("somebody's"), "").unwrap();
    let words = start(&lab.gateway, occupied.path(), "clients");
    assert!(words.starts_with("cannot mount bpffs at "), "{words}");

    let running = lab.start(pins.path());
    let words = start(&lab.gateway, pins.path(), "clients");
    assert!(words.starts_with("another agent is running at "), "{words}");
    drop(running);
    // A child that another test is just starting may still have a copy of the lock's descriptor.
    let mut words = String::new();
    eventually("the lock", || {
        words = start(&lab.client, pins.path(), "eth0");
        !words.starts_with("another agent")
    });
    assert!(words.contains("another network namespace") && words.contains("--pin-dir"), "{words}");
}

#[test]
fn maps_are_shown_without_an_agent_and_cleaned_up() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let backend = lab.backend(0, "first");
    let error = maps::report(&parse(pins.path(), "list")).unwrap_err().to_string();
    assert!(error.contains("no kernel plane is running"), "{error}");

    let mut plane = lab.start(pins.path());
    lab.gateway.enter(|| plane.apply(snapshot(5, PORT, &backend))).unwrap();
    drop(plane);
    let connection = lab.connect(GATEWAY[0]).unwrap();
    let client = connection.stream.local_addr().unwrap().to_string();

    let list = report(pins.path(), "list");
    let entries =
        |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().last();
    assert_eq!((entries("FLOWS4"), entries("LISTENERS6")), (Some("1"), Some("1")), "{list}");

    let flows = report(pins.path(), "dump flows");
    assert_eq!(flows.lines().count(), 3, "{flows}");
    for words in
        [&client, "198.18.0.1:7000", &backend[0].to_string(), "established", "to backend", "to client"]
    {
        assert!(flows.contains(words), "no {words} in\n{flows}");
    }
    assert_eq!(report(pins.path(), "dump FLOWS6").lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&report(pins.path(), "dump FLOWS4 -o json")).unwrap();
    assert_eq!(json[0]["client"], client);
    let listeners = report(pins.path(), "dump LISTENERS");
    assert!(listeners.contains(&format!("{} 100.0%", backend[1])), "{listeners}");
    assert!(report(pins.path(), "dump MAGLEV").contains("1021"));
    assert!(report(pins.path(), "dump VERDICTS").contains("steered"));
    assert!(report(pins.path(), "dump CONFIG").contains("source ports"));
    let ports = report(pins.path(), "dump PORTS4");
    assert!(ports.lines().nth(1).unwrap().starts_with(&backend[0].to_string()), "{ports}");
    assert_eq!(ports.lines().nth(1).unwrap().split_whitespace().nth(2), Some("1"), "{ports}");
    let limits = report(pins.path(), "dump LIMITS");
    assert!(limits.contains("198.18.0.1:7000,[fd18::1]:7000   1 "), "{limits}");
    assert_eq!(report(pins.path(), "dump HALF").lines().count(), 1);
    assert_eq!(report(pins.path(), "dump DENY").lines().count(), 1);
    assert!(report(pins.path(), "dump LINKS").starts_with("INTERFACE"));
    let unknown = maps::report(&parse(pins.path(), "dump NOTHING")).unwrap_err().to_string();
    assert!(unknown.contains("LISTENERS"), "{unknown}");

    cleanup::run(&parse(pins.path(), "")).unwrap();
    assert!(!pins.path().exists());
    // The kernel detaches a link shortly after its last pin is gone, not at once.
    eventually("the end of steering", || lab.connect(GATEWAY[0]).is_err());
    cleanup::run(&parse(pins.path(), "")).unwrap();
}

#[test]
fn flows_of_another_version_go_on_and_new_ones_are_this_versions() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let (first, second) = (lab.backend(0, "first"), lab.backend(1, "second"));
    let mut plane = lab.start(pins.path());
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &first))).unwrap();
    let mut old: Vec<Connection> = GATEWAY.iter().map(|address| lab.connect(address).unwrap()).collect();
    drop(plane);
    let (ours, theirs) = (pins.path().join(gateway_common::SCHEMA), pins.path().join("v1"));
    std::fs::rename(&ours, &theirs).unwrap();

    let mut plane = lab.start(pins.path());
    for (address, old) in GATEWAY.iter().zip(&mut old) {
        old.echo(&vec![9; 100_000]);
        assert!(lab.connect(address).is_err(), "steered by the other version still");
    }
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &second))).unwrap();
    for (address, old) in GATEWAY.iter().zip(&mut old) {
        assert_eq!(lab.connect(address).unwrap().name, "second");
        old.echo(b"still there");
    }
    drop(plane);
    cleanup::run(&parse(pins.path(), "")).unwrap();
    assert!(!theirs.exists() && !ours.exists());
}

#[test]
fn only_pins_are_cleaned_up() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("v1")).unwrap();
    assert!(cleanup::run(&parse(directory.path(), "")).is_err());
    assert!(directory.path().join("v1").exists());
}
