//! The XDP program: what it does itself, and what it leaves to the classifier, untouched and uncounted.

use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun, TestRunOptions};
use gateway_common::{Config, Link, State, Verdict};
use gateway_userspace::datapath::view::Tuple;
use nix::net::if_::if_nametoindex;

use crate::bench::{Bench, FAMILIES, Net, Opened, hex};
use crate::forged;
use crate::kernel::Namespace;
use crate::kernel::frame::{self, ACK, FIN, PSH, RST, SYN, Segment, icmp_error};
use crate::reset::answer;
use crate::sums::at_the_edge;

pub(crate) const DROP: u32 = 1;
const PASS: u32 = 2;
pub(crate) const TX: u32 = 3;
pub(crate) const REDIRECT: u32 = 4;

/// Ethernet addresses of the gateway and of its neighbours, towards clients and towards backends.
const GATEWAY: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0xa1], [2, 0, 0, 0, 0, 0xa2]];
const NEIGHBOURS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0xb1], [2, 0, 0, 0, 0, 0xb2]];

/// A gateway of two interfaces, `clients` and `backends`; of the backends the first is a known neighbour.
pub(crate) struct Gateway {
    pub(crate) namespace: Namespace,
    pub(crate) bench: Bench,
    interface: u32,
}

impl Gateway {
    pub(crate) fn new() -> Self {
        Self::with_room(4096)
    }

    pub(crate) fn with_room(flows: u32) -> Self {
        let namespace = Namespace::new();
        for (name, address) in [("clients", GATEWAY[0]), ("backends", GATEWAY[1])] {
            namespace.ip(&format!("link add {name} address {} type veth peer name {name}x", text(address)));
            namespace.ip(&format!("link set {name} up"));
            namespace.ip(&format!("link set {name}x up"));
        }
        for (address, interface) in [
            ("198.18.0.1/24", "clients"),
            ("fd18::1/64 nodad", "clients"),
            ("10.66.0.1/24", "backends"),
            ("fd66::1/64 nodad", "backends"),
        ] {
            let (address, rest) = address.split_once(' ').unwrap_or((address, ""));
            namespace.ip(&format!("addr add {address} dev {interface} {rest}"));
        }
        for (address, place) in [("198.18.0.2", 0), ("fd18::2", 0), ("10.66.0.2", 1), ("fd66::2", 1)] {
            let interface = ["clients", "backends"][place];
            let neighbour = text(NEIGHBOURS[place]);
            namespace
                .ip(&format!("neigh replace {address} lladdr {neighbour} dev {interface} nud permanent"));
        }
        let mut bench = Bench::serving(flows);
        let indices = namespace.enter(|| {
            for path in ["ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{path}"), "1").unwrap();
            }
            // A veth pair has a receive queue for XDP only while it has a program.
            bench.loaded.xdp().unwrap().attach("clients", XdpMode::default()).unwrap();
            ["clients", "backends"].map(|name| if_nametoindex(name).unwrap())
        });
        for index in indices {
            bench.loaded.maps.put_link(index, Link { mtu: 1500, flags: Link::XDP }).unwrap();
        }
        Self { namespace, bench, interface: indices[0] }
    }

    /// Has packets come in by an interface.
    fn enter_by(&mut self, name: &str) {
        self.interface = self.namespace.enter(|| if_nametoindex(name).unwrap());
    }

    /// Runs a packet that comes in by the interface that is set, at first the clients'.
    pub(crate) fn run(&mut self, packet: &[u8]) -> (u32, Vec<Verdict>, Vec<u8>) {
        let before = self.bench.counters();
        // `struct xdp_md`: beginning and end of the data, metadata, interface, queue, interface out.
        let context: Vec<u8> = [0, packet.len() as u32, 0, self.interface, 0, 0]
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .collect();
        let mut out = vec![0; packet.len() + 64];
        let program = self.bench.loaded.xdp().unwrap();
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = self.namespace.enter(|| program.test_run(options).unwrap());
        out.truncate(result.data_size_out as usize);
        (result.return_value, self.bench.counted_since(&before), out)
    }

    /// A packet that is the classifier's.
    pub(crate) fn leaves(&mut self, what: &str, packet: &[u8]) {
        self.bench.rows += 1;
        let (action, counted, out) = self.run(packet);
        assert_eq!((action, counted, hex(&out)), (PASS, vec![], hex(packet)), "{what}");
    }

    pub(crate) fn does(&mut self, what: &str, packet: &[u8], action: u32, verdict: Verdict, want: &[u8]) {
        self.bench.rows += 1;
        let (done, counted, out) = self.run(packet);
        assert_eq!((done, counted, hex(&out)), (action, vec![verdict], hex(want)), "{what}");
    }

    /// A flow to the backend that is a known neighbour, or to the other one.
    pub(crate) fn established(&mut self, net: Net, known: bool) -> Opened {
        loop {
            let flow = self.bench.established(net);
            if (flow.backend.destination == net.backends()[0]) == known {
                return flow;
            }
        }
    }
}

