//! IPv4 options and IPv6 extension headers.

use gateway_common::Verdict;

use crate::bench::{Bench, FAMILIES, Net, ROOMY, V4, V6};
use crate::kernel::frame::{ACK, PSH, Segment};

/// IPv4 options, and what becomes of a packet with them.
pub(crate) const IPV4: &[(&str, &[u8], Verdict)] = &[
    ("padding", &[1, 1, 1, 0], Verdict::Steered),
    ("end at once", &[0, 0, 0, 0], Verdict::Steered),
    ("end before what would be a route", &[0, 7, 3, 4], Verdict::Steered),
    ("security", &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Verdict::Steered),
    ("stream identifier", &[136, 4, 0, 1], Verdict::Steered),
    ("an unknown one", &[0x5e, 4, 1, 2], Verdict::Steered),
    ("an unknown one of no content", &[0x5e, 2, 1, 1], Verdict::Steered),
    ("forty bytes of padding", &[1; 40], Verdict::Steered),
    ("an unknown one of forty bytes", &LONG, Verdict::Steered),
    ("quick start", &[25, 8, 0, 0, 0, 0, 0, 0], Verdict::Steered),
    ("record route", &[7, 7, 4, 0, 0, 0, 0, 0], Verdict::IpOptions),
    ("record route behind padding", &[1, 7, 7, 4, 0, 0, 0, 0], Verdict::IpOptions),
    ("timestamp", &[68, 8, 5, 0, 0, 0, 0, 0], Verdict::IpOptions),
    ("loose source route", &[131, 7, 4, 10, 0, 0, 1, 0], Verdict::IpOptions),
    ("strict source route", &[137, 7, 4, 10, 0, 0, 1, 0], Verdict::IpOptions),
    ("router alert", &[148, 4, 0, 0], Verdict::IpOptions),
    ("router alert behind another", &[136, 4, 0, 1, 148, 4, 0, 0], Verdict::IpOptions),
    ("route within another option", &[0x5e, 8, 7, 7, 4, 0, 0, 0], Verdict::Steered),
    ("length 0", &[0x5e, 0, 1, 1], Verdict::Malformed),
    ("length 1", &[0x5e, 1, 1, 1], Verdict::Malformed),
    ("longer than the header", &[0x5e, 5, 1, 1], Verdict::Malformed),
    ("kind without a length", &[1, 1, 1, 0x5e], Verdict::Malformed),
    ("much longer than the header", &[0x5e, 255, 1, 1], Verdict::Malformed),
];

const LONG: [u8; 40] = {
    let mut option = [0; 40];
    (option[0], option[1]) = (0x5e, 40);
    option
};

/// IPv6 extension headers by number.
pub(crate) type Headers = &'static [(u8, &'static [u8])];

