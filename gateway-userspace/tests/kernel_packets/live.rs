//! Real ends and real routers: checksums that a device is still to fill in and super-packets of any length, which test
//! runs do not have.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use aya::Pod;
use aya::programs::TcAttachType;
use gateway_common::{Address, Backend, Be16, Link, ListenerKey, State, Table, Verdict};
use gateway_userspace::datapath::maps::FamilyMaps;
use gateway_userspace::datapath::view::Tuple;
use nix::net::if_::if_nametoindex;

use crate::bench::{Bench, Opened};
use crate::kernel::{Namespace, PATIENCE};

/// What a flow carries: more than the first window, so that path MTU discovery has something to do.
const BULK: usize = 300_000;

/// The narrow link's MTU.
const NARROW: u32 = 1300;

/// Where a client connects to, the backend, and the gateway's address towards it.
const FAMILIES: [[&str; 3]; 2] = [
    ["198.18.0.1:443", "10.66.1.2:8080", "10.66.0.1:0"],
    ["[fd18::1]:443", "[fd66:1::2]:8080", "[fd66::1]:0"],
];

/// Client, router, gateway, router, backend.
struct Line {
    client: Namespace,
    outside: Namespace,
    _gateway: Namespace,
    inside: Namespace,
    backend: Namespace,
    bench: Bench,
}

impl Line {
    fn new() -> Self {
        let [client, outside, gateway, inside, backend] = [0; 5].map(|_| Namespace::new());
        let links = [
            (&outside, "client", "198.18.1.1/24 fd18:1::1/64", &client, "eth0", "198.18.1.2/24 fd18:1::2/64"),
            (&gateway, "clients", "198.18.0.1/24 fd18::1/64", &outside, "eth0", "198.18.0.3/24 fd18::3/64"),
            (&gateway, "backends", "10.66.0.1/24 fd66::1/64", &inside, "eth0", "10.66.0.3/24 fd66::3/64"),
            (&inside, "backend", "10.66.1.1/24 fd66:1::1/64", &backend, "eth0", "10.66.1.2/24 fd66:1::2/64"),
        ];
        for (one, name, addresses, other, other_name, others) in links {
            let [addresses, others] = [addresses, others].map(|text| text.split(' ').collect::<Vec<_>>());
            one.connect(name, &addresses, other, other_name, &others);
        }
        for (namespace, route) in [
            (&client, "default via 198.18.1.1"),
            (&client, "default via fd18:1::1"),
            (&gateway, "198.18.1.0/24 via 198.18.0.3"),
            (&gateway, "fd18:1::/64 via fd18::3"),
            (&gateway, "10.66.1.0/24 via 10.66.0.3"),
            (&gateway, "fd66:1::/64 via fd66::3"),
            (&backend, "default via 10.66.1.1"),
            (&backend, "default via fd66:1::1"),
        ] {
            namespace.ip(&format!("route add {route}"));
        }
        for router in [&outside, &inside] {
            router.enter(|| {
                for family in ["ipv4", "ipv6"] {
                    std::fs::write(format!("/proc/sys/net/{family}/conf/all/forwarding"), "1").unwrap();
                }
            });
        }
        let bench = steering(&gateway);
        Self { client, outside, _gateway: gateway, inside, backend, bench }
    }

    /// A connection from client to backend, both ends of it.
    fn connect(&self, [gateway, backend, _]: [&str; 3]) -> (TcpStream, TcpStream) {
        let listener = self.backend.enter(|| TcpListener::bind(backend).unwrap());
        let gateway: SocketAddr = gateway.parse().unwrap();
        let client = self.client.enter(|| TcpStream::connect_timeout(&gateway, PATIENCE).unwrap());
        let (backend, _) = listener.accept().unwrap();
        for end in [&client, &backend] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
            end.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        (client, backend)
    }

    fn count(&self, verdict: Verdict) -> u64 {
        self.bench.counters()[&verdict]
    }
}

