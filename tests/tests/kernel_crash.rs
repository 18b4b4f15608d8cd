//! The agent dies while it hands connections over, at every step of it, and others that it has handed over before go on;
//! the next agent finds what is left. Each connection is whole or is reset, none hangs, and nothing is lost for good.
//!
//! The steps are those of `SLUICE_DIE_AT`, which builds with debug assertions know. Needs root; fails where the kernel
//! plane cannot be had.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use harness::authority::Authority;
use harness::chatter::Chatter;
use harness::client;
use harness::documents::{http_route, service, sni_route};
use harness::echo;
use harness::exchange::backends::{Backends, HTTP_PORT, Speech};
use harness::exchange::calls::{Calls, Job, Pair, Way};
use harness::exchange::{Closing, Plan};
use harness::gateway::{Gateway, Kernel};
use harness::lab::{Family, Lab};
use harness::namespace::Namespace;
use harness::program::run;
use harness::serve::Server;
use harness::steered::place;
use harness::tls::TlsClient;
use harness::wait;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

const PORT: u16 = 443;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Connections of each family that are handed over before any agent dies.
const BEFORE: usize = 2;
/// Connections under way when an agent dies, and over which of them it does.
const UNDER_WAY: usize = 6;
const DIES_OVER: usize = 3;
/// Batches of connections in which an agent must have died: in the middle of a stream it waits for its moment.
const BATCHES: usize = 5;
/// More than a connection carries before it is handed over in the middle of its stream.
const OPENING: usize = 300 * 1024;
/// Flows keep their records for some seconds when they are over, and ports of sockets are waited for.
const RECOVERY: Duration = Duration::from_secs(90);

/// When connections are handed over, and over which IP they come.
#[derive(Debug, Clone, Copy)]
struct Cell {
    tier: &'static str,
    family: Family,
    /// Bytes each way.
    most: u64,
}

const EARLY: Cell = Cell { tier: "handoff", family: Family::V4, most: 256 << 10 };
const MIDSTREAM: Cell = Cell { tier: "lasting", family: Family::V4, most: 3 << 20 };

fn cells() -> impl Iterator<Item = Cell> {
    [EARLY, MIDSTREAM].into_iter().flat_map(|cell| FAMILIES.map(|family| Cell { family, ..cell }))
}

/// Ends before what it stands on.
struct Site {
    chats: Vec<Chatter>,
    gateway: Gateway,
    backends: Backends,
    _echoes: Vec<Server>,
    lab: Lab,
}

fn word(family: Family) -> &'static str {
    if family == Family::V4 { "chat-v4" } else { "chat-v6" }
}

impl Site {
    /// A gateway that has handed connections over in the middle of their streams.
    fn start() -> Self {
        let lab = Lab::new(1).expect("namespaces");
        // Else each port of a connection that the gateway had closed first would be waited for for a minute.
        lab.gateway.sysctl("net/ipv4/tcp_max_tw_buckets", "0").expect("a sysctl");
        let addresses = FAMILIES.map(|family| (family, lab.backend_address(family, 0)));
        let backends = Backends::start_only(&lab.backends[0], &addresses, &[Speech::Raw]);
        let echoes: Vec<Server> =
            FAMILIES.into_iter().map(|family| echo::start_silent(place(&lab, family, 0))).collect();
        let mut documents = backends.documents(PORT);
        for (family, echo) in FAMILIES.into_iter().zip(&echoes) {
            documents +=
                &sni_route(word(family), PORT, &format!("{}.test", word(family)), "edge", word(family));
            documents += &service(word(family), "https", &[echo.address]);
        }
        let gateway = Gateway::arrange()
            .within(&lab.gateway)
            .kernel(Kernel::Require)
            .flags(&["--interface", "c0"])
            .document("site", &documents)
            .start();
        let chats = Vec::new();
        let mut site = Self { chats, gateway, backends, _echoes: echoes, lab };
        site.chats.extend(FAMILIES.map(|family| site.chat(family)));
        let handed_over = BEFORE * FAMILIES.len();
        wait::until("connections that were handed over", || {
            (site.gateway.status()["kernel"]["handoff"]["handedOver"] == handed_over).then_some(())
        });
        site
    }

