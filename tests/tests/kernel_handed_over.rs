//! The life of connections that user space has handed over to the kernel plane: silence, half-closing, backends that go,
//! agents that are replaced, and what the access log tells at their end. Needs root; fails where the kernel plane cannot
//! be had.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::authority::Authority;
use harness::chatter::Chatter;
use harness::client::{self, exchange, line, read_to_end};
use harness::documents::{self, destination_rule, service, sni_route};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::namespace;
use harness::relay::{Harm, Relay};
use harness::serve::Server;
use harness::steered::{place, switch_offloads_off, verify_checksums};
use harness::tls::TlsClient;
use harness::{echo, wait};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PORT: u16 = 443;
const NAME: &str = "chat.test";
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// The agent looks at flows once a second, and this machine has other things to do too.
const PROMPT: Duration = Duration::from_secs(3);
/// A connection that says nothing for so long may be a lasting one.
const QUIET: Duration = Duration::from_secs(1);

/// A gateway that passes one name through to an echo service.
struct Site {
    gateway: Gateway,
    echo: Server,
    directory: tempfile::TempDir,
    relay: Option<Relay>,
    lab: Lab,
    family: Family,
}

fn route(backends: &[SocketAddr], policy: Option<&str>) -> String {
    let policy = policy.map(|policy| destination_rule("chat", policy)).unwrap_or_default();
    documents::gateway("edge", &[documents::Server::passthrough(PORT, &[NAME])])
        + &sni_route("chat", PORT, NAME, "edge", "chat")
        + &service("chat", "https", backends)
        + &policy
}

impl Site {
    fn start(family: Family, policy: Option<&str>, flags: &[&str]) -> Self {
        let lab = Lab::new(1).expect("namespaces");
        let echo = echo::start_silent(place(&lab, family, 0));
        Self::around((lab, None), family, echo, policy, flags)
    }

    /// One whose backend says everything twice, and whose clients are behind a link that loses segments.
    fn start_behind_loss(family: Family, flags: &[&str]) -> Self {
        let (lab, mut relay) = Lab::relayed(1).expect("namespaces");
        verify_checksums(&lab);
        switch_offloads_off(&lab.gateway, "c0");
        relay.run_with(Harm { lost: 53, ..Harm::default() });
        let twice = Server::start(place(&lab, family, 0), say_twice);
        Self::around((lab, Some(relay)), family, twice, None, flags)
    }

    fn around(
        (lab, relay): (Lab, Option<Relay>),
        family: Family,
        echo: Server,
        policy: Option<&str>,
        flags: &[&str],
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("access").display().to_string();
        let gateway = Gateway::arrange()
            .within(&lab.gateway)
            .kernel(Kernel::Require)
            .flags(&["--interface", "c0", "--access-log", &log, "--access-log-format", "json"])
            .flags(flags)
            .document("site", &route(&[echo.address], policy))
            .start();
        Self { gateway, echo, directory, relay, lab, family }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.lab.gateway_address(self.family), PORT)
    }

    /// A connection that has said its hello, heard it again, and is the kernel's.
    fn connect(&self) -> (TcpStream, usize) {
        let (address, before) = (self.address(), self.handed_over());
        let hello = hello();
        let length = hello.len();
        let stream = self.lab.client.enter(move || greet(address, &hello).expect("an echoed hello"));
        wait::until("a hand-over", || (self.handed_over() > before).then_some(()));
        (stream, length)
    }

    fn handed_over(&self) -> u64 {
        self.gateway.handed_over()
    }

    /// A client's flow, as `sluice flows` shows it.
    fn flow(&self, client: SocketAddr) -> Value {
        let said = self.gateway.sluice(&["flows", "-o", "json"]).expect_success();
        let flows: Vec<Value> = serde_json::from_str(&said.out).expect("JSON");
        let flow = flows.iter().find(|flow| flow["client"] == client.to_string());
        flow.unwrap_or_else(|| panic!("{client} is not in {}{}", said.out, said.err)).clone()
    }

    /// What the agent says of connections that it has handed over.
    fn told(&self) -> Vec<Value> {
        let answer = self.gateway.ask("/handed-over").expect("the gateway's admin socket");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        serde_json::from_str(body).expect("JSON")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("access")
    }

    /// A line of the access log, once it is there.
    fn line(&self, number: usize) -> Value {
        let text = wait::until("a line in the access log", || {
            let text = std::fs::read_to_string(self.log()).ok()?;
            text.lines().nth(number).map(str::to_owned)
        });
        serde_json::from_str(&text).expect("JSON")
    }

    fn expect_all_given_back(&self) {
        self.gateway.expect_all_given_back();
    }
}

