//! Tables in memory of the process's own: flows put by several threads at once, refused ones, and source ports.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use gateway_common::offer;
use gateway_common::translation::End;
use gateway_common::{Addr4, Addr6, Be16, Bucket, Translation};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::super::targets::{Hold, Offers, Tables, Target};
use super::super::translations::Translations;
use super::*;

const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 640;

fn config() -> Config {
    Config { index_key: 7, first_port: FIRST_PORT, port_count: PORTS, ..Config::default() }
}

fn words(words: usize) -> Words {
    let memory = memfd_create("table", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, (words * 8) as u64).unwrap();
    Words::map(memory.as_fd(), words).unwrap()
}

fn records<A: Address>(count: u32) -> Records<A> {
    let bytes = u64::from(count) * size_of::<Flow<A>>() as u64;
    let memory = memfd_create("records", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, bytes).unwrap();
    Records::map(memory.as_fd(), count).unwrap()
}

/// Tables with room for so many flows and an index of so many buckets.
fn flows<A: Address>(capacity: u32, buckets: usize) -> Flows<A> {
    let table = |capacity, buckets: usize| Table {
        index: words(buckets * size_of::<Bucket<AtomicU64>>() / 8),
        records: records(capacity),
    };
    let flows = Flows {
        established: table(capacity, buckets),
        handshakes: table(1, 1),
        free: words(capacity as usize),
        pools: Arc::new(words(POOL_WORDS * 2)),
        pool: 0,
    };
    flows.fill_free();
    flows
}

fn flow(number: u32) -> Flow<Addr4> {
    let tuple = |network: u8, port: u16| FlowKey {
        source: Addr4::from(Ipv4Addr::from(number)),
        destination: Addr4::from(Ipv4Addr::new(10, network, 0, 1)),
        source_port: Be16::new(port),
        destination_port: Be16::new(443),
    };
    Flow {
        client: tuple(1, 40_000),
        backend: tuple(2, FIRST_PORT as u16),
        oif: [2, 3],
        backend_id: 1,
        listener: 1,
        ports: 0,
        idle_timeout: 3600,
        attempts: 0,
        translation: NO_TRANSLATION,
        ends: [0; 2],
        created: 0,
        state: State::COUNTED,
        halves: Default::default(),
    }
}

/// Tables, and a backend whose bitmap is the second one.
fn tables(capacity: u32, buckets: usize) -> (Arc<Tables>, Target) {
    let bitmap = PORTS / PORTS_PER_WORD;
    let tables = Tables {
        v4: Arc::new(flows(capacity, buckets)),
        v6: Arc::new(flows::<Addr6>(1, 1)),
        ports: Arc::new(PortsInUse::over(words(2 * bitmap as usize))),
        translations: Arc::new(Translations::over(words(8))),
        offers: Arc::new(Offers { words: words(offer::WORDS as usize) }),
        config: config(),
        speakers: Hold::default(),
        presence: None,
    };
    let target = Target {
        address: "10.2.0.2:443".parse().unwrap(),
        id: 1,
        source: Ipv4Addr::new(10, 2, 0, 1).into(),
        oif: 1,
        mtu: 1500,
        ports: bitmap,
        hold: Hold::default(),
    };
    (Arc::new(tables), target)
}

fn numbers_of(flows: &Flows<Addr4>, bits: u64) -> Vec<u32> {
    let has = |number: &u32| flows.state(Kind::Established, *number).any(bits);
    (0..flows.capacity(Kind::Established)).filter(has).collect()
}

#[test]
fn flows_put_at_once_have_a_record_each() {
    const THREADS: u32 = 4;
    const EACH: u32 = 2000;
    // Room enough that no tuple meets two full buckets.
    let flows = flows(THREADS * EACH, 1 << 14);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let flows = &flows;
            scope.spawn(move || {
                for number in 0..EACH {
                    let flow = flow(thread * EACH + number);
                    let record = flows.put(&config(), &flow).unwrap();
                    let (kind, found, _) = flows.find(&config(), &flow.client).unwrap();
                    assert_eq!((kind, found), (Kind::Established, record));
                }
            });
        }
    });
    assert_eq!(flows.free(), 0);
    for number in 0..THREADS * EACH {
        let flow = flow(number);
        let [(_, there, way), (_, back, way_back)] =
            [flow.client, flow.backend.reversed()].map(|key| flows.find(&config(), &key).unwrap());
        assert_eq!((there, way, way_back), (back, Direction::ToBackend, Direction::ToClient));
    }
    assert_eq!(flows.put(&config(), &flow(THREADS * EACH)), None, "no record is free");
}

