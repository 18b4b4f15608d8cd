//! The access log of requests, and of TCP connections, whichever plane carried them: a line each when it is over, in
//! Istio's default format or as JSON. A thread of its own formats and writes; whoever has a record to hand over never waits.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, SystemTime};

use super::{ResponseFlag, clock};

/// Records that wait for the writer at most; more are dropped.
const QUEUE: usize = 16_384;

/// Bytes that these have at most: clients choose how long what they say is.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// How long a stop waits for a file that takes no more.
const PATIENCE: Duration = Duration::from_secs(2);

/// A TCP connection that is over, or a request on one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// When it began.
    pub started: SystemTime,
    /// To its last byte.
    pub duration: Duration,
    /// Bytes of the stream from the client.
    pub received: u64,
    /// Bytes to the client, likewise.
    pub sent: u64,
    /// What went wrong; empty: nothing.
    pub flags: Cow<'static, [ResponseFlag]>,
    /// The backend.
    pub upstream_host: Option<SocketAddr>,
    /// The backend's cluster, `outbound|<port>|<subset>|<fqdn>`.
    pub upstream_cluster: Option<String>,
    /// The gateway's end towards the backend.
    pub upstream_local: Option<SocketAddr>,
    /// The gateway's end towards the client.
    pub downstream_local: SocketAddr,
    /// The client.
    pub downstream_remote: SocketAddr,
    /// TLS: the server name that was asked for.
    pub server_name: Option<String>,
    /// The request, whose bytes are then those of the bodies.
    pub request: Option<Box<Request>>,
}

impl Connection {
    /// One that has just begun, with the gateway's end towards the client, and the client.
    pub fn begun(local: SocketAddr, remote: SocketAddr, server_name: Option<&str>) -> Self {
        Self {
            started: SystemTime::now(),
            duration: Duration::ZERO,
            received: 0,
            sent: 0,
            flags: Cow::default(),
            upstream_host: None,
            upstream_cluster: None,
            upstream_local: None,
            downstream_local: local,
            downstream_remote: remote,
            server_name: server_name.map(str::to_owned),
            request: None,
        }
    }
}

/// What was asked by HTTP and what became of it. What could not be read is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`.
    pub method: Option<String>,
    /// With the query, as it was before rewrites.
    pub path: Option<String>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: Option<&'static str>,
    /// Of the response; 0 without one.
    pub status: u16,
    /// Envoy's word for where the response comes from.
    pub details: Option<&'static str>,
    /// Milliseconds until the backend's head of a response, as its client is told.
    pub service_time: Option<String>,
    /// `x-forwarded-for` as the backend gets it.
    pub forwarded_for: Option<String>,
    /// `user-agent`.
    pub user_agent: Option<String>,
    /// `x-request-id` as the backend gets it.
    pub request_id: Option<String>,
    /// The Host that the backend gets.
    pub authority: Option<String>,
    /// The route's name, if it has one.
    pub route_name: Option<String>,
}

impl Connection {
    /// Bytes that it has, about.
    fn weight(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let of_request = self.request.as_deref().map_or(0, |request| {
            let Request { path, forwarded_for, user_agent, authority, .. } = request;
            size_of::<Request>()
                + [path, forwarded_for, user_agent, authority].map(length).iter().sum::<usize>()
        });
        size_of::<Self>() + length(&self.server_name) + of_request
    }
}

/// Form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Istio's default format.
    Text,
    /// The same values under Istio's names.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected `text` or `json`".to_owned()),
        }
    }
}

enum Item {
    Record(Box<Connection>),
    /// Everything before it has to be written.
    Flush(SyncSender<()>),
    /// The file may have been moved away.
    Reopen,
}

