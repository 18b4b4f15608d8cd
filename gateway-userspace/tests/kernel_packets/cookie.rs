//! SYNs while the ring of handshakes is full: answered by the kernel's cookies where it makes any, at both hooks.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;

use aya::programs::TcAttachType;
use gateway_common::{Action, Config, Verdict};
use gateway_userspace::datapath::stats;

use crate::bench::{Bench, CLIENTS, FAMILIES, MSS, Net, Opened, Outcome, V4, hex};
use crate::kernel::frame::{ACK, RST, SYN, Segment};
use crate::kernel::{Namespace, PATIENCE};
use crate::reset::answer;
use crate::xdp::{DROP, Gateway, TX};

/// Values of `net.ipv4.tcp_syncookies`.
const NEVER: u32 = 0;
const IN_A_FLOOD: u32 = 1;
pub(crate) const ALWAYS: u32 = 2;

/// The ring's places.
const RING: usize = 64;

/// Flows for which there is a ring as small.
const FLOWS: u32 = 64;

/// A namespace with the gateway's addresses.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
}

impl Host {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new();
        for net in FAMILIES {
            for ip in [net.gateway().ip(), net.client(0).ip()] {
                let nodad = if ip.is_ipv6() { "nodad" } else { "" };
                namespace.ip(&format!("addr add {ip} dev lo {nodad}"));
            }
        }
        Self { namespace }
    }

    pub(crate) fn cookies(&self, when: u32) {
        cookies(&self.namespace, when);
    }

    /// User space's listener.
    pub(crate) fn listen(&self, net: Net) -> TcpListener {
        listen(&self.namespace, net.gateway())
    }
}

fn cookies(namespace: &Namespace, when: u32) {
    namespace.enter(|| std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", when.to_string()).unwrap());
}

fn listen(namespace: &Namespace, address: SocketAddr) -> TcpListener {
    namespace.enter(|| TcpListener::bind(address).unwrap())
}

/// Fills the ring with handshakes that are not given up.
fn fill(bench: &mut Bench, net: Net) -> Vec<Opened> {
    bench.configure(|config| config.handshake_ticks = u32::MAX / 2);
    bench.fill(net, RING)
}

/// The classifier on such a host, its rings full.
struct Flooded {
    host: Host,
    bench: Bench,
}

impl Flooded {
    fn new() -> Self {
        let (host, mut bench) = (Host::new(), Bench::serving(FLOWS));
        host.cookies(ALWAYS);
        for net in FAMILIES {
            fill(&mut bench, net);
        }
        Self { host, bench }
    }

    fn run(&mut self, packet: &[u8]) -> Outcome {
        self.host.namespace.enter(|| self.bench.run(packet))
    }

    fn passes(&mut self, what: &str, packet: &[u8], verdict: Verdict) {
        self.host.namespace.enter(|| self.bench.passes(what, packet, verdict));
    }

    fn syn(&mut self, net: Net) -> Segment {
        net.syn(self.bench.port())
    }

    /// A SYN that must be answered with this segment size; the cookie. Before, it comes cut at every length, and is left
    /// alone.
    fn answers(&mut self, what: &str, syn: &Segment, size: Option<u16>) -> u32 {
        let bytes = syn.bytes();
        let begin = if syn.source.is_ipv4() { 34 } else { 54 };
        for length in begin..bytes.len() {
            let cut = self.run(&bytes[..length]);
            assert_eq!((cut.verdict.action(), cut.packet), (Action::Pass, bytes[..length].to_vec()));
        }
        let outcome = self.run(&bytes);
        assert_eq!(outcome.verdict, Verdict::CookieSent, "{what}");
        is_synack(what, &outcome.packet, syn, size)
    }
}

/// Holds an answer against one of our own account: every byte but the cookie, which is returned.
fn is_synack(what: &str, packet: &[u8], syn: &Segment, size: Option<u16>) -> u32 {
    let option = size.map(|size| [&[2, 4], &size.to_be_bytes()[..]].concat());
    let want = |cookie| {
        let answer = Segment {
            hops: 64,
            window: 14_600,
            ip_options: syn.ip_options.clone(),
            extensions: syn.extensions.clone(),
            options: option.clone().unwrap_or_default(),
            ..Segment::new(syn.destination, syn.source, SYN | ACK)
        };
        let mut bytes = answer.with_numbers(cookie, syn.sequence.wrapping_add(1)).bytes();
        bytes[..12].rotate_left(6);
        bytes
    };
    let at = want(0).len() - 20 - option.as_ref().map_or(0, Vec::len) + 4;
    let cookie = u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    assert_eq!(hex(packet), hex(&want(cookie)), "{what}");
    cookie
}

/// What clients' SYNs carry, and whether a segment size is among it.
const OPTIONS: &[(&str, &[u8], bool)] = &[
    ("none", &[], false),
    ("size", &MSS, true),
    ("Linux's", &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7], true),
    (
        "all that there is room for",
        [[2, 4, 5, 0xb4], [1; 4], [1; 4], [1; 4], [1; 4], [1; 4], [1; 4], [1; 4], [1; 4], [1; 4]]
            .as_flattened(),
        true,
    ),
    ("odd", &[1, 2, 4, 5, 0xb4, 1, 1, 0], true),
];

