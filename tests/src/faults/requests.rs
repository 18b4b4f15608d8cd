//! Clients that keep their connections and ask at a fixed pace, each answer held against its request. They behave as good
//! clients do: a connection that has ended while it was idle, or by a word of the gateway's (`connection: close`, GOAWAY), is
//! replaced; a request that has been sent and gets no answer has failed.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use crate::namespace;
use crate::tls::TlsClient;
use crate::wait;

/// A request that has no answer by then has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 in clear.
    Http1,
    /// HTTP/1.1 in TLS.
    Https,
    /// HTTP/2 in TLS.
    Http2,
}

/// All of them.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Https, Protocol::Http2];

/// Where clients go, and what they ask for.
#[derive(Debug, Clone)]
pub struct Target {
    /// In clear.
    pub http: SocketAddr,
    /// In TLS.
    pub https: SocketAddr,
    /// Of a virtual host that both have.
    pub host: String,
    /// Who is trusted.
    pub tls: Arc<TlsClient>,
}

/// What clients have seen.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Requests that were answered as they should be.
    pub answered: usize,
    /// What became of those that were not.
    pub failures: Vec<String>,
    /// Connections that were made.
    pub connections: usize,
    /// The longest time from a request to its whole answer.
    pub slowest: Duration,
}

/// Clients at work, until this is dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    is_over: AtomicBool,
    rounds: Vec<AtomicUsize>,
    seen: Mutex<Seen>,
}

impl Load {
    /// So many clients of each protocol, each asking once in a period; returns when each has been answered once.
    #[track_caller]
    pub fn start(from: &namespace::Namespace, target: &Target, of_each: usize, period: Duration) -> Self {
        let clients = PROTOCOLS.len() * of_each;
        let shared = Arc::new(Shared {
            is_over: AtomicBool::new(false),
            rounds: (0..clients).map(|_| AtomicUsize::new(0)).collect(),
            seen: Mutex::default(),
        });
        let (namespace, own, target) = (from.open(), shared.clone(), target.clone());
        let thread = std::thread::spawn(move || run(&namespace, &own, &target, period));
        let load = Self { shared, thread: Some(thread) };
        load.next_round();
        load
    }

    /// Waits until every client has asked, and been answered or let down, once more.
    #[track_caller]
    pub fn next_round(&self) {
        let count = |round: &AtomicUsize| round.load(Ordering::SeqCst);
        let before: Vec<usize> = self.shared.rounds.iter().map(count).collect();
        wait::until("another request of every client", || {
            let mut rounds = self.shared.rounds.iter().zip(&before);
            rounds.all(|(now, before)| count(now) > before + 1).then_some(())
        });
    }

    /// What they have seen so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().expect("no client panics with it").clone()
    }

    /// Has every client ask once more, and panics if any was let down.
    #[track_caller]
    pub fn expect_unharmed(&self) -> Seen {
        self.next_round();
        let seen = self.seen();
        let (failed, first) = (seen.failures.len(), seen.failures.first());
        assert!(
            failed == 0,
            "{failed} failed and {} did not; the first: {}",
            seen.answered,
            first.expect("one")
        );
        seen
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

fn run(namespace: &File, shared: &Arc<Shared>, target: &Target, period: Duration) {
    namespace::join(namespace);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let of_each = shared.rounds.len() / PROTOCOLS.len();
        let tasks: Vec<_> = (0..shared.rounds.len())
            .map(|number| {
                let client = Client {
                    number,
                    protocol: PROTOCOLS[number / of_each],
                    target: target.clone(),
                    shared: shared.clone(),
                };
                // Spread over the period.
                let first = period.mul_f64(number as f64 / shared.rounds.len() as f64);
                tokio::spawn(client.work(first, period))
            })
            .collect();
        for task in tasks {
            task.await.expect("a client");
        }
    });
}

struct Client {
    number: usize,
    protocol: Protocol,
    target: Target,
    shared: Arc<Shared>,
}

impl Client {
    async fn work(self, first: Duration, period: Duration) {
        let mut pace = interval(period);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace.reset_after(first);
        let mut connection = None;
        for turn in 0.. {
            pace.tick().await;
            if self.shared.is_over.load(Ordering::SeqCst) {
                return;
            }
            let begun = Instant::now();
            let asked = timeout(PATIENCE, self.ask(&mut connection, turn)).await;
            let mut seen = self.shared.seen.lock().expect("nobody panics with it");
            match asked.unwrap_or_else(|_| Err(anyhow!("no answer within {PATIENCE:?}"))) {
                Ok(()) => {
                    seen.answered += 1;
                    seen.slowest = seen.slowest.max(begun.elapsed());
                }
                Err(error) => {
                    connection = None;
                    seen.failures.push(format!("{:?}, request {turn}: {error:#}", self.protocol));
                }
            }
            drop(seen);
            self.shared.rounds[self.number].fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn ask(&self, kept: &mut Option<Connection>, turn: u32) -> Result<()> {
        let mut connection = if let Some(connection) = open(kept.take()).await {
            connection
        } else {
            self.shared.seen.lock().expect("nobody panics with it").connections += 1;
            self.connect().await.context("connecting")?
        };
        let (scheme, port) = match self.protocol {
            Protocol::Http1 => ("http", self.target.http.port()),
            Protocol::Https | Protocol::Http2 => ("https", self.target.https.port()),
        };
        let path = format!("/{}/{turn}", self.number);
        let (host, uri) = match self.protocol {
            Protocol::Http2 => (None, format!("{scheme}://{}:{port}{path}", self.target.host)),
            _ => (Some(&self.target.host), path.clone()),
        };
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let mut request = request.body(Empty::new())?;
        let response = loop {
            match connection.send(request).await {
                Ok(response) => break response,
                // It was closed in time: nothing has been sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error()).context("no answer"),
                },
            }
            self.shared.seen.lock().expect("nobody panics with it").connections += 1;
            connection = self.connect().await.context("connecting")?;
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("no whole answer")?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        ensure!(head.status == StatusCode::OK, "{}: {text}", head.status);
        ensure!(text.ends_with(&format!(" GET {path}")), "asked for {path}, got {text}");
        *kept = Some(connection);
        Ok(())
    }

    async fn connect(&self) -> Result<Connection> {
        match self.protocol {
            Protocol::Http1 => Connection::one(TcpStream::connect(self.target.http).await?).await,
            Protocol::Https => Connection::one(self.seal(&["http/1.1"]).await?).await,
            Protocol::Http2 => Connection::two(self.seal(&["h2"]).await?).await,
        }
    }

    async fn seal(&self, protocols: &[&str]) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        let stream = TcpStream::connect(self.target.https).await?;
        stream.set_nodelay(true)?;
        let mut config = (*self.target.tls.config()).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(self.target.tls.server_name(), stream).await.context("TLS")
    }
}

/// A request that got no answer, and perhaps was not sent.
type Unsent = TrySendError<Request<Empty<Bytes>>>;

enum Connection {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

/// A connection that was kept, if it has not ended meanwhile.
async fn open(kept: Option<Connection>) -> Option<Connection> {
    let mut kept = kept?;
    let ready = match &mut kept {
        Connection::One(sender) => sender.ready().await,
        Connection::Two(sender) => sender.ready().await,
    };
    ready.is_ok().then_some(kept)
}

impl Connection {
    async fn one(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self::One(sender))
    }

    async fn two(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self> {
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self::Two(sender))
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Unsent> {
        match self {
            Self::One(sender) => sender.try_send_request(request).await,
            Self::Two(sender) => sender.try_send_request(request).await,
        }
    }
}
