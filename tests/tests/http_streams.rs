//! Bodies that do not end soon (server-sent events, long polls, calls of gRPC), what stands behind bodies, and clients that
//! wait before they send one: nothing is held back on either side, whatever the versions.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream;
use harness::backend::{Backend, Version};
use harness::client::{self, LIMIT, line, read_to_end};
use harness::serve::{self, Place};
use harness::{canned, port, site};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

const HOST: &str = "webapp.istioinaction.io";
const BOTH: [Version; 2] = [Version::Http1, Version::Http2];

/// A POST whose body is what is sent piece by piece.
struct Post {
    frames: mpsc::Sender<Frame<Bytes>>,
    answer: Response<Incoming>,
}

impl Post {
    /// Opens it with a first piece, and waits for the head of the answer.
    async fn open(version: Version, address: SocketAddr, first: &'static str) -> Self {
        let (frames, mut sent) = mpsc::channel(1);
        let body = StreamBody::new(stream::poll_fn(move |cx| {
            sent.poll_recv(cx).map(|frame| frame.map(Ok::<Frame<Bytes>, Infallible>))
        }));
        frames.send(Frame::data(first.into())).await.expect("room");
        let stream = TokioIo::new(tokio::net::TcpStream::connect(address).await.expect("a connection"));
        let asked = match version {
            Version::Http1 => {
                let (mut sender, driver) = http1::handshake(stream).await.expect("a handshake");
                tokio::spawn(driver);
                let request = Request::post("/echo").header("host", HOST).header("te", "trailers");
                timeout(LIMIT, sender.send_request(request.body(body).expect("a request"))).await
            }
            Version::Http2 => {
                let shake = http2::handshake(TokioExecutor::new(), stream);
                let (mut sender, driver) = shake.await.expect("a handshake");
                tokio::spawn(driver);
                let request = Request::post(format!("http://{HOST}/echo")).header("te", "trailers");
                timeout(LIMIT, sender.send_request(request.body(body).expect("a request"))).await
            }
        };
        Self { frames, answer: asked.expect("in time").expect("an answer") }
    }

    async fn send(&self, piece: &'static str) {
        self.frames.send(Frame::data(piece.into())).await.expect("room");
    }

    async fn hear(&mut self) -> Bytes {
        let frame = timeout(LIMIT, self.answer.frame()).await.expect("in time");
        frame.expect("more").expect("a frame").into_data().expect("data")
    }

    /// What is behind the body.
    async fn end(mut self) -> HeaderMap {
        drop(self.frames);
        let whole = timeout(LIMIT, self.answer.body_mut().collect()).await.expect("in time");
        whole.expect("a whole body").trailers().cloned().unwrap_or_default()
    }
}

#[test]
fn each_piece_goes_on_when_it_has_come_both_ways() {
    for (backend_version, port_name) in BOTH.into_iter().zip(["http", "http2"]) {
        let backend = Backend::start("webapp", backend_version, Place::loopback());
        let (_gateway, address) = site::before(HOST, port_name, backend.server.address);
        for version in BOTH {
            client::runtime().block_on(async {
                let mut post = Post::open(version, address, "data: 1\n\n").await;
                for event in ["data: 2\n\n", "data: 3\n\n", "data: 4\n\n"] {
                    let heard = post.hear().await;
                    assert!(heard.starts_with(b"data: "), "{version:?} to {backend_version:?}: {heard:?}");
                    post.send(event).await;
                }
                assert_eq!(post.hear().await, "data: 4\n\n", "{version:?} to {backend_version:?}");
            });
        }
    }
}

#[test]
fn trailers_go_both_ways() {
    let backend = Backend::start("webapp", Version::Http2, Place::loopback());
    let (_gateway, address) = site::before(HOST, "grpc", backend.server.address);
    client::runtime().block_on(async {
        let mut post = Post::open(Version::Http2, address, "x").await;
        assert_eq!(post.hear().await, "x");
        let trailers = [("x-checksum", "7")].map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), hyper::header::HeaderValue::from_static(value))
        });
        post.frames.send(Frame::trailers(HeaderMap::from_iter(trailers))).await.expect("room");
        let behind = post.end().await;
        assert_eq!(behind["grpc-status"], "0");
        assert_eq!(behind["x-seen-x-checksum"], "7");
    });
    // In chunks (RFC 9112, 7.1.2).
    let mut stream = client::connect(address);
    let request = format!(
        "POST /echo HTTP/1.1\r\nhost: {HOST}\r\nte: trailers\r\nconnection: te, close\r\ntransfer-encoding: chunked\r\ntrailer: \
         x-checksum\r\n\r\n1\r\nx\r\n0\r\nx-checksum: 7\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sending");
    let text = String::from_utf8_lossy(&read_to_end(&mut stream).0).into_owned();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("1\r\nx\r\n"), "{text}");

    let chunked = canned::answer_openly(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum\r\n\r\n1\r\nx\r\n0\r\nx-checksum: 7\r\n\r\n",
    );
    let (_gateway, address) = site::before(HOST, "http", chunked.address);
    client::runtime().block_on(async {
        let behind = Post::open(Version::Http2, address, "x").await.end().await;
        assert_eq!(behind["x-checksum"], "7");
    });
}

