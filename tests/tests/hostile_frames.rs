//! Hostile HTTP/2 through the real gateway: each row's frames go in, the answer is the row's, and backends of either version
//! get what the row says, or nothing. What costs its stream alone leaves the connection in good order; what costs the
//! connection costs no other.

use std::fmt::Write as _;
use std::net::SocketAddr;

use harness::backend::Version;
use harness::documents::{self, Server, http_route, service};
use harness::frames::Outcome::{self, Answered, Closed, GoAway, Reset, Silent};
use harness::frames::code::{
    COMPRESSION_ERROR, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR,
};
use harness::frames::{
    ACK, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PRIORITY_FLAG, PUSH_PROMISE, RST_STREAM, Recorder, SETTINGS, WINDOW_UPDATE, block, field, frame, setting,
};
use harness::gateway::Gateway;
use harness::port;

const ALL: u8 = END_HEADERS | END_STREAM;
/// The longest frame that the gateway takes (RFC 9113, 6.5.2).
const FRAME: usize = 16_384;
/// Characters of what a backend got that a fault shows.
const SHOWN: usize = 200;
/// What every request says.
const SAID: &str = ":method: GET|:scheme: http|:authority: a.test|:path: /p";
const POST: &str = ":method: POST|:scheme: http|:authority: a.test|:path: /p";
const GET_SEEN: Option<&str> = Some("GET /p a.test");

/// What is sent behind the preface, what becomes of stream 1, and what a backend gets.
type Row = (&'static str, Vec<u8>, Outcome, Option<&'static str>);

/// A request that is its head, of these fields alone.
fn bare(fields: &str) -> Vec<u8> {
    let block = block(fields);
    let (first, rest) = block.split_at(block.len().min(FRAME));
    let ends = |is_last| if is_last { END_HEADERS } else { 0 };
    let mut out = frame(HEADERS, END_STREAM | ends(rest.is_empty()), 1, first);
    let pieces = rest.chunks(FRAME);
    let count = pieces.len();
    for (at, piece) in pieces.enumerate() {
        out.extend(frame(CONTINUATION, ends(at + 1 == count), 1, piece));
    }
    out
}

/// A GET with fields besides those that it has to have.
fn get(fields: &str) -> Vec<u8> {
    bare(&format!("{SAID}|{fields}"))
}

/// A POST with fields and the frames behind its head.
fn post(fields: &str, behind: &[Vec<u8>]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, 1, &block(&format!("{POST}|{fields}"))), behind.concat()].concat()
}

fn data(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, 1, payload)
}

fn trailers(flags: u8, fields: &str) -> Vec<u8> {
    frame(HEADERS, flags, 1, &block(fields))
}

fn pseudo_fields() -> Vec<Row> {
    const RESET: Outcome = Reset(PROTOCOL_ERROR);
    vec![
        ("a request", get(""), Answered(200), GET_SEEN),
        ("no method", bare(":scheme: http|:authority: a.test|:path: /p"), RESET, None),
        ("no scheme", bare(":method: GET|:authority: a.test|:path: /p"), RESET, None),
        ("no path", bare(":method: GET|:scheme: http|:authority: a.test"), RESET, None),
        ("nothing", bare(""), RESET, None),
        ("no pseudo-header field", bare("host: a.test|x: 1"), RESET, None),
        ("two methods", bare(&format!("{SAID}|:method: GET")), RESET, None),
        ("two schemes", bare(&format!("{SAID}|:scheme: http")), RESET, None),
        ("two paths", bare(&format!("{SAID}|:path: /q")), RESET, None),
        ("two authorities", bare(&format!("{SAID}|:authority: b.test")), RESET, None),
        (
            "a path behind a field",
            bare(":method: GET|:scheme: http|:authority: a.test|x: 1|:path: /p"),
            RESET,
            None,
        ),
        (
            "an authority behind a field",
            bare(":method: GET|:scheme: http|:path: /p|x: 1|:authority: a.test"),
            RESET,
            None,
        ),
        ("a pseudo-header field that nobody knows", bare(&format!("{SAID}|:fancy: 1")), RESET, None),
        ("a pseudo-header field of responses", bare(&format!("{SAID}|:status: 200")), RESET, None),
        ("a protocol without CONNECT", bare(&format!("{SAID}|:protocol: websocket")), RESET, None),
        (
            "pseudo-header fields in capitals",
            bare(":Method: GET|:scheme: http|:authority: a.test|:path: /p"),
            RESET,
            None,
        ),
        ("an empty method", bare(":method: |:scheme: http|:authority: a.test|:path: /p"), RESET, None),
        (
            "a method with a space",
            bare(":method: GET /x|:scheme: http|:authority: a.test|:path: /p"),
            RESET,
            None,
        ),
        (
            "a method with an end of line",
            bare(":method: GET\r\nx|:scheme: http|:authority: a.test|:path: /p"),
            RESET,
            None,
        ),
        (
            "an empty scheme, which is not looked at",
            bare(":method: GET|:scheme: |:authority: a.test|:path: /p"),
            Answered(200),
            GET_SEEN,
        ),
        (
            "a scheme with blanks",
            bare(":method: GET|:scheme: ht tp|:authority: a.test|:path: /p"),
            RESET,
            None,
        ),
    ]
}

