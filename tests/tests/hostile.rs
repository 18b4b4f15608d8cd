//! Hostile requests and answers of HTTP/1, octet by octet: what comes of each at the client's connection, and what the
//! backend has read. The rows are in `tests/data/hostile`, their form in `harness::hostile`. Every request is sent twice,
//! whole and in pieces, and behind every row the connections that the gateway keeps are asked for something else.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use harness::gateway::Gateway;
use harness::hostile::{Ask, End, Field, Got, Recorder, Row, Said, Seen, ask, ask_in_pieces, rows};
use harness::{documents, port};

/// Tables run side by side, each with a listener and a backend of its own: most of a row's time is waiting.
const LANES: usize = 8;
/// Longer requests are not sent in pieces.
const LONG: usize = 2048;

/// A way through the gateway that nobody else uses.
struct Lane {
    address: SocketAddr,
    backend: Recorder,
}

/// One worker, so that all rows of a lane share one pool of connections to the backend.
fn start() -> (Gateway, Vec<Lane>) {
    let mut arrangement = Gateway::arrange().flags(&["--workers", "1"]);
    let mut lanes = Vec::new();
    for at in 0..LANES {
        let (name, port, backend) = (format!("lane-{at}"), port::free(), Recorder::start());
        let text = [
            documents::gateway(&name, &[documents::Server::http(port, &["*"])]),
            documents::virtual_service(&name, &["*"], &name, &rules(&name)),
            documents::http_service(&name, &[backend.address]),
        ];
        arrangement = arrangement.document(&name, &text.concat());
        lanes.push(Lane { address: ([127, 0, 0, 1], port).into(), backend });
    }
    (arrangement.start(), lanes)
}

/// One rule says something of what a client has said, which must stay one line.
fn rules(service: &str) -> String {
    let route = format!("route: [{{destination: {{host: {service}}}}}]");
    let echo =
        "headers: {request: {set: {x-echo: \"%REQ(x-say)%\"}}, response: {set: {x-echo: \"%REQ(x-say)%\"}}}";
    format!("  http:\n  - match: [{{uri: {{prefix: /echo}}}}]\n    {echo}\n    {route}\n  - {route}\n")
}

#[test]
fn hostile_messages_are_read_in_one_way_or_not_at_all() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/hostile");
    let entries = std::fs::read_dir(directory).expect("the directory of rows");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let all: Vec<Row> = files.iter().flat_map(|file| rows(file)).collect();
    assert!(all.len() > 220, "{} rows: some file was not read", all.len());
    let (_gateway, lanes) = start();
    let wrong: String = std::thread::scope(|scope| {
        let parts = lanes.iter().zip(all.chunks(all.len().div_ceil(LANES)));
        let threads: Vec<_> = parts.map(|(lane, rows)| scope.spawn(|| faults(lane, rows))).collect();
        threads.into_iter().map(|thread| thread.join().expect("rows that can be asked")).collect()
    });
    assert!(wrong.is_empty(), "of {} rows:\n{wrong}", all.len());
}

/// What is wrong with some rows, for people.
fn faults(lane: &Lane, rows: &[Row]) -> String {
    let mut wrong = String::new();
    for row in rows {
        for (way, faults) in lane.run(row) {
            if !faults.is_empty() {
                let _ = writeln!(wrong, "{} ({way}): {}\n    {}", row.place, row.line, faults.join("\n    "));
            }
        }
    }
    wrong
}

impl Lane {
    /// What is wrong with a row, in each way in which it is asked.
    fn run(&self, row: &Row) -> Vec<(&'static str, Vec<String>)> {
        let (end, responses) = (row.end, row.statuses.len());
        match &row.said {
            Said::Request(bytes) => {
                let asked = Ask { bytes, responses, end };
                let mut found = vec![("whole", self.judge(row, &ask(self.address, asked)))];
                if bytes.len() <= LONG {
                    found.push(("in pieces", self.judge(row, &ask_in_pieces(self.address, asked))));
                }
                found
            }
            Said::Answer { method, bytes, closes } => {
                self.backend.answer_next(bytes, *closes);
                let length = if method == "POST" { "Content-Length: 0¶" } else { "" };
                let request = format!("{method} / HTTP/1.1¶Host: a.test¶{length}¶");
                let bytes = harness::hostile::bytes(&request);
                vec![("answered", self.judge(row, &ask(self.address, Ask { bytes: &bytes, responses, end })))]
            }
        }
    }

    fn judge(&self, row: &Row, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        // What is left in the pool must be good for another request.
        let probed = ask(self.address, Ask { bytes: b"", responses: 0, end: End::Open });
        wrong.extend(probed.fault.map(|fault| format!("afterwards: {fault}")));
        let is_cut = seen.fault.as_ref().is_some_and(|fault| fault.contains("ended"));
        // Where the body is bad from its first octet on, the head may not have been written yet.
        let is_cut_early = row.end == End::Cut && seen.statuses.is_empty() && seen.fault.is_none();
        if is_cut_early {
            return wrong;
        }
        if seen.statuses != row.statuses {
            wrong.push(format!("statuses {:?}", seen.statuses));
        }
        if is_cut != (row.end == End::Cut) || seen.fault.is_some() && !is_cut {
            wrong.push(format!("the client: {:?}", seen.fault));
        }
        if row.body.as_ref().is_some_and(|body| *body != seen.body) {
            wrong.push(format!("body {}", seen.body.escape_ascii()));
        }
        let (trailers, fields) = parted(&row.fields);
        wrong.extend(seen.fields.differences(&fields));
        wrong.extend(seen.trailers.differences(&trailers));
        if matches!(row.said, Said::Request(_)) {
            wrong.extend(reached(row, &self.backend.take(row.got.len())));
        } else {
            self.backend.take(0);
        }
        wrong
    }
}

/// What the backend got otherwise than a row says.
fn reached(row: &Row, got: &[Got]) -> Vec<String> {
    let mut wrong = Vec::new();
    // Whether any of a request has left before its body turns out to be bad is a matter of time.
    let got: Vec<_> = got.iter().filter(|got| got.body.is_some() || got.fault.is_some()).collect();
    let summaries: Vec<_> = got.iter().map(|got| got.summary()).collect();
    if summaries != row.got {
        wrong.push(format!("the backend got {summaries:?}"));
    }
    if let Some(first) = got.first() {
        let (trailers, fields) = parted(&row.told);
        wrong.extend(first.fields.differences(&fields));
        wrong.extend(first.trailers.differences(&trailers));
    }
    wrong
}

/// Trailers, and all else.
fn parted(fields: &[Field]) -> (Vec<Field>, Vec<Field>) {
    let strip = |field: &Field| {
        let name = field.name.trim_start_matches('~').to_owned();
        Field { name, value: field.value.clone() }
    };
    let (trailers, others): (Vec<_>, Vec<_>) = fields.iter().partition(|field| field.name.starts_with('~'));
    (trailers.into_iter().map(strip).collect(), others.into_iter().cloned().collect())
}
