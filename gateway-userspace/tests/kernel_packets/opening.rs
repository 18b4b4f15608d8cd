//! SYNs to a steered listener.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gateway_common::{Direction, Phase, Seen, Verdict};

use crate::bench::{BACKENDS, Bench, CLIENTS, FAMILIES, FIRST_PORT, PORTS, ROOMY};
use crate::kernel::frame::{ACK, FIN, RST, SYN};

#[test]
fn a_syn_opens_a_flow_with_an_entry_for_each_direction() {
    for net in FAMILIES {
        let mut bench = Bench::serving(64);
        let flow = bench.open(net, 40_000);
        assert_eq!(flow.backend.source.ip(), net.source.parse::<IpAddr>().unwrap());
        assert!((FIRST_PORT..FIRST_PORT + PORTS).contains(&flow.backend.source.port().into()));
        assert!(net.backends().contains(&flow.backend.destination));

        let [to_backend, to_client] = bench.entries()[..] else { panic!("{:?}", bench.entries()) };
        assert_eq!((to_backend.arriving, to_backend.leaving), (flow.client, flow.backend));
        assert_eq!(
            (to_client.arriving, to_client.leaving),
            (flow.backend.reversed(), flow.client.reversed())
        );
        assert_eq!((to_backend.direction, to_client.direction), (Direction::ToBackend, Direction::ToClient));
        assert_eq!((to_backend.oif, to_client.oif), (BACKENDS, CLIENTS));
        assert_eq!((to_backend.seen().0, to_client.seen().0), (Seen::SYN, 0));
        assert_eq!((to_backend.packets, to_client.packets), (1, 0));
        assert_eq!((to_backend.bytes, to_client.bytes), (0, 0));
        assert_eq!(to_backend.created, to_client.created);
        assert_eq!((to_backend.idle_timeout, to_backend.phase), (600, Phase::Opening));
    }
}

#[test]
fn a_syn_sent_again_uses_the_same_entry() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.open(net, 40_000);
        let record = flow.peek(&bench);
        flow.passes_on(&mut bench, "SYN again", &net.syn(40_000));
        let again = flow.peek(&bench);
        assert_eq!((again.number, again.leaving, again.packets), (record.number, record.leaving, [2, 0]));
    }
    assert_eq!(bench.entries().len(), 4);
}

#[test]
fn a_syn_on_a_finished_flow_starts_another() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for finish in [&[(true, FIN | ACK), (false, FIN | ACK)][..], &[(true, RST)], &[(false, RST)]] {
            let flow = bench.established(net);
            let old = flow.peek(&bench);
            for (from_client, flags) in finish {
                let last = if *from_client { flow.by_client(*flags) } else { flow.by_backend(*flags) };
                flow.passes_on(&mut bench, "last", &last);
            }
            let outcome = bench.run(&net.syn(flow.client.source.port()).bytes());
            assert_eq!(outcome.verdict, Verdict::Replaced);
            let new = flow.peek(&bench);
            assert_eq!((new.state.phase(), new.packets), (Phase::Opening, [1, 0]));
            assert_ne!((new.kind, new.number), (old.kind, old.number));
            assert!(bench.peek(flow.backend.reversed()).is_none(), "the old answers' tuple is gone");
        }
    }
}

#[test]
fn a_syn_on_a_finished_flow_of_a_listener_steered_no_more_goes_to_the_stack_with_all_that_follows() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.open(net, 40_000);
        flow.passes_on(&mut bench, "RST", &flow.by_client(RST));
        bench.unserve(net);
        bench.passes("SYN", &net.syn(40_000).bytes(), Verdict::NotSteered);
        assert!(bench.peek(flow.client).is_none());
        bench.passes("ACK", &flow.by_client(ACK).bytes(), Verdict::NotSteered);
    }
}

#[test]
fn new_flows_spread_over_the_backends_and_follow_the_table() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let mut counts = BTreeMap::new();
        let mut flows = Vec::new();
        for _ in 0..500 {
            let flow = bench.opened(net);
            *counts.entry(flow.backend.destination).or_insert(0) += 1;
            flows.push(flow);
        }
        assert!(counts.len() == 2 && counts.values().all(|count| *count > 150), "{counts:?}");
        bench.serve(net, &net.backends()[1..]);
        assert_eq!(bench.opened(net).backend.destination, net.backends()[1]);
        for flow in flows {
            assert_eq!(flow.peek(&bench).leaving, flow.backend, "stays where it is");
        }
    }
}

#[test]
fn source_ports_never_collide() {
    let mut bench = Bench::new(ROOMY);
    for net in FAMILIES {
        bench.serve(net, &net.backends()[..1]);
        let mut used = BTreeSet::new();
        for _ in 0..900 {
            assert!(used.insert(bench.opened(net).backend.source), "taken twice");
        }
    }
}

#[test]
fn a_handshake_moves_among_the_established_flows_with_the_acknowledgement_that_only_the_backend_could_ask_for()
 {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.opened(net);
        flow.passes_on(&mut bench, "early ACK", &flow.by_client(ACK));
        flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
        let before = flow.peek(&bench);
        flow.establishes(&mut bench);
        let after = flow.peek(&bench);
        assert_ne!(before.kind, after.kind);
        assert_eq!((after.leaving, after.backend, after.packets), (before.leaving, before.backend, [3, 1]));
    }
}