fn text(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// A segment as it leaves towards clients (0) or backends (1).
pub(crate) fn sent(flow: Opened, segment: &Segment, place: usize) -> Vec<u8> {
    addressed(flow.rewritten(segment).bytes(), place)
}

/// The frame with the Ethernet addresses that it leaves with there.
pub(crate) fn addressed(mut frame: Vec<u8>, place: usize) -> Vec<u8> {
    frame[..6].copy_from_slice(&NEIGHBOURS[place]);
    frame[6..12].copy_from_slice(&GATEWAY[place]);
    frame
}

#[test]
fn segments_of_established_flows_are_sent_on() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        let flow = gateway.established(net, true);
        let before = flow.peek(&gateway.bench).packets;
        let dress = |segment: Segment| {
            if net.is_v4() {
                segment.with_ip_options(&[0x5e, 4, 1, 2])
            } else {
                segment.with_extensions(&[(60, &[0; 8])])
            }
        };
        let shapes: &[(&str, &dyn Fn(Segment) -> Segment)] = &[
            ("bare", &|segment| segment),
            ("data", &|segment| segment.with_payload(b"some bytes!")),
            ("a full segment", &|segment| segment.with_payload(&[0xa5; 1400])),
            ("TCP options", &|segment| segment.with_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])),
            ("options before TCP", &dress),
            ("last hop but one", &|segment| segment.with_hops(2)),
        ];
        for (what, shape) in shapes {
            for flags in [ACK, ACK | PSH] {
                let up = shape(flow.by_client(flags));
                gateway.does(what, &up.bytes(), REDIRECT, Verdict::Forwarded, &sent(flow, &up, 1));
                let down = shape(flow.by_backend(flags));
                gateway.does(what, &down.bytes(), TX, Verdict::Forwarded, &sent(flow, &down, 0));
            }
        }
        let rows = 2 * shapes.len() as u64;
        assert_eq!(flow.peek(&gateway.bench).packets, [before[0] + rows, before[1] + rows]);
        let up = flow.by_client(FIN | ACK);
        gateway.does("FIN", &up.bytes(), REDIRECT, Verdict::Forwarded, &sent(flow, &up, 1));
        let down = flow.by_backend(FIN | ACK);
        gateway.does("FIN", &down.bytes(), TX, Verdict::Forwarded, &sent(flow, &down, 0));
        assert!(flow.phase(&gateway.bench).is_over());
        gateway.leaves("a SYN on the finished flow", &flow.by_client(SYN).bytes());
    }
}

#[test]
fn an_end_is_believed_by_its_numbers() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        for row in forged::ENDS {
            for from_client in [true, false] {
                let flow = gateway.established(net, true);
                let segment = forged::end(flow, from_client, *row);
                let (action, place) = if from_client { (REDIRECT, 1) } else { (TX, 0) };
                let want = sent(flow, &segment, place);
                gateway.does(row.0, &segment.bytes(), action, Verdict::Forwarded, &want);
                forged::check(&gateway.bench, flow, from_client, *row);
            }
        }
    }
}