#[test]
fn a_syn_that_finds_no_room_is_answered_whatever_it_carries() {
    let mut flooded = Flooded::new();
    for net in FAMILIES {
        let _listener = flooded.host.listen(net);
        // What the kernel's table has for 1460: of IPv6 the last size below 8940.
        let size = if net.is_v4() { 1460 } else { 1440 };
        for (what, options, has_size) in OPTIONS {
            let syn = flooded.syn(net).with_options(options);
            flooded.answers(what, &syn, has_size.then_some(size));
            for length in [1, 2, 1400] {
                let syn = syn.clone().with_payload(&vec![7; length]);
                flooded.answers(what, &syn, has_size.then_some(size));
            }
            let padded = [syn.bytes(), vec![0; 9]].concat();
            let outcome = flooded.run(&padded);
            is_synack(what, &outcome.packet, &syn, has_size.then_some(size));
            for (sequence, hops) in [(u32::MAX, 2), (0, 255), (0x7fff_ffff, 64)] {
                let syn = syn.clone().with_numbers(sequence, 77).with_hops(hops);
                flooded.answers(what, &syn, has_size.then_some(size));
            }
            let dressed = if net.is_v4() {
                syn.with_ip_options(&[0x5e, 4, 1, 2])
            } else {
                syn.with_extensions(&[(60, &[0; 8])])
            };
            flooded.answers(what, &dressed, has_size.then_some(size));
        }
        let other = flooded.syn(net).with_options(&[4, 2, 1, 1]);
        flooded.answers("options without a size", &other, Some(if net.is_v4() { 536 } else { 1220 }));
    }
}

#[test]
fn the_segment_size_is_what_the_cookie_holds_and_the_link_carries() {
    let mut flooded = Flooded::new();
    // Sizes that a client has and that cookies hold, IPv4 and IPv6.
    let sizes = [
        [(536, 536), (1299, 536), (1452, 1440), (8960, 1460)],
        [(1220, 1220), (1432, 1420), (1440, 1440), (8940, 8940)],
    ];
    for (net, sizes) in FAMILIES.into_iter().zip(sizes) {
        let _listener = flooded.host.listen(net);
        let header = if net.is_v4() { 40 } else { 60 };
        for (theirs, held) in sizes {
            let [high, low] = u16::to_be_bytes(theirs);
            let syn = flooded.syn(net).with_options(&[2, 4, high, low]);
            for (mtu, want) in [(0, held), (9000 + header, held), (1400, held.min(1400 - header as u16))] {
                flooded.bench.mtu(mtu, 0);
                flooded.answers(&format!("{theirs} over {mtu}"), &syn, Some(want));
            }
        }
    }
}

#[test]
fn a_cookie_is_its_tuples() {
    let mut flooded = Flooded::new();
    for net in FAMILIES {
        let _listener = flooded.host.listen(net);
        let syn = flooded.syn(net);
        let mut cookie = |syn: &Segment| {
            let packet = flooded.run(&syn.bytes()).packet;
            is_synack("cookie", &packet, syn, Some(if net.is_v4() { 1460 } else { 1440 }))
        };
        // A cookie has the minute in it, which goes by once at most.
        let cookies: Vec<u32> = (0..3).map(|_| cookie(&syn)).collect();
        assert!(cookies[0] == cookies[1] || cookies[1] == cookies[2], "{cookies:?}");
        let other = net.syn(syn.source.port() + 1);
        assert!(!cookies.contains(&cookie(&other)), "of another port");
        let other = syn.clone().with_numbers(syn.sequence ^ 1 << 20, 0);
        assert!(!cookies.contains(&cookie(&other)), "of another sequence number");
    }
}

