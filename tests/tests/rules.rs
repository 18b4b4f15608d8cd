//! What gateways of other make get wrong, where only traffic shows it: one test a rule, its name says the rule. What the
//! documents alone decide stands with the tests of translation.

use std::io::Write as _;
use std::net::SocketAddr;

use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::client::{self, Answer, get, read_to_end, request, send};
use harness::documents::{self, Server};
use harness::gateway::Gateway;
use harness::port;
use harness::program::{curl, run};
use harness::serve::Place;
use harness::tls::{TlsClient, exchange};
use hyper::StatusCode;
use serde_json::Value;

const HOST: &str = "shop.istioinaction.io";
/// What is said of a backend that closes without an answer.
const CUT: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination";

/// A gateway with an HTTP port for any host, rules for [`HOST`] and a backend `shop`, which answers with what it was asked.
struct Site {
    _gateway: Gateway,
    address: SocketAddr,
    backend: Backend,
}

impl Site {
    /// Rules as flow mappings, in which `TO}` ends with the route to the backend.
    fn new(rules: &[&str]) -> Self {
        Self::with(rules, |port| Server::http(port, &["*"]), "")
    }

    fn with(rules: &[&str], server: fn(u16) -> Server, more: &str) -> Self {
        let backend = Backend::http("shop");
        let port = port::free();
        let rule =
            |rule: &&str| format!("  - {}\n", rule.replace("TO}", "route: [{destination: {host: shop}}]}"));
        let rules: String = rules.iter().map(rule).collect();
        let documents = documents::gateway("edge", &[server(port)])
            + &documents::virtual_service("shop", &[HOST], "edge", &format!("  http:\n{rules}"))
            + &documents::http_service("shop", &[backend.server.address])
            + more;
        let gateway = Gateway::arrange().document("site", &documents).start();
        Self { address: gateway.at(port), _gateway: gateway, backend }
    }

    fn get(&self, path: &str) -> Answer {
        get(self.address, HOST, path)
    }

    fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        send(self.address, request("GET", HOST, path, headers))
    }

    /// What the backend saw of a request.
    fn seen(&self, path: &str, headers: &[(&str, &str)]) -> Value {
        self.ask(path, headers).json()
    }

    /// First line of the answer to bytes of the test's own.
    fn raw(&self, bytes: &str) -> String {
        let mut stream = client::connect(self.address);
        // The gateway may answer, and close, before it has read all.
        let _ = stream.write_all(bytes.as_bytes());
        let (answer, _) = read_to_end(&mut stream);
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_rewrite_replaces_a_prefix_byte_by_byte_and_anything_else_as_a_whole() {
    let site = Site::new(&[
        "{match: [{uri: {prefix: /foo}}], rewrite: {uri: /}, TO}",
        "{match: [{uri: {prefix: /slash/}}], rewrite: {uri: /}, TO}",
        "{match: [{uri: {exact: /exact}}], rewrite: {uri: /other}, TO}",
        "{match: [{uri: {regex: '/r[0-9]+/.*'}}], rewrite: {uri: /whole}, TO}",
        "{match: [{uri: {prefix: /every}}], rewrite: {uriRegexRewrite: {match: e, rewrite: i}}, TO}",
        "{match: [{uri: {prefix: /query}}], rewrite: {uri: '/q?a=1'}, TO}",
        "{rewrite: {uri: /head}, TO}",
    ]);
    for (path, want) in [
        ("/foo/bar", "//bar"),
        ("/foobar", "/bar"),
        ("/foo", "/"),
        ("/foo?x=/foo", "/?x=/foo"),
        ("/slash/x", "/x"),
        ("/exact?x=1", "/other?x=1"),
        ("/r12/x?y", "/whole?y"),
        ("/every/e?e", "/iviry/i?e"),
        // As Envoy joins them.
        ("/query?b=2", "/q?a=1?b=2"),
        ("/some/path", "/headsome/path"),
    ] {
        let seen = site.seen(path, &[]);
        assert_eq!(seen["path"], want, "{path}");
        assert_eq!(seen["headers"]["x-envoy-original-path"], path);
    }
}

#[test]
fn a_redirect_to_https_keeps_the_port_of_the_host_and_believes_no_forwarded_proto() {
    let site = Site::with(&["{TO}"], |port| Server::redirecting(port, &["*.istioinaction.io"]), "");
    for (host, want) in [
        (HOST, "https://shop.istioinaction.io/a?b=c"),
        ("shop.istioinaction.io:80", "https://shop.istioinaction.io:80/a?b=c"),
        ("shop.istioinaction.io:8080", "https://shop.istioinaction.io:8080/a?b=c"),
        // No VirtualService has it.
        ("other.istioinaction.io", "https://other.istioinaction.io/a?b=c"),
    ] {
        let answer = send(site.address, request("GET", host, "/a?b=c", &[("x-forwarded-proto", "https")]));
        assert_eq!(
            (answer.status, answer.header("location")),
            (StatusCode::MOVED_PERMANENTLY, want),
            "{host}"
        );
    }
    assert_eq!(site.backend.requests(), 0);
}

#[test]
fn what_clients_say_of_themselves_is_appended_to_or_overwritten() {
    let site = Site::new(&[
        "{match: [{headers: {x-forwarded-proto: {exact: https}}}], directResponse: {status: 299}}",
        "{match: [{headers: {x-envoy-internal: {}}}], directResponse: {status: 299}}",
        "{TO}",
    ]);
    let seen = site.seen(
        "/",
        &[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "kept"),
            ("x-forwarded-client-cert", "Hash=forged"),
            ("x-request-id", "forged"),
            ("x-envoy-internal", "true"),
            ("x-envoy-decorator-operation", "forged"),
            ("traceparent", "kept"),
        ],
    );
    for (name, want) in [
        ("x-forwarded-for", Value::from("192.0.2.1,192.0.2.2,127.0.0.1")),
        ("x-forwarded-proto", "http".into()),
        ("x-forwarded-host", "kept".into()),
        ("x-forwarded-client-cert", Value::Null),
        ("x-envoy-internal", Value::Null),
        ("x-envoy-decorator-operation", "shop.istioinaction.svc.cluster.local:80/*".into()),
        ("x-envoy-attempt-count", "1".into()),
        ("traceparent", "kept".into()),
    ] {
        assert_eq!(seen["headers"][name], want, "{name}");
    }
    assert_ne!(seen["headers"]["x-request-id"], "forged");
}

#[test]
fn a_503_of_a_backend_is_not_tried_again_and_a_refused_connection_is() {
    let more = documents::http_service("dead", &[SocketAddr::from(([127, 0, 0, 1], port::free()))]);
    let site = Site::with(
        &["{match: [{uri: {prefix: /dead}}], route: [{destination: {host: dead}}]}", "{TO}"],
        |port| Server::http(port, &["*"]),
        &more,
    );
    assert_eq!(site.get("/turns/503,200/x").status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.backend.requests(), 1);
    let dead = site.get("/dead");
    assert_eq!(dead.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(dead.text().contains("retried and the latest reset reason: remote connection failure"));
}

/// Statuses and bodies by what is missing, and gRPC's words for the same.
#[test]
fn failures_have_a_status_and_body_each_and_grpc_clients_get_200_and_a_grpc_status() {
    let more = documents::http_service("empty", &[]);
    let site = Site::with(
        &[
            "{match: [{uri: {prefix: /cluster}}], route: [{destination: {host: nowhere}}]}",
            "{match: [{uri: {prefix: /subset}}], route: [{destination: {host: shop, subset: v9}}]}",
            "{match: [{uri: {prefix: /empty}}], route: [{destination: {host: empty}}]}",
            "{match: [{uri: {prefix: /fault}}], fault: {abort: {httpStatus: 403, percentage: {value: 100}}}, TO}",
            "{match: [{uri: {prefix: /stall}}], timeout: 100ms, TO}",
            "{match: [{uri: {prefix: /hang-up}}], TO}",
        ],
        |port| Server::http(port, &["*"]),
        &more,
    );
    for (path, status, body, grpc) in [
        ("/nothing", 404, "", "12"),
        ("/cluster", 503, "", "14"),
        ("/subset", 503, "", "14"),
        ("/empty", 503, "no healthy upstream", "14"),
        ("/fault", 403, "fault filter abort", "7"),
        ("/stall", 504, "upstream request timeout", "14"),
        ("/hang-up", 503, CUT, "14"),
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (status, body), "{path}");
        assert_eq!(answer.header("content-length"), body.len().to_string(), "{path}");
        let answer = site.ask(path, &[("content-type", "application/grpc+proto")]);
        let said = (answer.header("grpc-status"), answer.header("grpc-message"));
        assert_eq!((answer.status.as_u16(), said, answer.text().as_str()), (200, (grpc, body), ""), "{path}");
    }
}