fn authorities() -> Vec<Row> {
    let asked = |fields: &str| bare(&format!(":method: GET|:scheme: http|:path: /p|{fields}"));
    vec![
        ("a Host alone", asked("host: a.test"), Answered(200), GET_SEEN),
        ("a Host that says the same", asked(":authority: a.test|host: a.test"), Answered(200), GET_SEEN),
        (
            "a Host that says something else",
            asked(":authority: a.test|host: b.test"),
            Answered(200),
            GET_SEEN,
        ),
        ("nobody is asked", asked("x: 1"), Answered(400), None),
        ("two Hosts", asked("host: a.test|host: b.test"), Answered(400), None),
        (
            "two Hosts beside the authority",
            asked(":authority: a.test|host: b.test|host: c.test"),
            Answered(400),
            None,
        ),
        ("an empty authority", asked(":authority: "), Reset(PROTOCOL_ERROR), None),
        ("an empty authority and a Host", asked(":authority: |host: a.test"), Reset(PROTOCOL_ERROR), None),
        ("an empty Host", asked("host: "), Answered(400), None),
        ("an authority with user information", asked(":authority: me@a.test"), Answered(400), None),
        ("a Host with user information", asked("host: me@a.test"), Answered(400), None),
        ("an authority with a slash", asked(":authority: a.test/x"), Reset(PROTOCOL_ERROR), None),
        ("an authority with a blank", asked(":authority: a.test x"), Reset(PROTOCOL_ERROR), None),
        (
            "an authority with an end of line",
            asked(":authority: a.test\r\nx: 1"),
            Reset(PROTOCOL_ERROR),
            None,
        ),
        (
            "an authority with a comma",
            asked(":authority: a.test,b.test"),
            Answered(200),
            Some("GET /p a.test,b.test"),
        ),
    ]
}

fn paths() -> Vec<Row> {
    let asked = |path: &str| bare(&format!(":method: GET|:scheme: http|:authority: a.test|:path: {path}"));
    vec![
        ("an empty path", asked(""), Reset(PROTOCOL_ERROR), None),
        ("a path without a slash", asked("p"), Reset(PROTOCOL_ERROR), None),
        ("a whole URI", asked("http://b.test/p"), Reset(PROTOCOL_ERROR), None),
        ("a star", asked("*"), Answered(404), None),
        (
            "a star for OPTIONS",
            bare(":method: OPTIONS|:scheme: http|:authority: a.test|:path: *"),
            Answered(404),
            None,
        ),
        ("a fragment is not passed on", asked("/p#top"), Answered(200), GET_SEEN),
        ("a fragment with a way up", asked("/p#/../../q"), Answered(200), GET_SEEN),
        ("a blank", asked("/p q"), Reset(PROTOCOL_ERROR), None),
        ("a blank and a version", asked("/p HTTP/1.1"), Reset(PROTOCOL_ERROR), None),
        ("an end of line", asked("/p\r\nx: 1"), Reset(PROTOCOL_ERROR), None),
        ("a NUL", asked("/p\0"), Reset(PROTOCOL_ERROR), None),
        ("a NUL, encoded", asked("/p%00"), Answered(400), None),
        ("octets beyond ASCII", asked("/\u{e4}"), Reset(PROTOCOL_ERROR), None),
        ("a way up", asked("/x/../p"), Answered(200), GET_SEEN),
        ("a way up, encoded", asked("/x/%2e%2e/p"), Answered(200), GET_SEEN),
        ("a question mark alone", asked("?x"), Answered(400), None),
        ("a long path", asked(&format!("/{}", "p".repeat(70_000))), Answered(431), None),
    ]
}