/// A client on a backend's link: its segments come in by the interface that they leave by.
#[test]
fn a_flow_may_turn_on_one_interface() {
    let mut gateway = Gateway::new();
    let path = ["10.66.0.9", "fd66::9"];
    for (net, address) in FAMILIES.into_iter().zip(path) {
        let neighbour = text(NEIGHBOURS[1]);
        gateway
            .namespace
            .ip(&format!("neigh replace {address} lladdr {neighbour} dev backends nud permanent"));
        let flow = loop {
            let port = gateway.bench.port();
            let mut syn = net.syn(port);
            syn.source.set_ip(address.parse().unwrap());
            assert_eq!(gateway.bench.run(&syn.bytes()).verdict, Verdict::Steered);
            let client = Tuple { source: syn.source, destination: syn.destination };
            let flow = Opened { client, backend: gateway.bench.peek(client).unwrap().leaving };
            if flow.backend.destination == net.backends()[0] {
                break flow;
            }
        };
        flow.passes_on(&mut gateway.bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
        flow.establishes(&mut gateway.bench);
        gateway.enter_by("backends");
        for segment in [flow.by_client(ACK | PSH), flow.by_backend(ACK | PSH)] {
            let segment = segment.with_payload(b"data");
            gateway.does("data", &segment.bytes(), TX, Verdict::Forwarded, &sent(flow, &segment, 1));
        }
        gateway.enter_by("clients");
    }
}

#[test]
fn a_checksum_may_be_at_the_edge_before_and_after() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        let flow = gateway.established(net, true);
        for segment in at_the_edge(net, flow) {
            let is_up = segment.source == flow.client.source;
            let (action, place) = if is_up { (REDIRECT, 1) } else { (TX, 0) };
            let want = sent(flow, &segment, place);
            gateway.does("at the edge", &segment.bytes(), action, Verdict::Forwarded, &want);
        }
    }
}

/// Frames that Ethernet has made longer.
#[test]
fn padding_stays_and_is_cut_off_an_answer() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        let flow = gateway.established(net, true);
        let (ack, padding) = (flow.by_client(ACK), [0xee; 6]);
        let (comes, leaves) =
            ([ack.bytes(), padding.to_vec()].concat(), [sent(flow, &ack, 1), padding.to_vec()]);
        gateway.does("padding", &comes, REDIRECT, Verdict::Forwarded, &leaves.concat());
        gateway.bench.mark(flow, State::CONDEMNED);
        let want = answer(&ack, (RST, ack.acknowledgement, 0));
        gateway.does("padding", &comes, TX, Verdict::Reset, &want);
    }
}

#[test]
fn what_opens_or_completes_a_flow_is_the_classifiers() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        gateway.leaves("SYN", &net.syn(900).bytes());
        let flow = gateway.bench.opened(net);
        gateway.leaves("SYN again", &flow.by_client(SYN).bytes());
        gateway.leaves("SYN-ACK", &flow.by_backend(SYN | ACK).bytes());
        flow.passes_on(&mut gateway.bench, "SYN-ACK", &flow.by_backend(SYN | ACK));
        gateway.leaves("ACK", &flow.by_client(ACK).bytes());
        gateway.leaves("RST", &flow.by_client(RST).bytes());
    }
}