#[test]
fn a_client_that_waits_before_it_sends_a_body_is_told_once_and_only_if_it_is_wanted() {
    let head = |host: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"
        )
    };
    // A backend that says so too, though nobody has asked it.
    let eager =
        canned::answer_openly(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let (_gateway, address) = site::before(HOST, "http", eager.address);
    let mut stream = client::connect(address);
    assert!(line(&mut stream, &head(HOST)).starts_with("HTTP/1.1 100"));
    stream.write_all(b"hello").expect("sending");
    let text = String::from_utf8_lossy(&read_to_end(&mut stream).0).into_owned();
    assert!(
        text.contains("HTTP/1.1 200") && text.ends_with("\r\n\r\nok") && !text.contains(" 100 "),
        "{text}"
    );
    // Nobody wants the body.
    let mut stream = client::connect(address);
    assert!(line(&mut stream, &head("unknown.test")).starts_with("HTTP/1.1 404"));
    let (_gateway, address) = site::before(HOST, "http", ([127, 0, 0, 1], port::free()).into());
    let mut stream = client::connect(address);
    assert!(line(&mut stream, &head(HOST)).starts_with("HTTP/1.1 503"));
}

#[test]
fn a_long_poll_is_answered_when_there_is_something_to_say() {
    let backend = Backend::http("webapp");
    let (_gateway, address) = site::before(HOST, "http", backend.server.address);
    let polls: Vec<_> =
        (0..3).map(|_| std::thread::spawn(move || client::get(address, HOST, "/held"))).collect();
    harness::wait::until("the polls", || (backend.requests() == 3).then_some(()));
    assert!(polls.iter().all(|poll| !poll.is_finished()));
    backend.release();
    for poll in polls {
        assert_eq!(poll.join().expect("an answer").status, StatusCode::OK);
    }
}

#[test]
fn a_request_is_sent_to_its_end_behind_a_whole_answer_though_its_connection_is_to_close() {
    const LENGTH: usize = 8 << 20;
    let (tell, told) = std::sync::mpsc::channel();
    let server = serve::Server::start(Place::loopback(), move |mut stream| {
        let tell = tell.clone();
        async move {
            let (mut buffer, mut head) = (vec![0; 1 << 16], Vec::new());
            let is_head = |read: &[u8]| read.ends_with(b"\r\n\r\n");
            while !is_head(&head) && stream.read_buf(&mut head).await.is_ok_and(|count| count > 0) {}
            // It takes one request a connection.
            let answer = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            let _ = stream.write_all(answer.as_bytes()).await;
            let mut read = 0;
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                read += count;
                if read == LENGTH {
                    let _ = tell.send(());
                }
            }
        }
    });
    let (_gateway, address) = site::before(HOST, "http", server.address);
    for connection in ["", "connection: close\r\n"] {
        let mut stream = client::connect(address);
        let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {LENGTH}\r\n{connection}\r\n");
        stream.write_all(head.as_bytes()).expect("sending");
        assert!(line(&mut stream, "").starts_with("HTTP/1.1 202"), "the answer comes first");
        stream.write_all(&vec![7; LENGTH]).expect("sending");
        told.recv_timeout(harness::wait::PATIENCE).expect("the whole request at the backend");
    }
}

#[test]
fn a_request_is_sent_to_its_end_while_nobody_reads_the_answer_that_has_begun() {
    // More than all buffers on the way hold.
    const LENGTH: usize = 32 << 20;
    let (tell, told) = std::sync::mpsc::channel();
    let server = serve::Server::start(Place::loopback(), move |stream| {
        let tell = tell.clone();
        async move {
            let (mut reads, mut writes) = stream.into_split();
            let (mut buffer, mut head) = (vec![0; 1 << 16], Vec::new());
            let is_head = |read: &[u8]| read.ends_with(b"\r\n\r\n");
            while !is_head(&head) && reads.read_buf(&mut head).await.is_ok_and(|count| count > 0) {}
            let answer = async {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
                let _ = writes.write_all(head.as_bytes()).await;
                let _ = writes.write_all(&vec![7; LENGTH]).await;
            };
            let upload = async {
                let mut read = 0;
                while let Ok(count @ 1..) = reads.read(&mut buffer).await {
                    read += count;
                    if read == LENGTH {
                        let _ = tell.send(());
                    }
                }
            };
            tokio::join!(answer, upload);
        }
    });
    let (_gateway, address) = site::before(HOST, "http", server.address);
    let mut stream = client::connect(address);
    let head =
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {LENGTH}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sending");
    assert!(line(&mut stream, "").starts_with("HTTP/1.1 200"), "the answer begins first");
    stream.write_all(&vec![7; LENGTH]).expect("sending, though nothing is read");
    told.recv_timeout(harness::wait::PATIENCE).expect("the whole request at the backend");
    let (answer, _) = read_to_end(&mut stream);
    assert!(answer.len() > LENGTH, "{} bytes", answer.len());
}
