//! Nanoseconds a packet, by BPF_PROG_TEST_RUN on this machine's kernel: the pipeline beside reference programs of what
//! other load balancers do, in one run, each round after round. `cargo xtask bench packets` builds and runs it.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends")]

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use aya::maps::{Array, HashMap, Map};
use aya::programs::{TestRun as _, TestRunOptions};
use gateway_common::flow::{NO_PORTS, NO_TRANSLATION, TICKS_PER_SECOND, ticks};
use gateway_common::{
    Addr4, Address, Backend, Be16, Config, Direction, Flow, FlowKey, Half, ListenerKey, Seen, State, Table,
};
use gateway_userspace::datapath::flows::Kind;
use gateway_userspace::datapath::load::{self, Loaded, Sizes};
use gateway_userspace::datapath::stats;
use nix::sched::{CloneFlags, unshare};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
const PORT: u16 = 443;
const BACKENDS: u32 = 100;
const TABLE_SIZE: u32 = 65_537;
const CLIENTS: u32 = 0xc612_0000;
/// Elements of the reference programs' maps that are filled.
const REFERENCE_FLOWS: u32 = 512 * 1024;

/// One line of the table.
struct Row {
    what: &'static str,
    program: &'static str,
    flags: u8,
    /// Flows in the working set.
    flows: u32,
    /// Handshakes may be given up at once.
    flood: bool,
    /// A listener makes cookies, and SYNs come without payload.
    cookies: bool,
    /// Nanoseconds, one a round.
    times: Vec<f64>,
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// `TC_ACT_REDIRECT` and `XDP_TX`.
const REDIRECT: u32 = 7;
const TX: u32 = 3;

/// Programs that answer by cookies.
const FLOOD: &str = "flood";
const FLOOD_XDP: &str = "flood_xdp";

fn rows(flows: u32) -> Vec<Row> {
    let row = |what, program, flags, flows, flood| {
        let cookies = program == FLOOD || program == FLOOD_XDP;
        Row { what, program, flags, flows, flood, cookies, times: Vec::new() }
    };
    vec![
        row("writing the packet alone (in every line below)", "floor", ACK, flows, false),
        row("hit, one flow", "flow", ACK, 1, false),
        row("hit, random flow", "flow", ACK, flows, false),
        row("miss (no flow, no SYN)", "stranger", ACK, flows, false),
        row("SYN of a stranger: a handshake, another given up", "stranger", SYN, flows, true),
        row("SYN of a stranger: ring full of young handshakes", "stranger", SYN, flows, false),
        row("SYN of a stranger: answered by a cookie", FLOOD, SYN, flows, false),
        row("SYN of a stranger: answered by a cookie, at XDP", FLOOD_XDP, SYN, flows, false),
        row("reference: LRU hash, 16-byte key, random hit", "lru16_hit", ACK, REFERENCE_FLOWS, false),
        row("reference: LRU hash, 40-byte key, random hit", "lru40_hit", ACK, REFERENCE_FLOWS, false),
        row("reference: hash, 16-byte key, random hit", "hash16_hit", ACK, REFERENCE_FLOWS, false),
        row("reference: LRU hash, 16-byte key, insert with eviction", "lru16_insert", SYN, 1, false),
        row("reference: LRU hash, 40-byte key, insert with eviction", "lru40_insert", SYN, 1, false),
    ]
}

fn main() {
    let object = std::env::var("MEASURE_OBJECT").expect("run it by `cargo xtask bench packets`");
    let number = |name: &str, default: u32| {
        std::env::args()
            .skip_while(|argument| argument != name)
            .nth(1)
            .map_or(default, |text| text.parse().unwrap())
    };
    let (rounds, repeat) = (number("--rounds", 5), number("--repeat", 1_000_000));
    let flows = number("--flows", 512 * 1024);
    let object = std::fs::read(object).unwrap();
    // Test runs look for listeners where the process is.
    unshare(CloneFlags::CLONE_NEWNET).expect("it needs root and network namespaces");
    let _listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
    let mut loaded = load::load_object(&object, Sizes { flows, slots: 1 << 17 }, None).unwrap();
    prepare(&mut loaded, flows);
    let mut working_set = working_set(&mut loaded);
    fill_references(&mut loaded);
    let mut rows = rows(flows);
    for _ in 0..rounds {
        for row in &mut rows {
            working_set.set(0, row.flows, 0).unwrap();
            configure(&mut loaded, row.flood);
            let cookies = if row.cookies { "2" } else { "0" };
            std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", cookies).unwrap();
            row.times.push(run(&mut loaded, row, repeat));
        }
    }
    report(&mut rows, flows, &loaded);
}

fn run(loaded: &mut Loaded, row: &Row, repeat: u32) -> f64 {
    let packet = if row.cookies { syn() } else { packet(row.flags) };
    let mut out = vec![0; 256];
    let options = TestRunOptions {
        data_in: Some(&packet),
        data_out: Some(&mut out),
        repeat,
        ..TestRunOptions::default()
    };
    let result = match row.program {
        FLOOD_XDP => loaded.other_xdp(FLOOD_XDP).unwrap().test_run(options),
        program => loaded.other(program).unwrap().test_run(options),
    };
    let result = result.unwrap();
    assert!(
        !row.cookies || result.return_value == if row.program == FLOOD { REDIRECT } else { TX },
        "no cookie"
    );
    result.duration.as_nanos() as f64
}

/// Ethernet, IPv4, TCP and 10 bytes; the checksums are what they may be, as nobody reads them.
fn packet(flags: u8) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    packet.extend([0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet.extend([198, 18, 0, 0]);
    packet.extend(GATEWAY.octets());
    packet.extend([0x04, 0x00, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    packet.extend([0; 10]);
    packet
}

/// As long as its answer, in whose place the next one is written.
fn syn() -> Vec<u8> {
    let mut packet = packet(SYN);
    packet.truncate(14 + 20 + 20);
    packet.extend([2, 4, 5, 0xb4]);
    packet[17] = 44;
    packet[46] = 0x60;
    packet
}

fn configure(loaded: &mut Loaded, flood: bool) {
    let flows = &loaded.maps.v4.flows;
    let config = Config {
        index_key: 0x0123_4567_89ab_cdef,
        balance_key: 1,
        first_port: 1024,
        port_count: 31_744,
        buckets: flows.buckets(Kind::Established),
        half_buckets: flows.buckets(Kind::Handshakes),
        flows: flows.capacity(Kind::Established),
        half_flows: flows.capacity(Kind::Handshakes),
        handshake_ticks: if flood { 0 } else { TICKS_PER_SECOND * 3600 },
        ..Config::default()
    };
    loaded.maps.set_config(config).unwrap();
}

fn address(bits: u32) -> Addr4 {
    Addr4::from(Ipv4Addr::from_bits(bits))
}

/// A listener with backends, and the flows that the programs will meet.
fn prepare(loaded: &mut Loaded, flows: u32) {
    loaded.maps.v4.flows.fill_free();
    configure(loaded, false);
    for id in 1..=BACKENDS {
        let backend = Backend {
            address: address(0x0a42_0000 + id),
            source: address(0x0a42_ff01),
            oif: 1,
            ports: (id - 1) * 496,
            port: Be16::new(8080),
            reserved: 0,
        };
        loaded.maps.v4.put_backend(id, backend).unwrap();
    }
    let slots: Vec<u32> = (0..TABLE_SIZE).map(|slot| 1 + slot % BACKENDS).collect();
    loaded.maps.write_table(0, &slots).unwrap();
    let key = ListenerKey::new(Addr4::from_ip(IpAddr::V4(GATEWAY)).unwrap(), Be16::new(PORT));
    let table = Table {
        base: 0,
        size: TABLE_SIZE,
        generation: 1,
        idle_timeout: 3600,
        listener: 1,
        flags: 0,
        max_flows: 0,
        max_rate: 0,
    };
    loaded.maps.v4.put_listener(key, table).unwrap();
    let config = loaded.maps.config().unwrap();
    // One record must be free, or every SYN is refused for that.
    let refused =
        (0..flows - 1).filter(|number| loaded.maps.v4.flows.put(&config, &flow(*number)).is_none()).count();
    assert!(refused < flows as usize / 100, "{refused} flows found no place");
}

fn flow(number: u32) -> Flow<Addr4> {
    let client = FlowKey {
        source: address(CLIENTS + (number >> 14)),
        destination: Addr4::from(GATEWAY),
        source_port: Be16::new(1024 + (number & 0x3fff) as u16),
        destination_port: Be16::new(443),
    };
    let backend = FlowKey {
        source: address(0x0a42_ff01 + (number >> 14)),
        destination: address(0x0a42_0001),
        source_port: Be16::new(1024 + (number & 0x3fff) as u16),
        destination_port: Be16::new(8080),
    };
    let now = stats::monotonic();
    let open = Seen::SYN | Seen::ACK;
    Flow {
        client,
        backend,
        oif: [1, 1],
        backend_id: 1,
        listener: 1,
        ports: NO_PORTS,
        idle_timeout: 3600,
        attempts: 0,
        translation: NO_TRANSLATION,
        ends: [0; 2],
        created: now,
        state: State::bits(Direction::ToBackend, open) | State::bits(Direction::ToClient, open),
        halves: [Half { last_seen: ticks(now), ..Half::default() }; 2],
    }
}

fn working_set(loaded: &mut Loaded) -> Array<aya::maps::MapData, u32> {
    loaded.take_map("WORKING_SET").unwrap().try_into().unwrap()
}

fn fill_references(loaded: &mut Loaded) {
    fn fill<K: aya::Pod>(map: Map, key: impl Fn(u32) -> K) {
        let mut map: HashMap<_, K, [u64; 4]> = map.try_into().unwrap();
        for number in 0..REFERENCE_FLOWS {
            map.insert(key(number), [1; 4], 0).unwrap();
        }
    }
    fill(loaded.take_map("LRU16").unwrap(), |number| [number, 0, 0, 0]);
    fill(loaded.take_map("LRU40").unwrap(), |number| [number, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    fill(loaded.take_map("HASH16").unwrap(), |number| [number, 0, 0, 0]);
}

fn report(rows: &mut [Row], flows: u32, loaded: &Loaded) {
    println!(
        "ns a packet, median (least to most) of {} rounds; {flows} flows in the table",
        rows[0].times.len()
    );
    let mut json = Vec::new();
    for row in rows {
        row.times.sort_by(f64::total_cmp);
        let (least, median, most) =
            (row.times[0], row.times[row.times.len() / 2], row.times[row.times.len() - 1]);
        println!("{:<55} {median:>6.0}  ({least:.0} to {most:.0})", row.what);
        json.push(format!(
            "{{\"what\":\"{}\",\"flows\":{},\"ns\":{median},\"least\":{least},\"most\":{most}}}",
            row.what, row.flows
        ));
    }
    println!(
        "memory of a flow, both directions: {:.1} bytes (IPv4), {:.1} bytes (IPv6)",
        loaded.maps.v4.flows.bytes_per_flow(),
        loaded.maps.v6.flows.bytes_per_flow()
    );
    println!("[{}]", json.join(","));
}