async fn say_twice(mut stream: tokio::net::TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        for _ in 0..2 {
            if stream.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
    // The client has gone, or hears the end.
    let _ = stream.shutdown().await;
}

fn hello() -> Vec<u8> {
    TlsClient::new(Authority::new("nobody's").roots(), NAME).hello()
}

fn greet(address: SocketAddr, hello: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(client::LIMIT))?;
    stream.set_nodelay(true)?;
    stream.write_all(hello)?;
    stream.read_exact(&mut vec![0; hello.len()])?;
    Ok(stream)
}

#[track_caller]
fn expect_reset(stream: &mut TcpStream) {
    let end = stream.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

/// Its record has no room for a name: the agent that has read it tells it.
#[test]
fn the_server_name_is_shown_as_long_as_its_agent_runs() {
    for family in FAMILIES {
        let mut site = Site::start(family, None, &["--tier", "handoff"]);
        let (stays, _) = site.connect();
        let (goes, _) = site.connect();
        let [stays_at, goes_at] = [&stays, &goes].map(|stream| stream.local_addr().expect("an address"));
        for client in [stays_at, goes_at] {
            let flow = site.flow(client);
            assert_eq!(
                (&flow["tier"], &flow["plane"], &flow["sni"]),
                (&"handoff".into(), &"kernel".into(), &NAME.into()),
                "{flow}"
            );
        }
        let table = site.gateway.sluice(&["flows", "-o", "wide"]).expect_success().out;
        let names = table.lines().filter(|line| line.contains("handoff") && line.ends_with(NAME)).count();
        assert_eq!(names, 2, "{table}");
        let told = site.told();
        let clients: Vec<_> = told.iter().map(|entry| entry["client"].clone()).collect();
        assert_eq!(clients, [stays_at.to_string(), goes_at.to_string()], "the oldest first: {told:?}");
        for entry in &told {
            assert_eq!(
                (&entry["listener"], &entry["sni"]),
                (&site.address().to_string().into(), &NAME.into()),
                "{entry}"
            );
            let cluster = entry["cluster"].as_str().expect("a cluster");
            assert!(cluster.starts_with("outbound|") && cluster.contains("||chat."), "{entry}");
        }
        drop(goes);
        wait::until("the end of the one that goes", || (site.told().len() == 1).then_some(()));
        assert_eq!(site.flow(stays_at)["sni"], NAME);

        assert!(site.gateway.stop().success());
        site.gateway.restart();
        let flow = site.flow(stays_at);
        assert_eq!((&flow["tier"], &flow["sni"]), (&"handoff".into(), &Value::Null), "{flow}");
        assert!(site.told().is_empty());
        drop(stays);
        site.expect_all_given_back();
    }
}

#[test]
fn one_that_is_silent_for_too_long_is_reset_and_one_that_talks_is_not() {
    for family in FAMILIES {
        let policy = "{connectionPool: {tcp: {idleTimeout: 3s}}}";
        let site = Site::start(family, Some(policy), &["--tier", "handoff"]);
        let begun = Instant::now();
        let (mut silent, _) = site.connect();
        let (mut talking, _) = site.connect();
        silent.set_nonblocking(true).expect("a socket option");
        let end = wait::until("the end of silence", || {
            assert_eq!(line(&mut talking, "still here\n"), "still here\n");
            match silent.read(&mut [0]).map_err(|error| error.kind()) {
                Err(ErrorKind::WouldBlock) => None,
                end => Some(end),
            }
        });
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{family:?}");
        assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(line(&mut talking, "and now\n"), "and now\n");
        drop(talking);
        site.expect_all_given_back();
    }
}

/// What user space has relayed for longer than the timeout is not silent because the kernel has it only now.
#[test]
fn time_before_the_hand_over_is_no_silence() {
    let policy = "{connectionPool: {tcp: {idleTimeout: 3s}}}";
    let site = Site::start(Family::V4, Some(policy), &["--tier", "lasting"]);
    let address = site.address();
    let mut stream = site.lab.client.enter(move || greet(address, &hello()).expect("an echoed hello"));
    let begun = Instant::now();
    wait::until("four seconds of talk", || {
        assert_eq!(line(&mut stream, "x\n"), "x\n");
        (begun.elapsed() > Duration::from_secs(4)).then_some(())
    });
    assert_eq!(site.handed_over(), 0, "it is neither long nor quiet");
    // It is quiet from here on, and handed over a second later.
    let quiet = Instant::now();
    expect_reset(&mut stream);
    assert!(quiet.elapsed() > Duration::from_secs(3), "reset after {:?} of silence", quiet.elapsed());
    assert_eq!(site.handed_over(), 1);
}

#[test]
fn a_half_closed_one_carries_the_other_direction_to_its_end() {
    for family in FAMILIES {
        let site = Site::start(family, None, &["--tier", "handoff"]);
        let (mut stream, hello) = site.connect();
        let words = vec![7; 1 << 20];
        let mut sending = stream.try_clone().expect("a second handle");
        let sent = std::thread::spawn(move || {
            sending.write_all(&words).expect("sending");
            sending.shutdown(Shutdown::Write).expect("half-closing");
        });
        let (heard, error) = read_to_end(&mut stream);
        sent.join().expect("a thread that does not panic");
        assert_eq!((heard.len(), error), (1 << 20, None));
        let told = site.line(0);
        assert_eq!(
            (&told["response_flags"], &told["requested_server_name"]),
            (&"-".into(), &NAME.into()),
            "{told}"
        );
        assert_eq!(told["upstream_host"], site.echo.address.to_string(), "{told}");
        for field in ["bytes_received", "bytes_sent"] {
            assert_eq!(told[field], hello + (1 << 20), "{field}: {told}");
        }
        site.expect_all_given_back();
    }
}

/// Whoever carried them, user space at first and then the kernel, and however often they were sent.
#[test]
fn each_byte_of_both_streams_is_told_of_once() {
    const PART: usize = (1 << 20) + 7;
    for (family, tier) in [(Family::V4, "handoff"), (Family::V4, "lasting"), (Family::V6, "lasting")] {
        let site = Site::start_behind_loss(family, &["--tier", tier]);
        let (address, hello) = (site.address(), hello());
        let length = hello.len();
        let mut stream = site.lab.client.enter(move || greet(address, &hello).expect("an echoed hello"));
        // The hello for the second time, and each part twice.
        exchange(&mut stream, PART, length + 2 * PART);
        wait::until("a hand-over", || (site.handed_over() == 1).then_some(()));
        let lost = || site.relay.as_ref().map_or(0, |relay| relay.damage()[0]);
        let before = lost();
        exchange(&mut stream, PART, 2 * PART);
        assert!(lost() > before + 10, "nothing was sent again after the hand-over");
        let flow = site.flow(stream.local_addr().expect("an address"));
        let bytes = length + 2 * PART;
        assert_eq!(flow["bytesToBackend"], bytes, "{tier} {family:?}: {flow}");
        stream.shutdown(Shutdown::Write).expect("half-closing");
        assert_eq!(read_to_end(&mut stream), (Vec::new(), None));
        let told = site.line(0);
        assert_eq!(
            (&told["bytes_received"], &told["bytes_sent"]),
            (&bytes.into(), &(2 * bytes).into()),
            "{tier} {family:?}: {told}"
        );
    }
}

#[test]
fn those_of_a_backend_that_is_gone_are_reset_after_the_drain_time() {
    const DRAIN: Duration = Duration::from_secs(2);
    for family in FAMILIES {
        let site = Site::start(family, None, &["--tier", "handoff", "--backend-drain-time", "2"]);
        let (mut silent, _) = site.connect();
        let (mut talking, _) = site.connect();
        let another = SocketAddr::new(site.echo.address.ip(), site.echo.address.port() ^ 1);
        let removed = Instant::now();
        site.gateway.write("site", &route(&[another], None));
        // Not a word that was said within the drain time is answered by a reset, however late this machine comes to it.
        let end = wait::until("the end of talk", || talk(&mut talking).err());
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{end}");
        expect_reset(&mut silent);
        let took = removed.elapsed();
        assert!((DRAIN..DRAIN + 3 * PROMPT).contains(&took), "{took:?}");
        for number in 0..2 {
            let told = site.line(number);
            assert_eq!(
                (&told["response_flags"], &told["requested_server_name"]),
                (&"UC".into(), &NAME.into()),
                "{told}"
            );
        }
        site.expect_all_given_back();
    }
}

/// Says a word and hears it again.
fn talk(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"word")?;
    stream.read_exact(&mut [0; 4])
}