fn fields() -> Vec<Row> {
    const RESET: Outcome = Reset(PROTOCOL_ERROR);
    vec![
        ("a name in capitals", get("X-Name: 1"), RESET, None),
        (
            "an empty name",
            [frame(HEADERS, ALL, 1, &[block(SAID), field(b"", b"1")].concat())].concat(),
            RESET,
            None,
        ),
        ("a name with a blank", get("x y: 1"), RESET, None),
        (
            "a name with a colon",
            [frame(HEADERS, ALL, 1, &[block(SAID), field(b"x:y", b"1")].concat())].concat(),
            RESET,
            None,
        ),
        ("a name with an end of line", get("x\r\ny: 1"), RESET, None),
        ("a name beyond ASCII", get("x\u{e4}: 1"), RESET, None),
        ("connection", get("connection: close"), RESET, None),
        ("keep-alive", get("keep-alive: timeout=5"), RESET, None),
        ("proxy-connection", get("proxy-connection: close"), RESET, None),
        ("transfer-encoding", get("transfer-encoding: chunked"), RESET, None),
        ("upgrade", get("upgrade: websocket"), RESET, None),
        ("http2-settings is dropped", get("http2-settings: AAMAAABkAAQAAP__"), Answered(200), GET_SEEN),
        ("te: trailers", get("te: trailers"), Answered(200), Some("GET /p a.test [te: trailers]")),
        ("te: gzip", get("te: gzip"), RESET, None),
        ("te: trailers and more", get("te: trailers, deflate;q=0.5"), RESET, None),
        ("a value that ends a line", get("x: a\r\ny: b"), RESET, None),
        ("a value with CR", get("x: a\rb"), RESET, None),
        ("a value with LF", get("x: a\nb"), RESET, None),
        ("a value with NUL", get("x: a\0b"), RESET, None),
        ("a value with DEL", get("x: a\u{7f}b"), RESET, None),
        ("a value beyond ASCII", get("x: \u{e4}"), Answered(200), Some("GET /p a.test [x: \\xe4]")),
        ("a value behind a blank", get("x:  a"), Answered(400), None),
        ("a value before a blank", get("x: a "), Answered(400), None),
        ("a value behind a tab", get("x: \ta"), Answered(400), None),
        ("an empty value", get("x: "), Answered(200), Some("GET /p a.test [x: ]")),
        (
            "crumbs of a cookie",
            get("cookie: a=1|x: y|cookie: b=2|cookie: c=3"),
            Answered(200),
            Some("GET /p a.test [cookie: a=1; b=2; c=3] [x: y]"),
        ),
        (
            "sixty fields",
            get(&"te: trailers|".repeat(60)),
            Answered(200),
            Some("GET /p a.test [te: trailers]"),
        ),
        ("a hundred and one", get(&"x: y|".repeat(101)), Answered(431), None),
        ("more than may be of fields", get(&format!("x: {}", "y".repeat(61_500))), Answered(431), None),
        (
            "far more than may be",
            get(&"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy|".repeat(200)),
            Answered(431),
            None,
        ),
    ]
}