/// Such headers, and what becomes of a packet with them.
pub(crate) const IPV6: &[(&str, Headers, Verdict)] = &[
    ("hop by hop", &[(0, &[0, 0, 1, 4, 0, 0, 0, 0])], Verdict::Steered),
    ("destination options", &[(60, &[0, 0, 1, 4, 0, 0, 0, 0])], Verdict::Steered),
    ("routing, done", &[(43, &[0, 0, 4, 0, 0, 0, 0, 0])], Verdict::Steered),
    (
        "long routing, done",
        &[(43, &[0, 2, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8])],
        Verdict::Steered,
    ),
    ("two", &[(0, &[0; 8]), (60, &[0; 8])], Verdict::Steered),
    ("three", &[(0, &[0; 8]), (43, &[0; 8]), (60, &[0; 8])], Verdict::Steered),
    ("four", &[(0, &[0; 8]), (60, &[0; 8]), (43, &[0; 8]), (60, &[0; 8])], Verdict::Steered),
    ("a long one", &[(60, &LONG_EXTENSION)], Verdict::Steered),
    (
        "five",
        &[(0, &[0; 8]), (60, &[0; 8]), (43, &[0; 8]), (60, &[0; 8]), (60, &[0; 8])],
        Verdict::ExtensionHeader,
    ),
    ("routing with a segment left", &[(43, &[0, 0, 4, 1, 0, 0, 0, 0])], Verdict::ExtensionHeader),
    (
        "routing with a segment left, second",
        &[(0, &[0; 8]), (43, &[0, 0, 4, 1, 0, 0, 0, 0])],
        Verdict::ExtensionHeader,
    ),
    ("encryption", &[(50, &[0; 8])], Verdict::ExtensionHeader),
    ("authentication", &[(51, &[0; 8])], Verdict::ExtensionHeader),
    ("mobility", &[(135, &[0; 8])], Verdict::ExtensionHeader),
    ("host identity", &[(139, &[0; 8])], Verdict::ExtensionHeader),
    ("shim6", &[(140, &[0; 8])], Verdict::NotTcp),
    ("mobility behind another", &[(60, &[0; 8]), (135, &[0; 8])], Verdict::ExtensionHeader),
    ("longer than is looked at", &[(60, &TOO_LONG)], Verdict::ExtensionHeader),
    ("a fragment", &[(44, &[0, 0, 0, 1, 0, 0, 0, 1])], Verdict::Fragment),
    ("a later fragment", &[(44, &[0, 0, 0, 9, 0, 0, 0, 1])], Verdict::Fragment),
    ("the last fragment", &[(44, &[0, 0, 0, 8, 0, 0, 0, 1])], Verdict::Fragment),
    ("a fragment that is all of it", &[(44, &[0, 0, 0, 0, 0, 0, 0, 1])], Verdict::Fragment),
    ("a fragment behind another", &[(0, &[0; 8]), (44, &[0, 0, 0, 1, 0, 0, 0, 1])], Verdict::Fragment),
];

/// All that is looked at but one header more.
const LONG_EXTENSION: [u8; 120] = {
    let mut header = [0; 120];
    header[1] = 14;
    header
};
const TOO_LONG: [u8; 144] = {
    let mut header = [0; 144];
    header[1] = 17;
    header
};

fn takes(bench: &mut Bench, net: Net, what: &str, dress: &dyn Fn(Segment) -> Segment, verdict: Verdict) {
    let port = bench.port();
    let syn = dress(net.syn(port));
    let outcome = bench.run(&syn.bytes());
    assert_eq!(outcome.verdict, verdict, "{what}");
    if verdict != Verdict::Steered {
        assert_eq!(outcome.packet, syn.bytes(), "{what}: changed");
        return;
    }
    let tuple = gateway_userspace::datapath::view::Tuple { source: syn.source, destination: syn.destination };
    let leaving = bench.peek(tuple).unwrap().leaving;
    assert_eq!(outcome.packet, syn.forwarded(leaving.source, leaving.destination).bytes(), "{what}");
    let length = syn.bytes().len();
    for length in net.headers()..length {
        let outcome = bench.run(&syn.bytes()[..length]);
        assert_eq!(outcome.packet, syn.bytes()[..length], "{what}, {length} bytes: changed");
        let cut = [Verdict::Truncated, Verdict::ExtensionHeader, Verdict::Malformed];
        assert!(cut.contains(&outcome.verdict), "{what}, {length} bytes: {:?}", outcome.verdict);
    }
}

#[test]
fn ipv4_options_are_carried_along_unless_a_router_must_act() {
    let mut bench = Bench::serving(ROOMY);
    for (what, options, verdict) in IPV4 {
        takes(&mut bench, V4, what, &|segment| segment.with_ip_options(options), *verdict);
    }
}

#[test]
fn ipv6_extension_headers_are_carried_along_if_nobody_must_act() {
    let mut bench = Bench::serving(ROOMY);
    for (what, extensions, verdict) in IPV6 {
        takes(&mut bench, V6, what, &|segment| segment.with_extensions(extensions), *verdict);
    }
}

#[test]
fn any_segment_of_a_flow_may_have_them() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let flow = bench.established(net);
        for from_client in [true, false] {
            let segment = if from_client { flow.by_client(ACK | PSH) } else { flow.by_backend(ACK | PSH) };
            let segment =
                segment.with_payload(b"some bytes").with_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
            let segment = if net.is_v4() {
                segment.with_ip_options(&[0x5e, 4, 1, 2])
            } else {
                segment.with_extensions(&[(0, &[0; 8])])
            };
            flow.passes_on(&mut bench, "data", &segment);
        }
    }
}
