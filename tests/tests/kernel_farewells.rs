//! Flows that the kernel plane gives up while both ends wait in silence: without their backend, or idle for too long.
//! Needs root; fails where the kernel plane cannot be had.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use harness::client::{LIMIT, line};
use harness::lab::{Family, Lab};
use harness::serve::Server;
use harness::steered::{Steered, Wishes, connect_from, place, prepare_for_xdp};
use harness::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const PRESERVE: &[&str] = &["sluice.dev/source-address: preserve"];
const IDLE: &str = "{connectionPool: {tcp: {idleTimeout: 2s}}}";
/// The agent looks once a second, and this machine has other things to do too.
const PROMPT: Duration = Duration::from_secs(2);

/// An echo service that tells how each of its connections ended.
struct Witness {
    server: Server,
    ends: Receiver<std::io::Result<()>>,
}

impl Witness {
    fn start(lab: &Lab, family: Family, index: usize) -> Self {
        let (tell, ends) = channel();
        let server = Server::start(place(lab, family, index), move |stream| echo(stream, tell.clone()));
        Self { server, ends }
    }

    /// How the next connection ended.
    fn end(&self) -> Result<(), ErrorKind> {
        self.ends.recv_timeout(LIMIT).expect("an end").map_err(|error| error.kind())
    }
}

async fn echo(mut stream: tokio::net::TcpStream, tell: Sender<std::io::Result<()>>) {
    let mut buffer = [0; 1024];
    let end = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(length) => match stream.write_all(&buffer[..length]).await {
                Ok(()) => {}
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    // A test that is over does not want to know.
    let _ = tell.send(end);
}

/// Connections of the client that the kernel carries: two that have spoken, and one that has not.
fn connections(steered: &Steered, family: Family) -> [TcpStream; 3] {
    let address = steered.address(family);
    steered.lab.client.enter(move || {
        let mut streams = [0, 1, 2].map(|_| harness::client::connect(address));
        for stream in &mut streams[1..] {
            assert_eq!(line(stream, "hello\n"), "hello\n");
        }
        streams
    })
}

#[track_caller]
fn expect_reset(stream: &mut TcpStream) {
    // Reads on where a signal comes between, as a plain read would not.
    let end = stream.read_exact(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "the client's end");
}

/// What there is of flows: all of it is gone some seconds after their end.
fn nothing_is_held(steered: &Steered) -> Option<()> {
    let rows = |map| steered.dump(map).into_iter();
    let is_free = |row: serde_json::Value| row["inUse"] == 0;
    (rows("FLOWS").next().is_none() && rows("PORTS").all(is_free)).then_some(())
}

/// Silent connections whose backend goes from the documents, or that are idle for too long.
fn give_up(annotations: &[&str], policy: Option<&str>, flags: &[&str], patience: Duration, remove: bool) {
    let lab = Lab::new(1).expect("namespaces");
    prepare_for_xdp(&lab);
    let witnesses = FAMILIES.map(|family| Witness::start(&lab, family, 0));
    let backends = witnesses.each_ref().map(|witness| witness.server.address);
    let wishes = Wishes { annotations, policy };
    let steered = Steered::start(lab, &wishes, &backends, flags);
    let mut streams: Vec<TcpStream> =
        FAMILIES.iter().flat_map(|family| connections(&steered, *family)).collect();
    wait::until("the backends to have them all", || {
        witnesses.iter().all(|witness| witness.server.accepted() == 3).then_some(())
    });
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    let asked = Instant::now();
    if remove {
        steered.gateway.apply("site", &wishes.documents(&[]));
    }
    let applied = Instant::now();
    for stream in &mut streams {
        expect_reset(stream);
    }
    for witness in &witnesses {
        for _ in 0..3 {
            assert_eq!(witness.end(), Err(ErrorKind::ConnectionReset), "{}", witness.server.address);
        }
    }
    let (longest, shortest) = (asked.elapsed(), applied.elapsed());
    // Idle connections were silent for a while before the clock began.
    assert!(longest >= patience || !remove, "reset after {longest:?}");
    assert!(shortest < patience + PROMPT, "reset after {shortest:?}");
    wait::until("their records and ports to be given back", || nothing_is_held(&steered));
}

#[test]
fn silent_flows_of_a_backend_that_is_gone_are_reset_at_both_ends() {
    give_up(&[], None, &["--backend-drain-time", "2"], Duration::from_secs(2), true);
}

#[test]
fn so_are_those_that_keep_the_clients_address() {
    give_up(PRESERVE, None, &["--backend-drain-time", "2"], Duration::from_secs(2), true);
}

#[test]
fn flows_that_are_idle_for_too_long_are_reset_at_both_ends() {
    give_up(&[], Some(IDLE), &[], Duration::from_secs(2), false);
}

#[test]
fn so_are_idle_ones_by_xdp_that_keep_the_clients_address() {
    give_up(PRESERVE, Some(IDLE), &["--datapath", "xdp"], Duration::from_secs(2), false);
}

#[test]
fn a_client_that_was_told_is_served_again_on_the_same_port_at_once() {
    let lab = Lab::new(1).expect("namespaces");
    let witnesses = FAMILIES.map(|family| Witness::start(&lab, family, 0));
    let backends = witnesses.each_ref().map(|witness| witness.server.address);
    let wishes = Wishes { policy: Some(IDLE), ..Wishes::default() };
    let steered = Steered::start(lab, &wishes, &backends, &[]);
    for family in FAMILIES {
        let (client, address) = (steered.lab.client_address(family), steered.address(family));
        let source = steered.lab.client.enter(move || {
            let mut first = connect_from(client, 0, address).expect("a connection");
            assert_eq!(line(&mut first, "hello\n"), "hello\n");
            expect_reset(&mut first);
            let source = first.local_addr().expect("an address");
            drop(first);
            let mut again = connect_from(client, source.port(), address).expect("a connection");
            assert_eq!(line(&mut again, "me again\n"), "me again\n");
            source
        });
        assert!(steered.steers(source), "the kernel carries it");
    }
    assert_eq!(steered.verdict("replaced"), 2, "the records of the flows before were still there");
}

#[test]
fn a_thousand_silent_flows_are_told_within_seconds() {
    const FLOWS: usize = 1000;
    let lab = Lab::new(1).expect("namespaces");
    let witness = Witness::start(&lab, Family::V4, 0);
    let steered =
        Steered::start(lab, &Wishes::default(), &[witness.server.address], &["--backend-drain-time", "1"]);
    let address = steered.address(Family::V4);
    let mut streams: Vec<TcpStream> =
        steered.lab.client.enter(move || (0..FLOWS).map(|_| harness::client::connect(address)).collect());
    wait::until("the backend to have them all", || (witness.server.accepted() == FLOWS).then_some(()));
    steered.gateway.apply("site", &Wishes::default().documents(&[]));
    let mut first = None;
    for stream in &mut streams {
        expect_reset(stream);
        first.get_or_insert_with(Instant::now);
    }
    for _ in 0..FLOWS {
        assert_eq!(witness.end(), Err(ErrorKind::ConnectionReset));
    }
    let took = first.expect("a flow").elapsed();
    println!("{FLOWS} flows, both ends, in {took:?}");
    assert!(took < PROMPT, "{took:?}");
    wait::until("their records and ports to be given back", || nothing_is_held(&steered));
}