fn bodies() -> Vec<Row> {
    const RESET: Outcome = Reset(PROTOCOL_ERROR);
    let seen = |text| Some(text);
    vec![
        ("a body", post("", &[data(END_STREAM, b"hello")]), Answered(200), seen("POST /p a.test hello")),
        (
            "as long as it says",
            post("content-length: 5", &[data(END_STREAM, b"hello")]),
            Answered(200),
            seen("POST /p a.test [content-length: 5] hello"),
        ),
        ("longer than it says", post("content-length: 4", &[data(END_STREAM, b"hello")]), RESET, None),
        ("shorter than it says", post("content-length: 6", &[data(END_STREAM, b"hello")]), RESET, None),
        ("a length and no body", bare(&format!("{POST}|content-length: 5")), RESET, None),
        (
            "two lengths",
            post("content-length: 5|content-length: 6", &[data(END_STREAM, b"hello")]),
            Answered(400),
            None,
        ),
        (
            "the same length twice",
            post("content-length: 5|content-length: 5", &[data(END_STREAM, b"hello")]),
            Answered(400),
            None,
        ),
        ("a list of lengths", post("content-length: 5, 5", &[data(END_STREAM, b"hello")]), RESET, None),
        ("a length below zero", post("content-length: -5", &[data(END_STREAM, b"hello")]), RESET, None),
        ("a length with a plus", post("content-length: +5", &[data(END_STREAM, b"hello")]), RESET, None),
        ("a length with a blank", post("content-length:  5", &[data(END_STREAM, b"hello")]), RESET, None),
        ("an empty length", post("content-length: ", &[data(END_STREAM, b"hello")]), RESET, None),
        (
            "a length beyond all",
            post("content-length: 18446744073709551616", &[data(END_STREAM, b"hello")]),
            RESET,
            None,
        ),
        (
            "a body within a body",
            post("", &[data(END_STREAM, b"0\r\n\r\nGET /evil HTTP/1.1\r\nhost: a.test\r\n\r\n")]),
            Answered(200),
            seen(r"POST /p a.test 0\r\n\r\nGET /evil HTTP/1.1\r\nhost: a.test\r\n\r\n"),
        ),
        (
            "padding",
            post("", &[data(END_STREAM | PADDED, b"\x03hello\0\0\0")]),
            Answered(200),
            seen("POST /p a.test hello"),
        ),
        (
            "padding alone",
            post("", &[data(PADDED, b"\x03\0\0\0"), data(END_STREAM, b"hello")]),
            Answered(200),
            seen("POST /p a.test hello"),
        ),
        (
            "more padding than there is",
            post("", &[data(END_STREAM | PADDED, b"\x09hello")]),
            GoAway(PROTOCOL_ERROR),
            None,
        ),
        (
            "trailers",
            post("trailer: x-sum", &[data(0, b"hello"), trailers(ALL, "x-sum: 1")]),
            Answered(200),
            seen("POST /p a.test [trailer: x-sum] hello [x-sum: 1]"),
        ),
        (
            "trailers that end nothing",
            post("", &[data(0, b"hello"), trailers(END_HEADERS, "x-sum: 1")]),
            RESET,
            None,
        ),
        ("trailers with a path", post("", &[data(0, b"hello"), trailers(ALL, ":path: /q")]), RESET, None),
        (
            "trailers with a status",
            post("", &[data(0, b"hello"), trailers(ALL, ":status: 200")]),
            RESET,
            None,
        ),
        (
            "trailers with transfer-encoding",
            post("", &[data(0, b"hello"), trailers(ALL, "transfer-encoding: chunked")]),
            RESET,
            None,
        ),
    ]
}