#[test]
fn a_host_of_another_https_server_is_404_and_a_name_of_none_is_reset() {
    let authority = Authority::new("the test's");
    let (backend, port) = (Backend::http("shop"), port::free());
    let hosts = ["one.test", "two.test"];
    let server = |host: &'static str| Server::https(port, "SIMPLE", "c", &[host]);
    let documents = documents::gateway("edge", &hosts.map(server))
        + &documents::virtual_service(
            "shop",
            &hosts,
            "edge",
            "  http: [{route: [{destination: {host: shop}}]}]",
        )
        + &documents::http_service("shop", &[backend.server.address])
        + &documents::secret("c", &authority.issue(&hosts), None);
    let gateway = Gateway::arrange().document("site", &documents).start();
    let fetch = |name: &str, host: &str| {
        let mut stream = TlsClient::new(authority.roots(), name).connect(gateway.at(port))?;
        exchange(&mut stream, &format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
    };
    let status = |name, host| fetch(name, host).expect("an answer").lines().next().map(str::to_owned);
    assert_eq!(status("one.test", "one.test").as_deref(), Some("HTTP/1.1 200 OK"));
    assert_eq!(status("one.test", "two.test").as_deref(), Some("HTTP/1.1 404 Not Found"));
    assert_eq!(status("two.test", "two.test").as_deref(), Some("HTTP/1.1 200 OK"));
    assert!(fetch("three.test", "one.test").is_err());
}

#[test]
fn backends_of_mutual_tls_are_told_of_the_clients_certificate() {
    let (authority, clients) = (Authority::new("the test's"), Authority::new("of clients"));
    let (backend, port) = (Backend::http("shop"), port::free());
    let server = Server::https(port, "OPTIONAL_MUTUAL", "c", &[HOST]);
    let documents = documents::gateway("edge", &[server])
        + &documents::http_route("shop", HOST, "edge", "shop")
        + &documents::http_service("shop", &[backend.server.address])
        + &documents::secret("c", &authority.issue(&[HOST]), Some(&clients.certificate()));
    let gateway = Gateway::arrange().document("site", &documents).start();
    let seen = |client: TlsClient| -> Value {
        let mut stream = client.connect(gateway.at(port)).expect("a handshake");
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-client-cert: Hash=forged\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(&mut stream, &request).expect("an answer");
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).expect("a body")).expect("what was seen")
    };
    let client = || TlsClient::new(authority.roots(), HOST);
    assert_eq!(seen(client())["headers"]["x-forwarded-client-cert"], Value::Null);
    let told = seen(client().identity(&clients.issue(&["alice.test"])));
    let told = told["headers"]["x-forwarded-client-cert"].as_str().expect("the header").to_owned();
    assert!(told.starts_with("Hash=") && !told.contains("forged"), "{told}");
    assert!(told.contains(";Cert=\"-----BEGIN%20CERTIFICATE-----%0A"), "{told}");
    assert!(told.ends_with(";URI=;DNS=alice.test"), "{told}");
}

