//! Condemned flows whose ends are silent: each end is reset, whatever the record knows of its numbers.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod kernel;

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;

use gateway_common::flow::ticks;
use gateway_common::{Address, Half, State};
use gateway_userspace::datapath::flows::{Flows, Kind};
use gateway_userspace::datapath::{KernelPlane, stats};
use gateway_userspace::model::{Fitness, Published};
use kernel::lab::{GATEWAY, Lab, PORT, arguments};
use kernel::{Namespace, PinDirectory, eventually, snapshot};

/// Condemns every flow that is not yet, and shifts what its record knows of both ends' numbers.
fn condemn<A: Address>(flows: &Flows<A>, shift: u32) -> usize {
    let lives = |kind: Kind, state: u64| kind == Kind::Established && !State(state).any(State::CONDEMNED);
    let living: Vec<_> = flows.all().filter(|(kind, _, flow)| lives(*kind, flow.state)).collect();
    for (_, number, flow) in &living {
        flows.mark(Kind::Established, *number, State::CONDEMNED);
        let last_seen = ticks(stats::monotonic());
        let shifted = |half: Half| Half::resumed(half.expected().wrapping_add(shift), 0);
        flows.resume(*number, flow.halves.map(|half| Half { last_seen, ..shifted(half) }));
    }
    living.len()
}

/// Connections of a namespace that neither end has closed (`TCP_ESTABLISHED` is 1).
fn established(namespace: &Namespace) -> usize {
    let count = |table: &str| {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
        text.lines().filter(|line| line.split_ascii_whitespace().nth(3) == Some("01")).count()
    };
    namespace.enter(|| count("tcp") + count("tcp6"))
}

#[test]
fn both_ends_are_reset_wherever_the_records_numbers_are() {
    let (lab, pins) = (Lab::new(), PinDirectory::new());
    let endpoints: [SocketAddr; 2] = lab.backend(0, "first");
    let (targets, arguments) = (Published::default(), arguments(pins.path(), "clients"));
    let reader = targets.subscribe();
    let mut plane = lab
        .gateway
        .enter(|| KernelPlane::start(&arguments, &Fitness::default(), targets, std::time::Duration::ZERO))
        .unwrap();
    lab.gateway.enter(|| plane.apply(snapshot(1, PORT, &endpoints))).unwrap();
    let told = reader.current();
    let tables = told.tables().unwrap();
    // Exact; ahead, within the window and beyond it; and behind.
    for shift in [0, 100, 1 << 30, 100_u32.wrapping_neg(), (1_u32 << 30).wrapping_neg()] {
        let mut connections = GATEWAY.map(|address| lab.connect(address).unwrap());
        for connection in &mut connections {
            connection.echo(b"hello");
        }
        assert_eq!(established(&lab.backends[0]), 2);
        let condemned = condemn(&tables.v4, shift) + condemn(&tables.v6, shift);
        assert_eq!(condemned, 2, "shift {shift}");
        lab.gateway.enter(|| plane.tick()).unwrap();
        for mut connection in connections {
            let end = connection.stream.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(end, Err(ErrorKind::ConnectionReset), "shift {shift}");
        }
        eventually("the backend to have none left", || established(&lab.backends[0]) == 0);
    }
    // Their records stay for answers that are late, and go then.
    eventually("the records to be taken out", || {
        lab.gateway.enter(|| plane.tick()).unwrap();
        tables.v4.all().next().is_none() && tables.v6.all().next().is_none()
    });
}
