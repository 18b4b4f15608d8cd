//! HTTP clients without opinions: what they send is what the test says, and what comes back is shown as it came.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::tls::TlsClient;

/// No step of a test takes longer unless something is wrong.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A response, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as the JSON that our backends answer with.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body of {}: {}", self.status, self.text()))
    }

    /// The name of the backend that answered.
    #[track_caller]
    pub fn backend(&self) -> String {
        self.json()["backend"].as_str().expect("a backend's name").to_owned()
    }

    /// A header, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A GET on a connection of its own.
#[track_caller]
pub fn get(gateway: SocketAddr, host: &str, path: &str) -> Answer {
    send(gateway, request("GET", host, path, &[]))
}

/// A request as the test composes it.
#[track_caller]
pub fn request(method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).expect("a request")
}

/// Sends a request on a connection of its own.
#[track_caller]
pub fn send(gateway: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    try_send(gateway, request).expect("an answer")
}

/// Sends a request on a connection of its own.
pub fn try_send(gateway: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer> {
    runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway).await.context("connecting")?;
        let mut connection = Connection::new(stream).await?;
        connection.send(request).await
    })
}

/// A runtime for one test.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// An HTTP/1.1 connection that stays open.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    /// On a stream, TLS or not.
    pub async fn new<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Result<Self> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self { sender })
    }

    /// Connects.
    pub async fn open(gateway: SocketAddr) -> Result<Self> {
        Self::new(tokio::net::TcpStream::connect(gateway).await?).await
    }

    /// Connects and shakes hands.
    pub async fn open_tls(address: SocketAddr, client: &TlsClient) -> Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(client.config());
        Self::new(connector.connect(client.server_name(), stream).await.context("shaking hands")?).await
    }

    /// Sends a request and waits for the whole answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let exchange = async {
            self.sender.ready().await.context("the connection is closed")?;
            let response = self.sender.send_request(request).await.context("no answer")?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.context("no whole body")?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(LIMIT, exchange).await.context("no answer in time")?
    }
}

/// Two GETs of `/` on one connection, the second so long after the first one's answer.
pub fn get_apart(gateway: SocketAddr, host: &str, pause: Duration) -> [Answer; 2] {
    let asking = async {
        let mut connection = Connection::open(gateway).await?;
        let first = connection.send(request("GET", host, "/", &[])).await?;
        let answered = Instant::now();
        while answered.elapsed() < pause {
            tokio::task::yield_now().await;
        }
        anyhow::Ok([first, connection.send(request("GET", host, "/", &[])).await?])
    };
    runtime().block_on(asking).expect("answers")
}

/// A TCP connection whose every wait is bounded.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.set_write_timeout(Some(LIMIT)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Sends so many bytes while as many as are expected are read.
#[track_caller]
pub fn exchange(stream: &mut TcpStream, send: usize, receive: usize) {
    let mut sending = stream.try_clone().expect("a second handle");
    let sent = std::thread::spawn(move || sending.write_all(&vec![b'x'; send]));
    stream.read_exact(&mut vec![0; receive]).expect("all of it");
    sent.join().expect("a thread that does not panic").expect("sending");
}

/// Sends so many bytes and waits until they are back.
#[track_caller]
pub fn echoed(stream: &mut TcpStream, amount: usize) {
    exchange(stream, amount, amount);
}

/// Reads to the end; a reset counts as an end, and the second value tells it.
pub fn read_to_end(stream: &mut impl Read) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => (all, None),
        Err(error) => (all, Some(error.kind())),
    }
}

/// Sends bytes and returns the line that comes back.
#[track_caller]
pub fn line(stream: &mut (impl Read + Write), text: &str) -> String {
    stream.write_all(text.as_bytes()).expect("sending");
    read_line(stream)
}

/// The next line.
#[track_caller]
pub fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        match stream.read(&mut byte) {
            Ok(0) => panic!("the end after {:?}", String::from_utf8_lossy(&line)),
            Ok(_) => line.push(byte[0]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}"),
        }
    }
    String::from_utf8_lossy(&line).into_owned()
}
