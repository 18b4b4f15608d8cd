//! The same requests through Envoy, as it runs in Istio's ingress gateway, and through ours: their access logs say the same, as
//! text and as JSON, byte for byte but for times, ports and ids.
//! What differs on purpose stands in [`DIFFERENT`].

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use harness::authority::{Authority, Identity};
use harness::backend::{Backend, Version};
use harness::client::{self, read_to_end};
use harness::documents::{self, Server as Listening, service, sni_route, tcp_route, tcp_service};
use harness::gateway::Gateway;
use harness::istio::Envoy;
use harness::istio::configuration::{self as istio, Logs};
use harness::serve::{Place, Server};
use harness::tls::TlsClient;
use harness::{canned, echo, port, wait, websocket};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use serde_json::{Value, json};

const HOST: &str = "shop.istioinaction.io";
const SEALED: &str = "vault.istioinaction.io";
const PASSED: &str = "passed.istioinaction.io";
const TEXT_LAYOUT: &[&str] = &[
    "[{start_time}]",
    "\"{method} {path} {protocol}\"",
    "{response_code}",
    "{response_flags}",
    "{response_code_details}",
    "{connection_termination_details}",
    "\"{upstream_transport_failure_reason}\"",
    "{bytes_received}",
    "{bytes_sent}",
    "{duration}",
    "{upstream_service_time}",
    "\"{x_forwarded_for}\"",
    "\"{user_agent}\"",
    "\"{request_id}\"",
    "\"{authority}\"",
    "\"{upstream_host}\"",
    "{upstream_cluster}",
    "{upstream_local_address}",
    "{downstream_local_address}",
    "{downstream_remote_address}",
    "{requested_server_name}",
    "{route_name}",
];

/// What ours says otherwise of a row: fields, with Envoy's value and ours as JSON, and why.
struct Different {
    rows: &'static [&'static str],
    fields: &'static [(&'static str, &'static str, &'static str)],
    #[expect(dead_code, reason = "for people")]
    why: &'static str,
}

