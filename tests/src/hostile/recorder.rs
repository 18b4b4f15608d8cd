//! A backend that writes down what reaches it, and answers what it is told to; else it says what it was asked for.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};

use super::asking::PATIENCE;
use super::message::{Ended, Fields, Framing, Reading, framing};
use crate::wait;

/// What the next request is answered.
#[derive(Debug, Clone)]
struct Answer {
    bytes: Vec<u8>,
    /// The connection is closed behind it.
    closes: bool,
}

/// What reached the backend: a request as it was read, or what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Got {
    /// Method.
    pub method: String,
    /// Request target.
    pub target: String,
    /// Fields.
    pub fields: Fields,
    /// `None`: its connection ended before all of it had come.
    pub body: Option<Vec<u8>>,
    /// Trailers.
    pub trailers: Fields,
    /// Why it is no request.
    pub fault: Option<String>,
}

impl Got {
    /// Without headers, as rows write it.
    pub fn summary(&self) -> String {
        if let Some(fault) = &self.fault {
            return format!("<! {fault}>");
        }
        let host = self.fields.all("host").join(&b","[..]);
        let body = self.body.as_deref().unwrap_or_default().escape_ascii();
        let text = format!("{} {} {} {body}", self.method, self.target, host.escape_ascii());
        format!("<{}>", text.trim_end())
    }
}

#[derive(Debug, Default)]
struct State {
    got: Mutex<Vec<Got>>,
    answer: Mutex<Option<Answer>>,
    stopped: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module. It ends when it is dropped; its connections end with those of their clients.
#[derive(Debug)]
pub struct Recorder {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Begins to listen on a port of loopback.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listening");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<State>::default();
        let shared = state.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, shared) = (stream.expect("a connection"), shared.clone());
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, state, accepting: Some(accepting) }
    }

    /// Answers the next request, but for those that probe, with these octets.
    pub fn answer_next(&self, bytes: &[u8], closes: bool) {
        *lock(&self.state.answer) = Some(Answer { bytes: bytes.to_vec(), closes });
    }

    /// Takes what has come, once it is as much as is waited for.
    pub fn take(&self, expected: usize) -> Vec<Got> {
        let came = || (lock(&self.state.got).len() >= expected).then_some(());
        let _ = wait::within(PATIENCE, came);
        lock(&self.state.answer).take();
        std::mem::take(&mut lock(&self.state.got))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        // Wakes the one that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Requests of the test's own, of which nothing is written down.
fn is_probe(got: &Got) -> bool {
    got.method == "GET" && got.target.starts_with("/probe/") && got.fault.is_none()
}

fn serve(stream: TcpStream, state: &State) {
    let mut reading = Reading::new(stream);
    loop {
        let mut got = Got::default();
        let goes_on = match read(&mut reading, &mut got) {
            Ok(true) => true,
            Ok(false) => return,
            Err(error) => {
                let is_cut = format!("{error:#}").starts_with("ended");
                got.fault = (!is_cut || got.method.is_empty()).then(|| format!("{error:#}"));
                false
            }
        };
        let answer = answer(&got, state);
        if !is_probe(&got) {
            lock(&state.got).push(got);
        }
        if !goes_on || reading.stream().write_all(&answer.bytes).is_err() || answer.closes {
            return;
        }
    }
}

fn answer(got: &Got, state: &State) -> Answer {
    let told = if is_probe(got) { None } else { lock(&state.answer).take() };
    told.unwrap_or_else(|| {
        let body = if got.method == "HEAD" { "" } else { &got.target };
        let head = format!(
            "HTTP/1.1 200 OK\r\nx-target: {}\r\ncontent-length: {}\r\n\r\n",
            got.target,
            got.target.len()
        );
        Answer { bytes: (head + body).into_bytes(), closes: false }
    })
}

/// The next request, of which `got` has as much as is known when something is wrong. False: there is none.
fn read(reading: &mut Reading<TcpStream>, got: &mut Got) -> Result<bool> {
    let (line, fields) = match reading.head()? {
        Ok(head) => head,
        Err(Ended) => return Ok(false),
    };
    let words: Vec<_> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { anyhow::bail!("a request line {line:?}") };
    let hosts = fields.all("host").len();
    ensure!(hosts == 1, "{hosts} hosts");
    let framing = framing(&fields).context("framing")?;
    (got.method, got.target, got.fields) = (method.to_owned(), target.to_owned(), fields);
    let framing = if framing == Framing::Unsaid { Framing::Length(0) } else { framing };
    let (body, trailers) = reading.body(framing)?;
    (got.body, got.trailers) = (Some(body), trailers);
    Ok(true)
}