    fn address(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.lab.gateway_address(family), PORT)
    }

    fn chat(&self, family: Family) -> Chatter {
        let name = format!("{}.test", word(family));
        let mut opening = TlsClient::new(Authority::new("nobody's").roots(), &name).hello();
        opening.resize(OPENING, 0x5a);
        Chatter::start_behind(&self.lab.client, self.address(family), BEFORE, opening)
    }

    fn expect_chats(&self) {
        self.chats.iter().for_each(|chat| {
            chat.expect_unharmed();
        });
    }

    fn restart(&mut self, die_at: Option<&str>, tier: &str) {
        let variables: Vec<_> = die_at.iter().map(|step| ("SLUICE_DIE_AT", *step)).collect();
        self.gateway.set_environment(&variables);
        self.gateway.restart_with(&["--interface", "c0", "--tier", tier]);
    }

    fn way(&self) -> Way<'_> {
        let to = FAMILIES.map(|family| (family, self.address(family)));
        Way { from: &self.lab.client, to, backends: &self.backends }
    }

    /// What the gateway and all kernels know.
    fn report(&self) -> String {
        let places = [&self.lab.client, &self.lab.gateway, &self.lab.backends[0]];
        let sockets = places.map(|place| run(place.command("ss").args(["-tanoi"])).all());
        let flows = self.gateway.sluice(&["maps", "dump", "FLOWS"]).all();
        format!("{flows}\n{}\n{}", sockets.join("\n"), self.gateway.log())
    }
}

/// Established connections of a namespace.
fn established(namespace: &Namespace) -> usize {
    run(namespace.command("ss").args(["-Htn", "state", "established"])).expect_success().out.lines().count()
}

fn jobs(cell: Cell, seed: u64) -> Vec<Job> {
    let plan = |number: usize| Plan {
        seed: seed.wrapping_add(number as u64) | 1 << 40,
        up: cell.most,
        down: cell.most,
        // Else the gateway keeps the record for the TIME-WAIT at the backend.
        closing: Closing::ClientFirst,
    };
    (0..UNDER_WAY).map(|number| Job { pair: Pair::Raw, family: cell.family, plan: plan(number) }).collect()
}

type Ends = HashMap<u64, Result<(), String>>;

/// Lets an agent die over connections, and the next one find them.
fn survive(site: &mut Site, die_at: &str, cell: Cell) -> String {
    site.gateway.kill();
    site.restart(Some(die_at), cell.tier);
    site.expect_chats();
    for batch in 0..BATCHES {
        let jobs = jobs(cell, fastrand::u64(..1 << 39));
        let calls = Calls::start(&site.way(), &jobs);
        let mut ends = Ends::new();
        let died = await_death(site, &calls, &mut ends, jobs.len());
        if !died {
            drop(calls);
            continue;
        }
        site.expect_chats();
        site.restart(None, cell.tier);
        await_ends(site, &calls, &mut ends, &jobs);
        drop(calls);
        site.expect_chats();
        let whole = ends.values().filter(|end| end.is_ok()).count();
        return format!("{cell:?}: batch {batch}, {whole} of {} whole", jobs.len());
    }
    panic!("no agent died at {die_at} in {cell:?}: {}", site.gateway.status()["kernel"]["handoff"]);
}

/// Whether the agent has died before all connections have ended.
fn await_death(site: &mut Site, calls: &Calls, ends: &mut Ends, count: usize) -> bool {
    let ended = wait::within(wait::PATIENCE, || {
        // A process that dies has closed its sockets before others see its end.
        let is_over = ends.len() == count && ends.values().all(Result::is_ok);
        if let Some(status) = site.gateway.ended() {
            assert_eq!(status.signal(), Some(9), "{status}");
            return Some(true);
        }
        ends.extend(calls.next(Duration::from_millis(1)));
        is_over.then_some(false)
    });
    ended.unwrap_or_else(|| panic!("neither an end of the agent nor of the connections\n{}", site.report()))
}

