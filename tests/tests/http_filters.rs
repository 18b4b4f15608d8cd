//! What a route does before it forwards, through the real gateway: CORS, faults; and rules that another document holds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::backend::Backend;
use harness::client::{Answer, get, request, send};
use harness::documents::{self, NAMESPACE, Server};
use harness::gateway::Gateway;
use harness::port;
use hyper::StatusCode;

const HOST: &str = "shop.istioinaction.io";
const ORIGIN: &str = "https://front.istioinaction.io";
/// As the documents below say.
const DELAY: Duration = Duration::from_millis(300);

/// A gateway with rules for the host, indented by two below `http:`, and more documents.
fn start(rules: &str, more: &str, backend: &Backend) -> (Gateway, SocketAddr) {
    let port = port::free();
    let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::virtual_service("shop", &[HOST], "edge", &format!("  http:\n{rules}"))
        + &documents::service("shop", "http", &[backend.server.address])
        + more;
    let gateway = Gateway::arrange().document("site", &documents).start();
    let address = gateway.at(port);
    (gateway, address)
}

fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(address, request(method, HOST, path, headers))
}

#[test]
fn browsers_are_told_whose_scripts_may_ask() {
    let backend = Backend::http("shop");
    let policy = format!(
        "{{allowOrigins: [{{exact: '{ORIGIN}'}}], allowMethods: [GET, PUT], allowHeaders: ['*'], exposeHeaders: [x-total], \
         maxAge: 10m, allowCredentials: true}}"
    );
    let rules = format!(
        "  - match: [{{uri: {{prefix: /ignore}}}}]\n    corsPolicy: {{allowOrigins: [{{exact: '{ORIGIN}'}}], unmatchedPreflights: \
         IGNORE}}\n    route: [{{destination: {{host: shop}}}}]\n  - match: [{{uri: {{prefix: /gone}}}}]\n    corsPolicy: \
         {policy}\n    route: [{{destination: {{host: nobody}}}}]\n  - match: [{{uri: {{prefix: /away}}}}]\n    corsPolicy: \
         {policy}\n    redirect: {{uri: /there}}\n  - corsPolicy: {policy}\n    route: [{{destination: {{host: shop}}}}]"
    );
    let (_gateway, address) = start(&rules, "", &backend);
    let preflight = |path: &str, origin: &str| {
        let asks = [
            ("origin", origin),
            ("access-control-request-method", "DELETE"),
            ("access-control-request-headers", "x-a, x-b"),
        ];
        ask(address, "OPTIONS", path, &asks)
    };

    let answer = preflight("/", ORIGIN);
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    for (name, want) in [
        ("access-control-allow-origin", ORIGIN),
        ("access-control-allow-methods", "GET,PUT"),
        ("access-control-allow-headers", "x-a, x-b"),
        ("access-control-max-age", "600"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(answer.header(name), want, "{name}");
    }
    assert_eq!(backend.requests(), 0, "the backend is not asked");

    let answer = ask(address, "GET", "/", &[("origin", ORIGIN)]);
    assert_eq!((answer.backend().as_str(), answer.header("access-control-allow-origin")), ("shop", ORIGIN));
    assert_eq!(answer.header("access-control-expose-headers"), "x-total");
    assert_eq!(answer.header("access-control-allow-methods"), "", "that is for preflights");

    let answer = ask(address, "GET", "/", &[("origin", "https://evil.test")]);
    assert_eq!((answer.backend().as_str(), answer.header("access-control-allow-origin")), ("shop", ""));
    let answer = preflight("/", "https://evil.test");
    assert_eq!(answer.backend(), "shop", "who is not known is the backend's matter");
    let asked = backend.requests();
    let answer = preflight("/ignore", "https://evil.test");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (StatusCode::OK, ""));
    assert_eq!(backend.requests(), asked);

    let answer = ask(address, "GET", "/gone", &[("origin", ORIGIN)]);
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("access-control-allow-origin"), ORIGIN, "scripts may see that it failed");
    let answer = preflight("/away", ORIGIN);
    assert_eq!(answer.status, StatusCode::MOVED_PERMANENTLY, "nothing comes before a redirect");
}

#[test]
fn faults_answer_and_delay() {
    let backend = Backend::http("shop");
    let rule = |path: &str, more: &str| {
        format!(
            "  - match: [{{uri: {{prefix: {path}}}}}]\n    {more}\n    route: [{{destination: {{host: shop}}}}]\n"
        )
    };
    let rules = [
        rule("/abort", "fault: {abort: {httpStatus: 418, percentage: {value: 100}}}"),
        rule("/grpc", "fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}"),
        rule("/never", "fault: {abort: {httpStatus: 418}, delay: {fixedDelay: 1h}}"),
        rule("/late", "timeout: 10s\n    fault: {delay: {fixedDelay: 300ms, percentage: {value: 100}}}"),
        rule(
            "/both",
            "fault: {delay: {fixedDelay: 300ms, percent: 100}, abort: {httpStatus: 503, percentage: {value: 100}}}",
        ),
        rule("/cut", "timeout: 1s\n    fault: {delay: {fixedDelay: 1500ms, percentage: {value: 100}}}"),
    ];
    let (_gateway, address) = start(&rules.concat(), "", &backend);

    let answer = get(address, HOST, "/abort");
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::IM_A_TEAPOT, "fault filter abort"));
    let answer = ask(address, "POST", "/grpc", &[("content-type", "application/grpc")]);
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, "8"));
    assert_eq!(answer.header("grpc-message"), "fault filter abort");
    assert_eq!(backend.requests(), 0);
    assert_eq!(get(address, HOST, "/never").backend(), "shop");

    let begun = Instant::now();
    assert_eq!(get(address, HOST, "/late").backend(), "shop");
    assert!(begun.elapsed() >= DELAY, "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(get(address, HOST, "/both").status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(begun.elapsed() >= DELAY, "{:?}", begun.elapsed());

    assert_eq!(get(address, HOST, "/cut").backend(), "shop", "the timeout begins after the delay");
}

#[test]
fn the_rules_of_a_delegate_are_served_and_followed() {
    let backend = Backend::http("shop");
    let leaf = |body: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: parts, namespace: {NAMESPACE}}}\n\
             spec:\n  http:\n  - match: [{{uri: {{exact: /parts/hello}}}}]\n    directResponse: {{status: 200, body: {{string: {body}}}}}\n  \
             - match: [{{uri: {{prefix: /parts/old/}}}}]\n    redirect: {{prefixRewrite: /parts/new/}}\n"
        )
    };
    let rules = "  - match: [{uri: {prefix: /parts}}]\n    delegate: {name: parts}\n  - route: [{destination: {host: shop}}]";
    let (gateway, address) = start(rules, "", &backend);
    assert_eq!(get(address, HOST, "/parts/hello").backend(), "shop", "no delegate costs its rule alone");
    gateway.apply("parts", &leaf("first"));
    assert_eq!(get(address, HOST, "/parts/hello").text(), "first");
    gateway.apply("parts", &leaf("second"));
    assert_eq!(get(address, HOST, "/parts/hello").text(), "second");
    let answer = get(address, HOST, "/parts/old/thing?q=1");
    assert_eq!(answer.header("location"), format!("http://{HOST}/parts/new/thing?q=1"));
    assert_eq!(get(address, HOST, "/other").backend(), "shop");
}
