//! gRPC-Web through the real gateway: what browsers say is gRPC to the backend, and its answer is gRPC-Web to them.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::client::{self, Answer, LIMIT, request, send};
use harness::documents::{self, Server, annotated_gateway, secret};
use harness::gateway::Gateway;
use harness::port;
use harness::serve::Place;
use harness::tls::{TlsClient, exchange};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::timeout;

const HOST: &str = "api.istioinaction.io";
const ORIGIN: &str = "https://front.istioinaction.io";
/// What follows the messages of a call that went well.
const OK: &[u8] = b"\x80\0\0\0\x0fgrpc-status:0\r\n";
/// The same, and a message `hello` of gRPC's, in base64.
const OK_TEXT: &str = "gAAAAA9ncnBjLXN0YXR1czowDQo=";
const HELLO: &[u8] = b"\0\0\0\0\x05hello";
const HELLO_TEXT: &str = "AAAAAAVoZWxsbw==";

struct Site {
    _gateway: Gateway,
    address: SocketAddr,
    backend: Backend,
    _plain: Backend,
}

/// A gateway before a backend of gRPC, one that speaks something else below `/plain`, and none below `/nobody`.
fn start() -> Site {
    let backend = Backend::start("api", Version::Http2, Place::loopback());
    let plain = Backend::http("plain");
    let port = port::free();
    let cors =
        format!("{{allowOrigins: [{{exact: '{ORIGIN}'}}], exposeHeaders: [grpc-status, grpc-message]}}");
    let rules = format!(
        "  http:\n  - match: [{{uri: {{prefix: /plain}}}}]\n    rewrite: {{uri: /}}\n    route: [{{destination: {{host: plain}}}}]\n  \
         - match: [{{uri: {{prefix: /nobody}}}}]\n    corsPolicy: {cors}\n    route: [{{destination: {{host: nobody}}}}]\n  \
         - match: [{{uri: {{prefix: /web}}, headers: {{content-type: {{prefix: application/grpc-web}}}}}}]\n    \
         rewrite: {{uri: /echo}}\n    route: [{{destination: {{host: api}}}}]\n  \
         - match: [{{uri: {{prefix: /echo}}}}]\n    corsPolicy: {cors}\n    route: [{{destination: {{host: api}}}}]\n"
    );
    let documents = documents::gateway("edge", &[Server::grpc_web(port, &["*"])])
        + &documents::virtual_service("api", &[HOST], "edge", &rules)
        + &documents::service("api", "grpc", &[backend.server.address])
        + &documents::service("plain", "http", &[plain.server.address])
        + &documents::service("nobody", "http", &[]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    Site { address: gateway.at(port), _gateway: gateway, backend, _plain: plain }
}

fn call(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Request<Full<Bytes>> {
    request("POST", HOST, path, headers).map(|_| Full::new(Bytes::copy_from_slice(body)))
}

fn ask(site: &Site, path: &str, kind: &str, accept: &str, body: &[u8]) -> Answer {
    send(site.address, call(path, &[("content-type", kind), ("accept", accept)], body))
}

#[test]
fn messages_go_both_ways_in_the_form_that_the_client_speaks() {
    let site = start();
    let two = [HELLO, HELLO].concat();
    let two_text = [HELLO_TEXT, HELLO_TEXT].concat();
    let whole = [two.as_slice(), OK].concat();
    let whole_text = [two_text.as_str(), OK_TEXT].concat();
    let (binary, text) = ("application/grpc-web+proto", "application/grpc-web-text+proto");
    for (kind, accept, sent, got_kind, got) in [
        (binary, "*/*", two.as_slice(), binary, whole.as_slice()),
        ("application/grpc-web", "", &two, binary, &whole),
        (text, text, two_text.as_bytes(), text, whole_text.as_bytes()),
        ("application/grpc-web-text", "*/*", two_text.as_bytes(), binary, &whole),
        (binary, "application/grpc-web-text", &two, text, whole_text.as_bytes()),
        (binary, "", b"", binary, OK),
    ] {
        for path in ["/echo", "/web"] {
            let answer = ask(&site, path, kind, accept, sent);
            assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, got_kind), "{kind}");
            assert_eq!(answer.body, got, "{kind}, {accept}: {:?}", answer.text());
            for (name, value) in [
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("grpc-accept-encoding", "identity"),
            ] {
                assert_eq!(answer.header(&format!("x-seen-{name}")), value, "{kind}: {name}");
            }
        }
    }
}

#[test]
fn what_fails_is_told_in_grpcs_words_besides() {
    let site = start();
    let text = "application/grpc-web-text";
    for (path, kind, body, status, grpc, message) in [
        ("/nobody", "application/grpc-web", HELLO, 503, "14", "no healthy upstream"),
        ("/echo", text, b"AAAAAAVoZWxsbw", 400, "13", "Bad gRPC-web request, invalid base64 data."),
        ("/echo", text, b"AAAA-AVoZWxsbw==", 400, "13", "Bad gRPC-web request, invalid base64 data."),
        ("/plain/", "application/grpc-web", HELLO, 200, "2", "\"backend\":\"plain\""),
        // Nothing is said, so that the status of HTTP is all there is to tell.
        ("/plain/status/403", "application/grpc-web", HELLO, 403, "", ""),
    ] {
        let answer = ask(&site, path, kind, "*/*", body);
        assert_eq!(answer.status.as_u16(), status, "{path}: {:?}", answer.headers);
        assert_eq!(answer.header("content-type"), "application/grpc-web+proto");
        assert_eq!(answer.header("grpc-status"), grpc, "{path}");
        assert!(answer.header("grpc-message").contains(message), "{path}: {:?}", answer.headers);
        assert!(answer.body.is_empty(), "{path}");
    }
    let asked = site.backend.requests();
    let answer = ask(&site, "/elsewhere", "application/grpc-web", "*/*", HELLO);
    assert_eq!((answer.status, site.backend.requests()), (StatusCode::NOT_FOUND, asked));
    // A status that comes without a message is the backend's word, in the headers as it was.
    let headers =
        [("content-type", "application/grpc-web"), ("x-answer", "grpc-5 content-type=application/grpc")];
    let answer = send(site.address, call("/echo", &headers, HELLO));
    assert_eq!((answer.header("grpc-status"), answer.body.len()), ("5", 0));
    assert_eq!(answer.header("content-type"), "application/grpc-web+proto");
}

