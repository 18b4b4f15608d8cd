//! Who may open flows, and every verdict that says who may not.

use gateway_common::flow::NO_PORTS;
use gateway_common::{Action, Address, Backend, Be16, Config, Direction, ListenerKey, State, Table, Verdict};
use gateway_userspace::datapath::view::Tuple;

use crate::bench::{BACKENDS, Bench, FAMILIES, Net, ROOMY, V4, V6};
use crate::cookie::{self, Host};
use crate::guard;
use crate::handover::{HandedOver, ORIGINS, hand_over, translation};
use crate::kernel::frame::{self, ACK, RST, SYN, Segment, icmp_error};
use crate::reset::answer;
use crate::transparent::Speaker;

/// Prefixes on the deny list, a source, and whether it is refused.
pub(crate) const DENIED: &[(&str, u32, &str, bool)] = &[
    ("198.18.0.0", 24, "198.18.0.2", true),
    ("198.18.0.2", 32, "198.18.0.2", true),
    ("0.0.0.0", 0, "198.18.0.2", true),
    ("198.18.0.3", 32, "198.18.0.2", false),
    ("198.18.1.0", 24, "198.18.0.2", false),
    ("198.18.0.0", 31, "198.18.0.2", false),
    ("198.18.0.2", 31, "198.18.0.3", true),
    ("128.0.0.0", 1, "198.18.0.2", true),
    ("0.0.0.0", 1, "198.18.0.2", false),
    ("fd18::", 64, "fd18::2", true),
    ("fd18::2", 128, "fd18::2", true),
    ("::", 0, "fd18::2", true),
    ("fd18::3", 128, "fd18::2", false),
    ("fd18:0:0:1::", 64, "fd18::2", false),
    ("fd00::", 8, "fd18::2", true),
    ("fc00::", 8, "fd18::2", false),
];

fn deny(bench: &mut Bench, prefix: &str, length: u32, denied: bool) {
    match prefix.parse().unwrap() {
        std::net::IpAddr::V4(ip) => bench.loaded.maps.v4.deny(length, ip.into(), denied),
        std::net::IpAddr::V6(ip) => bench.loaded.maps.v6.deny(length, ip.into(), denied),
    }
    .unwrap();
}

#[test]
fn sources_on_the_deny_list_are_refused_whatever_they_send() {
    let mut bench = Bench::serving(ROOMY);
    for (prefix, length, source, refused) in DENIED {
        let what = format!("{prefix}/{length} {source}");
        let net = if source.contains(':') { V6 } else { V4 };
        let port = bench.port();
        let mut syn = net.syn(port);
        syn.source.set_ip(source.parse().unwrap());
        deny(&mut bench, prefix, *length, true);
        bench.configure(|config| config.flags = Config::DENY4 | Config::DENY6);
        if *refused {
            bench.passes(&what, &syn.bytes(), Verdict::Denied);
            let ack = Segment::new(syn.source, syn.destination, ACK);
            bench.passes(&what, &ack.bytes(), Verdict::Denied);
            // Nobody looks at the list unless told that there is something on it.
            bench.configure(|_| {});
        }
        assert_eq!(bench.run(&syn.bytes()).verdict, Verdict::Steered, "{what}");
        deny(&mut bench, prefix, *length, false);
    }
}

#[test]
fn a_flow_of_a_source_denied_later_ends_and_icmp_of_a_denied_router_too() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let flow = bench.established(net);
        let about = flow.rewritten(&flow.by_client(ACK)).packet();
        let kind = if net.is_v4() { (3, 1) } else { (1, 3) };
        let error = icmp_error((net.router(), flow.backend.source.ip()), 9, kind, [0; 4], &about);
        let whole = if net.is_v4() { "0.0.0.0" } else { "::" };
        deny(&mut bench, whole, 0, true);
        bench.configure(|config| config.flags = Config::DENY4 | Config::DENY6);
        bench.passes("client", &flow.by_client(ACK).bytes(), Verdict::Denied);
        bench.passes("backend", &flow.by_backend(ACK).bytes(), Verdict::Denied);
        bench.passes("router", &error, Verdict::Denied);
        deny(&mut bench, whole, 0, false);
        bench.configure(|_| {});
        flow.passes_on(&mut bench, "again", &flow.by_client(ACK));
    }
}

/// How many of a burst of SYNs are let through within one second, and what the others get. The clock may tick over in
/// between: a burst that saw two seconds is repeated.
fn burst(bench: &mut Bench, net: Net, count: usize, refusal: Verdict) -> usize {
    let mut admitted = 0;
    for _ in 0..count {
        let port = bench.port();
        match bench.run(&net.syn(port).bytes()).verdict {
            Verdict::Steered => admitted += 1,
            verdict => assert_eq!(verdict, refusal),
        }
    }
    admitted
}

