//! Floods through the real gateway: what costs a client little must not cost the gateway, or others, much. Each flood ends its
//! own connection, is counted, and leaves a good client served.

use std::time::Duration;

use harness::backend::Version;
use harness::client::get;
use harness::frames::{
    Connection, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, setting,
};
use harness::site::Site;

const HOST: &str = "a.test";
/// A flood that is not stopped within this is taken for one that is let pass.
const FLOOD: Duration = Duration::from_secs(10);
const HEAD: &str = ":method: GET|:scheme: http|:authority: a.test|:path: /stall";
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const WINDOW: u16 = 4;

#[test]
fn frames_that_say_nothing_end_their_connection() {
    let site = Site::new(&[]);
    let open = frame(HEADERS, END_HEADERS, 1, &block(&HEAD.replace("/stall", "/digest")));
    for (name, begin, flood, reason) in [
        ("PING", Vec::new(), frame(PING, 0, 0, &[0; 8]), "http2_flood"),
        ("SETTINGS", Vec::new(), frame(SETTINGS, 0, 0, &setting(WINDOW, 65_535)), "http2_flood"),
        ("empty SETTINGS", Vec::new(), frame(SETTINGS, 0, 0, &[]), "http2_flood"),
        ("PRIORITY", Vec::new(), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), "http2_flood"),
        ("WINDOW_UPDATE", Vec::new(), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), "http2_flood"),
        ("unknown frames", Vec::new(), frame(0x77, 0, 0, &[]), "http2_flood"),
        ("empty DATA", open, frame(DATA, 0, 1, &[]), "http2_flood"),
    ] {
        let before = site.refused(reason);
        let mut connection = Connection::open(site.address, &[]);
        connection.send(&begin);
        assert!(!connection.flood(&flood.repeat(1_000), FLOOD), "{name} goes on");
        assert_eq!(site.refused(reason) - before, 1, "{name}");
        assert_eq!(get(site.address, HOST, "/").backend(), "webapp", "{name}");
    }
}

#[test]
fn what_a_busy_client_says_is_no_flood() {
    let site = Site::new(&[]);
    let mut connection = Connection::open(site.address, &[]);
    for at in 0..300 {
        let stream = at * 2 + 1;
        connection.get(stream, "/bytes/60000");
        assert_eq!(connection.outcome(stream), Outcome::Answered(200));
        // As Go tells of its windows, and gRPC measures the way.
        let window = [frame(WINDOW_UPDATE, 0, 0, &4_096_u32.to_be_bytes()), frame(PING, 0, 0, &[0; 8])];
        connection.send(&window.concat().repeat(16));
    }
    // An upload octet by octet: what it says is taken as it comes, and nothing is held for each of them.
    let head = HEAD.replace("/stall", "/digest");
    connection.send(&frame(HEADERS, END_HEADERS, 1_001, &block(&head)));
    connection.send(&frame(DATA, 0, 1_001, b"x").repeat(100_000));
    connection.send(&frame(DATA, END_STREAM, 1_001, b"x"));
    assert_eq!(connection.outcome(1_001), Outcome::Answered(200));
    assert!(site.gateway.status()["refused"].as_object().expect("counts").is_empty());
}

#[test]
fn a_client_that_asks_and_takes_back_is_stopped() {
    let cancel = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let trailers = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block("x: y"));
    // Or has the gateway take back, by what it says on the stream.
    let nothing = |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4]);
    let behind = |stream| frame(DATA, END_STREAM, stream, &[]);
    let ends = END_HEADERS | END_STREAM;
    for (name, flags, back) in [
        ("RST_STREAM", ends, &cancel as &dyn Fn(u32) -> Vec<u8>),
        ("trailers first", END_HEADERS, &|stream| [trailers(stream), cancel(stream)].concat()),
        ("WINDOW_UPDATE by nothing", ends, &nothing),
        ("DATA behind the end", ends, &behind),
    ] {
        let site = Site::new(&[]);
        let mut connection = Connection::open(site.address, &[]);
        let rounds = (0..20_000_u32).map(|at| {
            let stream = at * 2 + 1;
            [frame(HEADERS, flags, stream, &block(HEAD)), back(stream)].concat()
        });
        assert!(!connection.flood(&rounds.collect::<Vec<_>>().concat(), FLOOD), "{name}");
        let stopped = site.refused("http2_rapid_reset") + site.refused("http2_flood");
        assert_eq!(stopped, 1, "{name}");
        assert!(
            site.backend.requests() <= 1_100,
            "{name}: {} requests came through",
            site.backend.requests()
        );
        assert_eq!(get(site.address, HOST, "/").backend(), "webapp");
    }
}

#[test]
fn streams_beyond_those_that_may_be_open_are_refused() {
    let site = Site::new(&["--max-concurrent-streams", "10"]);
    let mut connection = Connection::open(site.address, &[]);
    for at in 0..11 {
        connection.get(at * 2 + 1, "/stall");
    }
    assert_eq!(connection.outcome(21), Outcome::Reset(harness::frames::code::REFUSED_STREAM));
    assert_eq!(get(site.address, HOST, "/").backend(), "webapp");
}

/// Much is asked for and nothing read: what the gateway holds of it is bounded, by windows that are full and by a socket that
/// is.
#[test]
fn a_client_that_never_reads_costs_little() {
    // A backend of HTTP/2 sends as much as its stream's window has room for, whoever reads.
    for (version, bound) in [(Version::Http1, 40 << 20), (Version::Http2, 80 << 20)] {
        for window in [65_535, 0x7fff_ffff] {
            let site = Site::speaking(version, &[]);
            assert_eq!(get(site.address, HOST, "/").backend(), "webapp");
            let before = site.memory();
            let mut connection = Connection::open(site.address, &setting(WINDOW, window));
            if window > 65_535 {
                connection.send(&frame(WINDOW_UPDATE, 0, 0, &(window - 65_535).to_be_bytes()));
            }
            for at in 0..128 {
                connection.get(at * 2 + 1, "/bytes/1000000000");
            }
            let most = settled(|| site.memory());
            let grown = most.saturating_sub(before);
            assert!(grown < bound, "{version:?}, {window}: {grown} more octets");
            assert_eq!(get(site.address, HOST, "/").backend(), "webapp");
        }
    }
}

/// What is measured, once it has not grown for a while.
fn settled(measure: impl Fn() -> usize) -> usize {
    const STILL: usize = 100;
    let (mut most, mut still) = (0, 0);
    harness::wait::until("an end of growth", || {
        let now = measure();
        still = if now > most { 0 } else { still + 1 };
        most = most.max(now);
        (still > STILL).then_some(most)
    })
}