#[test]
fn scripts_of_other_origins_may_ask() {
    let site = start();
    let asks = [
        ("origin", ORIGIN),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-grpc-web"),
    ];
    let answer = send(site.address, request("OPTIONS", HOST, "/echo", &asks));
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (StatusCode::OK, ORIGIN));
    assert_eq!(site.backend.requests(), 0);
    for (path, status) in [("/echo", StatusCode::OK), ("/nobody", StatusCode::SERVICE_UNAVAILABLE)] {
        let headers = [("content-type", "application/grpc-web"), ("origin", ORIGIN)];
        let answer = send(site.address, call(path, &headers, HELLO));
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, ORIGIN));
        assert_eq!(answer.header("access-control-expose-headers"), "grpc-status,grpc-message");
    }
}

#[test]
fn each_message_goes_on_when_it_has_come() {
    let site = start();
    client::runtime().block_on(async {
        for (kind, message, end) in [
            ("application/grpc-web+proto", HELLO, OK),
            ("application/grpc-web-text+proto", HELLO_TEXT.as_bytes(), OK_TEXT.as_bytes()),
        ] {
            let (sender, mut sent) = mpsc::channel(1);
            let frames = stream::poll_fn(move |cx| sent.poll_recv(cx));
            let body = StreamBody::new(frames.map(|data| Ok::<_, Infallible>(Frame::data(data))));
            let request = Request::post("/echo")
                .header("host", HOST)
                .header("content-type", kind)
                .header("accept", kind)
                .body(body)
                .expect("a request");
            sender.send(Bytes::copy_from_slice(message)).await.expect("room");
            let mut answer = open(site.address, request).await;
            for _ in 0..3 {
                assert_eq!(some_bytes(&mut answer, message.len()).await, message, "{kind}");
                sender.send(Bytes::copy_from_slice(message)).await.expect("room");
            }
            assert_eq!(some_bytes(&mut answer, message.len()).await, message, "{kind}");
            drop(sender);
            assert_eq!(some_bytes(&mut answer, end.len()).await, end, "{kind}");
        }
    });
}

/// As at Istio's gateway, where ports of other protocols, those of TLS among them, carry it as it is.
#[test]
fn ports_that_are_not_told_to_leave_it_as_it_is() {
    let (backend, port, sealed) =
        (Backend::start("api", Version::Http2, Place::loopback()), port::free(), port::free());
    let authority = Authority::new("the test's");
    let site = documents::virtual_service(
        "api",
        &[HOST],
        "edge",
        "  http:\n  - route: [{destination: {host: api}}]",
    ) + &documents::service("api", "grpc", &[backend.server.address])
        + &secret("api", &authority.issue(&[HOST]), None);
    let servers = [Server::http(port, &["*"]), Server::https(sealed, "SIMPLE", "api", &[HOST])];
    let edge = |annotations: &[&str]| annotated_gateway("edge", annotations, &servers);
    let gateway = Gateway::arrange().document("site", &site).document("edge", &edge(&[])).start();
    let client = TlsClient::new(authority.roots(), HOST);
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\ncontent-type: application/grpc-web\r\ncontent-length: {}\r\n\r\n",
        HELLO.len()
    );
    let asked = head + &String::from_utf8_lossy(HELLO);
    for (annotations, seen, ends) in [
        (&[][..], "application/grpc-web", "hello"),
        (&["sluice.dev/grpc-web: \"true\""], "application/grpc", "grpc-status:0\r\n"),
        (&["sluice.dev/grpc-web: \"false\""], "application/grpc-web", "hello"),
    ] {
        gateway.apply("edge", &edge(annotations));
        let headers = [("content-type", "application/grpc-web"), ("accept", "*/*")];
        let answer = send(gateway.at(port), call("/echo", &headers, HELLO));
        assert_eq!(answer.header("x-seen-content-type"), seen, "{annotations:?}");
        assert!(answer.text().ends_with(ends), "{annotations:?}: {:?}", answer.text());
        let answer = exchange(&mut client.connect(gateway.at(sealed)).expect("a handshake"), &asked);
        let answer = answer.expect("an answer");
        assert!(answer.contains(&format!("x-seen-content-type: {seen}\r\n")), "{annotations:?}: {answer}");
    }
}

async fn open<B>(address: SocketAddr, request: Request<B>) -> Response<Incoming>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(driver);
    timeout(LIMIT, sender.send_request(request)).await.expect("in time").expect("an answer")
}

/// The next bytes of a body, as soon as so many have come.
async fn some_bytes(answer: &mut Response<Incoming>, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let frame = timeout(LIMIT, answer.frame()).await.expect("in time").expect("more").expect("a frame");
        bytes.extend(frame.into_data().expect("data"));
    }
    bytes
}