#[test]
fn a_source_may_open_so_many_flows_in_a_second() {
    let mut bench = Bench::serving(ROOMY);
    bench.configure(|config| config.source_rate = 10);
    for net in FAMILIES {
        let admitted = burst(&mut bench, net, 40, Verdict::SourceLimited);
        assert!(admitted == 10 || admitted == 20, "{admitted}");
        let port = bench.port();
        let mut other = net.syn(port);
        other.source.set_ip(net.router());
        assert_eq!(bench.run(&other.bytes()).verdict, Verdict::Steered, "another source");
        let flow = Tuple { source: other.source, destination: other.destination };
        assert!(bench.peek(flow).is_some());
    }
}

#[test]
fn a_listener_may_get_so_many_flows_in_a_second() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        bench.serve_as(net, &net.backends(), |table| table.max_rate = 7);
        let admitted = burst(&mut bench, net, 40, Verdict::ListenerLimited);
        assert!(admitted == 7 || admitted == 14, "{admitted}");
    }
}

/// One flow more is answered by a reset, and leaves nothing behind.
fn is_refused(bench: &mut Bench, net: Net) {
    let port = bench.port();
    let (syn, before) = (net.syn(port), bench.entries().len());
    let want = answer(&syn, (RST | ACK, 0, syn.sequence + 1));
    bench.turns("one too many", &syn.bytes(), Verdict::ListenerFull, &want);
    assert_eq!(bench.entries().len(), before);
}

#[test]
fn a_listener_may_have_so_many_flows() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        bench.serve_as(net, &net.backends(), |table| table.max_flows = 5);
        let flows: Vec<_> = (0..5).map(|_| bench.established(net)).collect();
        is_refused(&mut bench, net);
        flows[0].passes_on(&mut bench, "those that there are", &flows[0].by_client(ACK));
        bench.serve_as(net, &net.backends(), |table| table.max_flows = 6);
        bench.established(net);
        is_refused(&mut bench, net);
    }
}

/// A SYN to a listener on another port, whose one backend sees the clients' own addresses.
pub(crate) fn preserving_syn(bench: &mut Bench, net: Net, port: u16, listener: u16) -> Segment {
    match net {
        _ if net.is_v4() => serve_transparently(&mut bench.loaded.maps.v4, net, listener),
        _ => serve_transparently(&mut bench.loaded.maps.v6, net, listener),
    }
    let base = if net.is_v4() { 2 } else { 3 } * 1024;
    bench.loaded.maps.write_table(base, &[9]).unwrap();
    let mut syn = net.syn(port);
    syn.destination.set_port(listener);
    syn
}

fn serve_transparently<A: Address + aya::Pod>(
    maps: &mut gateway_userspace::datapath::maps::FamilyMaps<A>,
    net: Net,
    listener: u16,
) {
    let address = A::from_ip(net.backends()[0].ip()).unwrap();
    let port = Be16::new(net.backends()[0].port());
    let backend = Backend { address, source: address, oif: BACKENDS, ports: NO_PORTS, port, reserved: 0 };
    maps.put_backend(9, backend).unwrap();
    let base = if net.is_v4() { 2 } else { 3 } * 1024;
    let table = Table {
        base,
        size: 1,
        generation: 1,
        idle_timeout: 600,
        listener: 3,
        flags: 0,
        max_flows: 0,
        max_rate: 0,
    };
    let key = ListenerKey::new(A::from_ip(net.gateway().ip()).unwrap(), Be16::new(listener));
    maps.put_listener(key, table).unwrap();
}

#[test]
fn a_client_keeps_its_own_address_and_port_where_the_backend_is_to_see_them() {
    let mut bench = Bench::serving(ROOMY);
    for net in FAMILIES {
        let syn = preserving_syn(&mut bench, net, 5000, 444);
        let want = syn.forwarded(syn.source, net.backends()[0]);
        bench.becomes("SYN", &syn, Verdict::Steered, &want);
        let other = preserving_syn(&mut bench, net, 5000, 445);
        bench.passes("the same through another listener", &other.bytes(), Verdict::PortTaken);
        let tuple = Tuple { source: other.source, destination: other.destination };
        assert!(bench.peek(tuple).is_none());
        let other = preserving_syn(&mut bench, net, 5001, 445);
        assert_eq!(bench.run(&other.bytes()).verdict, Verdict::Steered);
    }
}