#[test]
fn where_the_kernel_makes_no_cookie_the_syn_passes() {
    let mut flooded = Flooded::new();
    for net in FAMILIES {
        let syn = flooded.syn(net).bytes();
        flooded.passes("no listener", &syn, Verdict::HandshakesFull);
        let mut elsewhere = net.gateway();
        elsewhere.set_port(444);
        let _elsewhere = listen(&flooded.host.namespace, elsewhere);
        flooded.passes("a listener elsewhere", &syn, Verdict::HandshakesFull);
        let listener = flooded.host.listen(net);
        for (what, when) in [("cookies off", NEVER), ("no flood at the listener", IN_A_FLOOD)] {
            flooded.host.cookies(when);
            flooded.passes(what, &syn, Verdict::HandshakesFull);
        }
        flooded.host.cookies(ALWAYS);
        assert_eq!(flooded.run(&syn).verdict, Verdict::CookieSent);
        let ip = net.client(0).ip();
        let stream = flooded.host.namespace.enter(|| {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(net.gateway()),
                socket2::Type::STREAM,
                None,
            )
            .unwrap();
            socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
            socket.connect(&net.gateway().into()).unwrap();
            TcpStream::from(socket)
        });
        let again = net.syn(stream.local_addr().unwrap().port()).bytes();
        flooded.passes("a socket's own tuple", &again, Verdict::HandshakesFull);
        drop(listener);
        flooded.passes("no listener any more", &syn, Verdict::HandshakesFull);
    }
}

#[test]
fn a_listener_on_every_address_of_both_families_answers_too() {
    let mut flooded = Flooded::new();
    let _listener = listen(&flooded.host.namespace, "[::]:443".parse().unwrap());
    for net in FAMILIES {
        let syn = flooded.syn(net);
        flooded.answers("wildcard", &syn, Some(if net.is_v4() { 1460 } else { 1440 }));
    }
}

#[test]
fn limits_come_before_cookies_and_no_other_verdict_gives_way() {
    let mut flooded = Flooded::new();
    for net in FAMILIES {
        let _listener = flooded.host.listen(net);
        let ack = Segment::new(net.client(9), net.gateway(), ACK);
        flooded.passes("ACK", &ack.bytes(), Verdict::Miss);
        let last = flooded.syn(net).with_hops(1);
        flooded.passes("last hop", &last.bytes(), Verdict::HopLimit);
        let mut elsewhere = flooded.syn(net);
        elsewhere.destination.set_port(444);
        flooded.passes("elsewhere", &elsewhere.bytes(), Verdict::NotSteered);
        flooded.bench.configure(limited);
        in_one_second(net, |source| {
            let mut syn = flooded.syn(net);
            syn.source.set_ip(source);
            match flooded.run(&syn.bytes()).verdict {
                Verdict::CookieSent => true,
                verdict => {
                    assert_eq!(verdict, Verdict::SourceLimited);
                    false
                }
            }
        });
        flooded.bench.configure(|config| config.handshake_ticks = u32::MAX / 2);
    }
}

/// The stack knows the cookies again, and what its sender's device was to sum up comes out right.
#[test]
fn real_clients_of_both_families_connect_to_the_listener() {
    let (host, client) = (Namespace::new(), Namespace::new());
    let (ours, theirs) = (["198.18.0.1/24", "fd18::1/64"], ["198.18.0.2/24", "fd18::2/64"]);
    host.connect("clients", &ours, &client, "eth0", &theirs);
    cookies(&host, ALWAYS);
    let mut bench = Bench::serving(FLOWS);
    host.enter(|| bench.loaded.classifier().unwrap().attach("clients", TcAttachType::Ingress).unwrap());
    for net in FAMILIES {
        fill(&mut bench, net);
        let listener = listen(&host, net.gateway());
        for round in 1..20 {
            let mut end = client.enter(|| TcpStream::connect_timeout(&net.gateway(), PATIENCE).unwrap());
            let (mut served, _) = listener.accept().unwrap();
            for stream in [&end, &served] {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
            }
            let bulk: Vec<u8> = (0..300_000_u32).map(|place| (place * 31 % 251) as u8).collect();
            let mut got = vec![0; bulk.len()];
            std::thread::scope(|scope| {
                let sent = scope.spawn(|| end.write_all(&bulk));
                served.read_exact(&mut got).unwrap();
                sent.join().unwrap().unwrap();
            });
            assert!(got == bulk, "came out as something else");
            served.write_all(b"answer").unwrap();
            end.read_exact(&mut got[..6]).unwrap();
            let sent = bench.counters()[&Verdict::CookieSent];
            assert!(sent >= if net.is_v4() { round } else { 19 + round }, "{sent}");
        }
    }
}

/// Five new flows of a source in each second.
fn limited(config: &mut Config) {
    config.handshake_ticks = u32::MAX / 2;
    config.source_rate = 5;
}