#[test]
fn a_flow_that_is_refused_leaves_its_record_to_the_walk_and_all_else_to_the_caller() {
    let (tables, target) = tables(4, 64);
    let (flows, ports) = (&tables.v4, &tables.ports);
    let port = target.claim(&tables).unwrap();
    let mut flow = Flow { ports: target.ports, ..flow(1) };
    flow.backend.source_port = Be16::new(port.address().port());
    let first = flows.put(&config(), &flow).unwrap();
    // The client's tuple is free, the backend's is not: what was entered must go again.
    let client = FlowKey { source_port: Be16::new(9), ..flow.client };
    let other = Flow { client, translation: 3, ..flow };
    assert_eq!(flows.put(&config(), &other), None);
    assert_eq!(flows.find(&config(), &other.client), None);
    assert_eq!(flows.find(&config(), &flow.client), Some((Kind::Established, first, Direction::ToBackend)));
    assert_eq!(flows.free(), 2);

    let [discarded] = numbers_of(flows, State::RETIRED)[..] else { panic!("one record waits") };
    let released = flows.release(&config(), ports, discarded).unwrap();
    assert_eq!(released, Released { listener: None, translation: NO_TRANSLATION }, "none has counted it");
    assert_eq!(flows.free(), 3);
    let in_use = || ports.count(target.ports, PORTS / PORTS_PER_WORD);
    assert_eq!(in_use(), 1);
    assert!(port.keep().is_none());
    assert_eq!(in_use(), 1, "it is the flow's");
    assert!(flows.retire(&config(), first, &flow));
    assert_eq!(flows.release(&config(), ports, first).unwrap().listener, Some(flow.listener));
    assert_eq!(in_use(), 0);
}

#[test]
fn a_port_is_claimed_once_and_comes_back() {
    let (tables, target) = tables(1, 1);
    let range = FIRST_PORT..FIRST_PORT + PORTS;
    let mut claimed = Vec::new();
    // Random probes miss the last free ones now and then.
    while claimed.len() < PORTS as usize {
        claimed.extend(target.claim(&tables));
    }
    let numbers: HashSet<u32> = claimed.iter().map(|port| port.address().port().into()).collect();
    assert_eq!(numbers, range.collect());
    assert!(target.claim(&tables).is_none());
    assert_eq!(tables.ports.count(0, PORTS / PORTS_PER_WORD), 0, "another backend's");
    let freed = claimed.swap_remove(100).address().port();
    let again = std::iter::repeat_with(|| target.claim(&tables)).flatten().next();
    assert_eq!(again.map(|port| port.address().port()), Some(freed));
    drop(claimed);
    assert_eq!(tables.ports.count(target.ports, PORTS / PORTS_PER_WORD), 0);
}

#[test]
fn a_translation_is_read_as_it_was_written() {
    let end = |first| End {
        taken: first,
        owed: first + 1,
        shift: -(first as i16),
        flags: End::NO_MARKS,
        clock: first + 2,
        stamps: u64::MAX - u64::from(first),
    };
    let written = Translation { ends: [end(10), end(20)], ..Translation::default() };
    let translations = Translations::over(words(16));
    translations.write(2, &written);
    assert_eq!(translations.read(2), Some(written));
    assert_eq!(translations.read(1), Some(Translation::default()));
    assert_eq!([translations.read(NO_TRANSLATION), translations.read(3)], [None, None]);
}

#[test]
fn a_port_keeps_its_backend_from_being_forgotten() {
    let (tables, target) = tables(1, 1);
    let hold = target.hold.clone();
    let port = target.claim(&tables).unwrap();
    drop(target);
    assert!(hold.is_shared());
    drop(port);
    assert!(!hold.is_shared());
}

#[test]
fn a_flow_without_room_in_the_index_is_refused_and_nothing_is_lost() {
    const FLOWS: u32 = 64;
    // Two buckets of seven entries.
    let flows = flows(FLOWS, 2);
    let ports = PortsInUse::over(words(1));
    let put = (0..FLOWS).filter(|number| flows.put(&config(), &flow(*number)).is_some()).count();
    assert!((1..=7).contains(&put), "{put}");
    let found = (0..FLOWS).filter(|number| flows.find(&config(), &flow(*number).client).is_some()).count();
    assert_eq!(found, put);
    for number in numbers_of(&flows, State::RETIRED) {
        flows.release(&config(), &ports, number);
    }
    assert_eq!(flows.free(), u64::from(FLOWS) - put as u64);
    assert!(flows.lost().is_empty());
    let left: usize =
        flows.established.index.buckets().iter().map(|bucket| bucket.references().count()).sum();
    assert_eq!(left, put * 2);
}
