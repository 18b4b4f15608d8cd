//! What the plane tells workers of backends that connections may be handed over to.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod kernel;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use gateway_common::flow::NO_TRANSLATION;
use gateway_common::ports::PORTS_PER_WORD;
use gateway_common::{Addr4, Address, Be16, Flow, FlowKey, State};
use gateway_userspace::datapath::targets::{NoTarget, Tables, Target};
use gateway_userspace::datapath::{KernelPlane, Targets};
use gateway_userspace::model::{
    Fitness, Listener, ListenerKey, Published, Snapshot, Steering, Subscription, UserSpaceReason,
};
use kernel::lab::{Lab, PORT, arguments};
use kernel::{PinDirectory, eventually, snapshot};

const KEY: ListenerKey = ListenerKey { bind: None, port: PORT };

/// A snapshot with a listener that user space must serve.
fn in_user_space(generation: u64, endpoints: &[SocketAddr]) -> Arc<Snapshot> {
    let mut snapshot = Arc::into_inner(snapshot(generation, PORT, endpoints)).unwrap();
    let listener = snapshot.listeners.pop().and_then(Arc::into_inner).unwrap();
    let steering = Steering::UserSpace(UserSpaceReason::ProxyProtocol);
    snapshot.listeners.push(Arc::new(Listener { steering, ..listener }));
    Arc::new(snapshot)
}

fn start(lab: &Lab, pins: &Path) -> (KernelPlane, Subscription<Targets>) {
    let (targets, arguments) = (Published::default(), arguments(pins, "clients"));
    let reader = targets.subscribe();
    let plane = lab
        .gateway
        .enter(|| KernelPlane::start(&arguments, &Fitness::default(), targets, std::time::Duration::ZERO))
        .unwrap();
    (plane, reader)
}

fn index_of(lab: &Lab, interface: &str) -> u32 {
    lab.gateway.enter(|| nix::net::if_::if_nametoindex(interface)).unwrap()
}

/// Ports in use of a backend's bitmap.
fn in_use(tables: &Tables, target: &Target) -> u32 {
    tables.ports.count(target.ports, tables.config.port_count / PORTS_PER_WORD)
}

#[test]
fn backends_of_opaque_connections_are_told_of_while_there_is_a_plane() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let ([four, six], [_, other]) = (lab.backend(0, "first"), lab.backend(1, "second"));
    let unreachable: SocketAddr = "192.0.2.1:80".parse().unwrap();
    let (mut plane, targets) = start(&lab, pins.path());
    assert!(targets.current().tables().is_none(), "before any document");

    lab.gateway.enter(|| plane.apply(in_user_space(1, &[four, six, unreachable]))).unwrap();
    let told = targets.current();
    for (address, source) in [(four, "10.66.0.1"), (six, "fd66:0::1")] {
        let target = told.backend(address).unwrap();
        assert_eq!(target.source, source.parse::<std::net::IpAddr>().unwrap());
        assert_eq!((target.oif, target.mtu), (index_of(&lab, "backend.0"), 1500));
    }
    let no_route = NoTarget::Unreachable("no route".to_owned());
    assert_eq!(told.backend(unreachable), Err(no_route));
    assert_eq!(told.backend(other), Err(NoTarget::Unknown));
    let number = told.listener(KEY).expect("a number");
    assert_eq!(told.mtu(index_of(&lab, "clients")), Some(1500));
    assert_eq!(plane.status().unwrap().listeners, 0, "no listener is steered");

    // A second that changes nothing is no news; another MTU is, and another backend.
    lab.gateway.enter(|| plane.tick()).unwrap();
    assert!(Arc::ptr_eq(&told, &targets.current()));
    lab.gateway.ip("link set clients mtu 1400");
    lab.gateway.enter(|| plane.tick()).unwrap();
    assert_eq!(targets.current().mtu(index_of(&lab, "clients")), Some(1400));
    lab.gateway.enter(|| plane.apply(in_user_space(2, &[other]))).unwrap();
    assert!(targets.current().backend(other).is_ok());
    assert_eq!(targets.current().backend(four), Err(NoTarget::Unknown));
    assert_eq!(targets.current().listener(KEY), Some(number));

    drop(plane);
    assert!(targets.current().tables().is_none());
    assert_eq!(targets.current().backend(other), Err(NoTarget::Unknown));
}