/// Sends SYNs of a source, ten within one of the limits' seconds, until it comes about: of those five must be let
/// through. Each attempt is another source's.
fn in_one_second(net: Net, mut send: impl FnMut(IpAddr) -> bool) {
    // The programs' clock may be a tick of the kernel behind.
    const TICK: u64 = 20_000_000;
    let second = |time: u64| time >> 30;
    for attempt in 0..50 {
        let source: IpAddr = if net.is_v4() {
            [198, 19, 0, attempt].into()
        } else {
            Ipv6Addr::new(0xfd19, 0, 0, 0, 0, 0, 0, attempt.into()).into()
        };
        let begun = stats::monotonic();
        let admitted = (0..10).filter(|_| send(source)).count();
        if second(begun - TICK) == second(stats::monotonic()) {
            assert_eq!(admitted, 5);
            return;
        }
    }
    panic!("ten SYNs never fit into a second");
}

/// The XDP program before full rings and listeners of user space.
struct Guarded {
    gateway: Gateway,
    _listeners: [TcpListener; 2],
}

impl Guarded {
    fn new() -> Self {
        let mut gateway = Gateway::with_room(FLOWS);
        cookies(&gateway.namespace, ALWAYS);
        let listeners = FAMILIES.map(|net| listen(&gateway.namespace, net.gateway()));
        for net in FAMILIES {
            fill(&mut gateway.bench, net);
        }
        Self { gateway, _listeners: listeners }
    }

    fn syn(&mut self, net: Net) -> Segment {
        net.syn(self.gateway.bench.port())
    }

    fn leaves(&mut self, what: &str, packet: &[u8]) {
        self.gateway.leaves(what, packet);
    }

    fn answers(&mut self, what: &str, syn: &Segment, size: Option<u16>) {
        let (action, counted, packet) = self.gateway.run(&syn.bytes());
        assert_eq!((action, &counted[..]), (TX, &[Verdict::CookieSent][..]), "{what}");
        is_synack(what, &packet, syn, size);
    }
}

#[test]
fn at_xdp_a_flood_is_answered_before_the_stack() {
    let mut guarded = Guarded::new();
    for net in FAMILIES {
        let size = if net.is_v4() { 1460 } else { 1440 };
        for (what, options, has_size) in OPTIONS {
            let syn = guarded.syn(net).with_options(options);
            let bytes = syn.bytes();
            (14..bytes.len()).for_each(|length| guarded.leaves(what, &bytes[..length]));
            guarded.answers(what, &syn, has_size.then_some(size));
            for length in [1, 2, 1400] {
                guarded.answers(what, &syn.clone().with_payload(&vec![7; length]), has_size.then_some(size));
            }
            let dressed = if net.is_v4() {
                syn.with_ip_options(&[0x5e, 4, 1, 2])
            } else {
                syn.with_extensions(&[(60, &[0; 8])])
            };
            guarded.answers(what, &dressed, has_size.then_some(size));
        }
    }
}

/// Sources that nobody can be answered at: many, none, and the listener itself.
fn martians(net: Net) -> [IpAddr; 3] {
    let own = net.gateway().ip();
    if net.is_v4() {
        [Ipv4Addr::new(224, 0, 0, 1).into(), Ipv4Addr::UNSPECIFIED.into(), own]
    } else {
        [Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::UNSPECIFIED.into(), own]
    }
}

#[test]
fn at_xdp_all_that_is_no_flood_is_left_alone() {
    let mut guarded = Guarded::new();
    for net in FAMILIES {
        let bench = &mut guarded.gateway.bench;
        let handshake =
            bench.entries().into_iter().find(|flow| flow.arriving.destination == net.gateway()).unwrap();
        let again = Segment::new(handshake.arriving.source, net.gateway(), SYN).with_options(&MSS);
        guarded.leaves("a handshake's SYN again", &again.bytes());
        let syn = guarded.syn(net);
        guarded.leaves("last hop", &syn.clone().with_hops(1).bytes());
        for source in martians(net) {
            let mut martian = syn.clone();
            martian.source.set_ip(source);
            guarded.leaves("a source that is no other host's", &martian.bytes());
        }
        let mut elsewhere = syn.clone();
        elsewhere.destination.set_port(444);
        guarded.leaves("elsewhere", &elsewhere.bytes());
        for flags in [ACK, SYN | ACK, RST, SYN | RST] {
            let other = Segment::new(syn.source, syn.destination, flags);
            guarded.leaves("no SYN", &other.bytes());
        }
        for when in [NEVER, IN_A_FLOOD] {
            cookies(&guarded.gateway.namespace, when);
            guarded.leaves("no cookie", &syn.bytes());
        }
        cookies(&guarded.gateway.namespace, ALWAYS);
        guarded.answers("afterwards", &syn, Some(if net.is_v4() { 1460 } else { 1440 }));
        guarded.gateway.bench.configure(|config| config.handshake_ticks = 0);
        guarded.leaves("room in the ring", &syn.bytes());
        guarded.gateway.bench.configure(|config| config.handshake_ticks = u32::MAX / 2);
        guarded.gateway.bench.unserve(net);
        guarded.leaves("not steered any more", &syn.bytes());
    }
}