#[test]
fn what_a_route_says_of_the_response_holds_for_failures_too() {
    let headers = "headers: {response: {set: {x-said: route}}}";
    let weighted = "route: [{destination: {host: nowhere}, weight: 1, headers: {response: {set: {x-chosen: one}}}}, \
                    {destination: {host: nobody}, weight: 1, headers: {response: {set: {x-chosen: one}}}}]";
    let rules = [
        format!(
            "{{match: [{{uri: {{prefix: /cluster}}}}], {headers}, route: [{{destination: {{host: nowhere}}}}]}}"
        ),
        format!("{{match: [{{uri: {{prefix: /weighted}}}}], {headers}, {weighted}}}"),
        format!(
            "{{match: [{{uri: {{prefix: /fault}}}}], {headers}, fault: {{abort: {{httpStatus: 418, percentage: {{value: 100}}}}}}, TO}}"
        ),
        format!("{{match: [{{uri: {{prefix: /stall}}}}], {headers}, timeout: 100ms, TO}}"),
    ];
    let site = Site::new(&rules.each_ref().map(String::as_str));
    for (path, status, chosen) in
        [("/cluster", 503, ""), ("/weighted", 503, "one"), ("/fault", 418, ""), ("/stall", 504, "")]
    {
        let answer = site.get(path);
        assert_eq!((answer.status.as_u16(), answer.header("x-said")), (status, "route"), "{path}");
        assert_eq!(answer.header("x-chosen"), chosen, "{path}");
    }
}

#[test]
fn header_operations_take_away_then_set_then_add_and_do_nothing_with_an_empty_value() {
    let site = Site::new(&[
        "{match: [{uri: {prefix: /empty}}], headers: {request: {set: {x-a: ''}, add: {x-b: ''}}}, TO}",
        "{match: [{uri: {prefix: /one}}], headers: {request: {set: {x-a: route, x-c: route}}}, route: [{destination: {host: \
         shop}, headers: {request: {set: {x-a: destination}, remove: [x-b]}}}]}",
        "{headers: {request: {set: {x-a: set}, add: {x-a: added}, remove: [x-a]}}, TO}",
    ]);
    for (path, a, b) in [
        ("/empty", "client", Value::from("client")),
        ("/one", "destination", Value::Null),
        ("/all", "set,added", "client".into()),
    ] {
        let seen = site.seen(path, &[("x-a", "client"), ("x-b", "client")]);
        assert_eq!((&seen["headers"]["x-a"], &seen["headers"]["x-b"]), (&a.into(), &b), "{path}");
    }
}

#[test]
fn conditions_on_the_host_hold_in_every_form_of_a_request() {
    let site = Site::new(&[
        "{match: [{headers: {host: {exact: shop.istioinaction.io}}, uri: {prefix: /host}}], TO}",
        "{match: [{headers: {':authority': {prefix: shop}, ':method': {exact: GET}, ':path': {regex: '/pseudo\\?a=.*'}}}], TO}",
        "{directResponse: {status: 299}}",
    ]);
    assert_eq!(site.get("/host").backend(), "shop");
    assert_eq!(site.get("/pseudo?a=1").backend(), "shop");
    assert_eq!(site.get("/pseudo").status.as_u16(), 299);
    let absolute =
        format!("GET http://{HOST}/host HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n");
    assert_eq!(site.raw(&absolute), "HTTP/1.1 200 OK");
    let url = format!("http://{HOST}:{}/pseudo?a=1", site.address.port());
    let resolve = format!("{HOST}:{}:127.0.0.1", site.address.port());
    let said = run(curl().args(["--http2-prior-knowledge", "--resolve", &resolve]).arg(url)).expect_success();
    assert!(said.out.starts_with("HTTP/2 200"), "{}", said.out);
}

