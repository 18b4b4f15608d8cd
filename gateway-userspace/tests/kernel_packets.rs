//! The classifier, packet by packet, on a real kernel (BPF_PROG_TEST_RUN, root): what goes in, which verdict is
//! counted, and every byte that comes out.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use aya::Pod;
use aya::programs::{TestRun, TestRunOptions};
use gateway_common::flow::TICKS_PER_SECOND;
use gateway_common::ports::PORTS_PER_WORD;
use gateway_common::{
    Action, Address, Backend, Be16, Config, Direction, ListenerKey, Phase, Seen, Table, Verdict,
};
use gateway_userspace::datapath::flows::Kind;
use gateway_userspace::datapath::load::{self, Loaded, Sizes};
use gateway_userspace::datapath::maps::FamilyMaps;
use gateway_userspace::datapath::view::{self, FlowView, Tuple};
use kernel::frame::{self, ACK, FIN, PSH, RST, SYN, Segment, UDP};

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT`.
const NEXT: u32 = u32::MAX;
const SHOT: u32 = 2;
const REDIRECT: u32 = 7;

/// Interface that test runs come in by (loopback), and the one that the backends are said to be behind.
const CLIENTS: u32 = 1;
const BACKENDS: u32 = 77;

const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 1024;
const TABLE_SIZE: u32 = 1021;
/// Slots from one table to the next.
const REGION: u32 = 1024;

/// The two families, with an address for everyone.
#[derive(Debug, Clone, Copy)]
struct Net {
    client: &'static str,
    gateway: &'static str,
    source: &'static str,
    backends: [&'static str; 2],
}

const V4: Net = Net {
    client: "198.18.0.2",
    gateway: "198.18.0.1",
    source: "10.66.0.1",
    backends: ["10.66.0.2:8080", "10.66.0.3:8081"],
};
const V6: Net = Net {
    client: "fd18::2",
    gateway: "fd18::1",
    source: "fd66::1",
    backends: ["[fd66::2]:8080", "[fd66::3]:8081"],
};
const FAMILIES: [Net; 2] = [V4, V6];

impl Net {
    fn client(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.client.parse().unwrap(), port)
    }

    fn gateway(self) -> SocketAddr {
        SocketAddr::new(self.gateway.parse().unwrap(), 443)
    }

    fn backends(self) -> [SocketAddr; 2] {
        self.backends.map(|backend| backend.parse().unwrap())
    }

    fn syn(self, port: u16) -> Segment {
        // A maximum segment size, as every SYN has.
        Segment::new(self.client(port), self.gateway(), SYN).with_options(&[2, 4, 5, 0xb4])
    }
}

/// What one run did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    verdict: Verdict,
    packet: Vec<u8>,
}

/// The program with maps of its own.
struct Bench {
    loaded: Loaded,
}

impl Bench {
    /// With room for `flows` flows and the usual source ports.
    fn new(flows: u32) -> Self {
        let loaded = load::load(Sizes { flows, slots: 4 * TABLE_SIZE }, None);
        let mut bench = Self { loaded: loaded.unwrap_or_else(|error| panic!("{error}")) };
        bench.loaded.maps.v4.flows.fill_free();
        bench.loaded.maps.v6.flows.fill_free();
        bench.ports(PORTS);
        bench
    }

    /// With both backends behind the gateway's port, in both families.
    fn serving(flows: u32) -> Self {
        let mut bench = Self::new(flows);
        for net in FAMILIES {
            bench.serve(net, &net.backends());
        }
        bench
    }

    fn ports(&mut self, count: u32) {
        self.configure(|config| config.port_count = count);
    }

    fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let flows = &self.loaded.maps.v4.flows;
        let mut config = Config {
            index_key: 0x0123_4567_89ab_cdef,
            balance_key: 1,
            first_port: FIRST_PORT,
            port_count: PORTS,
            buckets: flows.buckets(Kind::Established),
            half_buckets: flows.buckets(Kind::Handshakes),
            flows: flows.capacity(Kind::Established),
            half_flows: flows.capacity(Kind::Handshakes),
            handshake_ticks: TICKS_PER_SECOND,
            ..Config::default()
        };
        change(&mut config);
        self.loaded.maps.set_config(config).unwrap();
    }

    fn serve(&mut self, net: Net, backends: &[SocketAddr]) {
        let base = if net.gateway().is_ipv4() { 0 } else { REGION };
        let slots: Vec<u32> = (0..TABLE_SIZE).map(|slot| 1 + slot % backends.len() as u32).collect();
        self.loaded.maps.write_table(base, &slots).unwrap();
        if net.gateway().is_ipv4() {
            serve(&mut self.loaded.maps.v4, net, base, backends);
        } else {
            serve(&mut self.loaded.maps.v6, net, base, backends);
        }
    }

    fn counters(&self) -> BTreeMap<Verdict, u64> {
        self.loaded.maps.verdicts().unwrap().into_iter().collect()
    }

    /// Runs one packet through the program. Exactly one verdict must be counted, and it must fit the action.
    fn run(&mut self, packet: &[u8]) -> Outcome {
        let before = self.counters();
        let mut out = vec![0; packet.len() + 64];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.loaded.classifier().unwrap().test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        let counted: Vec<Verdict> = self
            .counters()
            .into_iter()
            .flat_map(|(verdict, count)| vec![verdict; (count - before[&verdict]) as usize])
            .collect();
        let [verdict] = counted[..] else { panic!("counted {counted:?}") };
        let action = match verdict.action() {
            Action::Send => REDIRECT,
            Action::Drop => SHOT,
            Action::Pass => NEXT,
        };
        assert_eq!(result.return_value, action, "{verdict:?}");
        Outcome { verdict, packet: out }
    }

    /// A packet that must be left alone.
    fn passes(&mut self, what: &str, packet: &[u8], verdict: Verdict) {
        let before = self.entries();
        let outcome = self.run(packet);
        assert_eq!(outcome.verdict, verdict, "{what}");
        assert_eq!(hex(&outcome.packet), hex(packet), "{what}: changed");
        assert_eq!(self.entries().len(), before.len(), "{what}: entries");
    }

    /// A packet that must come out as another.
    fn becomes(&mut self, what: &str, packet: &Segment, verdict: Verdict, want: &Segment) {
        let outcome = self.run(&packet.bytes());
        assert_eq!(outcome.verdict, verdict, "{what}");
        assert_eq!(hex(&outcome.packet), hex(&want.bytes()), "{what}");
    }

    fn entries(&self) -> Vec<FlowView> {
        view::entries(&self.loaded.maps)
    }

    /// The entry that packets of a tuple meet.
    fn entry(&self, arriving: Tuple) -> Option<FlowView> {
        self.entries().into_iter().find(|entry| entry.arriving == arriving)
    }

    /// The tuple that packets of another leave with.
    fn leaving(&self, arriving: Tuple) -> Option<Tuple> {
        self.entry(arriving).map(|entry| entry.leaving)
    }

    /// Forgets all flows, by loading the programs anew.
    fn clear(&mut self) {
        *self = Self::serving(self.loaded.maps.v4.flows.capacity(Kind::Established));
    }

    /// Sends a SYN and returns the flow that it opened.
    fn open(&mut self, net: Net, port: u16) -> Opened {
        let syn = net.syn(port);
        let outcome = self.run(&syn.bytes());
        assert!(matches!(outcome.verdict, Verdict::Steered | Verdict::Replaced), "{outcome:?}");
        let client = Tuple { source: syn.source, destination: syn.destination };
        let backend = self.leaving(client).unwrap();
        assert_eq!(hex(&outcome.packet), hex(&syn.forwarded(backend.source, backend.destination).bytes()));
        Opened { client, backend }
    }
}

fn serve<A: Address + Pod>(maps: &mut FamilyMaps<A>, net: Net, base: u32, backends: &[SocketAddr]) {
    let source = A::from_ip(net.source.parse().unwrap()).unwrap();
    for (index, backend) in backends.iter().enumerate() {
        let address = A::from_ip(backend.ip()).unwrap();
        let port = Be16::new(backend.port());
        let id = 1 + index as u32;
        // A bitmap belongs to the address, whatever number the backend has.
        let place = net.backends().iter().position(|known| known == backend).unwrap();
        let ports = place as u32 * PORTS / PORTS_PER_WORD;
        maps.put_backend(id, Backend { address, source, oif: BACKENDS, ports, port, reserved: 0 }).unwrap();
    }
    let key = ListenerKey::new(A::from_ip(net.gateway().ip()).unwrap(), Be16::new(net.gateway().port()));
    let table = Table {
        base,
        size: TABLE_SIZE,
        generation: 1,
        idle_timeout: 600,
        listener: 1,
        flags: 0,
        max_flows: 0,
        max_rate: 0,
    };
    maps.put_listener(key, table).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Both sides of an open flow.
#[derive(Debug, Clone, Copy)]
struct Opened {
    client: Tuple,
    backend: Tuple,
}

impl Opened {
    fn by_client(self, flags: u8) -> Segment {
        Segment::new(self.client.source, self.client.destination, flags)
    }

    fn by_backend(self, flags: u8) -> Segment {
        Segment::new(self.backend.destination, self.backend.source, flags)
    }

    /// Completes the handshake after the SYN-ACK.
    fn establishes(self, bench: &mut Bench) {
        let ack = self.by_client(ACK);
        let want = ack.forwarded(self.backend.source, self.backend.destination);
        bench.becomes("ACK", &ack, Verdict::Established, &want);
    }

    /// Sends a segment in either direction and checks what comes out at the other side.
    fn passes_on(self, bench: &mut Bench, what: &str, segment: &Segment) {
        let leaving =
            if segment.source == self.client.source { self.backend } else { self.client.reversed() };
        let want = segment.forwarded(leaving.source, leaving.destination);
        bench.becomes(what, segment, Verdict::Forwarded, &want);
    }

    fn state(self, bench: &Bench) -> Phase {
        bench.entry(self.client).unwrap().phase
    }
}

#[test]
fn a_syn_opens_a_flow_with_an_entry_for_each_direction() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        bench.clear();
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
        assert_eq!(to_backend.bytes, net.syn(40_000).bytes().len() as u64);
        assert_eq!(to_backend.created, to_client.created);
        assert_eq!((to_backend.idle_timeout, to_backend.phase), (600, Phase::Opening));
    }
}

#[test]
fn segments_of_a_flow_are_rewritten_in_both_directions_and_its_state_is_followed() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        bench.clear();
        let flow = bench.open(net, 40_000);
        let synack = flow.by_backend(SYN | ACK).with_options(&[2, 4, 5, 0xb4, 1, 3, 3, 7]);
        flow.passes_on(&mut bench, "SYN-ACK", &synack);
        assert_eq!(flow.state(&bench), Phase::Opening);
        flow.establishes(&mut bench);
        assert_eq!(flow.state(&bench), Phase::Established);
        flow.passes_on(&mut bench, "data", &flow.by_client(ACK | PSH).with_payload(b"odd length"));
        flow.passes_on(&mut bench, "odd data", &flow.by_backend(ACK | PSH).with_payload(b"odd length!"));
        flow.passes_on(&mut bench, "last hop but one", &flow.by_client(ACK).with_hops(2));
        flow.passes_on(&mut bench, "a full segment", &flow.by_backend(ACK).with_payload(&[0xa5; 1400]));
        flow.passes_on(&mut bench, "FIN of the client", &flow.by_client(FIN | ACK));
        assert_eq!(flow.state(&bench), Phase::Established);
        flow.passes_on(&mut bench, "FIN of the backend", &flow.by_backend(FIN | ACK));
        assert_eq!(flow.state(&bench), Phase::Closing);
        flow.passes_on(&mut bench, "last ACK", &flow.by_client(ACK));
        let first = |tuple| bench.entry(tuple).unwrap().seen().any(Seen::FIN_FIRST);
        assert!(first(flow.client) && !first(flow.backend.reversed()));
        assert_eq!(bench.entry(flow.client).unwrap().packets, 6);
        assert_eq!(bench.entry(flow.backend.reversed()).unwrap().packets, 4);
    }
}

#[test]
fn a_reset_from_either_end_ends_the_flow() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        for from_client in [true, false] {
            bench.clear();
            let flow = bench.open(net, 40_000);
            let reset = if from_client { flow.by_client(RST) } else { flow.by_backend(RST | ACK) };
            flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
            flow.passes_on(&mut bench, "RST", &reset);
            assert_eq!(flow.state(&bench), Phase::Reset);
        }
    }
}

#[test]
fn every_checksum_comes_out_right_for_any_payload_and_port() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut bench = Bench::serving(16_384);
    for net in FAMILIES {
        bench.clear();
        for _ in 0..500 {
            let flow = bench.open(net, random.u16(1..));
            let payload: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
            let hops = random.u8(2..);
            flow.passes_on(&mut bench, "up", &flow.by_client(ACK).with_hops(hops).with_payload(&payload));
            flow.passes_on(&mut bench, "down", &flow.by_backend(ACK).with_hops(hops).with_payload(&payload));
        }
    }
}

#[test]
fn a_syn_sent_again_uses_the_same_entry() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        bench.clear();
        let flow = bench.open(net, 40_000);
        flow.passes_on(&mut bench, "SYN again", &net.syn(40_000));
        assert_eq!(bench.entries().len(), 2);
    }
}

#[test]
fn a_syn_on_a_finished_flow_starts_another() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        for finish in [&[(true, FIN | ACK), (false, FIN | ACK)][..], &[(true, RST)], &[(false, RST)]] {
            bench.clear();
            let flow = bench.open(net, 40_000);
            let created = bench.entry(flow.client).unwrap().created;
            flow.passes_on(&mut bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
            flow.establishes(&mut bench);
            for (from_client, flags) in finish {
                let last = if *from_client { flow.by_client(*flags) } else { flow.by_backend(*flags) };
                flow.passes_on(&mut bench, "last", &last);
            }
            let outcome = bench.run(&net.syn(40_000).bytes());
            assert_eq!(outcome.verdict, Verdict::Replaced);
            assert_eq!(bench.entries().len(), 2);
            let entry = bench.entry(flow.client).unwrap();
            assert!(entry.created > created && entry.phase == Phase::Opening && entry.packets == 1);
        }
    }
}

#[test]
fn a_syn_on_a_finished_flow_of_a_listener_steered_no_more_goes_to_the_stack_with_all_that_follows() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        bench.clear();
        let flow = bench.open(net, 40_000);
        flow.passes_on(&mut bench, "RST", &flow.by_client(RST));
        let gateway = net.gateway();
        let port = Be16::new(gateway.port());
        match gateway.ip() {
            IpAddr::V4(ip) => bench.loaded.maps.v4.remove_listener(&ListenerKey::new(ip.into(), port)),
            IpAddr::V6(ip) => bench.loaded.maps.v6.remove_listener(&ListenerKey::new(ip.into(), port)),
        }
        .unwrap();
        assert_eq!(bench.run(&net.syn(40_000).bytes()).verdict, Verdict::NotSteered);
        assert!(bench.entries().is_empty());
        bench.passes("ACK", &flow.by_client(ACK).bytes(), Verdict::NotSteered);
    }
}

#[test]
fn what_belongs_to_no_flow_is_left_to_the_stack() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        bench.clear();
        let (client, gateway) = (net.client(40_000), net.gateway());
        let segment = |flags| Segment::new(client, gateway, flags).bytes();
        for (what, flags) in
            [("ACK", ACK), ("SYN-ACK", SYN | ACK), ("RST", RST), ("FIN", FIN | ACK), ("none", 0)]
        {
            bench.passes(what, &segment(flags), Verdict::Miss);
        }
        bench.passes("SYN and FIN", &segment(SYN | FIN), Verdict::Miss);
        let mut elsewhere = gateway;
        elsewhere.set_port(444);
        bench.passes("other port", &Segment::new(client, elsewhere, SYN).bytes(), Verdict::NotSteered);
        let other = SocketAddr::new(net.backends()[0].ip(), 443);
        bench.passes("other address", &Segment::new(client, other, SYN).bytes(), Verdict::NotSteered);
        bench.passes("last hop", &net.syn(40_000).with_hops(1).bytes(), Verdict::HopLimit);
        bench.passes("no hop", &net.syn(40_000).with_hops(0).bytes(), Verdict::HopLimit);
    }
}

#[test]
fn what_is_not_plain_tcp_is_left_to_the_stack() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let (client, gateway) = (net.client(40_000).ip(), net.gateway().ip());
        bench.passes("UDP", &frame::ip(client, gateway, UDP, 64, &[0; 8]), Verdict::NotTcp);
        let icmp = if client.is_ipv4() { 1 } else { 58 };
        bench.passes(
            "ICMP",
            &frame::ip(client, gateway, icmp, 64, &[8, 0, 0, 0, 0, 0, 0, 0]),
            Verdict::NotTcp,
        );
        let mut vlan = net.syn(40_000).bytes();
        vlan.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        bench.passes("VLAN", &vlan, Verdict::Vlan);
        vlan[12..14].copy_from_slice(&[0x88, 0xa8]);
        bench.passes("service VLAN", &vlan, Verdict::Vlan);
        let mut short = net.syn(40_000).bytes();
        let offset = short.len() - 4 - 8;
        short[offset] = 0x40;
        bench.passes("TCP header of four words", &short, Verdict::Malformed);
        short[offset] = 0xf0;
        bench.passes("TCP header beyond the packet", &short, Verdict::Truncated);
    }
    let mut arp = V4.syn(1).bytes();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    bench.passes("ARP", &arp, Verdict::NotIp);
}

#[test]
fn ipv4_with_options_or_in_fragments_is_left_to_the_stack() {
    let mut bench = Bench::serving(64);
    let plain = V4.syn(40_000).bytes();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = plain.clone();
        change(&mut packet);
        frame::fix_ipv4_checksum(&mut packet);
        packet
    };
    let options = with(&|packet| {
        packet.splice(34..34, [1, 1, 1, 0]);
        packet[14] = 0x46;
        packet[17] += 4;
    });
    bench.passes("options", &options, Verdict::IpOptions);
    bench.passes("first fragment", &with(&|packet| packet[20] = 0x20), Verdict::Fragment);
    bench.passes("later fragment", &with(&|packet| packet[21] = 0x10), Verdict::Fragment);
    let mut short_header = plain.clone();
    short_header[14] = 0x44;
    bench.passes("header of four words", &short_header, Verdict::Malformed);
    let mut version = plain.clone();
    version[14] = 0x55;
    bench.passes("version 5", &version, Verdict::Malformed);
    let length = with(&|packet| packet[17] = 19);
    bench.passes("shorter than its own header", &length, Verdict::Truncated);
    // The evil bit (RFC 3514) is no fragment.
    assert_eq!(bench.run(&with(&|packet| packet[20] = 0x80)).verdict, Verdict::Steered);
}

#[test]
fn ipv6_with_extension_headers_is_left_to_the_stack() {
    let mut bench = Bench::serving(64);
    let (client, gateway) = (V6.client(40_000).ip(), V6.gateway().ip());
    let tcp = V6.syn(40_000).bytes()[54..].to_vec();
    for next in [0, 43, 50, 51, 60, 135] {
        let mut payload = vec![frame::TCP, 0, 0, 0, 0, 0, 0, 0];
        payload.extend(&tcp);
        bench.passes("extension", &frame::ip(client, gateway, next, 64, &payload), Verdict::ExtensionHeader);
    }
    let mut fragment = vec![frame::TCP, 0, 0, 1, 0, 0, 0, 1];
    fragment.extend(&tcp);
    bench.passes("fragment", &frame::ip(client, gateway, 44, 64, &fragment), Verdict::Fragment);
    let mut version = V6.syn(40_000).bytes();
    version[14] = 0x50;
    bench.passes("version 5", &version, Verdict::Malformed);
}

#[test]
fn no_length_of_a_packet_does_harm() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        bench.clear();
        let flow = bench.open(net, 40_000);
        let known = flow.by_client(ACK | PSH).with_options(&[1, 1, 1, 1]).with_payload(b"payload").bytes();
        let new = net.syn(40_001).bytes();
        // The kernel makes no test packet that ends within its IP header.
        let shortest = if net.client(1).is_ipv4() { 34 } else { 54 };
        for packet in [known, new] {
            for length in shortest..packet.len() {
                bench.passes(&format!("{length} bytes"), &packet[..length], Verdict::Truncated);
            }
        }
    }
}

#[test]
fn padding_behind_a_packet_does_not_matter() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        bench.clear();
        let flow = bench.open(net, 40_000);
        let (ack, padding) = (flow.by_client(ACK), [0xee; 6]);
        let mut padded = ack.bytes();
        padded.extend(padding);
        let outcome = bench.run(&padded);
        let mut want = ack.forwarded(flow.backend.source, flow.backend.destination).bytes();
        want.extend(padding);
        assert_eq!((outcome.verdict, hex(&outcome.packet)), (Verdict::Forwarded, hex(&want)));
    }
}

#[test]
fn new_flows_spread_over_the_backends_and_follow_the_table() {
    let mut bench = Bench::serving(16_384);
    for net in FAMILIES {
        bench.clear();
        let mut counts = BTreeMap::new();
        for port in 1..=500 {
            *counts.entry(bench.open(net, port).backend.destination).or_insert(0) += 1;
        }
        assert!(counts.len() == 2 && counts.values().all(|count| *count > 150), "{counts:?}");
        bench.serve(net, &net.backends()[1..]);
        assert_eq!(bench.open(net, 600).backend.destination, net.backends()[1]);
        // Established ones stay where they are.
        let stays = bench.entries().iter().any(|entry| entry.leaving.destination == net.backends()[0]);
        assert!(stays);
    }
}

#[test]
fn source_ports_never_collide() {
    let mut bench = Bench::new(16_384);
    for net in FAMILIES {
        bench.clear();
        bench.serve(net, &net.backends()[..1]);
        let mut used = BTreeSet::new();
        for port in 1..=600 {
            assert!(used.insert(bench.open(net, port).backend.source), "taken twice");
        }
    }
}