/// Goes past the young handshakes at XDP to the room for one, which a SYN then takes at tc; false if the index refuses it.
fn takes_the_room(gateway: &mut Gateway) -> bool {
    let steps = (0..RING)
        .map(|_| {
            let port = gateway.bench.port();
            gateway.run(&V4.syn(port).bytes()).1
        })
        .take_while(|counted| counted[..] == [Verdict::CookieSent])
        .count();
    assert!(steps < RING, "no room within a lap");
    let syn = V4.syn(gateway.bench.port()).bytes();
    gateway.leaves("for tc", &syn);
    match gateway.bench.run(&syn).verdict {
        Verdict::Steered => true,
        verdict => {
            assert_eq!(verdict, Verdict::HandshakesFull);
            false
        }
    }
}

#[test]
fn at_xdp_one_young_handshake_does_not_hold_up_the_room_behind_it() {
    let mut gateway = Gateway::with_room(FLOWS);
    cookies(&gateway.namespace, ALWAYS);
    let _listener = listen(&gateway.namespace, V4.gateway());
    let flows = fill(&mut gateway.bench, V4);
    flows[40].passes_on(&mut gateway.bench, "RST", &flows[40].by_client(RST));
    // Some laps, as a full index refuses some tuples: the room is there again in the next one.
    let taken = (0..8).any(|_| takes_the_room(&mut gateway));
    assert!(taken, "the room was never found");
    assert!(gateway.bench.peek(flows[40].client).is_none(), "in place of the one that is over");
    let port = gateway.bench.port();
    let (_, counted, _) = gateway.run(&V4.syn(port).bytes());
    assert_eq!(counted, [Verdict::CookieSent]);
}

#[test]
fn at_xdp_a_source_over_its_limit_gets_no_cookie_and_is_counted_once() {
    let mut guarded = Guarded::new();
    for net in FAMILIES {
        guarded.gateway.bench.configure(limited);
        in_one_second(net, |source| {
            let mut syn = guarded.syn(net);
            syn.source.set_ip(source);
            match guarded.gateway.run(&syn.bytes()) {
                (TX, counted, _) if counted == [Verdict::CookieSent] => true,
                (DROP, counted, packet) if counted == [Verdict::SourceLimited] && packet == syn.bytes() => {
                    false
                }
                other => panic!("{other:?}"),
            }
        });
        // What is left to tc is counted there alone.
        cookies(&guarded.gateway.namespace, NEVER);
        in_one_second(net, |source| {
            let mut syn = guarded.syn(net);
            syn.source.set_ip(match source {
                IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() | 0x100).into(),
                IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() | 0x10000).into(),
            });
            guarded.leaves("no cookie", &syn.bytes());
            match guarded.gateway.bench.run(&syn.bytes()).verdict {
                Verdict::HandshakesFull => true,
                verdict => {
                    assert_eq!(verdict, Verdict::SourceLimited);
                    false
                }
            }
        });
        cookies(&guarded.gateway.namespace, ALWAYS);
        guarded.gateway.bench.configure(|config| config.handshake_ticks = u32::MAX / 2);
    }
}

#[test]
fn at_xdp_a_full_listener_answers_by_resets_still() {
    let mut guarded = Guarded::new();
    for net in FAMILIES {
        guarded.gateway.bench.serve_as(net, &net.backends(), |table| table.max_flows = 1);
        let listener = if net.is_v4() { 1 } else { 2 };
        let flows = guarded.gateway.bench.loaded.maps.listener_flows(listener).unwrap();
        flows.store(1, Ordering::Relaxed);
        let syn = guarded.syn(net);
        let want = answer(&syn, (RST | ACK, 0, syn.sequence + 1));
        guarded.gateway.does("one too many", &syn.bytes(), TX, Verdict::ListenerFull, &want);
    }
}

#[test]
fn the_interface_of_test_runs_is_the_clients() {
    let index = Host::new().namespace.enter(|| nix::net::if_::if_nametoindex("lo").unwrap());
    assert_eq!(index, CLIENTS, "or the MTU above is another interface's");
}
