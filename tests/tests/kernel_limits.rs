//! What the kernel plane refuses: listeners' limits, limits of sources, denied sources. Needs root; fails where the
//! kernel plane cannot be had.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use harness::lab::{Family, Lab};
use harness::steered::{OTHER_PORT, Steered, Wishes, connect_from, place};
use harness::{client, echo, wait};

/// Connections from the client's first or second address, all begun at once, with what became of them and how long
/// that took. They are reset when they are dropped.
fn connect(
    steered: &Steered,
    source: IpAddr,
    port: u16,
    count: usize,
) -> Vec<(Result<TcpStream, ErrorKind>, Duration)> {
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    let address = SocketAddr::new(steered.address(family).ip(), port);
    steered.lab.client.enter(move || {
        // Threads begin in the namespace of the one that starts them.
        let attempt = move || {
            let begun = Instant::now();
            let result = connect_from(source, 0, address).map_err(|error| error.kind());
            (result, begun.elapsed())
        };
        let threads: Vec<_> = (0..count).map(|_| std::thread::spawn(attempt)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    })
}

fn first(steered: &Steered) -> IpAddr {
    steered.lab.client_address(Family::V4)
}

/// Those that were let in; all others must have been refused.
fn admitted(results: Vec<(Result<TcpStream, ErrorKind>, Duration)>) -> Vec<TcpStream> {
    let results = results.into_iter().map(|(result, _)| result);
    let (in_, out): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
    let out: Vec<_> = out.into_iter().filter_map(Result::err).collect();
    assert!(out.iter().all(|error| *error == ErrorKind::ConnectionRefused), "{out:?}");
    in_.into_iter().flatten().collect()
}

#[test]
fn a_listener_has_as_many_connections_as_it_may_and_a_place_is_given_again() {
    const LIMIT: usize = 5;
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let annotations = [format!("sluice.dev/max-connections: \"{LIMIT}\"")];
    let wishes = Wishes { annotations: &[&annotations[0]], ..Wishes::default() };
    let steered = Steered::start(lab, &wishes, &[server.address], &[]);
    let port = steered.address(Family::V4).port();
    // One after the other: the limit is of flows, and a handshake is none yet.
    let open = |count: usize| -> Vec<TcpStream> {
        (0..count).flat_map(|_| admitted(connect(&steered, first(&steered), port, 1))).collect()
    };
    let held = open(LIMIT + 4);
    assert_eq!(held.len(), LIMIT);
    assert_eq!(steered.verdict("listener_full"), 4);
    assert_eq!(admitted(connect(&steered, first(&steered), OTHER_PORT, 1)).len(), 1, "another listener");
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    assert_eq!(server.accepted(), LIMIT + 1, "the refused ones never came to the backend");

    for mut stream in held.iter().skip(1) {
        stream.write_all(b"x").expect("sending");
        stream.read_exact(&mut [0]).expect("an answer");
    }
    drop(held.into_iter().next());
    let again = wait::until("the place of the one that has gone", || open(1).pop());
    assert!(again.peer_addr().is_ok());
}

#[test]
fn a_listener_gets_as_many_connections_a_second_as_it_may() {
    const RATE: usize = 6;
    let lab = Lab::new(1).expect("namespaces");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let annotation = format!("sluice.dev/max-new-connections-per-second: \"{RATE}\"");
    let wishes = Wishes { annotations: &[&annotation], ..Wishes::default() };
    let steered = Steered::start(lab, &wishes, &[server.address], &[]);
    let port = steered.address(Family::V4).port();

    let begun = Instant::now();
    let results = connect(&steered, first(&steered), port, 60);
    // So many seconds of the programs' clock were begun, at most.
    let seconds = begun.elapsed().as_secs() as usize + 2;
    let held = admitted(results);
    assert!((RATE..=RATE * seconds).contains(&held.len()), "{} in {seconds} s", held.len());
    assert_eq!(steered.verdict("listener_limited"), 60 - held.len() as u64);
    assert_eq!(admitted(connect(&steered, first(&steered), OTHER_PORT, 1)).len(), 1, "another listener");
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    wait::until("another second", || admitted(connect(&steered, first(&steered), port, 1)).pop());
}

#[test]
fn a_source_that_opens_too_many_flows_waits_and_its_neighbour_does_not() {
    let lab = Lab::new(1).expect("namespaces");
    let neighbour = lab.add_client(Family::V4, 3).expect("an address");
    let server = echo::start_silent(place(&lab, Family::V4, 0));
    let flags = ["--max-new-flows-per-source", "6"];
    let steered = Steered::start(lab, &Wishes::default(), &[server.address], &flags);
    let port = steered.address(Family::V4).port();

    let busy = connect(&steered, first(&steered), port, 16);
    let limited = steered.verdict("source_limited");
    // Two seconds may have been begun: twelve of them.
    assert!(limited >= 4, "{limited}");
    let late = busy.iter().filter(|(_, time)| *time > Duration::from_millis(900)).count();
    assert!(late >= 4, "{late} had to send their SYN again");
    assert_eq!(admitted(busy).len(), 16, "none is refused");

    let calm = connect(&steered, neighbour, port, 4);
    assert_eq!(admitted(calm).len(), 4);
    assert_eq!(steered.verdict("source_limited"), limited, "the neighbour is not limited");
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
}

/// The flows of one family: of a source that gets denied, and of its neighbour.
struct Pair {
    address: SocketAddr,
    sources: [IpAddr; 2],
    good: TcpStream,
    bad: TcpStream,
}

impl Pair {
    fn open(steered: &Steered, family: Family, bad: IpAddr) -> Self {
        let address = steered.address(family);
        let sources = [steered.lab.client_address(family), bad];
        let open =
            |source| admitted(connect(steered, source, address.port(), 1)).pop().expect("a connection");
        let [good, bad] = sources.map(open);
        Self { address, sources, good, bad }
    }

    /// The denied one says something, and nothing comes of it, nor of a new flow of its source.
    fn is_cut_off(&mut self, steered: &Steered) {
        let [good, bad] = self.sources;
        assert_eq!(client::line(&mut self.good, "meanwhile\n"), "meanwhile\n");
        let before = steered.verdict("denied");
        self.bad.write_all(b"meanwhile\n").expect("room in a socket");
        wait::until("packets that are denied", || (steered.verdict("denied") > before).then_some(()));
        self.bad.set_nonblocking(true).expect("a socket option");
        assert_eq!(self.bad.read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        self.bad.set_nonblocking(false).expect("a socket option");
        assert_eq!(self.try_anew(steered, bad), Err(ErrorKind::TimedOut), "a new flow of a denied source");
        assert_eq!(self.try_anew(steered, good), Ok(()));
    }

    /// What was said in vain is heard after all.
    fn goes_on(&mut self, steered: &Steered) {
        assert_eq!(client::read_line(&mut self.bad), "meanwhile\n");
        assert_eq!(client::line(&mut self.good, "after\n"), "after\n");
        assert_eq!(self.try_anew(steered, self.sources[1]), Ok(()));
    }

    fn try_anew(&self, steered: &Steered, source: IpAddr) -> Result<(), ErrorKind> {
        let address = self.address;
        let connecting = steered.lab.client.enter(move || {
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            socket.connect_timeout(&address.into(), Duration::from_millis(300))
        });
        connecting.map_err(|error: std::io::Error| error.kind())
    }
}

/// Flows under way are cut off when their source gets denied, and go on when it is not any more; nobody else's are.
fn denies(datapath: &str) {
    let families = [Family::V4, Family::V6];
    let lab = Lab::new(1).expect("namespaces");
    let bad = families.map(|family| lab.add_client(family, 3).expect("an address"));
    let servers = families.map(|family| echo::start_silent(place(&lab, family, 0)));
    let backends = servers.each_ref().map(|server| server.address);
    let hook = ["--datapath", datapath];
    let mut steered = Steered::start(lab, &Wishes::default(), &backends, &hook);
    let mut pairs =
        [(Family::V4, bad[0]), (Family::V6, bad[1])].map(|(family, bad)| Pair::open(&steered, family, bad));
    for pair in &mut pairs {
        assert_eq!(client::line(&mut pair.good, "before\n"), "before\n");
        assert_eq!(client::line(&mut pair.bad, "before\n"), "before\n");
    }
    assert_eq!(steered.sockets(), 0, "the kernel carries them");

    let denied = bad.map(|source| source.to_string());
    let deny = ["--deny-source", &denied[0], "--deny-source", &denied[1]];
    steered.replace_agent(&[&hook[..], &deny].concat());
    for pair in &mut pairs {
        pair.is_cut_off(&steered);
    }

    steered.replace_agent(&hook);
    for pair in &mut pairs {
        pair.goes_on(&steered);
    }
}

#[test]
fn a_denied_source_is_cut_off_at_tc_as_long_as_it_is_denied() {
    denies("tc");
}

#[test]
fn a_denied_source_is_cut_off_at_xdp_as_long_as_it_is_denied() {
    denies("xdp");
}
