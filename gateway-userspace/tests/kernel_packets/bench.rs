//! The programs with maps of their own, and packets run through them one at a time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use aya::Pod;
use aya::programs::{TestRun, TestRunOptions};
use gateway_common::flow::TICKS_PER_SECOND;
use gateway_common::ports::PORTS_PER_WORD;
use gateway_common::{
    Action, Addr4, Addr6, Address, Backend, Be16, Config, Direction, Flow, FlowKey, Link, ListenerKey, Phase,
    Seen, State, Table, Verdict, hash,
};
use gateway_userspace::datapath::ageing::Sweep;
use gateway_userspace::datapath::flows::{Flows, Kind};
use gateway_userspace::datapath::load::{self, Loaded, Sizes};
use gateway_userspace::datapath::maps::FamilyMaps;
use gateway_userspace::datapath::stats;
use gateway_userspace::datapath::view::{self, FlowView, Tuple};

use crate::kernel::frame::{ACK, BACKEND_INITIAL, CLIENT_INITIAL, SYN, Segment};

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT`.
pub(crate) const NEXT: u32 = u32::MAX;
pub(crate) const SHOT: u32 = 2;
pub(crate) const REDIRECT: u32 = 7;

/// Interface that test runs come in by (loopback), and the one that the backends are said to be behind.
pub(crate) const CLIENTS: u32 = 1;
pub(crate) const BACKENDS: u32 = 77;

pub(crate) const FIRST_PORT: u32 = 20_000;
pub(crate) const PORTS: u32 = 1024;
pub(crate) const TABLE_SIZE: u32 = 1021;
/// Slots from one table to the next.
const REGION: u32 = 1024;

/// Any will do.
const BALANCE_KEY: u64 = 1;

/// Room for the flows of a test whose rows each have flows of their own.
pub(crate) const ROOMY: u32 = 32_768;

/// A maximum segment size of 1460, as every SYN has it.
pub(crate) const MSS: [u8; 4] = [2, 4, 5, 0xb4];

/// The two families, with an address for everyone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Net {
    client: &'static str,
    gateway: &'static str,
    pub(crate) source: &'static str,
    backends: [&'static str; 2],
    router: &'static str,
}

pub(crate) const V4: Net = Net {
    client: "198.18.0.2",
    gateway: "198.18.0.1",
    source: "10.66.0.1",
    backends: ["10.66.0.2:8080", "10.66.0.3:8081"],
    router: "192.0.2.7",
};
pub(crate) const V6: Net = Net {
    client: "fd18::2",
    gateway: "fd18::1",
    source: "fd66::1",
    backends: ["[fd66::2]:8080", "[fd66::3]:8081"],
    router: "2001:db8::7",
};
pub(crate) const FAMILIES: [Net; 2] = [V4, V6];

impl Net {
    pub(crate) fn client(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.client.parse().unwrap(), port)
    }

    pub(crate) fn gateway(self) -> SocketAddr {
        SocketAddr::new(self.gateway.parse().unwrap(), 443)
    }

    pub(crate) fn backends(self) -> [SocketAddr; 2] {
        self.backends.map(|backend| backend.parse().unwrap())
    }

    /// A router somewhere on the way.
    pub(crate) fn router(self) -> IpAddr {
        self.router.parse().unwrap()
    }

    pub(crate) fn syn(self, port: u16) -> Segment {
        let syn = Segment::new(self.client(port), self.gateway(), SYN).with_options(&MSS);
        Segment { sequence: CLIENT_INITIAL, ..syn }
    }

    pub(crate) fn is_v4(self) -> bool {
        self.gateway().is_ipv4()
    }

    /// Bytes of Ethernet and IP header.
    pub(crate) fn headers(self) -> usize {
        if self.is_v4() { 34 } else { 54 }
    }
}

/// What one run did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) packet: Vec<u8>,
}

/// One flow's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peek {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
    pub(crate) direction: Direction,
    pub(crate) arriving: Tuple,
    pub(crate) leaving: Tuple,
    pub(crate) state: State,
    pub(crate) backend: u32,
    pub(crate) attempts: u32,
    /// Packets in both directions.
    pub(crate) packets: [u64; 2],
    /// Bytes of both streams.
    pub(crate) bytes: [u64; 2],
    /// Next sequence numbers of client and backend, as the other one has told.
    pub(crate) expected: [u32; 2],
}

/// The program with maps of its own.
pub(crate) struct Bench {
    pub(crate) loaded: Loaded,
    next_port: u16,
    /// Packets whose fate was compared with a row.
    pub(crate) rows: usize,
    /// What each family was told to serve by: a table and its slots.
    tables: BTreeMap<bool, (Table, Vec<u32>)>,
}

impl Bench {
    /// With room for `flows` flows and the usual source ports.
    pub(crate) fn new(flows: u32) -> Self {
        let loaded = load::load(Sizes { flows, slots: 4 * TABLE_SIZE }, None);
        let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
        let mut bench = Self { loaded, next_port: 1024, rows: 0, tables: BTreeMap::new() };
        bench.loaded.maps.v4.flows.fill_free();
        bench.loaded.maps.v6.flows.fill_free();
        bench.ports(PORTS);
        bench
    }

    /// With both backends behind the gateway's port, in both families.
    pub(crate) fn serving(flows: u32) -> Self {
        let mut bench = Self::new(flows);
        for net in FAMILIES {
            bench.serve(net, &net.backends());
        }
        bench
    }

    /// A client's port that no row had yet.
    pub(crate) fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    pub(crate) fn ports(&mut self, count: u32) {
        self.configure(|config| config.port_count = count);
    }

    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let flows = &self.loaded.maps.v4.flows;
        let mut config = Config {
            index_key: 0x0123_4567_89ab_cdef,
            balance_key: BALANCE_KEY,
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

    pub(crate) fn serve(&mut self, net: Net, backends: &[SocketAddr]) {
        self.serve_as(net, backends, |_| {});
    }

    /// Serves by a table with something changed.
    pub(crate) fn serve_as(&mut self, net: Net, backends: &[SocketAddr], change: impl FnOnce(&mut Table)) {
        let base = if net.is_v4() { 0 } else { REGION };
        let count = backends.len() as u32;
        let slots: Vec<u32> =
            (0..TABLE_SIZE).map(|slot| slot.checked_rem(count).map_or(0, |id| id + 1)).collect();
        self.loaded.maps.write_table(base, &slots).unwrap();
        let mut table = Table {
            base,
            size: TABLE_SIZE,
            generation: 1,
            idle_timeout: 600,
            listener: if net.is_v4() { 1 } else { 2 },
            flags: 0,
            max_flows: 0,
            max_rate: 0,
        };
        change(&mut table);
        self.tables.insert(net.is_v4(), (table, slots));
        if net.is_v4() {
            serve(&mut self.loaded.maps.v4, net, table, backends);
        } else {
            serve(&mut self.loaded.maps.v6, net, table, backends);
        }
    }

    /// The backend that a tuple of a client should get first, by an account of our own.
    pub(crate) fn choice(&self, client: Tuple) -> u32 {
        let (table, slots) = self.table(client);
        slots[hash::slot(chooser(table, client, 0), table.size) as usize]
    }

    /// The backend that a handshake should get when another is needed, after so many were tried.
    pub(crate) fn next_choice(&self, client: Tuple, current: u32, tried: u32) -> Option<u32> {
        let (table, slots) = self.table(client);
        let chooser = chooser(table, client, tried + 1);
        let looks = (0..32).map(|look| slots[hash::slot(hash::look(chooser, look), table.size) as usize]);
        let mut others = looks.filter(|id| *id != current);
        if tried >= 4 { None } else { others.next() }
    }

    /// The table of a client's listener, and its slots.
    fn table(&self, client: Tuple) -> (&Table, &[u32]) {
        let (table, slots) = &self.tables[&client.source.is_ipv4()];
        (table, slots)
    }

    /// Puts the slots of each backend together.
    pub(crate) fn sort_table(&mut self, net: Net) {
        let (table, slots) = self.tables.get_mut(&net.is_v4()).unwrap();
        slots.sort_unstable();
        self.loaded.maps.write_table(table.base, slots).unwrap();
    }

    /// Has the agent look at all records as if so many seconds had passed. Returns how many handshakes and ports are in use
    /// then.
    pub(crate) fn age(&self, seconds: u64) -> (usize, u32) {
        let maps = &self.loaded.maps;
        let config = maps.config().unwrap();
        let now = stats::monotonic() + seconds * 1_000_000_000;
        Sweep::default().step(&maps.v4, maps, &config, now);
        Sweep::default().step(&maps.v6, maps, &config, now);
        (stats::handshakes(maps).total(), self.ports_in_use())
    }

    /// Source ports in use, of all backends.
    pub(crate) fn ports_in_use(&self) -> u32 {
        (0..6).map(|bitmap| self.loaded.maps.ports.count(bitmap * 1024, 1024)).sum()
    }

    /// Steers the gateway's port no more.
    pub(crate) fn unserve(&mut self, net: Net) {
        let gateway = net.gateway();
        let port = Be16::new(gateway.port());
        match gateway.ip() {
            IpAddr::V4(ip) => self.loaded.maps.v4.remove_listener(&ListenerKey::new(ip.into(), port)),
            IpAddr::V6(ip) => self.loaded.maps.v6.remove_listener(&ListenerKey::new(ip.into(), port)),
        }
        .unwrap();
    }

    /// Tells the programs the MTU of the two interfaces; 0 is an unknown one.
    pub(crate) fn mtu(&mut self, clients: u32, backends: u32) {
        for (index, mtu) in [(CLIENTS, clients), (BACKENDS, backends)] {
            self.loaded.maps.put_link(index, Link { mtu, flags: 0 }).unwrap();
        }
    }

    pub(crate) fn counters(&self) -> BTreeMap<Verdict, u64> {
        self.loaded.maps.verdicts().unwrap().into_iter().collect()
    }

    /// The verdicts counted since.
    pub(crate) fn counted_since(&self, before: &BTreeMap<Verdict, u64>) -> Vec<Verdict> {
        self.counters()
            .into_iter()
            .flat_map(|(verdict, count)| vec![verdict; (count - before[&verdict]) as usize])
            .collect()
    }

    /// Runs one packet through the classifier. Exactly one verdict must be counted, and it must fit the action.
    pub(crate) fn run(&mut self, packet: &[u8]) -> Outcome {
        let before = self.counters();
        let mut out = vec![0; packet.len() + 64];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.loaded.classifier().unwrap().test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        let counted = self.counted_since(&before);
        let [verdict] = counted[..] else { panic!("counted {counted:?}") };
        let action = match verdict.action() {
            Action::Send => REDIRECT,
            Action::Drop => SHOT,
            Action::Pass => NEXT,
        };
        assert_eq!(result.return_value, action, "{verdict:?}");
        Outcome { verdict, packet: out }
    }

    /// Runs a packet and looks at nothing but what comes out.
    pub(crate) fn quick(&mut self, packet: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0; packet.len()];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.loaded.classifier().unwrap().test_run(options).unwrap();
        (result.return_value, out)
    }

    /// Records of established flows that are free.
    pub(crate) fn free(&self, net: Net) -> u64 {
        if net.is_v4() { self.loaded.maps.v4.flows.free() } else { self.loaded.maps.v6.flows.free() }
    }

    /// Establishes flows until no record is free. A full index refuses some; they take their record all the same.
    pub(crate) fn exhaust(&mut self, net: Net) {
        while self.free(net) > 0 {
            let port = self.port();
            let syn = net.syn(port);
            self.quick(&syn.bytes());
            let client = Tuple { source: syn.source, destination: syn.destination };
            let Some(record) = self.peek(client) else { continue };
            let flow = Opened { client, backend: record.leaving };
            self.quick(&flow.by_backend(SYN | ACK).bytes());
            self.quick(&flow.by_client(ACK).bytes());
        }
    }

    /// Opens flows until so many handshakes are under way, and returns them. A full index refuses some.
    pub(crate) fn fill(&mut self, net: Net, count: usize) -> Vec<Opened> {
        let mut flows = Vec::new();
        while flows.len() < count {
            let port = self.port();
            let syn = net.syn(port);
            self.quick(&syn.bytes());
            let client = Tuple { source: syn.source, destination: syn.destination };
            flows.extend(self.peek(client).map(|record| Opened { client, backend: record.leaving }));
        }
        flows
    }

    /// A packet that must be left alone.
    pub(crate) fn passes(&mut self, what: &str, packet: &[u8], verdict: Verdict) {
        self.comes_out(what, packet, verdict, packet);
    }

    /// A packet that must come out as another.
    pub(crate) fn becomes(&mut self, what: &str, packet: &Segment, verdict: Verdict, want: &Segment) {
        self.turns(what, &packet.bytes(), verdict, &want.bytes());
    }

    /// The same with the bytes. Before, the packet comes cut at every length, and is left alone.
    pub(crate) fn turns(&mut self, what: &str, packet: &[u8], verdict: Verdict, want: &[u8]) {
        let (begin, end) = extent(packet);
        for length in begin..end {
            let (action, out) = self.quick(&packet[..length]);
            assert!(action == NEXT && out == packet[..length], "{what}: cut to {length} bytes");
        }
        self.comes_out(what, packet, verdict, want);
    }

    /// The same without the cuts.
    pub(crate) fn comes_out(&mut self, what: &str, packet: &[u8], verdict: Verdict, want: &[u8]) {
        self.rows += 1;
        let outcome = self.run(packet);
        assert_eq!(outcome.verdict, verdict, "{what}");
        assert_eq!(hex(&outcome.packet), hex(want), "{what}");
    }

    /// Both directions of every flow: a walk through the whole table.
    pub(crate) fn entries(&self) -> Vec<FlowView> {
        view::entries(&self.loaded.maps)
    }

    /// The flow that packets of a tuple belong to.
    pub(crate) fn peek(&self, arriving: Tuple) -> Option<Peek> {
        let config = self.loaded.maps.config().unwrap();
        if arriving.source.is_ipv4() {
            peek(&self.loaded.maps.v4.flows, &config, arriving)
        } else {
            peek(&self.loaded.maps.v6.flows, &config, arriving)
        }
    }

    /// Adds bits to the state of a flow.
    pub(crate) fn mark(&mut self, flow: Opened, bits: u64) {
        let Peek { kind, number, .. } = flow.peek(self);
        if flow.client.source.is_ipv4() {
            self.loaded.maps.v4.flows.mark(kind, number, bits);
        } else {
            self.loaded.maps.v6.flows.mark(kind, number, bits);
        }
    }

    /// Sends a SYN and returns the flow that it opened.
    pub(crate) fn open(&mut self, net: Net, port: u16) -> Opened {
        let syn = net.syn(port);
        let outcome = self.run(&syn.bytes());
        assert!(matches!(outcome.verdict, Verdict::Steered | Verdict::Replaced), "{outcome:?}");
        let client = Tuple { source: syn.source, destination: syn.destination };
        let backend = self.peek(client).unwrap().leaving;
        assert_eq!(hex(&outcome.packet), hex(&syn.forwarded(backend.source, backend.destination).bytes()));
        Opened { client, backend }
    }

    /// Opens a flow on a port of its own.
    pub(crate) fn opened(&mut self, net: Net) -> Opened {
        let port = self.port();
        self.open(net, port)
    }

    /// Opens a flow and completes its handshake.
    pub(crate) fn established(&mut self, net: Net) -> Opened {
        let flow = self.opened(net);
        flow.passes_on(self, "SYN-ACK", &flow.by_backend(SYN | ACK));
        flow.establishes(self);
        flow
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        static ALL: AtomicUsize = AtomicUsize::new(0);
        let all = ALL.fetch_add(self.rows, Ordering::Relaxed) + self.rows;
        let test = std::thread::current();
        println!("{} packets compared by {}, {all} in all", self.rows, test.name().unwrap_or_default());
    }
}

fn serve<A: Address + Pod>(maps: &mut FamilyMaps<A>, net: Net, table: Table, backends: &[SocketAddr]) {
    let source = A::from_ip(net.source.parse().unwrap()).unwrap();
    for (index, backend) in backends.iter().enumerate() {
        let address = A::from_ip(backend.ip()).unwrap();
        let port = Be16::new(backend.port());
        let id = 1 + index as u32;
        // A bitmap belongs to the address, whatever number the backend has.
        let place = net.backends().iter().position(|known| known == backend).unwrap_or(2);
        let place = place as u32 + if net.is_v4() { 0 } else { 3 };
        let ports = place * (1 << 16) / PORTS_PER_WORD;
        maps.put_backend(id, Backend { address, source, oif: BACKENDS, ports, port, reserved: 0 }).unwrap();
    }
    let key = ListenerKey::new(A::from_ip(net.gateway().ip()).unwrap(), Be16::new(net.gateway().port()));
    maps.put_listener(key, table).unwrap();
}

fn peek<A: Address>(flows: &Flows<A>, config: &Config, arriving: Tuple) -> Option<Peek> {
    let key = key_of::<A>(arriving);
    let (kind, number, direction) = flows.find(config, &key)?;
    let flow: Flow<A> = flows.live(kind, number)?;
    Some(Peek {
        kind,
        number,
        direction,
        arriving,
        leaving: Tuple::of(&flow.leaving(direction)),
        state: State(flow.state),
        backend: flow.backend_id,
        attempts: flow.attempts,
        packets: flow.halves.map(|half| half.packets),
        bytes: [Direction::ToBackend, Direction::ToClient].map(|direction| flow.carried(direction)),
        expected: flow.halves.map(|half| half.expected()),
    })
}

/// What chooses a client's backend.
fn chooser(table: &Table, client: Tuple, attempt: u32) -> u32 {
    if client.source.is_ipv4() {
        hash::chooser(BALANCE_KEY, table, &key_of::<Addr4>(client), attempt)
    } else {
        hash::chooser(BALANCE_KEY, table, &key_of::<Addr6>(client), attempt)
    }
}

/// A tuple as the maps have it.
pub(crate) fn key_of<A: Address>(tuple: Tuple) -> FlowKey<A> {
    FlowKey {
        source: A::from_ip(tuple.source.ip()).unwrap(),
        destination: A::from_ip(tuple.destination.ip()).unwrap(),
        source_port: Be16::new(tuple.source.port()),
        destination_port: Be16::new(tuple.destination.port()),
    }
}

/// Length of Ethernet and IP header without options, and of the whole packet without padding.
fn extent(frame: &[u8]) -> (usize, usize) {
    let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    // The kernel makes no test packet that ends within its IP header.
    if frame[12] == 0x08 { (34, 14 + word(16)) } else { (54, 54 + word(18)) }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The sequence number of an end's SYN, or of what comes behind it.
fn first(initial: u32, flags: u8) -> u32 {
    if flags & SYN == 0 { initial + 1 } else { initial }
}

/// Both sides of an open flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    pub(crate) client: Tuple,
    pub(crate) backend: Tuple,
}

impl Opened {
    /// A segment of the client, with the numbers that it has at the beginning.
    pub(crate) fn by_client(self, flags: u8) -> Segment {
        Segment::new(self.client.source, self.client.destination, flags)
            .with_numbers(first(CLIENT_INITIAL, flags), BACKEND_INITIAL + 1)
    }

    /// One of the backend.
    pub(crate) fn by_backend(self, flags: u8) -> Segment {
        Segment::new(self.backend.destination, self.backend.source, flags)
            .with_numbers(first(BACKEND_INITIAL, flags), CLIENT_INITIAL + 1)
    }

    /// What a segment of the flow leaves as.
    pub(crate) fn rewritten(self, segment: &Segment) -> Segment {
        let leaving =
            if segment.source == self.client.source { self.backend } else { self.client.reversed() };
        segment.forwarded(leaving.source, leaving.destination)
    }

    /// Completes the handshake after the SYN-ACK.
    pub(crate) fn establishes(self, bench: &mut Bench) {
        let ack = self.by_client(ACK);
        bench.becomes("ACK", &ack, Verdict::Established, &self.rewritten(&ack));
    }

    /// Sends a segment in either direction and checks what comes out at the other side.
    pub(crate) fn passes_on(self, bench: &mut Bench, what: &str, segment: &Segment) {
        bench.becomes(what, segment, Verdict::Forwarded, &self.rewritten(segment));
    }

    pub(crate) fn peek(self, bench: &Bench) -> Peek {
        bench.peek(self.client).unwrap()
    }

    pub(crate) fn phase(self, bench: &Bench) -> Phase {
        self.peek(bench).state.phase()
    }

    pub(crate) fn seen(self, bench: &Bench, direction: Direction) -> Seen {
        self.peek(bench).state.seen(direction)
    }
}
