//! WebSockets that are streams of HTTP/2 (RFC 8441), where the gateway takes them: `--http2-websockets`.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use harness::backend::Backend;
use harness::client::{self, LIMIT};
use harness::documents::{self, Server, http_route, http_service};
use harness::gateway::Gateway;
use harness::serve::Place;
use harness::{port, wait, websocket};
use hyper::{Request, StatusCode};
use tokio::time::timeout;

const HOST: &str = "chat.istioinaction.io";
const OTHER: &str = "shop.istioinaction.io";

struct Site {
    gateway: Gateway,
    address: SocketAddr,
    _chat: harness::serve::Server,
    shop: Backend,
}

fn start(flags: &[&str]) -> Site {
    let (chat, shop, port) = (websocket::start(Place::loopback()), Backend::http("shop"), port::free());
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("chat", HOST, "edge", "chat")
        + &http_route("shop", OTHER, "edge", "shop")
        + &http_service("chat", &[chat.address])
        + &http_service("shop", &[shop.server.address]);
    let gateway = Gateway::arrange().document("site", &documents).flags(flags).start();
    Site { address: gateway.at(port), gateway, _chat: chat, shop }
}

/// A connection on which the gateway has said what it takes.
async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let (sender, driver) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(driver);
    let mut sender = sender.ready().await.expect("room");
    // The answer comes behind the gateway's settings.
    let request = Request::get(format!("http://{OTHER}/")).body(()).expect("a request");
    let (answer, _) = sender.send_request(request, true).expect("room");
    assert_eq!(timeout(LIMIT, answer).await.expect("in time").expect("an answer").status(), StatusCode::OK);
    sender.ready().await.expect("room")
}

fn ask(sender: &mut SendRequest<Bytes>, host: &str, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::connect(format!("http://{host}{path}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("origin", "http://front.test")
        .body(())
        .expect("a request");
    sender.send_request(request, false).expect("room")
}

/// A frame of a client's, masked by nothing.
fn frame(kind: u8, text: &[u8]) -> Bytes {
    let length = u8::try_from(text.len()).expect("a short text");
    [&[0x80 | kind, 0x80 | length, 0, 0, 0, 0], text].concat().into()
}

async fn hear(stream: &mut RecvStream, count: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let data = timeout(LIMIT, stream.data()).await.expect("in time").expect("more").expect("data");
        stream.flow_control().release_capacity(data.len()).expect("what came");
        heard.extend(data);
    }
    heard
}

#[test]
fn a_stream_becomes_a_websocket_beside_others() {
    let site = start(&["--http2-websockets"]);
    client::runtime().block_on(async {
        let mut sender = connect(site.address).await;
        assert!(sender.is_extended_connect_protocol_enabled());
        let mut open = Vec::new();
        for text in [b"hello", b"world"] {
            let (answer, mut out) = ask(&mut sender, HOST, "/chat");
            let answer = timeout(LIMIT, answer).await.expect("in time").expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK);
            for name in ["connection", "upgrade", "sec-websocket-accept"] {
                assert!(!answer.headers().contains_key(name), "{name}");
            }
            out.send_data(frame(1, text), false).expect("room");
            let mut heard = answer.into_body();
            assert_eq!(hear(&mut heard, 7).await, [b"\x81\x05", text.as_slice()].concat());
            open.push((out, heard));
        }
        let flows = site.gateway.sluice(&["flows"]).expect_success().out;
        assert_eq!(flows.matches(&site.address.to_string()).count(), 2, "{flows}");
        let (mut out, mut heard) = open.remove(0);
        out.send_data(frame(8, b""), false).expect("room");
        assert_eq!(hear(&mut heard, 2).await, b"\x88\0");
        out.send_data(Bytes::new(), true).expect("room");
        while let Some(data) = timeout(LIMIT, heard.data()).await.expect("in time") {
            assert!(data.expect("an end that both agreed on").is_empty());
        }
        let (mut out, mut heard) = open.remove(0);
        out.send_data(frame(1, b"still"), false).expect("room");
        assert_eq!(hear(&mut heard, 7).await, b"\x81\x05still");
        drop((out, heard));
    });
    let seen = || site.gateway.sluice(&["flows"]).expect_success().out;
    wait::until("the end of both", || (!seen().contains(&site.address.to_string())).then_some(()));
}

#[test]
fn a_backend_that_does_not_switch_says_why() {
    let site = start(&["--http2-websockets"]);
    client::runtime().block_on(async {
        let mut sender = connect(site.address).await;
        for (path, status) in [("/status/403", 403), ("/", 502), ("/status/204", 502)] {
            let (answer, _out) = ask(&mut sender, OTHER, path);
            let answer = timeout(LIMIT, answer).await.expect("in time").expect("an answer");
            assert_eq!(answer.status(), status, "{path}");
        }
    });
    assert_eq!(site.shop.requests(), 4);
}

#[test]
fn without_the_flag_there_are_none_as_at_istios_gateway() {
    let site = start(&[]);
    client::runtime().block_on(async {
        let sender = connect(site.address).await;
        assert!(!sender.is_extended_connect_protocol_enabled());
    });
}
