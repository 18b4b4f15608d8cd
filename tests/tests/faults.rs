//! A gateway under load while its documents change, it is replaced, or its backends fail: nobody is to notice. Needs root.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use harness::chatter::Chatter;
use harness::client;
use harness::faults::backend::Health;
use harness::faults::{Load, Stand};
use harness::gateway::Kernel;
use harness::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Of each protocol.
const CLIENTS: usize = 6;
const PERIOD: Duration = Duration::from_millis(50);

fn expect_unharmed(chats: &[Chatter]) {
    for chat in chats {
        chat.expect_unharmed();
    }
}

#[test]
fn nobody_notices_documents_that_change() {
    let stand = Stand::start(Kernel::Off, &[]);
    let (load, chats) = (Load::start(&stand.lab.client, &stand.target(), CLIENTS, PERIOD), stand.chat(10));
    for turn in 0..40 {
        let before = stand.gateway.generation();
        stand.change(turn);
        wait::until("the change", || (stand.gateway.generation() > before).then_some(()));
    }
    let seen = load.expect_unharmed();
    expect_unharmed(&chats);
    assert_eq!(seen.connections, 3 * CLIENTS, "no connection was closed");
}

#[test]
fn nobody_notices_agents_that_take_over() {
    for (kernel, turns) in [(Kernel::Off, 8), (Kernel::Require, 4)] {
        let mut stand = Stand::start(kernel, &["--drain-time", "60"]);
        let (load, chats) =
            (Load::start(&stand.lab.client, &stand.target(), CLIENTS, PERIOD), stand.chat(10));
        let mut relieved = Vec::new();
        for _ in 0..turns {
            relieved.push(stand.gateway.replace());
            load.next_round();
        }
        let seen = load.expect_unharmed();
        expect_unharmed(&chats);
        assert!(seen.connections > 3 * CLIENTS, "clients were told to go");
        println!("{turns} agents, {} answers, the slowest took {:?}", seen.answered, seen.slowest);
        drop((load, chats));
        relieved.into_iter().for_each(harness::gateway::Relieved::expect_end);
        assert!(stand.gateway.stop().success());
    }
}

#[test]
fn streams_are_cut_when_the_drain_time_is_over_and_not_before() {
    let mut stand = Stand::start(Kernel::Off, &["--drain-time", "2"]);
    let chats = stand.chat(5);
    let relieved = stand.gateway.replace();
    expect_unharmed(&chats);
    relieved.expect_end();
    wait::until("the end of the streams", || {
        chats.iter().all(|chat| chat.failures().len() == 5).then_some(())
    });
}

