//! A client that sends octets and reads what comes back strictly.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::message::{Ended, Fields, Framing, Reading, framing};
use super::row::End;
use crate::client;

/// No row is waited for longer: there are hundreds, and when something is wrong it is with many.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of a piece, where a request is sent in pieces: fewer than any line has.
const PIECE: usize = 7;

/// What is sent, and how it is known when all has come back.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The octets.
    pub bytes: &'a [u8],
    /// Responses that are waited for, those with a status below 200 among them.
    pub responses: usize,
    /// What becomes of the connection then.
    pub end: End,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Seen {
    /// Statuses in their order.
    pub statuses: Vec<u16>,
    /// What those were about that the backend has answered of its own accord.
    pub from_backend: Vec<String>,
    /// Fields of the last response.
    pub fields: Fields,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Fields,
    /// What is wrong with how it ended; a response that broke off, for instance.
    pub fault: Option<String>,
}

/// Sends all at once.
pub fn ask(address: SocketAddr, ask: Ask<'_>) -> Seen {
    send(address, ask, ask.bytes.len().max(1))
}

/// Sends a few octets at a time.
pub fn ask_in_pieces(address: SocketAddr, ask: Ask<'_>) -> Seen {
    send(address, ask, PIECE)
}

fn send(address: SocketAddr, ask: Ask<'_>, piece: usize) -> Seen {
    let mut stream = client::connect(address);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for piece in ask.bytes.chunks(piece) {
        // The gateway may answer, and close, before it has read all.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    if ask.end == End::Shut {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut seen = Seen::default();
    let mut reading = Reading::new(stream);
    if let Err(error) = read(&mut reading, ask, &mut seen) {
        seen.fault = Some(format!("{error:#}"));
    }
    seen
}

fn read(reading: &mut Reading<TcpStream>, ask: Ask<'_>, seen: &mut Seen) -> Result<()> {
    while ask.end != End::Open || seen.statuses.len() < ask.responses {
        match response(reading, ask, seen)? {
            Ok(()) => {}
            Err(Ended) => return ensure_closed(ask),
        }
    }
    ensure!(reading.held().is_empty(), "more than was asked for: {}", reading.held().escape_ascii());
    probe(reading)
}

fn ensure_closed(ask: Ask<'_>) -> Result<()> {
    ensure!(ask.end != End::Open, "closed");
    Ok(())
}

fn response(reading: &mut Reading<TcpStream>, ask: Ask<'_>, seen: &mut Seen) -> Result<Result<(), Ended>> {
    let (line, fields) = match reading.head()? {
        Ok(head) => head,
        Err(ended) => return Ok(Err(ended)),
    };
    // Who has said 1.0 is answered in that version.
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let status = rest.and_then(|rest| rest.get(..3)).and_then(|it| it.parse().ok());
    let status = status.with_context(|| format!("a status line {line:?}"))?;
    let is_head = ask.bytes.starts_with(b"HEAD ") && seen.statuses.iter().all(|status| *status < 200);
    let said = framing(&fields)?;
    let framing = match status {
        100..200 | 204 | 304 => {
            ensure!(status == 304 || said == Framing::Unsaid, "a {status} that says how long it is");
            Framing::Length(0)
        }
        _ if is_head => Framing::Length(0),
        _ => said,
    };
    seen.statuses.push(status);
    seen.from_backend
        .extend(fields.all("x-target").first().map(|it| String::from_utf8_lossy(it).into_owned()));
    seen.fields = fields;
    (seen.body, seen.trailers) = reading.body(framing).context("in a body")?;
    Ok(Ok(()))
}

/// Asks once more on a connection, and wants the answer to that and nothing else.
fn probe(reading: &mut Reading<TcpStream>) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let target = format!("/probe/{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let request = format!("GET {target} HTTP/1.1\r\nHost: probe.test\r\n\r\n");
    reading.stream().write_all(request.as_bytes()).context("probing")?;
    let mut seen = Seen::default();
    let asked = Ask { bytes: request.as_bytes(), responses: 1, end: End::Open };
    let answered = response(reading, asked, &mut seen).context("probing")?;
    ensure!(answered.is_ok(), "closed where it should have stayed open");
    let text = String::from_utf8_lossy(&seen.body).into_owned();
    ensure!(seen.statuses == [200] && text == target, "asked for {target}, got {:?} {text:?}", seen.statuses);
    Ok(())
}
