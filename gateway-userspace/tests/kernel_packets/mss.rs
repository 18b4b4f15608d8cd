//! The maximum segment size in SYN and SYN-ACK.

use gateway_common::Verdict;

use crate::bench::{Bench, FAMILIES, MSS, Net, ROOMY};
use crate::kernel::frame::{ACK, PSH, RST, SYN, Segment};

/// MTU towards clients and towards backends, the value told, and for IPv4 and IPv6 the value that leaves.
pub(crate) const VALUES: &[(u32, u32, u16, u16, u16)] = &[
    (0, 0, 1460, 1460, 1460),
    (0, 0, 65_535, 65_535, 65_535),
    (1500, 1500, 1460, 1460, 1440),
    (1500, 1500, 1440, 1440, 1440),
    (1500, 1500, 1461, 1460, 1440),
    (1500, 0, 8960, 1460, 1440),
    (0, 1500, 8960, 1460, 1440),
    (9000, 1500, 8960, 1460, 1440),
    (1500, 9000, 8960, 1460, 1440),
    (1400, 1450, 1460, 1360, 1340),
    (1450, 1400, 1460, 1360, 1340),
    (1280, 1500, 1460, 1240, 1220),
    (1500, 1500, 536, 536, 536),
    (1500, 1500, 0, 0, 0),
    (65_535, 65_535, 65_535, 65_495, 65_475),
    (576, 1500, 536, 536, 516),
    (40, 1500, 1460, 1460, 1460),
];

/// Options of a SYN, and the place of the value that may be lowered.
pub(crate) const PLACES: &[(&str, &[u8], Option<usize>)] = &[
    ("alone", &MSS, Some(2)),
    ("first of many", &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7], Some(2)),
    ("last", &[1, 3, 3, 7, 4, 2, 1, 1, 2, 4, 5, 0xb4], Some(10)),
    ("behind one byte", &[1, 2, 4, 5, 0xb4, 0, 0, 0], Some(3)),
    ("behind three bytes", &[3, 3, 7, 2, 4, 5, 0xb4, 0], Some(5)),
    ("behind two bytes", &[4, 2, 2, 4, 5, 0xb4, 1, 1], Some(4)),
    ("at the very end", &[1, 1, 1, 1, 2, 4, 5, 0xb4], Some(6)),
    ("at the end of the longest header", &LAST, Some(38)),
    ("at an odd place of the longest header", &LAST_BUT_ONE, Some(37)),
    ("behind an unknown option", &[0xfd, 8, 2, 4, 5, 0xb4, 0, 0, 2, 4, 5, 0xb4], Some(10)),
    ("missing", &[4, 2, 1, 1], None),
    ("no options", &[], None),
    ("behind the end", &[0, 2, 4, 5, 0xb4, 0, 0, 0], None),
    ("of three bytes", &[2, 3, 5, 1], None),
    ("of five bytes", &[2, 5, 5, 0xb4, 0, 0, 0, 0], None),
    ("of no length", &[2, 0, 5, 0xb4], None),
    ("cut off by the header", &[1, 1, 2, 4], None),
    ("cut off after a byte of the value", &[1, 2, 4, 5], None),
    ("kind at the very end", &[1, 1, 1, 2], None),
    ("behind a broken option", &[3, 0, 2, 4, 5, 0xb4, 0, 0], None),
    ("before a broken option", &[2, 4, 5, 0xb4, 3, 1, 0, 0], None),
    ("within another option", &[0xfd, 8, 2, 4, 5, 0xb4, 0, 0], None),
];

const LAST: [u8; 40] = with_size_at(36);
const LAST_BUT_ONE: [u8; 40] = with_size_at(35);

const fn with_size_at(place: usize) -> [u8; 40] {
    let mut options = [1; 40];
    (options[place], options[place + 1], options[place + 2], options[place + 3]) = (2, 4, 5, 0xb4);
    options
}

/// Sends a SYN and its answer with options, and expects others to leave with each. Test runs come in by the clients'
/// interface, whoever sends: the answer meets no other.
fn leaves_with(bench: &mut Bench, net: Net, what: &str, options: &[u8], [want, want_back]: [&[u8]; 2]) {
    let port = bench.port();
    let syn = Segment::new(net.client(port), net.gateway(), SYN).with_options(options).with_payload(b"early");
    let outcome = bench.run(&syn.bytes());
    let tuple = gateway_userspace::datapath::view::Tuple { source: syn.source, destination: syn.destination };
    let flow = crate::bench::Opened { client: tuple, backend: bench.peek(tuple).unwrap().leaving };
    assert_eq!(outcome.verdict, Verdict::Steered, "{what}");
    assert_eq!(outcome.packet, flow.rewritten(&syn).with_options(want).bytes(), "{what}");
    let synack = flow.by_backend(SYN | ACK).with_options(options);
    let answer = flow.rewritten(&synack).with_options(want_back);
    bench.becomes(what, &synack, Verdict::Forwarded, &answer);
    bench.becomes(what, &synack, Verdict::Forwarded, &answer);
}

#[test]
fn lowered_to_what_both_links_carry_and_never_raised() {
    let mut bench = Bench::serving(ROOMY);
    for (clients, backends, told, ipv4, ipv6) in VALUES {
        bench.mtu(*clients, *backends);
        for net in FAMILIES {
            let want = if net.is_v4() { *ipv4 } else { *ipv6 };
            let option = |value: u16| [&[2, 4][..], &value.to_be_bytes()].concat();
            let what = format!("{clients} {backends} {told}");
            let headers = if net.is_v4() { 40 } else { 60 };
            let by_clients =
                if *clients <= headers { *told } else { (*told).min((clients - headers) as u16) };
            leaves_with(&mut bench, net, &what, &option(*told), [&option(want), &option(by_clients)]);
        }
    }
}

#[test]
fn found_wherever_it_is_and_left_alone_where_options_are_broken() {
    let mut bench = Bench::serving(ROOMY);
    bench.mtu(1400, 1500);
    for (what, options, place) in PLACES {
        for net in FAMILIES {
            let value: u16 = if net.is_v4() { 1360 } else { 1340 };
            let mut want = options.to_vec();
            if let Some(place) = place {
                want[*place..place + 2].copy_from_slice(&value.to_be_bytes());
            }
            leaves_with(&mut bench, net, what, options, [&want, &want]);
        }
    }
}

#[test]
fn any_value_at_any_place_leaves_a_right_checksum() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut bench = Bench::serving(ROOMY);
    for _ in 0..200 {
        let mtu = random.u32(576..9000);
        bench.mtu(mtu, 9000);
        let told = random.u16(..);
        let padding = random.usize(..8);
        let mut options = [1; 12];
        options[padding..padding + 2].copy_from_slice(&[2, 4]);
        for net in FAMILIES {
            let limit = mtu as u16 - if net.is_v4() { 40 } else { 60 };
            let with = |value: u16| {
                let mut options = options;
                options[padding + 2..padding + 4].copy_from_slice(&value.to_be_bytes());
                options
            };
            let want = with(told.min(limit));
            leaves_with(&mut bench, net, "random", &with(told), [&want, &want]);
        }
    }
}

#[test]
fn only_a_syn_tells_it() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        bench.mtu(576, 576);
        for flags in [ACK, ACK | PSH, RST | ACK] {
            flow.passes_on(&mut bench, "no SYN", &flow.by_client(flags).with_options(&MSS));
        }
        bench.mtu(0, 0);
    }
}
