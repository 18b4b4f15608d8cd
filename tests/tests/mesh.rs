//! What MeshConfig says of HTTP and of what is before the gateway, as requests meet it.

use harness::backend::Backend;
use harness::client::{self, get, request};
use harness::documents::{self, Server, http_service};
use harness::gateway::Gateway;
use harness::port;

const HOST: &str = "webapp.istioinaction.io";

fn mesh(text: &str) -> String {
    documents::config_map("istio-system", "istio", &[("mesh", text)])
}

#[test]
fn trusted_proxies_tell_who_asks_and_how() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let rule = "  http:\n  - {route: [{destination: {host: webapp}}], headers: {request: {set: {x-who: \
                \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% by %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%\"}}}}";
    let site = documents::gateway("edge", &[Server::redirecting(port, &["*"])])
        + &documents::virtual_service("webapp", &[HOST], "edge", rule)
        + &http_service("webapp", &[backend.server.address]);
    let trusting = mesh("defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}");
    let gateway = Gateway::arrange().document("site", &site).document("mesh", &trusting).start();
    let said = [("x-forwarded-for", "192.0.2.6, 192.0.2.7"), ("x-forwarded-proto", "https")];
    let answer = client::send(gateway.at(port), request("GET", HOST, "/", &said));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let headers = &answer.json()["headers"];
    for (name, want) in [
        ("x-who", "192.0.2.7 by 127.0.0.1"),
        ("x-envoy-external-address", "192.0.2.7"),
        ("x-forwarded-for", "192.0.2.6, 192.0.2.7,127.0.0.1"),
        ("x-forwarded-proto", "https"),
    ] {
        assert_eq!(headers[name], want, "{name} of {headers}");
    }
    assert_eq!(get(gateway.at(port), HOST, "/").status, 301);

    // Nobody is trusted any more.
    gateway.apply("mesh", &mesh("connectTimeout: 1s"));
    assert_eq!(client::send(gateway.at(port), request("GET", HOST, "/", &said)).status, 301);
}

#[test]
fn paths_and_tries_are_as_the_mesh_says() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let rules = "  http:\n  - {match: [{uri: {prefix: /private/}}], directResponse: {status: 403}}\n  \
                 - {route: [{destination: {host: webapp}}]}";
    let site = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &documents::virtual_service("webapp", &[HOST], "edge", rules)
        + &http_service("webapp", &[backend.server.address]);
    let gateway = Gateway::arrange().document("site", &site).document("mesh", "").start();
    let address = gateway.at(port);
    for (form, slashes, encoded, dots) in [
        ("BASE", 200, 200, 403),
        ("NONE", 200, 200, 200),
        ("MERGE_SLASHES", 403, 200, 403),
        ("DECODE_AND_MERGE_SLASHES", 403, 403, 403),
    ] {
        gateway.apply("mesh", &mesh(&format!("pathNormalization: {{normalization: {form}}}")));
        for (path, status) in [("//private/x", slashes), ("/private%2Fx", encoded), ("/a/../private/x", dots)]
        {
            assert_eq!(get(address, HOST, path).status, status, "{form} {path}");
        }
    }
    assert_eq!(get(address, HOST, "/turns/503,200/first").status, 503);
    gateway.apply("mesh", &mesh("defaultHttpRetryPolicy: {attempts: 2, retryOn: 5xx}"));
    assert_eq!(get(address, HOST, "/turns/503,503,200/second").status, 200);
}
