//! Segments of flows that there are.

use gateway_common::{Direction, Phase, Seen, Verdict};

use crate::bench::{Bench, FAMILIES, ROOMY, hex};
use crate::kernel::frame::{ACK, FIN, PSH, RST, SYN};

#[test]
fn segments_of_a_flow_are_rewritten_in_both_directions_and_its_state_is_followed() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.opened(net);
        let synack = flow.by_backend(SYN | ACK).with_options(&[2, 4, 5, 0xb4, 1, 3, 3, 7]);
        flow.passes_on(&mut bench, "SYN-ACK", &synack);
        assert_eq!(flow.phase(&bench), Phase::Opening);
        flow.establishes(&mut bench);
        assert_eq!(flow.phase(&bench), Phase::Established);
        flow.passes_on(&mut bench, "data", &flow.by_client(ACK | PSH).with_payload(b"odd length"));
        flow.passes_on(&mut bench, "odd data", &flow.by_backend(ACK | PSH).with_payload(b"odd length!"));
        flow.passes_on(&mut bench, "last hop but one", &flow.by_client(ACK).with_hops(2));
        flow.passes_on(&mut bench, "a full segment", &flow.by_backend(ACK).with_payload(&[0xa5; 1400]));
        flow.passes_on(&mut bench, "FIN of the client", &flow.by_client(FIN | ACK));
        assert_eq!(flow.phase(&bench), Phase::Established);
        flow.passes_on(&mut bench, "FIN of the backend", &flow.by_backend(FIN | ACK));
        assert_eq!(flow.phase(&bench), Phase::Closing);
        flow.passes_on(&mut bench, "last ACK", &flow.by_client(ACK));
        let first = |direction| flow.seen(&bench, direction).any(Seen::FIN_FIRST);
        assert!(first(Direction::ToBackend) && !first(Direction::ToClient));
        assert_eq!(flow.peek(&bench).packets, [6, 4]);
    }
}

#[test]
fn a_reset_from_either_end_ends_the_flow() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        for from_client in [true, false] {
            let flow = bench.opened(net);
            let reset = if from_client { flow.by_client(RST) } else { flow.by_backend(RST | ACK) };
            flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
            flow.passes_on(&mut bench, "RST", &reset);
            assert_eq!(flow.phase(&bench), Phase::Reset);
        }
    }
}

#[test]
fn every_checksum_comes_out_right_for_any_payload_and_port() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        for _ in 0..500 {
            let flow = bench.open(net, random.u16(1..));
            let payload: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
            let hops = random.u8(2..);
            for segment in [flow.by_client(ACK), flow.by_backend(ACK)] {
                let segment = segment.with_hops(hops).with_payload(&payload);
                let want = flow.rewritten(&segment).bytes();
                bench.comes_out("any", &segment.bytes(), Verdict::Forwarded, &want);
            }
        }
    }
}

#[test]
fn padding_behind_a_packet_does_not_matter() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.opened(net);
        let (ack, padding) = (flow.by_client(ACK), [0xee; 6]);
        let mut padded = ack.bytes();
        padded.extend(padding);
        let outcome = bench.run(&padded);
        let mut want = flow.rewritten(&ack).bytes();
        want.extend(padding);
        assert_eq!((outcome.verdict, hex(&outcome.packet)), (Verdict::Forwarded, hex(&want)));
    }
}

#[test]
fn a_flow_ends_at_its_last_hop() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        let before = flow.peek(&bench);
        for hops in [0, 1] {
            for packet in [flow.by_client(ACK), flow.by_backend(ACK)] {
                bench.passes("last hop", &packet.with_hops(hops).bytes(), Verdict::Expired);
            }
        }
        assert_eq!(flow.peek(&bench), before);
    }
}