const DIFFERENT: &[Different] = &[
    Different {
        rows: &["a method that there is not", "a length beside a coding", "too long a head"],
        fields: &[
            ("authority", "null", r#""shop.istioinaction.io""#),
            ("user_agent", "null", r#""tester/1.0""#),
        ],
        why: "what could be read of a request that is refused is told",
    },
    Different {
        rows: &["a method that there is not"],
        fields: &[("method", "null", r#""BREW""#)],
        why: "likewise",
    },
    Different {
        rows: &["a length beside a coding"],
        fields: &[
            ("method", "null", r#""POST""#),
            ("path", "null", r#""/digest""#),
            ("bare_path", "null", r#""/digest""#),
            ("sent_path", "null", r#""/digest""#),
        ],
        why: "likewise",
    },
    Different { rows: &["too long a head"], fields: &[("method", "null", r#""GET""#)], why: "likewise" },
    Different {
        rows: &["a method that there is not", "too long a head"],
        fields: &[
            ("path", "null", r#""/plain""#),
            ("bare_path", "null", r#""/plain""#),
            ("sent_path", "null", r#""/plain""#),
        ],
        why: "likewise",
    },
    Different {
        rows: &["a tunnel"],
        fields: &[
            ("request_id", r#""UUID""#, "null"),
            ("stream_id", r#""UUID""#, "null"),
            ("x_forwarded_for", r#""192.0.2.2""#, "null"),
        ],
        why: "nothing is added to a request that no backend gets",
    },
    Different {
        rows: &["no HTTP", "two lengths"],
        fields: &[("bytes_sent", "11", "0")],
        why: "what cannot be read is answered by a head alone",
    },
    Different {
        rows: &["a coding that there is not"],
        fields: &[
            ("bytes_sent", "15", "0"),
            ("response_code", "501", "400"),
            ("response_code_details", r#""http1.invalid_transfer_encoding""#, r#""http1.codec_error""#),
        ],
        why: "likewise; RFC 9112, 6.1, has either status",
    },
    Different {
        rows: &["too many headers"],
        fields: &[
            ("bytes_sent", "31", "0"),
            ("response_code_details", r#""http1.too_many_headers""#, r#""http1.headers_too_large""#),
        ],
        why: "likewise; bytes and lines have one bound",
    },
    Different {
        rows: &["quotes in the query"],
        fields: &[
            ("authority", r#""shop.istioinaction.io""#, "null"),
            ("method", r#""GET""#, "null"),
            ("path", r#""/status/200?q=\"a\"""#, "null"),
            ("sent_path", r#""/status/200?q=\"a\"""#, "null"),
            ("bare_path", r#""/status/200""#, "null"),
            ("query", r#""q=\"a\"""#, "null"),
            ("attempts", "1", "0"),
            ("both", r#""outbound|80||shop.istioinaction.svc.cluster.local -""#, r#""- -""#),
            ("flags_long", r#""-""#, r#""DownstreamProtocolError""#),
            ("response_duration", r#""MS""#, "null"),
            ("response_tx_duration", r#""MS""#, "null"),
            ("stream_id", r#""UUID""#, "null"),
            ("request_id", r#""UUID""#, "null"),
            ("response_code_details", r#""via_upstream""#, r#""http1.codec_error""#),
            ("response_flags", r#""-""#, r#""DPE""#),
            ("route_name", r#""rest""#, "null"),
            ("upstream_cluster", r#""outbound|80||shop.istioinaction.svc.cluster.local""#, "null"),
            ("upstream_host", r#""endpoint of shop""#, "null"),
            ("upstream_local_address", r#""127.0.0.1:PORT""#, "null"),
            ("upstream_service_time", r#""MS""#, "null"),
            ("user_agent", r#""tester/1.0""#, "null"),
            ("x_forwarded_for", r#""192.0.2.2""#, "null"),
        ],
        why: "RFC 3986 has no quotes in a query: the request is refused, as the backend of this test refuses it",
    },
    Different {
        rows: &["a client that goes amid its body"],
        fields: &[("bytes_sent", "0", "11"), ("response_code", "0", "400")],
        why: "it may have closed one direction alone, and is answered",
    },
    Different {
        rows: &["a WebSocket"],
        fields: &[
            (
                "response_code_details",
                r#""upstream_reset_after_response_started{connection_termination}""#,
                r#""via_upstream""#,
            ),
            ("response_flags", r#""UC""#, r#""-""#),
            ("flags_long", r#""UpstreamConnectionTermination""#, r#""-""#),
            ("response_tx_duration", "null", r#""MS""#),
        ],
        why: "both sides have closed as they should: that is no failure",
    },
    Different {
        rows: &["TCP", "TCP without a word", "TCP to one that refuses", "TCP to nobody", "passed through"],
        fields: &[("stream_id", r#""UUID""#, "null")],
        why: "the kernel plane gives its connections no names",
    },
];

/// Where a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Http,
    Redirecting,
    Sealed,
    Echo,
    Dead,
    Empty,
    Passed,
}

const PLACES: [At; 7] = [At::Http, At::Redirecting, At::Sealed, At::Echo, At::Dead, At::Empty, At::Passed];

/// What a client does.
#[derive(Debug, Clone)]
enum Ask {
    /// Says it and hears all there is to hear.
    Says(Vec<u8>),
    /// Says it, and that it was all, and hears the same.
    SaysAll(Vec<u8>),
    /// Says it, hears as much, and says that it was all.
    Exchanges(Vec<u8>),
    /// Says it, and goes once the backend has a request.
    Leaves(Vec<u8>),
    /// Says it within TLS to a server name.
    Seals(&'static str, Vec<u8>),
    /// Shakes hands, or not, with this server name, and goes.
    Shakes(&'static str),
    /// HTTP/2: method, path, headers, body.
    Two(&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [u8]),
    /// HTTP/2: likewise, and resets the stream once the backend has the request.
    TwoResets(&'static str),
    /// A WebSocket that is opened, says something and is closed.
    Socket,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    at: At,
    ask: Ask,
}

fn row(name: &'static str, at: At, ask: Ask) -> Row {
    Row { name, at, ask }
}

/// A request on a connection of its own, with further lines of its head.
fn get(name: &'static str, path: &str, lines: &str) -> Row {
    row(name, At::Http, Ask::Says(head("GET", path, lines).into_bytes()))
}

fn head(method: &str, path: &str, lines: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: tester/1.0\r\nconnection: close\r\n{lines}\r\n"
    )
}

fn says(name: &'static str, bytes: &str) -> Row {
    row(name, At::Http, Ask::Says(bytes.as_bytes().to_vec()))
}

fn rows() -> Vec<Row> {
    let post = |path, lines: &str, body: &str| head("POST", path, lines) + body;
    let with_host =
        |host: &str| format!("GET /status/200 HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let sealed =
        |host: &str| format!("GET /bytes/77?side=1 HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    vec![
        get("a plain answer", "/bytes/1000?a=b", ""),
        get("a rule and a match with names", "/digest", ""),
        says("no user agent", &with_host(HOST)),
        get("a forwarded-for of a client", "/bytes/10", "x-forwarded-for: 192.0.2.1, 192.0.2.2\r\n"),
        get("an id of a client", "/bytes/10", "x-request-id: mine\r\n"),
        get(
            "a trace of a client",
            "/bytes/10",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
        ),
        get("a proto of a client", "/bytes/10", "x-forwarded-proto: https\r\n"),
        says(
            "quotes in the user agent",
            &format!(
                "GET /bytes/10 HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: a \"b\" c\\d\r\nconnection: close\r\n\r\n"
            ),
        ),
        says(
            "octets beyond ASCII in the user agent",
            &format!(
                "GET /bytes/10 HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: caf\u{e9}\r\nconnection: close\r\n\r\n"
            ),
        ),
        get("quotes in the path", "/status/200/\"a\"", ""),
        get("quotes in the query", "/status/200?q=\"a\"", ""),
        get("dots in the path", "/x/../status/./200", ""),
        get("an escape in the path", "/status/200%2Fx", ""),
        get("a rewritten path", "/old/200?y=z", ""),
        says("a port in the host", &with_host(&format!("{HOST}:8080"))),
        says("a host in capitals", &with_host("SHOP.istioinaction.io")),
        says("a host that there is not", &with_host("other.test")),
        says(
            "an absolute address",
            &format!("GET http://{HOST}/status/200 HTTP/1.1\r\nhost: x.test\r\nconnection: close\r\n\r\n"),
        ),
        row("a body", At::Http, Ask::Says(post("/digest", "content-length: 5\r\n", "12345").into())),
        row(
            "a body in pieces",
            At::Http,
            Ask::Says(
                post("/digest", "transfer-encoding: chunked\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").into(),
            ),
        ),
        row("a head alone", At::Http, Ask::Says(head("HEAD", "/plain", "").into())),
        row("options", At::Http, Ask::Says(head("OPTIONS", "/status/200", "").into())),
        get("a long answer", "/bytes/100000", ""),
        get("no content", "/status/204", ""),
        get("not modified", "/status/304", ""),
        get("an error of the backend", "/status/500", ""),
        get("unavailable", "/status/503", ""),
        get("a backend that refuses", "/dead", ""),
        get("no endpoints", "/empty", ""),
        get("no such service", "/nowhere", ""),
        get("a backend that hangs up", "/hang-up", ""),
        get("a backend that stops amid the body", "/truncated", ""),
        get("a backend that speaks no HTTP", "/garbage", ""),
        get("a timeout", "/stall", ""),
        get("a timeout of a try", "/patience", ""),
        get("a try that succeeds", "/turns/503,200/a", ""),
        get("tries that do not", "/turns/503/b", ""),
        get("a fault", "/fault", ""),
        get("an answer of the gateway's own", "/direct", ""),
        row("its head", At::Http, Ask::Says(head("HEAD", "/direct", "").into())),
        get("a redirect", "/moved?x", ""),
        row(
            "a preflight",
            At::Http,
            Ask::Says(
                head(
                    "OPTIONS",
                    "/shared",
                    "origin: https://a.test\r\naccess-control-request-method: GET\r\n",
                )
                .into(),
            ),
        ),
        row("https is wanted", At::Redirecting, Ask::Says(head("GET", "/plain?a", "").into())),
        row("https is wanted of any host", At::Redirecting, Ask::Says(with_host("other.test").into())),
        row("a client that goes", At::Http, Ask::Leaves(head("GET", "/held", "").into())),
        row(
            "a client that goes amid its body",
            At::Http,
            Ask::Leaves(post("/held", "content-length: 50\r\n", "12345").into()),
        ),
        get("a path with a fragment", "/status/200#part", ""),
        get("an upgrade to h2c", "/bytes/10", "upgrade: h2c\r\n"),
        says("HTTP/1.0", &format!("GET /plain HTTP/1.0\r\nhost: {HOST}\r\n\r\n")),
        says("no host", "GET /plain HTTP/1.1\r\nconnection: close\r\n\r\n"),
        says("no HTTP", "nonsense\r\n\r\n"),
        says("a method that there is not", &head("BREW", "/plain", "")),
        says("two lengths", &post("/digest", "content-length: 5\r\ncontent-length: 6\r\n", "12345")),
        says(
            "a length beside a coding",
            &post("/digest", "content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        says("a coding that there is not", &post("/digest", "transfer-encoding: brotli\r\n", "0\r\n\r\n")),
        says("a bad size of a piece", &post("/digest", "transfer-encoding: chunked\r\n", "zz\r\n")),
        get("too long a head", "/plain", &format!("x-long: {}\r\n", "x".repeat(70_000))),
        get("too many headers", "/plain", &"x-many: 1\r\n".repeat(150)),
        says(
            "a tunnel",
            &format!("CONNECT {HOST}:80 HTTP/1.1\r\nhost: {HOST}:80\r\nconnection: close\r\n\r\n"),
        ),
        row("HTTP/2", At::Http, Ask::Two("GET", "/bytes/99?a", &[("user-agent", "two")], b"")),
        row("HTTP/2 with a body", At::Http, Ask::Two("POST", "/digest", &[], b"123")),
        row("HTTP/2 without a route", At::Http, Ask::Two("GET", "http://other.test/", &[], b"")),
        row("HTTP/2, a stream that is reset", At::Http, Ask::TwoResets("/held")),
        row(
            "gRPC",
            At::Http,
            Ask::Two(
                "POST",
                "/turns/grpc-5/a",
                &[("content-type", "application/grpc"), ("te", "trailers")],
                &[0; 5],
            ),
        ),
        row(
            "gRPC to nobody",
            At::Http,
            Ask::Two("POST", "/empty", &[("content-type", "application/grpc"), ("te", "trailers")], &[0; 5]),
        ),
        row(
            "gRPC that takes too long",
            At::Http,
            Ask::Two("POST", "/stall", &[("content-type", "application/grpc"), ("te", "trailers")], &[0; 5]),
        ),
        row("a WebSocket", At::Http, Ask::Socket),
        row("TLS", At::Sealed, Ask::Seals(SEALED, sealed(SEALED).into())),
        row("TLS with the host of another", At::Sealed, Ask::Seals(SEALED, sealed(HOST).into())),
        row("TLS to a name that there is not", At::Sealed, Ask::Shakes("other.test")),
        row("no TLS where there should be", At::Sealed, Ask::Says(head("GET", "/plain", "").into())),
        row("TCP", At::Echo, Ask::SaysAll(b"hello".to_vec())),
        row("TCP without a word", At::Echo, Ask::SaysAll(Vec::new())),
        row("TCP to one that refuses", At::Dead, Ask::SaysAll(b"x".to_vec())),
        row("TCP to nobody", At::Empty, Ask::SaysAll(b"x".to_vec())),
        row("passed through", At::Passed, Ask::Exchanges(hello(PASSED))),
        row("passed through to a name that there is not", At::Passed, Ask::Says(hello("other.test"))),
    ]
}

fn hello(name: &str) -> Vec<u8> {
    TlsClient::new(RootCertStore::empty(), name).hello()
}

/// Backends of one of both, so that what they remember is of its requests alone.
struct Backends {
    shop: Backend,
    calls: Backend,
    truncated: Server,
    garbage: Server,
    echo: Server,
    socket: Server,
    dead: SocketAddr,
}

impl Backends {
    fn start() -> Self {
        Self {
            shop: Backend::http("shop"),
            calls: Backend::start("calls", Version::Http2, Place::loopback()),
            truncated: canned::answer(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"),
            garbage: canned::answer(b"nonsense of a backend\r\n\r\n"),
            echo: echo::start_silent(Place::loopback()),
            socket: websocket::start(Place::loopback()),
            dead: ([127, 0, 0, 1], port::free()).into(),
        }
    }

    /// Services by their names, the names of their ports, and their endpoints.
    fn services(&self) -> [(&'static str, &'static str, Vec<SocketAddr>); 8] {
        [
            ("shop", "http", vec![self.shop.server.address]),
            ("calls", "grpc", vec![self.calls.server.address]),
            ("truncated", "http", vec![self.truncated.address]),
            ("garbage", "http", vec![self.garbage.address]),
            ("socket", "http", vec![self.socket.address]),
            ("dead", "http", vec![self.dead]),
            ("empty", "http", vec![]),
            ("echo", "tcp", vec![self.echo.address]),
        ]
    }
}

/// One of the gateways that are compared.
struct Side {
    name: &'static str,
    ip: IpAddr,
    ports: HashMap<At, u16>,
    backends: Backends,
    directory: tempfile::TempDir,
    /// Lines that were read.
    read: usize,
    _process: Box<dyn std::any::Any>,
}

impl Side {
    fn text(&self) -> PathBuf {
        self.directory.path().join("text")
    }

    fn json(&self) -> PathBuf {
        self.directory.path().join("json")
    }

    fn own(&self) -> PathBuf {
        self.directory.path().join("own")
    }

    fn at(&self, at: At) -> SocketAddr {
        (self.ip, self.ports[&at]).into()
    }

    /// The next line of both logs.
    fn line(&mut self, row: &Row) -> Line {
        let read = self.read;
        let next = |path: &Path| {
            let look = || fs::read_to_string(path).ok()?.split_inclusive('\n').nth(read).map(str::to_owned);
            wait::within(wait::PATIENCE, || look().filter(|line| line.ends_with('\n')))
                .unwrap_or_else(|| panic!("{}: no line of `{}` in {}", self.name, row.name, path.display()))
        };
        let [text, json, own] = [self.text(), self.json(), self.own()].map(|path| next(&path));
        self.read += 1;
        let [fields, own] = [&json, &own].map(|line| serde_json::from_str(line).expect("JSON"));
        Line { text, json, fields, own }
    }

    /// What a line says, with names in place of what is another's with each gateway.
    fn named(&self, field: &str, value: &Value) -> Value {
        let Some(text) = value.as_str() else {
            return if field.ends_with("duration") && value.is_u64() { "MS".into() } else { value.clone() };
        };
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match field {
            "start_time" | "emit_time" if is_time(text) => "TIME".into(),
            "upstream_service_time" if is_number => "MS".into(),
            "request_id" | "stream_id" if is_uuid(text) => "UUID".into(),
            _ => match text.parse::<SocketAddr>() {
                Ok(address) => self.named_address(address).into(),
                Err(_) => value.clone(),
            },
        }
    }

    fn named_address(&self, address: SocketAddr) -> String {
        let services = self.backends.services();
        let backend = services.iter().find(|(_, _, endpoints)| endpoints.contains(&address));
        let own = PLACES.iter().find(|at| self.at(**at) == address);
        match (backend, own) {
            (Some((name, ..)), _) => format!("endpoint of {name}"),
            (_, Some(at)) => format!("{at:?}"),
            _ => format!("{}:PORT", address.ip()),
        }
    }
}

/// `2024-01-31T12:00:00.123Z`.
fn is_time(text: &str) -> bool {
    is_like(text, "0000-00-00T00:00:00.000Z", u8::is_ascii_digit)
}

fn is_uuid(text: &str) -> bool {
    is_like(text, "00000000-0000-0000-0000-000000000000", u8::is_ascii_hexdigit)
}

fn is_like(text: &str, like: &str, digit: fn(&u8) -> bool) -> bool {
    let fits = |(byte, like): (u8, u8)| if like == b'0' { digit(&byte) } else { byte == like };
    text.len() == like.len() && text.bytes().zip(like.bytes()).all(fits)
}

/// A line in both forms.
#[derive(Debug)]
struct Line {
    text: String,
    json: String,
    fields: serde_json::Map<String, Value>,
    /// What [`own_format`] says.
    own: serde_json::Map<String, Value>,
}

impl Line {
    /// The text that says the same as the JSON; what could end a field is made harmless by `harmless`.
    fn text_of_json(&self, harmless: fn(char) -> char) -> String {
        let mut text = TEXT_LAYOUT.join(" ") + "\n";
        for (field, value) in &self.fields {
            let value = match value {
                Value::Null => "-".to_owned(),
                Value::String(value) => value.chars().map(harmless).collect(),
                value => value.to_string(),
            };
            text = text.replace(&format!("{{{field}}}"), &value);
        }
        text
    }

    /// The JSON without the values.
    fn members(&self) -> String {
        self.fields.iter().fold(self.json.clone(), |text, (field, value)| {
            let bare = text.replacen(&format!("\"{field}\":{value}"), &format!("\"{field}\":"), 1);
            assert_ne!(bare, text, "{field} of {}", self.json);
            bare
        })
    }
}

fn cluster_name(service: &str) -> String {
    format!("outbound|80||{service}.istioinaction.svc.cluster.local")
}

fn site(ports: &HashMap<At, u16>, backends: &Backends, identity: &Identity, logs: [&Path; 3]) -> String {
    let to = |service: &str| format!("route: [{{destination: {{host: {service}}}}}]");
    let simple = ["dead", "empty", "nowhere", "truncated", "garbage"];
    let simple =
        simple.map(|name| format!("  - {{match: [{{uri: {{prefix: /{name}}}}}], {}}}\n", to(name))).concat();
    let shop = to("shop");
    let rules = format!(
        "  http:\n\
         \x20 - {{name: rule, match: [{{name: match, uri: {{prefix: /digest}}}}], rewrite: {{authority: inner.test}}, {shop}}}\n\
         {simple}\
         \x20 - {{match: [{{uri: {{prefix: /stall}}}}], timeout: 50ms, {shop}}}\n\
         \x20 - {{match: [{{uri: {{prefix: /patience}}}}], rewrite: {{uri: /stall}}, retries: {{attempts: 1, perTryTimeout: 50ms, \
         retryOn: 5xx}}, {shop}}}\n\
         \x20 - {{match: [{{uri: {{prefix: /turns/grpc}}}}], {}}}\n\
         \x20 - {{match: [{{uri: {{prefix: /turns}}}}], retries: {{attempts: 1, retryOn: 5xx}}, {shop}}}\n\
         \x20 - {{match: [{{uri: {{prefix: /old}}}}], rewrite: {{uri: /status}}, {shop}}}\n\
         \x20 - {{match: [{{uri: {{prefix: /fault}}}}], fault: {{delay: {{fixedDelay: 1ms, percentage: {{value: 100}}}}, abort: \
         {{httpStatus: 418, percentage: {{value: 100}}}}}}, {shop}}}\n\
         \x20 - {{match: [{{uri: {{prefix: /direct}}}}], directResponse: {{status: 200, body: {{string: hello}}}}}}\n\
         \x20 - {{match: [{{uri: {{prefix: /moved}}}}], redirect: {{uri: /there}}}}\n\
         \x20 - {{match: [{{uri: {{prefix: /shared}}}}], corsPolicy: {{allowOrigins: [{{exact: 'https://a.test'}}], allowMethods: \
         [GET]}}, {shop}}}\n\
         \x20 - {{match: [{{uri: {{prefix: /chat}}}}], {}}}\n\
         \x20 - {{name: rest, {shop}}}",
        to("calls"),
        to("socket"),
    );
    let at = |at| ports[&at];
    let servers = [
        Listening::http(at(At::Http), &[HOST]),
        Listening::redirecting(at(At::Redirecting), &[HOST]),
        Listening::https(at(At::Sealed), "SIMPLE", "web", &[SEALED]),
        Listening::tcp(at(At::Echo)),
        Listening::tcp(at(At::Dead)),
        Listening::tcp(at(At::Empty)),
        Listening::passthrough(at(At::Passed), &[PASSED]),
    ];
    let file = |path: &Path, format: Value| json!({"path": path, "logFormat": format});
    let providers = json!({"extensionProviders": [
        {"name": "text", "envoyFileAccessLog": {"path": logs[0]}},
        {"name": "json", "envoyFileAccessLog": file(logs[1], json!({"labels": {}}))},
        {"name": "own", "envoyFileAccessLog": file(logs[2], json!({"labels": own_format()}))},
    ]});
    let mut text = documents::gateway("edge", &servers)
        + &documents::virtual_service("shop", &[HOST], "edge", &rules)
        + &documents::http_route("vault", SEALED, "edge", "shop")
        + &tcp_route("echo", at(At::Echo), "edge", "echo")
        + &tcp_route("dead", at(At::Dead), "edge", "dead")
        + &tcp_route("none", at(At::Empty), "edge", "empty")
        + &sni_route("passed", at(At::Passed), PASSED, "edge", "echo")
        + &documents::secret("web", identity, None)
        + &documents::config_map("istio-system", "istio", &[("mesh", &providers.to_string())])
        + "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: edge, namespace: istio-system}\nspec:\n  \
           accessLogging: [{providers: [{name: text}, {name: json}, {name: own}]}]\n";
    for (name, port_name, endpoints) in backends.services() {
        text += &if port_name == "tcp" {
            tcp_service(name, &endpoints)
        } else {
            service(name, port_name, &endpoints)
        };
    }
    text
}

/// Operators that the default formats don't have. No two members of both have one name.
fn own_format() -> Value {
    json!({
        "type": "%ACCESS_LOG_TYPE%",
        "stream_id": "%STREAM_ID%",
        "emit_time": "%EMIT_TIME%",
        "bare_path": "%PATH(NQ)%",
        "sent_path": "%PATH(WQ:PATH)%",
        "original_path": "%PATH(WQ:ORIG)%",
        "parameter": "%QUERY_PARAM(a)%",
        "query": "%QUERY_PARAMS%",
        "environment": "%ENVIRONMENT(PATH)%",
        "no_environment": "%ENVIRONMENT(SLUICE_NO_SUCH)%",
        "response_duration": "%RESPONSE_DURATION%",
        "response_tx_duration": "%RESPONSE_TX_DURATION%",
        "flags_long": "%RESPONSE_FLAGS_LONG%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "tls_version": "%DOWNSTREAM_TLS_VERSION%",
        "tls_cipher": "%DOWNSTREAM_TLS_CIPHER%",
        "grpc": "%GRPC_STATUS%",
        "grpc_number": "%GRPC_STATUS_NUMBER%",
        "virtual_cluster": "%VIRTUAL_CLUSTER_NAME%",
        "location": "%RESP(LOCATION)%",
        "direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
        "remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "short_location": "%RESP(LOCATION):7%",
        "peer": "%DOWNSTREAM_PEER_SUBJECT%",
        "both": "%UPSTREAM_CLUSTER_RAW% %GRPC_STATUS%",
    })
}

/// The same as istiod would say it.
fn routes() -> Vec<Value> {
    let to = |name: &str, prefix: &str, service: &str| istio::route(name, prefix, &cluster_name(service));
    let shop = |prefix: &str| to("", prefix, "shop");
    let mut named = to("rule.match", "/digest", "shop");
    named["route"]["host_rewrite_literal"] = "inner.test".into();
    let mut stall = shop("/stall");
    stall["route"]["timeout"] = "0.050s".into();
    stall["route"]["max_grpc_timeout"] = "0.050s".into();
    let mut patience = shop("/patience");
    patience["route"]["prefix_rewrite"] = "/stall".into();
    patience["route"]["retry_policy"] = istio::retries("5xx", 1);
    patience["route"]["retry_policy"]["per_try_timeout"] = "0.050s".into();
    let mut turns = shop("/turns");
    turns["route"]["retry_policy"] = istio::retries("5xx", 1);
    let mut old = shop("/old");
    old["route"]["prefix_rewrite"] = "/status".into();
    let mut fault = shop("/fault");
    fault["typed_per_filter_config"] = istio::fault("0.001s", 418);
    let mut shared = shop("/shared");
    shared["typed_per_filter_config"] = istio::cors("https://a.test");
    let direct = json!({"match": {"prefix": "/direct", "case_sensitive": true},
        "direct_response": {"status": 200, "body": {"inline_string": "hello"}}});
    let moved = json!({"match": {"prefix": "/moved", "case_sensitive": true},
        "redirect": {"path_redirect": "/there", "response_code": "MOVED_PERMANENTLY"}});
    let simple = ["dead", "empty", "nowhere", "truncated", "garbage"];
    let simple = simple.map(|service| to("", &format!("/{service}"), service));
    let rest = [stall, patience, to("", "/turns/grpc", "calls"), turns, old, fault, direct, moved, shared];
    let last = [to("", "/chat", "socket"), to("rest", "/", "shop")];
    [named].into_iter().chain(simple).chain(rest).chain(last).collect()
}

fn envoy_configuration(
    ports: &HashMap<At, u16>,
    backends: &Backends,
    credential: [&Path; 2],
    [text, json, own]: [&Path; 3],
) -> Value {
    let format = own_format();
    let logs = Logs { text, json, own: (own, &format) };
    let at = |at| ports[&at];
    let http = |name: &str, hosts: &[Value]| istio::connection_manager(name, hosts, logs);
    let tcp = |service: &str| istio::tcp_proxy(&cluster_name(service), logs);
    let table = |at: At| format!("http.{}", ports[&at]);
    let hosts = [istio::virtual_host(HOST, at(At::Http), &routes())];
    let rest = istio::route("", "/", &cluster_name("shop"));
    let vault = [istio::virtual_host(SEALED, at(At::Sealed), std::slice::from_ref(&rest))];
    let mut redirecting = [istio::virtual_host(HOST, at(At::Redirecting), &routes())];
    redirecting[0]["require_tls"] = "ALL".into();
    let chain = |filter: Value| [istio::chain(&filter)];
    let listeners = [
        istio::listener(at(At::Http), &chain(http(&table(At::Http), &hosts)), logs),
        istio::listener(at(At::Redirecting), &chain(http(&table(At::Redirecting), &redirecting)), logs),
        istio::listener(
            at(At::Sealed),
            &[istio::sealed_chain(
                &[SEALED],
                &http("https.443.https-2.edge.istioinaction", &vault),
                credential,
            )],
            logs,
        ),
        istio::listener(at(At::Echo), &chain(tcp("echo")), logs),
        istio::listener(at(At::Dead), &chain(tcp("dead")), logs),
        istio::listener(at(At::Empty), &chain(tcp("empty")), logs),
        istio::listener(at(At::Passed), &[istio::passthrough_chain(&[PASSED], &tcp("echo"))], logs),
    ];
    let cluster = |(name, port_name, endpoints): (&str, &str, Vec<SocketAddr>)| {
        istio::cluster(&cluster_name(name), &endpoints, port_name == "grpc")
    };
    istio::whole(&listeners, &backends.services().map(cluster))
}

/// Both, in front of backends of their own. Clients of loopback would be told apart by nobody: Envoy names its own address
/// in their place.
fn sides(identity: &Identity) -> [Side; 2] {
    let ip = Place::outside_loopback().ip();
    let make = |name: &'static str| {
        let ports: HashMap<_, _> = PLACES.map(|at| (at, port::free())).into();
        let directory = tempfile::tempdir().expect("a directory");
        let paths = ["text", "json", "own", "tls.crt", "tls.key"].map(|name| directory.path().join(name));
        let [text, json, own, certificate, key] = paths.each_ref().map(PathBuf::as_path);
        fs::write(certificate, &identity.certificate).expect("writing a certificate");
        fs::write(key, &identity.key).expect("writing a key");
        let backends = Backends::start();
        let process: Box<dyn std::any::Any> = if name == "Envoy" {
            let configuration = envoy_configuration(&ports, &backends, [certificate, key], [text, json, own]);
            Box::new(Envoy::start(&configuration, ports[&At::Http]))
        } else {
            let documents = site(&ports, &backends, identity, [text, json, own]);
            Box::new(Gateway::arrange().document("site", &documents).start())
        };
        Side { name, ip, ports, backends, directory, read: 0, _process: process }
    };
    [make("Envoy"), make("Sluice")]
}

impl Side {
    fn perform(&self, row: &Row, roots: &RootCertStore) {
        let address = self.at(row.at);
        match &row.ask {
            Ask::Says(bytes) => drop(Self::says(address, bytes, false)),
            Ask::SaysAll(bytes) => drop(Self::says(address, bytes, true)),
            Ask::Exchanges(bytes) => {
                let mut stream = client::connect(address);
                stream.write_all(bytes).expect("sending");
                stream.read_exact(&mut vec![0; bytes.len()]).expect("as much");
                stream.shutdown(Shutdown::Write).expect("an end");
                drop(read_to_end(&mut stream));
            }
            Ask::Leaves(bytes) => {
                let before = self.backends.shop.requests();
                let mut stream = client::connect(address);
                stream.write_all(bytes).expect("sending");
                self.wait_for_request(before);
            }
            Ask::Seals(name, bytes) => {
                let mut stream = TlsClient::new(roots.clone(), name).connect(address).expect("a session");
                stream.write_all(bytes).expect("sending");
                drop(read_to_end(&mut stream));
            }
            Ask::Shakes(name) => {
                assert!(TlsClient::new(roots.clone(), name).connect(address).is_err(), "{}", row.name);
            }
            Ask::Two(method, path, headers, body) => client::runtime().block_on(async {
                two(address, (method, path, headers, body), None).await;
            }),
            Ask::TwoResets(path) => client::runtime().block_on(async {
                two(address, ("GET", path, &[], b""), Some(&self.backends.shop)).await;
            }),
            Ask::Socket => {
                let mut socket = websocket::connect(address, HOST);
                websocket::exchange(&mut socket, 1, 100);
                socket.close(None).expect("a close");
                websocket::expect_closed(&mut socket);
            }
        }
    }

    fn says(address: SocketAddr, bytes: &[u8], is_all: bool) -> Vec<u8> {
        let mut stream = client::connect(address);
        // Who is refused may hear of it before everything is said.
        let said = stream.write_all(bytes);
        if is_all && said.is_ok() {
            let _ = stream.shutdown(Shutdown::Write);
        }
        read_to_end(&mut stream).0
    }

    fn wait_for_request(&self, before: usize) {
        wait::until("a request at the backend", || (self.backends.shop.requests() > before).then_some(()));
    }
}

/// With a backend: resets the stream when that has the request.
async fn two(
    address: SocketAddr,
    (method, path, headers, body): (&str, &str, &[(&str, &str)], &'static [u8]),
    resets_at: Option<&Backend>,
) {
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let (mut sender, driver) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(driver);
    let uri = if path.starts_with('/') { format!("http://{HOST}{path}") } else { path.to_owned() };
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from_static(body))).expect("a request");
    let before = resets_at.map(Backend::requests);
    let mut answer = std::pin::pin!(sender.send_request(request));
    let Some((backend, before)) = resets_at.zip(before) else {
        let answer = answer.await.expect("an answer");
        // Some end without a body that is whole.
        let _ = answer.into_body().collect().await;
        return;
    };
    let came = async {
        while backend.requests() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut answer => panic!("an answer"),
        () = came => {}
    }
}

/// Ours: quotes and what is not printable would make a line ambiguous.
fn harmless(c: char) -> char {
    if c == '"' || !(c.is_ascii_graphic() || c == ' ') { '?' } else { c }
}

/// What both say of a field that differs on purpose.
fn listed(row: &str, field: &str) -> Option<[Value; 2]> {
    let of_row = DIFFERENT.iter().filter(|different| different.rows.contains(&row));
    let mut fields = of_row.flat_map(|different| different.fields);
    let (_, theirs, ours) = fields.find(|(name, ..)| *name == field)?;
    Some([theirs, ours].map(|value| serde_json::from_str(value).expect("JSON")))
}

#[test]
fn lines_say_what_envoys_say() {
    let authority = Authority::new("the gateway's");
    let [mut envoy, mut ours] = sides(&authority.issue(&[SEALED]));
    // Those that looked whether Envoy listens.
    assert_eq!(fs::read_to_string(envoy.json()).unwrap_or_default(), "");
    let rows = rows();
    assert!(rows.len() >= 40);
    let mut faults = Vec::new();
    for row in &rows {
        let lines = [&mut envoy, &mut ours].map(|side| {
            side.perform(row, &authority.roots());
            side.line(row)
        });
        let [theirs, own] = &lines;
        assert_eq!(theirs.text, theirs.text_of_json(|c| c), "{}", row.name);
        assert_eq!(own.text, own.text_of_json(harmless), "{}", row.name);
        assert_eq!(theirs.members(), own.members(), "{}", row.name);
        let told = theirs.fields.iter().map(|(field, value)| (field, value, &own.fields[field]));
        let others = theirs.own.iter().map(|(field, value)| (field, value, &own.own[field]));
        for (field, theirs, own) in told.chain(others) {
            let told = [envoy.named(field, theirs), ours.named(field, own)];
            let want = listed(row.name, field).unwrap_or_else(|| [told[0].clone(), told[0].clone()]);
            if told != want {
                faults.push(format!("`{}`, {field}: Envoy says {}, ours {}", row.name, told[0], told[1]));
            }
        }
    }
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}