#[test]
fn what_is_of_no_established_flow_is_left_alone() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        let flow = gateway.established(net, true);
        let (client, here) = (net.client(1).ip(), net.gateway().ip());
        gateway.leaves("no flow", &Segment::new(net.client(7), net.gateway(), ACK).bytes());
        gateway.leaves("last hop", &flow.by_client(ACK).with_hops(1).bytes());
        gateway.leaves("no hop", &flow.by_client(ACK).with_hops(0).bytes());
        gateway.leaves("UDP", &frame::ip(client, here, frame::UDP, 64, &[0; 8]));
        let kind = if net.is_v4() { (3, 4) } else { (2, 0) };
        let about = flow.rewritten(&flow.by_backend(ACK)).packet();
        gateway.leaves("ICMP error", &icmp_error((net.router(), here), 60, kind, [0, 0, 5, 0], &about));
        let mut tagged = flow.by_client(ACK).bytes();
        tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        gateway.leaves("VLAN", &tagged);
        let mut arp = flow.by_client(ACK).bytes();
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        gateway.leaves("ARP", &arp);
        let broken = if net.is_v4() {
            flow.by_client(ACK).with_ip_options(&[148, 4, 0, 0])
        } else {
            flow.by_client(ACK).with_extensions(&[(43, &[0, 0, 4, 1, 0, 0, 0, 0])])
        };
        gateway.leaves("for routers", &broken.bytes());
        let packet = flow.by_client(ACK | PSH).with_options(&[1; 4]).with_payload(b"payload").bytes();
        for length in 14..packet.len() {
            gateway.leaves(&format!("{length} bytes"), &packet[..length]);
        }
    }
}

#[test]
fn where_xdp_knows_no_way_the_classifier_does() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        let flow = gateway.established(net, false);
        gateway.leaves("unknown neighbour", &flow.by_client(ACK).bytes());
        let flow = gateway.established(net, true);
        let before = flow.peek(&gateway.bench);
        gateway.leaves("too long for the link", &flow.by_client(ACK).with_payload(&[0; 1500]).bytes());
        let backends = gateway.namespace.enter(|| if_nametoindex("backends").unwrap());
        gateway.bench.loaded.maps.put_link(backends, Link { mtu: 1500, flags: 0 }).unwrap();
        gateway.leaves("interface out of reach", &flow.by_client(ACK).bytes());
        assert_eq!(flow.peek(&gateway.bench), before);
        gateway.bench.loaded.maps.put_link(backends, Link { mtu: 1500, flags: Link::XDP }).unwrap();
        let up = flow.by_client(ACK);
        gateway.does("in reach", &up.bytes(), REDIRECT, Verdict::Forwarded, &sent(flow, &up, 1));
    }
}

#[test]
fn condemned_flows_are_answered_at_once() {
    let mut gateway = Gateway::new();
    for net in FAMILIES {
        let flow = gateway.established(net, true);
        gateway.bench.mark(flow, State::CONDEMNED);
        for segment in [flow.by_client(ACK | PSH), flow.by_backend(ACK)] {
            for length in [0, 1, 10, 1400] {
                let segment = segment.clone().with_numbers(1, 2).with_payload(&vec![7; length]);
                let want = answer(&segment, (RST, 2, 0));
                gateway.does("ACK", &segment.bytes(), TX, Verdict::Reset, &want);
            }
        }
        let fin = flow.by_client(FIN).with_numbers(1, 2).with_hops(1);
        gateway.does("FIN", &fin.bytes(), TX, Verdict::Reset, &answer(&fin, (RST | ACK, 0, 2)));
        let reset = flow.by_client(RST).bytes();
        gateway.does("RST", &reset, DROP, Verdict::Unanswered, &reset);
    }
}

#[test]
fn denied_sources_end_here() {
    let mut gateway = Gateway::new();
    gateway.bench.loaded.maps.v4.deny(24, std::net::Ipv4Addr::new(198, 18, 0, 0).into(), true).unwrap();
    let prefix: std::net::Ipv6Addr = "fd18::".parse().unwrap();
    gateway.bench.loaded.maps.v6.deny(64, prefix.into(), true).unwrap();
    gateway.bench.configure(|config| config.flags = Config::DENY4 | Config::DENY6);
    for net in FAMILIES {
        let syn = net.syn(5).bytes();
        gateway.does("SYN", &syn, DROP, Verdict::Denied, &syn);
        let ack = Segment::new(net.client(6), net.gateway(), ACK).bytes();
        gateway.does("ACK", &ack, DROP, Verdict::Denied, &ack);
        let mut other = net.syn(5);
        other.source.set_ip(net.router());
        gateway.leaves("another source", &other.bytes());
    }
}