/// Hands records to the writer.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: SyncSender<Item>,
    /// Bytes of the records in it.
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens a file to append to, or `/dev/stdout` or `/dev/stderr`, and starts the writer. It ends with the last clone
    /// of what this returns.
    pub fn open(path: &Path, format: Format) -> io::Result<Self> {
        Self::start(open(path)?, Some(path.to_owned()), format)
    }

    fn start(file: Sink, path: Option<PathBuf>, format: Format) -> io::Result<Self> {
        let (queue, items) = sync_channel(QUEUE);
        let (waiting, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let (taken, lost) = (waiting.clone(), dropped.clone());
        let writer = Writer { file: BufWriter::new(file), path, format, waiting: taken, dropped: lost };
        std::thread::Builder::new().name("sluice-access".to_owned()).spawn(move || writer.run(&items))?;
        Ok(Self { queue, waiting, dropped })
    }

    /// Has a record written, or dropped if too many wait already.
    pub fn write(&self, connection: Connection) {
        let weight = connection.weight();
        let fits = self.waiting.fetch_add(weight, Ordering::Relaxed) + weight <= QUEUE_BYTES;
        if !fits || self.queue.try_send(Item::Record(Box::new(connection))).is_err() {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything handed over so far is written, but not for ever.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        // With a full queue the file takes nothing anyway.
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }

    /// Opens the file anew, as those who move logs away ask for.
    pub fn reopen(&self) {
        // With a full queue the next request does it.
        let _ = self.queue.try_send(Item::Reopen);
    }

    /// Records that are lost, because too many waited or the file refused them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Where lines go.
type Sink = Box<dyn Write + Send>;

fn open(path: &Path) -> io::Result<Sink> {
    Ok(match path.to_str() {
        // By its descriptor: the path cannot be opened if it is a socket, as journald's is.
        Some("/dev/stdout") => Box::new(io::stdout()),
        Some("/dev/stderr") => Box::new(io::stderr()),
        _ => Box::new(File::options().create(true).append(true).open(path)?),
    })
}

struct Writer {
    file: BufWriter<Sink>,
    path: Option<PathBuf>,
    format: Format,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            self.take(item);
            // As much at once as there is.
            loop {
                match items.try_recv() {
                    Ok(item) => self.take(item),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.flush(),
                }
            }
            self.flush();
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Record(connection) => {
                self.waiting.fetch_sub(connection.weight(), Ordering::Relaxed);
                let line = match self.format {
                    Format::Text => text(&connection),
                    Format::Json => json(&connection),
                };
                if let Err(error) = self.file.write_all(line.as_bytes()) {
                    self.lose(&error);
                }
            }
            Item::Flush(done) => {
                self.flush();
                // Whoever asked may have lost patience.
                let _ = done.try_send(());
            }
            Item::Reopen => self.reopen(),
        }
    }

    /// With the old file still, if the new one cannot be opened.
    fn reopen(&mut self) {
        self.flush();
        match self.path.as_deref().map(open) {
            Some(Ok(file)) => self.file = BufWriter::new(file),
            Some(Err(error)) => tracing::error!(%error, "access log cannot be opened anew"),
            None => {}
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            self.lose(&error);
        }
    }

    fn lose(&self, error: &io::Error) {
        if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(%error, "access log cannot be written");
        }
    }
}

/// A value, or `-`.
struct Or<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Or<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

fn flags(connection: &Connection) -> Option<String> {
    let flags: Vec<_> = connection.flags.iter().map(ToString::to_string).collect();
    (!flags.is_empty()).then(|| flags.join(","))
}

/// A server name without what could end the field or the line.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() && c != '"' { c } else { '?' }).collect()
}

/// A value in quotes, likewise.
fn quoted(value: Option<&String>) -> Or<String> {
    let printable = |c| if matches!(c, ' '..='~') && c != '"' { c } else { '?' };
    Or(value.map(|value| value.chars().map(printable).collect()))
}