fn frames() -> Vec<Row> {
    const GONE: Outcome = GoAway(PROTOCOL_ERROR);
    const SIZE: Outcome = GoAway(FRAME_SIZE_ERROR);
    const PACKING: Outcome = GoAway(COMPRESSION_ERROR);
    let open = || frame(HEADERS, END_HEADERS, 1, &block(POST));
    vec![
        ("DATA on stream 0", frame(DATA, END_STREAM, 0, b"x"), GONE, None),
        ("DATA on a stream that is none", data(END_STREAM, b"x"), GONE, None),
        ("HEADERS on stream 0", frame(HEADERS, ALL, 0, &block(SAID)), GONE, None),
        ("HEADERS on an even stream", frame(HEADERS, ALL, 2, &block(SAID)), GONE, None),
        ("HEADERS with more padding than there is", frame(HEADERS, ALL | PADDED, 1, b"\xff"), GONE, None),
        (
            "HEADERS that depend on themselves",
            frame(HEADERS, ALL | PRIORITY_FLAG, 1, &[&[0, 0, 0, 1, 16], &block(SAID)[..]].concat()),
            GONE,
            None,
        ),
        ("DATA in a head", [frame(HEADERS, END_STREAM, 1, &block(SAID)), data(0, b"x")].concat(), GONE, None),
        (
            "another stream's CONTINUATION",
            [frame(HEADERS, END_STREAM, 1, &block(SAID)), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            GONE,
            None,
        ),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &block("x: 1")), GONE, None),
        (
            "a head in pieces",
            [
                frame(HEADERS, END_STREAM, 1, &block(SAID)),
                frame(CONTINUATION, 0, 1, &block("x: 1")),
                frame(CONTINUATION, END_HEADERS, 1, &block("y: 2")),
            ]
            .concat(),
            Answered(200),
            Some("GET /p a.test [x: 1] [y: 2]"),
        ),
        (
            "CONTINUATION without an end",
            [frame(HEADERS, END_STREAM, 1, &block(SAID)), frame(CONTINUATION, 0, 1, &[]).repeat(1000)]
                .concat(),
            GoAway(ENHANCE_YOUR_CALM),
            None,
        ),
        (
            "CONTINUATION without an end, and full",
            [
                frame(HEADERS, END_STREAM, 1, &block(SAID)),
                frame(CONTINUATION, 0, 1, &block(&format!("x: {}", "y".repeat(16_000)))).repeat(100),
            ]
            .concat(),
            GoAway(ENHANCE_YOUR_CALM),
            None,
        ),
        ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 1]), GONE, None),
        ("PRIORITY of a wrong size", frame(PRIORITY, 0, 1, &[0; 4]), Reset(FRAME_SIZE_ERROR), None),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), GONE, None),
        ("RST_STREAM of a stream that is none", frame(RST_STREAM, 0, 1, &[0; 4]), GONE, None),
        ("RST_STREAM of a wrong size", [open(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), SIZE, None),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), GONE, None),
        ("SETTINGS of a wrong size", frame(SETTINGS, 0, 0, &[0; 5]), SIZE, None),
        ("an ACK that says something", frame(SETTINGS, ACK, 0, &[0; 6]), SIZE, None),
        (
            "a window beyond all",
            frame(SETTINGS, 0, 0, &setting(4, 1 << 31)),
            GoAway(FLOW_CONTROL_ERROR),
            None,
        ),
        ("frames below the least size", frame(SETTINGS, 0, 0, &setting(5, 100)), GONE, None),
        ("PUSH that is neither yes nor no", frame(SETTINGS, 0, 0, &setting(2, 2)), GONE, None),
        (
            "a setting that nobody knows",
            [frame(SETTINGS, 0, 0, &setting(0x7777, 5)), get("")].concat(),
            Answered(200),
            GET_SEEN,
        ),
        ("PUSH_PROMISE from a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4]), GONE, None),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), GONE, None),
        ("PING of a wrong size", frame(PING, 0, 0, &[0; 7]), SIZE, None),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), GONE, None),
        ("WINDOW_UPDATE by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), GONE, None),
        (
            "WINDOW_UPDATE by nothing, of a stream",
            [open(), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            Reset(PROTOCOL_ERROR),
            None,
        ),
        (
            "WINDOW_UPDATE beyond all",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            GoAway(FLOW_CONTROL_ERROR),
            None,
        ),
        (
            "WINDOW_UPDATE beyond all, of a stream",
            [open(), frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes())].concat(),
            Reset(FLOW_CONTROL_ERROR),
            None,
        ),
        ("WINDOW_UPDATE of a wrong size", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), SIZE, None),
        ("a frame too long", frame(DATA, 0, 1, &[0; 16_385]), SIZE, None),
        (
            "a frame that nobody knows",
            [frame(0x77, 0xff, 1, b"x"), get("")].concat(),
            Answered(200),
            GET_SEEN,
        ),
        (
            "a head that cannot be unpacked",
            frame(HEADERS, ALL, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
            PACKING,
            None,
        ),
        ("a field of a table that is empty", frame(HEADERS, ALL, 1, &[0xfe]), PACKING, None),
        (
            "a table that grows beyond what was allowed",
            frame(HEADERS, ALL, 1, &[&[0x3f, 0xe1, 0xff, 0x03], &block(SAID)[..]].concat()),
            PACKING,
            None,
        ),
        ("a head cut short", frame(HEADERS, ALL, 1, b"\0\x05:pat"), PACKING, None),
    ]
}