/// Holds both ends of each connection to account: whole, or broken off, but not waiting.
fn await_ends(site: &Site, calls: &Calls, ends: &mut Ends, jobs: &[Job]) {
    while ends.len() < jobs.len() {
        let Some(end) = calls.next(wait::PATIENCE) else {
            let hung = jobs.iter().filter(|job| !ends.contains_key(&job.plan.seed));
            let hung: Vec<_> = hung.map(|job| (job, site.backends.ledger.end_of(job.plan.seed))).collect();
            panic!("{hung:?} hang at their clients\n{}", site.report());
        };
        ends.extend([end]);
    }
    for job in jobs {
        let at_server = || site.backends.ledger.end_of(job.plan.seed);
        match &ends[&job.plan.seed] {
            Ok(()) => {
                let end = wait::within(wait::PATIENCE, at_server);
                assert_eq!(end, Some(Ok(())), "{job} is whole at its client\n{}", site.report());
            }
            Err(fault) => expect_break(job, fault),
        }
        if let Some(Err(fault)) = at_server() {
            expect_break(job, &fault);
        }
    }
    let left = wait::within(wait::PATIENCE, || {
        let count = site.chats.len() * BEFORE;
        let is_rest = |namespace| established(namespace) == count;
        (is_rest(&site.lab.client) && is_rest(&site.lab.backends[0])).then_some(())
    });
    assert!(left.is_some(), "connections hang\n{}", site.report());
}

/// A connection may break off, but what comes until then is what was sent.
fn expect_break(job: &Job, fault: &str) {
    let is_wrong =
        ["is not the one", "bytes came where", "no header:"].iter().any(|words| fault.contains(words));
    assert!(!is_wrong, "{job}: {fault}");
}

/// What flows and connections have, after the last of them.
fn in_use(site: &Site) -> Value {
    site.gateway.status()["kernel"]["inUse"].clone()
}

fn expect_nothing_lost(site: &mut Site) {
    site.chats.clear();
    let is_zero = |value: &Value| value.as_object().is_some_and(|all| all.values().all(|count| *count == 0));
    let free = wait::within(RECOVERY, || is_zero(&in_use(site)).then_some(()));
    assert!(free.is_some(), "{} are lost\n{}", in_use(site), site.report());
    site.gateway.kill();
    site.gateway.sluice(&["cleanup"]).expect_success();
    assert!(!site.gateway.pin_directory().exists(), "pins are left");
}

fn dies_at(step: &str) {
    let mut site = Site::start();
    for cell in cells() {
        println!("{step}, {}", survive(&mut site, &format!("{step}:{DIES_OVER}"), cell));
    }
    expect_nothing_lost(&mut site);
}

/// A test for each step, so that each can be run by its name.
macro_rules! steps {
    ($($test:ident: $step:literal;)*) => { $(
        #[test]
        fn $test() {
            dies_at($step);
        }
    )* };
}

steps! {
    frozen: "entered";
    drained: "drained";
    in_repair_mode: "in-repair";
    numbers_read: "numbers-read";
    out_of_repair_mode: "out-of-repair";
    translation_written: "translated";
    activated: "activated";
    part_of_the_rest_sent: "part-sent";
    rest_sent: "rest-sent";
    one_socket_withdrawn: "one-withdrawn";
    both_sockets_withdrawn: "both-withdrawn";
}

/// What was read and not sent is lost with the agent: its clients must not take what they have for all. Without the next
/// agent's help.
#[test]
fn no_connection_that_breaks_looks_closed() {
    let mut site = Site::start();
    for step in ["entered", "drained", "out-of-repair", "translated", "activated", "part-sent"] {
        for family in FAMILIES {
            site.gateway.kill();
            site.restart(Some(step), "handoff");
            let name = Speech::Raw.name(family);
            let hello = TlsClient::new(Authority::new("nobody's").roots(), &name).hello();
            let address = site.address(family);
            let mut stream = site.lab.client.enter(move || client::connect(address));
            stream.write_all(&hello).expect("sending");
            let end = stream.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(end, Err(ErrorKind::ConnectionReset), "{step} {family:?}\n{}", site.report());
            assert!(wait::within(wait::PATIENCE, || site.gateway.ended()).is_some(), "the agent lives");
        }
    }
    let seen = site.backends.ledger.nameless();
    assert!(seen.iter().all(|fault| fault.contains("reset by peer")), "{seen:?}");
    site.restart(None, "auto");
    expect_nothing_lost(&mut site);
}

