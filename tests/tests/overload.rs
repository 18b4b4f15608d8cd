//! The real gateway when memory or descriptors run short: it lives, it says so, and good clients are served.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use harness::backend::Version;
use harness::client::{self, get};
use harness::frames::{Connection, WINDOW_UPDATE, frame, setting};
use harness::site::Site;
use harness::{limits, wait};

const HOST: &str = "a.test";
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const WINDOW: u16 = 4;
const MEMORY: usize = 80 << 20;
/// What may be taken between two looks at the memory, of which there is one whenever half as much was.
const OVERSHOOT: usize = MEMORY / 16;

/// The status of an answer to a GET, if there is one.
fn asked(site: &Site) -> Option<u16> {
    client::try_send(site.address, client::request("GET", HOST, "/", &[]))
        .ok()
        .map(|answer| answer.status.as_u16())
}

/// Seconds that the gateway's threads have run.
fn processor(site: &Site) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", site.gateway.pid())).expect("alive");
    let (_, behind) = stat.rsplit_once(") ").expect("the kernel's form");
    let ticks: Vec<f64> = behind.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    ticks.iter().sum::<f64>() / 100.0
}

/// A client that asks for much and reads nothing.
fn greedy(address: SocketAddr) -> Connection {
    let mut connection = Connection::open(address, &setting(WINDOW, 0x7fff_ffff));
    connection.send(&frame(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes()));
    for at in 0..128 {
        connection.get(at * 2 + 1, "/bytes/1000000000");
    }
    connection
}

#[test]
fn memory_that_runs_short_is_kept_for_those_who_read() {
    let site = Site::arranged(Version::Http1, |gateway| gateway.flags(&["--max-memory", "80Mi"]));
    assert_eq!(asked(&site), Some(200));
    let mut most = 0;
    for wave in 0..2 {
        let before = site.refused("memory_stalled");
        // What comes all at once may be refused as a whole, with nothing to be given up.
        let crowd = (0..5).find_map(|_| {
            let crowd: Vec<_> = (0..64).map(|_| greedy(site.address)).collect();
            wait::within(wait::PATIENCE / 2, || {
                most = most.max(site.memory());
                (site.refused("memory_stalled") > before).then_some(())
            })
            .map(|()| crowd)
        });
        let crowd = crowd.expect("something that is given up");
        let ready = site.gateway.ask("/healthz/ready").expect("an answer");
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
        // While the greedy ones are still there.
        wait::until("a good client's answer", || {
            most = most.max(site.memory());
            (asked(&site) == Some(200)).then_some(())
        });
        assert!(most < MEMORY + OVERSHOOT, "{most} bytes of {MEMORY} in wave {wave}");
        drop(crowd);
        wait::until("kept connections", || {
            let answer = client::try_send(site.address, client::request("GET", HOST, "/", &[])).ok()?;
            (answer.status.as_u16() == 200 && answer.header("connection") != "close").then_some(())
        });
    }
}

#[test]
fn descriptors_that_run_out_are_waited_for() {
    let site = Site::arranged(Version::Http1, |gateway| gateway.descriptors(256));
    let ask = format!("GET /held HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut crowd: Vec<TcpStream> = Vec::new();
    for _ in 0..300 {
        let mut stream = client::connect(site.address);
        stream.write_all(ask.as_bytes()).expect("sending");
        crowd.push(stream);
    }
    wait::until("the last place", || (site.refused("descriptors") > 0).then_some(()));
    let (before, since) = (processor(&site), Instant::now());
    wait::until("a second", || (since.elapsed() > Duration::from_secs(1)).then_some(()));
    let burnt = (processor(&site) - before) / since.elapsed().as_secs_f64();
    assert!(burnt < 0.1, "{burnt} of a processor to wait");
    let freed = Instant::now();
    site.backend.release();
    assert_eq!(asked(&site), Some(200));
    let took = freed.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?} to recover");
    assert!(!site.gateway.log().contains("Too many open files"), "{}", site.gateway.log());
}

#[test]
fn two_thousand_at_once_are_all_served() {
    const CROWD: usize = 2_000;
    limits::descriptors();
    for descriptors in [None, Some(256)] {
        let site = Site::arranged(Version::Http1, |gateway| match descriptors {
            None => gateway,
            Some(count) => gateway.descriptors(count),
        });
        let ask = format!("GET /bytes/10 HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        // All are connected before any asks.
        let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| client::connect(site.address)).collect();
        for stream in &mut crowd {
            stream.write_all(ask.as_bytes()).expect("sending");
        }
        for (at, mut stream) in crowd.into_iter().enumerate() {
            let (answer, _) = client::read_to_end(&mut stream);
            assert!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{at} of {descriptors:?}: {}",
                answer.escape_ascii()
            );
        }
    }
}

#[test]
fn idle_connections_make_room_for_others() {
    let site = Site::arranged(Version::Http1, |gateway| gateway.descriptors(256));
    let ask = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        let mut stream = client::connect(site.address);
        stream.write_all(ask.as_bytes()).expect("sending");
        idle.push(stream);
    }
    // More than there are places for, all of which stay open as long as they may.
    for stream in &mut idle {
        let status = client::read_line(stream);
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    }
    assert_eq!(get(site.address, HOST, "/").backend(), "webapp");
}

#[test]
fn the_limit_of_descriptors_is_raised_to_what_is_allowed() {
    let site = Site::arranged(Version::Http1, |gateway| gateway);
    let text = std::fs::read_to_string(format!("/proc/{}/limits", site.gateway.pid())).expect("alive");
    let line = text.lines().find(|line| line.starts_with("Max open files")).expect("a line of the kernel's");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
}