#[test]
fn the_last_room_is_for_connections_that_last() {
    let site = Site::start(Family::V4, None, &["--max-flows", "64"]);
    // The last before a quarter is left, too.
    let chat = Chatter::start_behind(&site.lab.client, site.address(), 48 + 1, hello());
    // One that was busy when it was looked at stays out as long as it is neither long nor quiet: another gets its room.
    let mut others = Vec::new();
    let is_full = || (site.handed_over() == 48 + 1).then_some(());
    wait::until("the last one that gets room", || {
        let soon = wait::within(Duration::from_secs(2), is_full);
        if soon.is_none() {
            others.push(Chatter::start_behind(&site.lab.client, site.address(), 1, hello()));
        }
        soon
    });
    let stays = || {
        let (address, begun) = (site.address(), Instant::now());
        let brief = site.lab.client.enter(move || greet(address, &hello()).expect("an echoed hello"));
        let handed_over = site.handed_over();
        drop(brief);
        // One that is quiet for so long may last.
        (begun.elapsed() < QUIET).then_some(handed_over)
    };
    assert_eq!(wait::until("an exchange that takes no second", stays), 48 + 1, "a brief one got the room");
    chat.expect_unharmed();
    let before = site.handed_over();
    let address = site.address();
    let mut lasting = site.lab.client.enter(move || greet(address, &hello()).expect("an echoed hello"));
    let long = "x".repeat(300_000) + "\n";
    assert_eq!(line(&mut lasting, &long), long);
    wait::until("a long one in the kernel", || (site.handed_over() > before).then_some(()));
    assert_eq!(line(&mut lasting, "still here\n"), "still here\n");
    chat.expect_unharmed();
    for other in &others {
        other.expect_unharmed();
    }
}