#[test]
fn a_source_port_that_a_worker_holds_outlives_its_backend() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let ([first, _], [second, _]) = (lab.backend(0, "first"), lab.backend(1, "second"));
    let (mut plane, targets) = start(&lab, pins.path());
    lab.gateway.enter(|| plane.apply(in_user_space(1, &[first, second]))).unwrap();
    let told = targets.current();
    let tables = told.tables().unwrap().clone();
    let [held, leaked] = [first, second].map(|address| told.backend(address).unwrap().clone());
    let port = held.claim(&tables).unwrap();
    tables.ports.claim(&tables.config, leaked.ports).unwrap();
    let [held, leaked] = [held, leaked].map(|target| (target.ports, target));
    let ports = |base| tables.ports.count(base, tables.config.port_count / PORTS_PER_WORD);
    assert_eq!((ports(held.0), ports(leaked.0)), (1, 1));

    lab.gateway.enter(|| plane.apply(in_user_space(2, &[]))).unwrap();
    drop((told, held.1, leaked.1));
    // What nobody holds is cleared when the backend is forgotten.
    eventually("the other backend to be forgotten", || {
        lab.gateway.enter(|| plane.tick()).unwrap();
        ports(leaked.0) == 0
    });
    assert_eq!(ports(held.0), 1, "somebody may connect by it now");
    drop(port);
    assert_eq!(ports(held.0), 0);
}

fn flow(target: &Target, listener: u32, port: u16) -> Flow<Addr4> {
    let tuple = |source: &str, destination: &str, source_port, destination_port| FlowKey {
        source: Addr4::from_ip(source.parse().unwrap()).unwrap(),
        destination: Addr4::from_ip(destination.parse().unwrap()).unwrap(),
        source_port: Be16::new(source_port),
        destination_port: Be16::new(destination_port),
    };
    Flow {
        client: tuple("198.18.0.2", "198.18.0.1", 40_000, PORT),
        backend: tuple("10.66.0.1", "10.66.0.2", port, 80),
        oif: [target.oif, 1],
        backend_id: target.id,
        listener,
        ports: target.ports,
        idle_timeout: 3600,
        attempts: 0,
        translation: NO_TRANSLATION,
        ends: [0; 2],
        created: 0,
        state: State::COUNTED,
        halves: Default::default(),
    }
}

#[test]
fn flows_of_an_opaque_listener_are_its_own_with_the_next_agent_too() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let [backend, _] = lab.backend(0, "first");
    let (mut plane, targets) = start(&lab, pins.path());
    lab.gateway.enter(|| plane.apply(in_user_space(1, &[backend]))).unwrap();
    let told = targets.current();
    let (tables, target) = (told.tables().unwrap(), told.backend(backend).unwrap());
    let listener = told.listener(KEY).unwrap();
    let port = target.claim(tables).unwrap();
    tables.v4.put(&tables.config, &flow(target, listener, port.address().port())).unwrap();
    port.keep();
    drop(plane);

    let (mut plane, targets) = start(&lab, pins.path());
    lab.gateway.enter(|| plane.apply(in_user_space(1, &[backend]))).unwrap();
    let told = targets.current();
    assert_eq!(told.listener(KEY), Some(listener));
    let (tables, again) = (told.tables().unwrap(), told.backend(backend).unwrap());
    assert_ne!(again.id, target.id, "flows still have the old number");
    assert_eq!(in_use(tables, again), 1, "the flow's port is taken");
}