/// Says nothing, and closes when it hears the end.
async fn be_mute(mut stream: tokio::net::TcpStream) {
    while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
}

/// Connections that wait for a backend's consent to a WebSocket, and have claimed a port for the time after that.
fn ask_for_upgrades(site: &Site, count: usize) -> Vec<TcpStream> {
    let address = SocketAddr::new(site.lab.gateway_address(Family::V4), HTTP_PORT);
    let ask = move |_| {
        let mut stream = client::connect(address);
        let request = "GET / HTTP/1.1\r\nhost: mute.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sending");
        stream
    };
    site.lab.client.enter(move || (0..count).map(ask).collect())
}

/// Without the setting that the other tests have: a socket in TIME-WAIT keeps its port from flows.
#[test]
fn ports_of_connections_in_user_space_come_back_when_their_sockets_are_gone() {
    const COUNT: usize = 5;
    let mut site = Site::start();
    site.lab.gateway.sysctl("net/ipv4/tcp_max_tw_buckets", "1000").expect("a sysctl");
    site.chats.clear();
    wait::within(RECOVERY, || (in_use(&site)["sourcePorts"] == 0).then_some(())).expect("free ports");
    let mute = Server::start(place(&site.lab, Family::V4, 0), be_mute);
    let documents =
        http_route("mute", "mute.test", "edge", "mute") + &service("mute", "http", &[mute.address]);
    site.gateway.apply("mute", &documents);
    let clients = ask_for_upgrades(&site, COUNT);
    wait::until("claimed ports", || (in_use(&site)["sourcePorts"] == COUNT).then_some(()));
    wait::until("requests at the backend", || (mute.accepted() == COUNT).then_some(()));
    site.gateway.kill();
    let begun = std::time::Instant::now();
    site.restart(None, "auto");
    drop(clients);
    let waiting = run(site.lab.gateway.command("ss").args(["-Htan", "state", "time-wait"])).expect_success();
    assert!(!waiting.out.is_empty(), "no socket keeps its port");
    wait::within(Duration::from_secs(100), || (in_use(&site)["sourcePorts"] == 0).then_some(()))
        .unwrap_or_else(|| panic!("{} of {COUNT} are lost\n{}", in_use(&site)["sourcePorts"], site.report()));
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(40), "after {took:?} the sockets are in TIME-WAIT still");
}

/// Those that were being relayed are reset, so that their ports come back at once.
#[test]
fn a_relayed_connection_is_reset_when_its_agent_dies() {
    const COUNT: usize = 5;
    let mut site = Site::start();
    site.lab.gateway.sysctl("net/ipv4/tcp_max_tw_buckets", "1000").expect("a sysctl");
    site.gateway.kill();
    // Another agent, which has not learned that connections are long ones here.
    site.restart(None, "lasting");
    let before = in_use(&site)["sourcePorts"].as_u64().expect("a number") as usize;
    let opening = TlsClient::new(Authority::new("nobody's").roots(), "chat-v4.test").hello();
    let chat = Chatter::start_behind(&site.lab.client, site.address(Family::V4), COUNT, opening);
    assert_eq!(in_use(&site)["sourcePorts"], before + COUNT);
    site.gateway.kill();
    wait::until("the ends of connections in user space", || (chat.failures().len() == COUNT).then_some(()));
    let is_reset = |fault: &String| fault.contains("reset by peer") || fault.contains("Broken pipe");
    assert!(chat.failures().iter().all(is_reset), "{:?}", chat.failures());
    let waiting = run(site.lab.gateway.command("ss").args(["-Htan", "state", "time-wait"])).expect_success();
    assert_eq!(waiting.out, "", "a reset leaves nothing to wait for");
    site.restart(None, "auto");
    wait::until("the ports", || (in_use(&site)["sourcePorts"] == before).then_some(()));
    site.expect_chats();
}