/// The classifier on both of the gateway's interfaces, with a backend for each family.
fn steering(gateway: &Namespace) -> Bench {
    let mut bench = Bench::new(64);
    let oif = gateway.enter(|| {
        for interface in ["clients", "backends"] {
            bench.loaded.classifier().unwrap().attach(interface, TcAttachType::Ingress).unwrap();
            let index = if_nametoindex(interface).unwrap();
            bench.loaded.maps.put_link(index, Link { mtu: 1500, flags: 0 }).unwrap();
        }
        if_nametoindex("backends").unwrap()
    });
    bench.loaded.maps.write_table(0, &[1]).unwrap();
    let [v4, v6] = FAMILIES.map(|addresses| addresses.map(|address| address.parse::<SocketAddr>().unwrap()));
    serve(&mut bench.loaded.maps.v4, v4, oif);
    serve(&mut bench.loaded.maps.v6, v6, oif);
    bench
}

fn serve<A: Address + Pod>(maps: &mut FamilyMaps<A>, addresses: [SocketAddr; 3], oif: u32) {
    let [gateway, address, source] = addresses.map(|address| A::from_ip(address.ip()).unwrap());
    let [listener, port, _] = addresses.map(|address| Be16::new(address.port()));
    maps.put_backend(1, Backend { address, source, oif, ports: 0, port, reserved: 0 }).unwrap();
    let table = Table {
        base: 0,
        size: 1,
        generation: 1,
        idle_timeout: 600,
        listener: 1,
        flags: 0,
        max_flows: 0,
        max_rate: 0,
    };
    maps.put_listener(ListenerKey::new(gateway, listener), table).unwrap();
}

fn pattern() -> Vec<u8> {
    (0..BULK).map(|place| (place * 31 % 251) as u8).collect()
}

/// Sends bulk one way; all of it must arrive.
fn carries(from: &mut TcpStream, to: &mut TcpStream) {
    let bulk = pattern();
    let mut got = vec![0; BULK];
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| from.write_all(&bulk));
        to.read_exact(&mut got).unwrap();
        sent.join().unwrap().unwrap();
    });
    assert!(got == bulk, "came out as something else");
}

#[test]
fn bulk_goes_both_ways() {
    let line = Line::new();
    for family in FAMILIES {
        let (mut client, mut backend) = line.connect(family);
        carries(&mut client, &mut backend);
        carries(&mut backend, &mut client);
    }
    assert_eq!(line.count(Verdict::IcmpError), 0);
}

#[test]
fn a_narrow_link_behind_the_gateway_is_found_by_the_client() {
    let line = Line::new();
    line.inside.ip(&format!("link set backend mtu {NARROW}"));
    for family in FAMILIES {
        let before = line.count(Verdict::IcmpError);
        let (mut client, mut backend) = line.connect(family);
        carries(&mut client, &mut backend);
        assert!(line.count(Verdict::IcmpError) > before, "{family:?}");
    }
}

#[test]
fn a_narrow_link_before_the_gateway_is_found_by_the_backend() {
    let line = Line::new();
    line.outside.ip(&format!("link set client mtu {NARROW}"));
    for family in FAMILIES {
        let before = line.count(Verdict::IcmpError);
        let (mut client, mut backend) = line.connect(family);
        carries(&mut backend, &mut client);
        assert!(line.count(Verdict::IcmpError) > before, "{family:?}");
    }
}

#[test]
fn an_end_of_a_condemned_flow_learns_at_once() {
    let mut line = Line::new();
    for family in FAMILIES {
        for from_client in [true, false] {
            for length in [1, BULK] {
                let (client, backend) = line.connect(family);
                let tuple =
                    Tuple { source: client.local_addr().unwrap(), destination: client.peer_addr().unwrap() };
                let record = line.bench.peek(tuple).unwrap();
                line.bench.mark(Opened { client: tuple, backend: record.leaving }, State::CONDEMNED);
                let before = line.count(Verdict::Reset);
                let mut end = if from_client { &client } else { &backend };
                // All of it goes at once: the first of it as super-packets.
                let written = end.write_all(&pattern()[..length]);
                let error = written.and_then(|()| end.read_exact(&mut [0])).unwrap_err();
                let what = format!("{family:?} {from_client} {length}");
                assert!(matches!(error.kind(), ConnectionReset | BrokenPipe), "{what}: {error}");
                assert!(line.count(Verdict::Reset) > before, "{what}");
            }
        }
    }
}