struct Site {
    _gateway: Gateway,
    backends: [(Recorder, SocketAddr); 2],
}

impl Site {
    fn new() -> Self {
        let recorders = [Recorder::start(Version::Http1), Recorder::start(Version::Http2)];
        let ports = [port::free(), port::free()];
        let documents: String = [("one", "http"), ("two", "http2")]
            .into_iter()
            .enumerate()
            .map(|(at, (name, port_name))| {
                documents::gateway(name, &[Server::http(ports[at], &["*"])])
                    + &http_route(name, "*", name, name)
                    + &service(name, port_name, &[recorders[at].server.address])
            })
            .collect();
        let gateway = Gateway::arrange().document("site", &documents).start();
        let addresses = ports.map(|port| gateway.at(port));
        let [one, two] = recorders;
        Self { _gateway: gateway, backends: [(one, addresses[0]), (two, addresses[1])] }
    }

    /// Holds the rows; all that do not hold are told together.
    #[track_caller]
    fn hold(&self, rows: Vec<Row>) {
        let mut faults = String::new();
        for (name, octets, want, seen) in &rows {
            for (recorder, address) in &self.backends {
                let mut connection = Connection::open(*address, &[]);
                connection.send(octets);
                let outcome = connection.outcome(1);
                let is_open = match outcome {
                    Answered(_) | Reset(_) => {
                        connection.get(101, "/probe");
                        Some(connection.outcome(101))
                    }
                    GoAway(_) | Closed | Silent => None,
                };
                let lines = recorder.take();
                let (probes, lines): (Vec<_>, Vec<_>) =
                    lines.into_iter().partition(|line| line == "GET /probe a.test");
                let seen: Vec<String> = seen.iter().map(|seen| (*seen).to_owned()).collect();
                let is_in_order = is_open.is_none_or(|probe| probe == Answered(200) && probes.len() == 1);
                if outcome != *want || lines != seen || !is_in_order {
                    let lines: String = format!("{lines:?}").chars().take(SHOWN).collect();
                    let _ = writeln!(faults, "{name}: {outcome:?}, {lines}, then {is_open:?}");
                }
            }
        }
        assert!(faults.is_empty(), "of {} rows:\n{faults}", rows.len());
    }
}

#[test]
fn what_a_request_must_say_is_said_once_and_first() {
    Site::new().hold(pseudo_fields());
}

#[test]
fn one_host_is_asked() {
    Site::new().hold(authorities());
}

#[test]
fn paths_are_paths() {
    Site::new().hold(paths());
}

#[test]
fn fields_cannot_be_taken_for_others() {
    Site::new().hold(fields());
}

#[test]
fn bodies_are_as_long_as_they_say() {
    Site::new().hold(bodies());
}

#[test]
fn frames_that_make_no_sense_end_what_they_are_about() {
    Site::new().hold(frames());
}

#[test]
fn a_client_that_goes_away_gets_its_answers() {
    let site = Site::new();
    for (recorder, address) in &site.backends {
        let mut connection = Connection::open(*address, &[]);
        connection.send(&[get(""), frame(GOAWAY, 0, 0, &[0; 8])].concat());
        assert_eq!(connection.outcome(1), Answered(200));
        assert!(matches!(connection.end(), GoAway(0) | Closed));
        assert_eq!(recorder.take(), ["GET /p a.test"]);
    }
}