/// Istio's default format, in which a connection's request is made of dashes.
fn text(connection: &Connection) -> String {
    let none = Request::default();
    let request = connection.request.as_deref().unwrap_or(&none);
    let mut line = String::with_capacity(256);
    // Writing to a string cannot fail.
    let _ = writeln!(
        line,
        "[{}] \"{} {} {}\" {} {} {} - \"-\" {} {} {} {} \"{}\" \"{}\" \"{}\" \"{}\" \"{}\" {} {} {} {} {} {}",
        clock::milliseconds(connection.started),
        quoted(request.method.as_ref()),
        quoted(request.path.as_ref()),
        Or(request.protocol),
        request.status,
        Or(flags(connection)),
        Or(request.details),
        connection.received,
        connection.sent,
        connection.duration.as_millis(),
        quoted(request.service_time.as_ref()),
        quoted(request.forwarded_for.as_ref()),
        quoted(request.user_agent.as_ref()),
        quoted(request.request_id.as_ref()),
        quoted(request.authority.as_ref()),
        Or(connection.upstream_host),
        Or(connection.upstream_cluster.as_deref()),
        Or(connection.upstream_local),
        connection.downstream_local,
        connection.downstream_remote,
        Or(connection.server_name.as_deref().map(printable)),
        Or(request.route_name.as_deref().map(printable)),
    );
    line
}