/// Sends SYNs until one is refused. Each is let through whose second has just begun, on a busy machine some in a row.
fn refusal(bench: &mut Bench, net: Net) -> Verdict {
    let mut verdicts = (0..50).map(|_| {
        let port = bench.port();
        bench.run(&net.syn(port).bytes()).verdict
    });
    verdicts.find(|verdict| *verdict != Verdict::Steered).unwrap_or(Verdict::Steered)
}

fn frozen(bench: &mut Bench, net: Net) -> HandedOver {
    hand_over(bench, net, translation(ORIGINS, [0; 2]), State::FROZEN)
}

/// Brings a packet about that gets a verdict, and has it get it.
fn brings_about(bench: &mut Bench, net: Net, verdict: Verdict) -> Verdict {
    let port = bench.port();
    let syn = net.syn(port);
    let packet = match verdict {
        Verdict::Forwarded => bench.established(net).by_client(ACK).bytes(),
        Verdict::Steered => syn.bytes(),
        Verdict::Replaced => {
            let flow = bench.open(net, port);
            flow.passes_on(bench, "RST", &flow.by_client(RST));
            syn.bytes()
        }
        Verdict::Retried => {
            let port = bench.port();
            let flow = bench.open(net, port);
            bench.run(&flow.by_backend(RST | ACK).bytes());
            net.syn(port).bytes()
        }
        Verdict::Established => {
            let flow = bench.open(net, port);
            flow.passes_on(bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
            flow.by_client(ACK).bytes()
        }
        Verdict::IcmpError => {
            let flow = bench.established(net);
            let about = flow.rewritten(&flow.by_client(ACK)).packet();
            let kind = if net.is_v4() { (11, 0) } else { (3, 0) };
            icmp_error((net.router(), flow.backend.source.ip()), 9, kind, [0; 4], &about)
        }
        Verdict::Reset | Verdict::Unanswered => {
            let flow = bench.established(net);
            bench.mark(flow, State::CONDEMNED);
            flow.by_client(if verdict == Verdict::Reset { ACK } else { RST }).bytes()
        }
        Verdict::Denied => {
            deny(bench, if net.is_v4() { "0.0.0.0" } else { "::" }, 0, true);
            bench.configure(|config| config.flags = Config::DENY4 | Config::DENY6);
            syn.bytes()
        }
        Verdict::SourceLimited => {
            bench.configure(|config| config.source_rate = 1);
            return refusal(bench, net);
        }
        Verdict::ListenerFull => {
            bench.serve_as(net, &net.backends(), |table| table.max_flows = 1);
            bench.established(net);
            syn.bytes()
        }
        Verdict::ListenerLimited => {
            bench.serve_as(net, &net.backends(), |table| table.max_rate = 1);
            return refusal(bench, net);
        }
        Verdict::Raced => {
            // What another CPU's half of the work looks like: entered, and not there yet.
            let flow = bench.open(net, port);
            let record = flow.peek(bench);
            let maps = &mut bench.loaded.maps;
            if net.is_v4() {
                maps.v4.flows.unmark(record.kind, record.number, State::LIVE);
            } else {
                maps.v6.flows.unmark(record.kind, record.number, State::LIVE);
            }
            syn.bytes()
        }
        Verdict::Expired => bench.established(net).by_client(ACK).with_hops(1).bytes(),
        Verdict::HeldBack => {
            let port = bench.port();
            bench.open(net, port).by_backend(RST | ACK).bytes()
        }
        Verdict::NotIp => {
            let mut arp = syn.bytes();
            arp[12..14].copy_from_slice(&[0x08, 0x06]);
            arp
        }
        Verdict::Vlan => {
            let mut tagged = syn.bytes();
            tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
            tagged
        }
        Verdict::NotTcp => frame::ip(net.router(), net.gateway().ip(), frame::UDP, 64, &[0; 8]),
        Verdict::IpOptions => V4.syn(port).with_ip_options(&[148, 4, 0, 0]).bytes(),
        Verdict::ExtensionHeader => V6.syn(port).with_extensions(&[(50, &[0; 8])]).bytes(),
        Verdict::Fragment => {
            let mut fragment = V4.syn(port).bytes();
            fragment[20] = 0x20;
            frame::fix_ipv4_checksum(&mut fragment);
            fragment
        }
        Verdict::Truncated => {
            let bytes = syn.bytes();
            bytes[..bytes.len() - 1].to_vec()
        }
        Verdict::Malformed => {
            let mut short = syn.bytes();
            short[net.headers() + 12] = 0x40;
            short
        }
        Verdict::NotSteered => {
            let mut elsewhere = syn;
            elsewhere.destination.set_port(9);
            elsewhere.bytes()
        }
        Verdict::Miss => Segment::new(syn.source, syn.destination, ACK).bytes(),
        Verdict::NoBackend => {
            bench.serve(net, &[]);
            syn.bytes()
        }
        Verdict::TableFull => {
            bench.exhaust(net);
            syn.bytes()
        }
        Verdict::CookieSent => {
            let host = Host::new();
            host.cookies(cookie::ALWAYS);
            let _listener = host.listen(net);
            bench.configure(|config| config.handshake_ticks = u32::MAX / 2);
            bench.fill(net, 64);
            return host.namespace.enter(|| bench.run(&syn.bytes()).verdict);
        }
        Verdict::HandshakesFull => {
            bench.configure(|config| config.handshake_ticks = u32::MAX / 2);
            bench.fill(net, 64);
            syn.bytes()
        }
        Verdict::PortsExhausted => {
            bench.ports(0);
            syn.bytes()
        }
        Verdict::PortTaken => {
            let first = preserving_syn(bench, net, port, 444);
            bench.run(&first.bytes());
            preserving_syn(bench, net, port, 445).bytes()
        }
        Verdict::Martian => {
            let mut land = syn;
            land.source.set_ip(land.destination.ip());
            land.bytes()
        }
        Verdict::HopLimit => syn.with_hops(1).bytes(),
        Verdict::Unconfigured => {
            bench.configure(|config| config.half_flows = 0);
            syn.bytes()
        }
        Verdict::Transparent => {
            let speaker = Speaker::new(net, port);
            speaker.expect_answers(bench);
            return speaker.host.namespace.enter(|| bench.run(&speaker.answer(ACK).bytes()).verdict);
        }
        // XDP's reason to leave a packet to the classifier, which counts it: see the tests of XDP.
        Verdict::NoNeighbour => return Verdict::NoNeighbour,
        Verdict::Challenged => {
            let flow = hand_over(bench, net, translation(ORIGINS, [0; 2]), 0);
            flow.by(Direction::ToBackend, SYN).bytes()
        }
        Verdict::Withheld => frozen(bench, net).by(Direction::ToBackend, ACK).with_payload(b"data").bytes(),
        Verdict::Owed => frozen(bench, net).by(Direction::ToBackend, ACK).bytes(),
        Verdict::Amended | Verdict::Guarded => {
            let flow = hand_over(bench, net, translation(ORIGINS, [0; 2]), State::held(Direction::ToBackend));
            let payload: &[u8] = if verdict == Verdict::Amended { b"data" } else { &[] };
            let segment = flow.by_socket(Direction::ToBackend, ACK).with_payload(payload);
            let (_, counted, _) = guard::run(bench, &segment.bytes());
            return counted[0];
        }
    };
    bench.run(&packet).verdict
}

/// Whether others can be brought about with the same maps afterwards. Maps of one's own cost a load of the programs.
fn leaves_no_trace(verdict: Verdict) -> bool {
    use Verdict::{
        Amended, Challenged, Established, Expired, ExtensionHeader, Forwarded, Fragment, Guarded, HeldBack,
        HopLimit, IcmpError, IpOptions, Malformed, Martian, Miss, NotIp, NotSteered, NotTcp, Owed, Replaced,
        Retried, Steered, Truncated, Vlan, Withheld,
    };
    matches!(
        verdict,
        Forwarded
            | Steered
            | Replaced
            | Retried
            | Established
            | IcmpError
            | Expired
            | HeldBack
            | NotIp
            | Vlan
            | NotTcp
            | IpOptions
            | ExtensionHeader
            | Fragment
            | Truncated
            | Malformed
            | NotSteered
            | Miss
            | HopLimit
            | Martian
            | Withheld
            | Owed
            | Amended
            | Challenged
            | Guarded
    )
}

#[test]
fn every_verdict_can_be_brought_about() {
    let mut shared = Bench::serving(ROOMY);
    for verdict in Verdict::ALL {
        let mut own;
        let bench = if leaves_no_trace(*verdict) {
            &mut shared
        } else {
            own = Bench::serving(64);
            &mut own
        };
        for net in FAMILIES {
            bench.configure(|_| {});
            assert_eq!(brings_about(bench, net, *verdict), *verdict);
        }
    }
    let kinds = [Action::Send, Action::Drop, Action::Pass];
    assert!(kinds.iter().all(|kind| Verdict::ALL.iter().any(|verdict| verdict.action() == *kind)));
}
