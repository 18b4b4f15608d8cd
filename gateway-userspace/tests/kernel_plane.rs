//! The kernel plane on a real kernel: a client, a gateway and backends in network namespaces of their own, and TCP
//! through them. There is no listening socket on the gateway, so whatever gets through was steered.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod kernel;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use gateway_userspace::datapath::{KernelPlane, Placement};
use gateway_userspace::model::ListenerKey;
use gateway_userspace::settings::{KernelArgs, KernelMode};
use kernel::{Connection, Namespace, PinDirectory, backend, eventually, snapshot};

const PORT: u16 = 7000;

/// Addresses of the gateway, towards the client.
const GATEWAY: [&str; 2] = ["198.18.0.1", "fd18::1"];

struct Lab {
    client: Namespace,
    gateway: Namespace,
    backends: [Namespace; 2],
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            client: Namespace::new(),
            gateway: Namespace::new(),
            backends: [Namespace::new(), Namespace::new()],
        };
        lab.gateway.connect(
            "clients",
            &["198.18.0.1/24", "fd18::1/64"],
            &lab.client,
            "eth0",
            &["198.18.0.2/24", "fd18::2/64"],
        );
        for (index, backend) in lab.backends.iter().enumerate() {
            lab.gateway.connect(
                &format!("backend.{index}"),
                &[&format!("10.66.{index}.1/24"), &format!("fd66:{index}::1/64")],
                backend,
                "eth0",
                &[&format!("10.66.{index}.2/24"), &format!("fd66:{index}::2/64")],
            );
        }
        lab
    }

    /// A backend on both families.
    fn backend(&self, index: usize, name: &'static str) -> [SocketAddr; 2] {
        let namespace = &self.backends[index];
        [
            backend(namespace, &format!("10.66.{index}.2"), name),
            backend(namespace, &format!("fd66:{index}::2"), name),
        ]
    }

    fn start(&self, pins: &Path) -> KernelPlane {
        let args = KernelArgs {
            kernel: KernelMode::Require,
            interfaces: vec!["clients".to_owned()],
            pin_dir: pins.to_owned(),
            max_flows: 1024,
        };
        self.gateway.enter(|| KernelPlane::start(&args)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn connect(&self, address: &str) -> std::io::Result<Connection> {
        Connection::open(&self.client, SocketAddr::new(address.parse().unwrap(), PORT))
    }
}

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