/// Istio's JSON form: its default format's values by name, `null` for those that a connection has not.
fn json(connection: &Connection) -> String {
    let none = Request::default();
    let request = connection.request.as_deref().unwrap_or(&none);
    let value = serde_json::json!({
        "start_time": clock::milliseconds(connection.started),
        "route_name": request.route_name,
        "method": request.method,
        "path": request.path,
        "protocol": request.protocol,
        "response_code": request.status,
        "response_flags": Or(flags(connection)).to_string(),
        "response_code_details": request.details,
        "connection_termination_details": null,
        "bytes_received": connection.received,
        "bytes_sent": connection.sent,
        "duration": u64::try_from(connection.duration.as_millis()).unwrap_or(u64::MAX),
        "upstream_service_time": request.service_time,
        "x_forwarded_for": request.forwarded_for,
        "user_agent": request.user_agent,
        "request_id": request.request_id,
        "authority": request.authority,
        "upstream_host": connection.upstream_host,
        "upstream_cluster": connection.upstream_cluster,
        "upstream_local_address": connection.upstream_local,
        "downstream_local_address": connection.downstream_local,
        "downstream_remote_address": connection.downstream_remote,
        "requested_server_name": connection.server_name,
        "upstream_transport_failure_reason": null,
    });
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn connection() -> Connection {
        Connection {
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_706_702_400_123),
            duration: Duration::from_millis(1500),
            received: 550,
            sent: 92,
            flags: Cow::default(),
            upstream_host: Some(([10, 0, 0, 2], 8080).into()),
            upstream_cluster: Some("outbound|9000||echo.default.svc.cluster.local".to_owned()),
            upstream_local: Some(([10, 0, 0, 1], 40_000).into()),
            downstream_local: ([198, 18, 0, 1], 31_400).into(),
            downstream_remote: ([198, 18, 0, 2], 50_000).into(),
            server_name: None,
            request: None,
        }
    }

    #[test]
    fn a_line_is_as_envoy_writes_it() {
        let head = "[2024-01-31T12:00:00.123Z] \"- - -\" 0";
        assert_eq!(
            text(&connection()),
            format!(
                "{head} - - - \"-\" 550 92 1500 - \"-\" \"-\" \"-\" \"-\" \"10.0.0.2:8080\" \
                 outbound|9000||echo.default.svc.cluster.local 10.0.0.1:40000 198.18.0.1:31400 \
                 198.18.0.2:50000 - -\n"
            )
        );
        let failed = Connection {
            flags: vec![ResponseFlag::UpstreamConnectionFailure, ResponseFlag::UpstreamRetryLimitExceeded]
                .into(),
            upstream_host: None,
            upstream_cluster: None,
            upstream_local: None,
            server_name: Some("a\nb.test".to_owned()),
            ..connection()
        };
        assert_eq!(
            text(&failed),
            format!(
                "{head} UF,URX - - \"-\" 550 92 1500 - \"-\" \"-\" \"-\" \"-\" \"-\" - - 198.18.0.1:31400 \
                 198.18.0.2:50000 a?b.test -\n"
            )
        );
    }

    #[test]
    fn a_request_has_a_line_of_its_own() {
        let asked = Request {
            method: Some("GET".to_owned()),
            path: Some("/a?b".to_owned()),
            protocol: Some("HTTP/1.1"),
            status: 200,
            details: Some("via_upstream"),
            service_time: Some("7".to_owned()),
            forwarded_for: Some("198.18.0.2".to_owned()),
            user_agent: Some("curl/8 \"x\"".to_owned()),
            request_id: Some("id".to_owned()),
            authority: Some("a.test".to_owned()),
            route_name: Some("rule.match".to_owned()),
        };
        let request = Connection { request: Some(Box::new(asked)), ..connection() };
        assert_eq!(
            text(&request),
            "[2024-01-31T12:00:00.123Z] \"GET /a?b HTTP/1.1\" 200 - via_upstream - \"-\" 550 92 1500 7 \"198.18.0.2\" \
             \"curl/8 ?x?\" \"id\" \"a.test\" \"10.0.0.2:8080\" outbound|9000||echo.default.svc.cluster.local \
             10.0.0.1:40000 198.18.0.1:31400 198.18.0.2:50000 - rule.match\n"
        );
        let value: serde_json::Value = serde_json::from_str(&json(&request)).unwrap();
        for (name, want) in [
            ("method", serde_json::Value::from("GET")),
            ("path", "/a?b".into()),
            ("response_code", 200.into()),
            ("response_code_details", "via_upstream".into()),
            ("upstream_service_time", "7".into()),
            ("user_agent", "curl/8 \"x\"".into()),
            ("route_name", "rule.match".into()),
        ] {
            assert_eq!(value[name], want, "{name}");
        }
    }

    #[test]
    fn json_has_the_same_by_name() {
        let line = json(&connection());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["bytes_received"], &value["duration"]), (&550.into(), &1500.into()));
        assert_eq!((&value["response_flags"], &value["method"]), (&"-".into(), &serde_json::Value::Null));
        assert!(line.ends_with("}\n"));
    }

    #[test]
    fn a_file_that_was_moved_away_is_left_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let log = AccessLog::open(&path, Format::Text).unwrap();
        log.write(connection());
        log.flush();
        std::fs::rename(&path, &moved).unwrap();
        log.write(connection());
        log.reopen();
        log.write(connection());
        log.flush();
        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path), log.dropped()), (2, 1, 0));
    }

    /// A file that takes nothing until it is let.
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_clients_say_at_length_waits_for_a_stuck_file_within_a_bound() {
        let file = Arc::new(Mutex::new(Vec::new()));
        let stuck = file.lock().unwrap();
        let log = AccessLog::start(Box::new(Stuck(file.clone())), None, Format::Text).unwrap();
        let path = "x".repeat(QUEUE_BYTES / 32);
        let asked = Request { path: Some(path), ..Request::default() };
        let long = Connection { request: Some(Box::new(asked)), ..connection() };
        for _ in 0..64 {
            log.write(long.clone());
        }
        // One of them is with the writer.
        let dropped = log.dropped();
        assert!((32..=33).contains(&dropped), "{dropped}");
        drop(stuck);
        while log.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        log.flush();
        let written = String::from_utf8(file.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count() as u64, 64 - dropped);
    }

    #[test]
    fn a_stuck_file_costs_records_and_never_time() {
        let file = Arc::new(Mutex::new(Vec::new()));
        let stuck = file.lock().unwrap();
        let log = AccessLog::start(Box::new(Stuck(file.clone())), None, Format::Text).unwrap();
        for _ in 0..2 * QUEUE {
            log.write(connection());
        }
        let dropped = log.dropped();
        assert!(dropped > 0);
        drop(stuck);
        // The queue may be full still, and then nobody waits for it.
        let lines = || String::from_utf8(file.lock().unwrap().clone()).unwrap().lines().count() as u64;
        while lines() != 2 * QUEUE as u64 - dropped {
            std::thread::yield_now();
        }
    }
}