#[test]
fn versions_other_than_1_1_are_told_to_upgrade() {
    let site = Site::new(&["{TO}"]);
    for version in ["0.9", "1.0", "1.2", "2.0", "3.0"] {
        let said = site.raw(&format!("GET / HTTP/{version}\r\nhost: {HOST}\r\n\r\n"));
        assert_eq!(said, "HTTP/1.1 426 Upgrade Required", "{version}");
    }
    assert_eq!(site.backend.requests(), 0);
}

#[test]
fn sixty_kibibytes_of_headers_are_the_most() {
    let site = Site::new(&["{TO}"]);
    for (length, want) in [(59 * 1024, "200 OK"), (61 * 1024, "431 Request Header Fields Too Large")] {
        let large = "x".repeat(length);
        let said = site
            .raw(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-large: {large}\r\nconnection: close\r\n\r\n"));
        assert_eq!(said, format!("HTTP/1.1 {want}"), "{length}");
    }
}

#[test]
fn a_port_of_unknown_protocol_is_asked_in_http_1_1() {
    let backend = Backend::start("web", Version::Http1, Place::loopback());
    let more = documents::service("web", "web", &[backend.server.address]);
    let site =
        Site::with(&["{route: [{destination: {host: web}}]}"], |port| Server::http(port, &["*"]), &more);
    assert_eq!(site.seen("/", &[])["version"], "HTTP/1.1");
}

#[test]
fn values_of_headers_are_made_of_what_is_known_of_the_request() {
    let site = Site::new(&[
        "{name: named, match: [{uri: {prefix: /made}}], headers: {request: {set: {x-client: \
         '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%', x-port: '%DOWNSTREAM_LOCAL_PORT%', x-what: 'is %REQ(:METHOD)% \
         %REQ(:path)% by %PROTOCOL%', x-cut: '%REQ(x-long):3%', x-or: '%REQ(x-absent?x-long)%', x-gone: \
         '%REQ(x-absent)%', x-own: '%REQ(x-own)%!', x-sure: '100%%', x-route: '%ROUTE_NAME%', x-start: \
         't=%START_TIME(%s.%3f)%'}, remove: [x-taken]}, response: {set: {x-code: '%RESPONSE_CODE% %RESP(content-type)%'}}}, TO}",
        "{match: [{uri: {prefix: /direct}}], headers: {response: {add: {x-code: '%RESPONSE_CODE%'}}}, directResponse: {status: 299}}",
    ]);
    let answer = site.ask("/made?a=b", &[("x-long", "longer"), ("x-own", "mine"), ("x-gone", "client")]);
    assert_eq!(answer.header("x-code"), "200 application/json");
    let seen = answer.json();
    for (name, want) in [
        ("x-client", Value::from("127.0.0.1")),
        ("x-port", site.address.port().to_string().into()),
        ("x-what", "is GET /made?a=b by HTTP/1.1".into()),
        ("x-cut", "lon".into()),
        ("x-or", "longer".into()),
        // Made of nothing, it does nothing.
        ("x-gone", "client".into()),
        ("x-own", "mine!".into()),
        ("x-sure", "100%".into()),
        ("x-route", "named".into()),
    ] {
        assert_eq!(seen["headers"][name], want, "{name} of {seen}");
    }
    let start = seen["headers"]["x-start"].as_str().expect("the header");
    let (seconds, fraction) = start.strip_prefix("t=").and_then(|time| time.split_once('.')).expect(start);
    assert!(
        seconds.parse::<u64>().is_ok_and(|seconds| seconds > 1_600_000_000) && fraction.len() == 3,
        "{start}"
    );
    assert_eq!(site.get("/direct").header("x-code"), "299");
}
