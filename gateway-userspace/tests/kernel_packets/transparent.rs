//! Answers to sockets of the gateway's own that speak under a client's address: marked, whatever else they are left as.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use aya::TestRun as _;
use aya::programs::TestRunOptions;
use gateway_common::{Address, Be16, ListenerKey, Verdict};
use socket2::{Domain, Socket, Type};

use crate::bench::{Bench, FAMILIES, Net};
use crate::cookie::Host;
use crate::kernel::PATIENCE;
use crate::kernel::frame::{ACK, RST, Segment, icmp_error};
use crate::limits::preserving_syn;

const MARK: u32 = 0x1000;
const MASK: u32 = 0xffff;
/// Where it is in `struct __sk_buff`, and how long that is.
const MARK_PLACE: usize = 8;
const CONTEXT: usize = 192;

/// A socket that has a client's address, and the backend that it speaks to.
pub(crate) struct Speaker {
    pub(crate) host: Host,
    client: SocketAddr,
    backend: SocketAddr,
    listener: TcpListener,
    stream: Option<TcpStream>,
}

impl Speaker {
    pub(crate) fn new(net: Net, port: u16) -> Self {
        let host = Host::new();
        let (client, backend) = (net.client(port), net.backends()[0]);
        let nodad = if net.is_v4() { "" } else { "nodad" };
        host.namespace.ip(&format!("addr add {} dev lo {nodad}", backend.ip()));
        let (listener, stream) = host.namespace.enter(|| {
            let listener = TcpListener::bind(backend).unwrap();
            (listener, connect(client, backend))
        });
        Self { host, client, backend, listener, stream: Some(stream) }
    }

    /// As the agent tells the programs.
    pub(crate) fn expect_answers(&self, bench: &mut Bench) {
        bench.configure(|config| (config.mark, config.mark_mask) = (MARK, MASK));
        let maps = &mut bench.loaded.maps;
        if self.backend.is_ipv4() {
            maps.v4.put_answering(key(self.backend)).unwrap();
        } else {
            maps.v6.put_answering(key(self.backend)).unwrap();
        }
    }

    pub(crate) fn answer(&self, flags: u8) -> Segment {
        Segment::new(self.backend, self.client, flags)
    }

    /// The mark that a packet leaves the programs with which had one that is others' to read.
    #[track_caller]
    fn becomes(&self, bench: &mut Bench, packet: &[u8], verdict: Verdict) {
        self.host
            .namespace
            .enter(|| bench.passes("for a socket under the client's address", packet, verdict));
        let theirs: u32 = 0x00ab_0000;
        let mut given = [0; CONTEXT];
        given[MARK_PLACE..MARK_PLACE + 4].copy_from_slice(&theirs.to_ne_bytes());
        let mut left = [0; CONTEXT];
        let options = TestRunOptions {
            data_in: Some(packet),
            ctx_in: Some(&given),
            ctx_out: Some(&mut left),
            ..TestRunOptions::default()
        };
        let program = bench.loaded.classifier().unwrap();
        self.host.namespace.enter(|| program.test_run(options).unwrap());
        let mark = u32::from_ne_bytes(left[MARK_PLACE..MARK_PLACE + 4].try_into().unwrap());
        let want = if verdict == Verdict::Transparent { theirs | MARK } else { theirs };
        assert_eq!(mark, want, "{mark:#x}");
    }
}

/// IPv6 knows the way to an address of its own some moments after it has the address.
fn connect(client: SocketAddr, backend: SocketAddr) -> TcpStream {
    let begun = Instant::now();
    loop {
        let socket = Socket::new(Domain::for_address(client), Type::STREAM, None).unwrap();
        socket.bind(&client.into()).unwrap();
        match socket.connect(&backend.into()) {
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable && begun.elapsed() < PATIENCE => {
                std::thread::yield_now();
            }
            connected => {
                connected.unwrap();
                return socket.into();
            }
        }
    }
}

fn key<A: Address>(address: SocketAddr) -> ListenerKey<A> {
    ListenerKey::new(A::from_ip(address.ip()).unwrap(), Be16::new(address.port()))
}

#[test]
fn answers_of_expected_backends_to_sockets_that_there_are_get_the_mark() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let mut speaker = Speaker::new(net, 50_001);
        let answer = speaker.answer(ACK).bytes();
        bench.configure(|_| {});
        speaker.becomes(&mut bench, &answer, Verdict::NotSteered);
        bench.configure(|config| (config.mark, config.mark_mask) = (MARK, MASK));
        speaker.becomes(&mut bench, &answer, Verdict::NotSteered);
        speaker.expect_answers(&mut bench);
        for flags in [ACK, RST, RST | ACK] {
            speaker.becomes(&mut bench, &speaker.answer(flags).bytes(), Verdict::Transparent);
        }
        let mut elsewhere = speaker.answer(ACK);
        elsewhere.destination.set_port(50_002);
        speaker.becomes(&mut bench, &elsewhere.bytes(), Verdict::NotSteered);
        let mut by_another = speaker.answer(ACK);
        by_another.source.set_port(9);
        speaker.becomes(&mut bench, &by_another.bytes(), Verdict::NotSteered);
        // A listener has no peer: a stranger's packet to it is nobody's answer.
        let mut to_listener = speaker.answer(ACK);
        to_listener.destination = speaker.host.listen(net).local_addr().unwrap();
        bench.unserve(net);
        speaker.becomes(&mut bench, &to_listener.bytes(), Verdict::NotSteered);
        bench.serve(net, &net.backends());
        // This end closes first, and keeps the TIME-WAIT.
        drop(speaker.stream.take());
        drop(speaker.listener.accept().unwrap());
        speaker.becomes(&mut bench, &answer, Verdict::Transparent);
    }
}

#[test]
fn errors_about_packets_of_such_sockets_get_the_mark() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let speaker = Speaker::new(net, 50_001);
        speaker.expect_answers(&mut bench);
        let kind = if net.is_v4() { (3, 4) } else { (2, 0) };
        let error = |about: &Segment| {
            let ends = (net.router(), about.source.ip());
            icmp_error(ends, 60, kind, [0, 0, 5, 0], &about.packet())
        };
        let sent = Segment::new(speaker.client, speaker.backend, ACK);
        speaker.becomes(&mut bench, &error(&sent), Verdict::Transparent);
        let mut of_another = sent;
        of_another.source.set_port(50_002);
        speaker.becomes(&mut bench, &error(&of_another), Verdict::NotTcp);
    }
}

#[test]
fn a_flow_does_not_get_a_tuple_that_a_socket_has() {
    let mut bench = Bench::serving(64);
    for net in FAMILIES {
        let speaker = Speaker::new(net, 50_001);
        speaker.expect_answers(&mut bench);
        let free = bench.entries().len();
        let syn = preserving_syn(&mut bench, net, 50_001, 444);
        speaker.host.namespace.enter(|| {
            bench.passes("the socket's port", &syn.bytes(), Verdict::PortTaken);
            assert_eq!(bench.entries().len(), free, "nothing is left of it");
            let other = preserving_syn(&mut bench, net, 50_003, 444);
            assert_eq!(bench.run(&other.bytes()).verdict, Verdict::Steered);
        });
    }
}