#[test]
fn a_stop_hands_over_what_user_space_has_and_the_next_agent_tells_of_its_end() {
    for family in FAMILIES {
        let mut site = Site::start(family, None, &["--tier", "lasting"]);
        let opening = hello();
        let chat = Chatter::start_behind(&site.lab.client, site.address(), 20, opening);
        assert_eq!(site.handed_over(), 0, "none is long or quiet yet");
        let begun = Instant::now();
        assert!(site.gateway.stop().success());
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing is waited for: {:?}", begun.elapsed());
        chat.expect_unharmed();
        site.gateway.restart();
        chat.expect_unharmed();
        drop(chat);
        for number in 0..20 {
            let told = site.line(number);
            assert_eq!(
                (&told["response_flags"], &told["requested_server_name"]),
                (&"-".into(), &Value::Null),
                "{told}"
            );
            assert_eq!(told["upstream_host"], site.echo.address.to_string(), "{told}");
        }
        site.expect_all_given_back();
    }
}

/// Connections that are opened one after the other, and then talk for ever.
struct Newcomers {
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<Vec<TcpStream>>>,
}

impl Newcomers {
    fn start(site: &Site) -> Self {
        let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (address, namespace) = (site.address(), site.lab.client.open());
        let (stopped, count, hello) = (stop.clone(), opened.clone(), hello());
        let thread = std::thread::spawn(move || {
            namespace::join(&namespace);
            let mut streams = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                // Between two agents nobody listens, and one that stops has not read every hello.
                if let Ok(stream) = greet(address, &hello) {
                    streams.push(stream);
                    count.fetch_add(1, Ordering::SeqCst);
                    let turn = streams.len() / 2;
                    for stream in streams.iter_mut().skip(turn).take(3) {
                        assert_eq!(line(stream, "again\n"), "again\n", "one that was answered before");
                    }
                }
            }
            streams
        });
        Self { stop, opened, thread: Some(thread) }
    }

    fn wait_for(&self, more: usize) {
        let before = self.opened.load(Ordering::SeqCst);
        wait::until("new connections", || {
            (self.opened.load(Ordering::SeqCst) >= before + more).then_some(())
        });
    }

    fn finish(mut self) -> Vec<TcpStream> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("it is running");
        thread.join().expect("no connection that was answered has failed")
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

#[test]
fn agents_are_replaced_under_load_and_no_connection_that_was_answered_fails() {
    for family in FAMILIES {
        let mut site = Site::start(family, None, &["--tier", "auto"]);
        let chat = Chatter::start_behind(&site.lab.client, site.address(), 20, hello());
        let newcomers = Newcomers::start(&site);
        for _ in 0..3 {
            newcomers.wait_for(10);
            assert!(site.gateway.stop().success());
            chat.expect_unharmed();
            site.gateway.restart();
            newcomers.wait_for(10);
            chat.expect_unharmed();
        }
        let mut streams = newcomers.finish();
        for stream in &mut streams {
            assert_eq!(line(stream, "and now\n"), "and now\n");
        }
        println!("{family:?}: {} connections beside {} exchanges", streams.len(), chat.exchanges());
        drop((streams, chat));
        site.expect_all_given_back();
    }
}