#[test]
fn a_client_that_closes_its_side_is_answered() {
    let stand = Stand::start(Kernel::Off, &[]);
    let target = stand.target();
    let answer = stand.lab.client.enter(move || {
        let mut stream = client::connect(target.http);
        let request = format!("GET /half HTTP/1.1\r\nhost: {}\r\n\r\n", target.host);
        stream.write_all(request.as_bytes()).expect("sending");
        stream.shutdown(Shutdown::Write).expect("half of a connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(" GET /half"), "{answer}");
}

#[test]
fn a_listener_that_goes_from_the_documents_leads_its_clients_away() {
    let stand = Stand::start(Kernel::Off, &["--drain-time", "1"]);
    let (target, chats) = (stand.target(), stand.chat(3));
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let namespace = stand.lab.client.open();
    let client = std::thread::spawn(move || {
        harness::namespace::join(&namespace);
        let mut stream = client::connect(target.http);
        for _ in 0..2 {
            let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", target.host);
            stream.write_all(request.as_bytes()).expect("sending");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b" GET /") {
                stream.read_exact(&mut byte).expect("an answer");
                head.push(byte[0]);
            }
            tell.send(String::from_utf8(head).expect("text")).expect("the test waits");
            asked.recv().expect("the test asks");
        }
        client::read_to_end(&mut stream)
    });
    assert!(!told.recv().expect("an answer").contains("connection: close"));
    let before = stand.gateway.generation();
    stand.gateway.remove("gateway");
    wait::until("the change", || (stand.gateway.generation() > before).then_some(()));
    ask.send(()).expect("the client waits");
    let last = told.recv().expect("an answer");
    assert!(last.starts_with("HTTP/1.1 200") && last.contains("connection: close"), "{last}");
    ask.send(()).expect("the client waits");
    assert!(client.join().expect("a client").0.is_empty());
    wait::until("the end of the streams", || {
        chats.iter().all(|chat| chat.failures().len() == 3).then_some(())
    });
}

#[test]
fn a_drain_is_asked_for_and_clients_are_served_on() {
    let mut stand = Stand::start(Kernel::Off, &[]);
    let load = Load::start(&stand.lab.client, &stand.target(), 2, PERIOD);
    let before = load.seen().connections;
    stand.gateway.sluice(&["drain"]).expect_success();
    let answer = stand.gateway.ask("/healthz/ready").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let seen = load.expect_unharmed();
    assert!(seen.connections > before, "told to go, and welcome again");
    let waiting = SocketAddr::new(stand.lab.gateway_address(harness::lab::Family::V4), 80);
    drop(load);
    let _idle = stand.lab.client.enter(move || client::connect(waiting));
    stand.gateway.ask_to_stop();
    stand.gateway.ask_to_stop();
    wait::until("an end at once", || stand.gateway.ended());
}

/// Requests while one of two backends fails, each of which could be answered by the other one.
fn while_one_fails(fail: impl FnOnce(&mut Stand), mend: impl FnOnce(&mut Stand)) {
    let mut stand = Stand::start(Kernel::Off, &[]);
    let load = Load::start(&stand.lab.client, &stand.target(), CLIENTS, PERIOD);
    fail(&mut stand);
    let rounds = Instant::now();
    while rounds.elapsed() < Duration::from_secs(3) {
        load.next_round();
    }
    load.expect_unharmed();
    mend(&mut stand);
    let backend = stand.backends[0].as_ref().expect("it is back");
    let before = backend.requests();
    // Doubts last for some seconds.
    wait::until("requests to the backend that is well again", || (backend.requests() > before).then_some(()));
    let seen = load.expect_unharmed();
    println!("{} answers, the slowest took {:?}", seen.answered, seen.slowest);
}

#[test]
fn a_backend_that_is_killed_costs_no_request() {
    while_one_fails(|stand| stand.kill(0), |stand| stand.revive(0));
}

#[test]
fn a_backend_that_hangs_costs_no_request() {
    fall(Health::Hanging);
}

#[test]
fn a_backend_that_resets_costs_no_request() {
    fall(Health::Resetting);
}

fn fall(health: Health) {
    let to = |health| move |stand: &mut Stand| stand.backends[0].as_ref().expect("it runs").fall(health);
    while_one_fails(to(health), to(Health::Well));
}

#[test]
fn a_backend_that_cannot_be_reached_costs_no_request() {
    // Nobody says that it is gone: the gateway goes on sending to where it was.
    let link = |state: &'static str| {
        move |stand: &mut Stand| {
            drop(stand.lab.backends[0].ip(&["link", "set", "e0", state]).expect("a link"));
        }
    };
    while_one_fails(link("down"), link("up"));
}

#[test]
fn backends_that_come_back_are_found_at_once() {
    let mut stand = Stand::start(Kernel::Off, &[]);
    let load = Load::start(&stand.lab.client, &stand.target(), 2, PERIOD);
    (0..2).for_each(|index| stand.kill(index));
    wait::until("failures", || (load.seen().failures.len() > 20).then_some(()));
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(3) {
        load.next_round();
    }
    (0..2).for_each(|index| stand.revive(index));
    let back = Instant::now();
    let before = load.seen().answered;
    wait::until("an answer", || (load.seen().answered > before).then_some(()));
    let found = back.elapsed();
    load.next_round();
    let failed = load.seen().failures.len();
    load.next_round();
    assert_eq!(load.seen().failures.len(), failed, "all is well");
    assert!(found < Duration::from_millis(500), "{found:?}");
}

#[test]
fn a_link_that_is_down_for_a_moment_costs_no_request() {
    let stand = Stand::start(Kernel::Off, &[]);
    let load = Load::start(&stand.lab.client, &stand.target(), 2, PERIOD);
    stand.lab.client.ip(&["link", "set", "e0", "down"]).expect("a link");
    let down = Instant::now();
    wait::within(Duration::from_millis(1500), || None::<()>);
    assert!(down.elapsed() >= Duration::from_millis(1500));
    stand.lab.client.ip(&["link", "set", "e0", "up"]).expect("a link");
    let gateway = stand.lab.gateway_address(harness::lab::Family::V4).to_string();
    stand.lab.client.ip(&["route", "replace", "default", "via", &gateway]).expect("a route");
    load.expect_unharmed();
}

#[test]
fn a_log_that_takes_no_byte_costs_no_request() {
    let stand = Stand::start(Kernel::Off, &["--access-log", "/dev/full"]);
    let load = Load::start(&stand.lab.client, &stand.target(), 2, PERIOD);
    wait::until("lines that are lost", || {
        stand.gateway.status()["accessLogDropped"].as_u64().filter(|dropped| *dropped > 20)
    });
    load.expect_unharmed();
}

/// An agent that the test did not start. Ended when dropped.
struct Stranger(Pid);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

#[test]
fn an_agent_starts_its_successor_and_the_service_manager_is_told() {
    let mut stand = Stand::start(Kernel::Off, &["--drain-time", "5"]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(client::LIMIT)).expect("a timeout");
    stand.gateway.set_environment(&[("NOTIFY_SOCKET", path.to_str().expect("a path"))]);
    stand.gateway.stop();
    stand.gateway.restart();
    let told = || {
        let mut said = [0; 256];
        let length = manager.recv(&mut said).expect("a word to the service manager");
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    let first = stand.gateway.pid();
    assert_eq!(told(), format!("READY=1\nMAINPID={first}\n"));

    let load = Load::start(&stand.lab.client, &stand.target(), 2, PERIOD);
    kill(Pid::from_raw(first.cast_signed()), Signal::SIGUSR2).expect("a signal");
    let said = told();
    let second = said.strip_prefix("READY=1\nMAINPID=").and_then(|pid| pid.trim().parse::<i32>().ok());
    let second = Stranger(Pid::from_raw(second.unwrap_or_else(|| panic!("{said}"))));
    // The first one's socket is the second one's too, and for a moment either may take a call.
    wait::until("the second agent's word", || {
        (stand.gateway.status()["process"] == second.0.as_raw()).then_some(())
    });
    load.expect_unharmed();
    drop(load);
    let ended = wait::until("the first agent's end", || stand.gateway.ended());
    assert!(ended.success(), "{ended}");
    kill(second.0, Signal::SIGTERM).expect("a signal");
    assert_eq!(told(), "STOPPING=1\n");
    wait::until("the second agent's end", || stand.gateway.ask("/status").is_none().then_some(()));
}

#[test]
fn an_agent_that_is_relieved_waits_for_its_end_where_it_is_asked_to() {
    let mut stand = Stand::start(Kernel::Off, &["--after-hand-over", "wait"]);
    let mut relieved = stand.gateway.replace();
    wait::until("the drain's end", || stand.gateway.log().contains("waiting for a signal").then_some(()));
    assert!(relieved.ended().is_none());
    relieved.ask_to_stop();
    relieved.expect_end();
    assert!(stand.gateway.ask("/healthz/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
}
