//! Access logs as documents decide them: Telemetry turns them on and off while traffic flows, MeshConfig says where and how.

use std::path::Path;

use harness::authority::Authority;
use harness::backend::Backend;
use harness::client::{self, get, request};
use harness::documents::{self, Server, http_route, http_service};
use harness::gateway::Gateway;
use harness::tls::{TlsClient, exchange};
use harness::{port, wait};
use serde_json::{Value, json};

const HOST: &str = "webapp.istioinaction.io";

fn mesh(text: &str) -> String {
    documents::config_map("istio-system", "istio", &[("mesh", text)])
}

fn telemetry(logging: &str) -> String {
    format!(
        "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: edge, namespace: istio-system}}\n\
         spec:\n  selector: {{matchLabels: {{app: istio-ingressgateway}}}}\n  accessLogging: [{logging}]\n"
    )
}

/// Lines that a file has, as soon as it has so many.
fn lines(path: &Path, number: usize) -> Vec<String> {
    wait::until("lines in the access log", || {
        let text = std::fs::read_to_string(path).ok()?;
        (text.lines().count() >= number).then(|| text.lines().map(str::to_owned).collect())
    })
}

#[test]
fn telemetry_turns_logs_on_and_off_by_filters_while_traffic_flows() {
    let (backend, port) = (Backend::http("webapp"), port::free());
    let directory = tempfile::tempdir().expect("a directory");
    let (all, bad) = (directory.path().join("all"), directory.path().join("bad"));
    let providers = json!({"extensionProviders": [
        {"name": "all", "envoyFileAccessLog": {"path": all, "logFormat": {"text": "%REQ(:PATH)% %RESPONSE_CODE% %UPSTREAM_LOCAL_ADDRESS%"}}},
        {"name": "bad", "envoyFileAccessLog": {"path": bad, "logFormat": {"labels": {
            "status": "%RESPONSE_CODE%", "team": "%REQ(X-Team)%", "kind": "%RESP(Content-Type)%", "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"}}}},
    ]});
    let site = documents::gateway("edge", &[Server::http(port, &["*"])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[backend.server.address])
        + &mesh(&providers.to_string());
    let gateway = Gateway::arrange().document("site", &site).document("telemetry", "").start();
    let address = gateway.at(port);

    // Nobody asks for a log.
    assert_eq!(get(address, HOST, "/before").status, 200);
    let errors = "{providers: [{name: all}]}, {providers: [{name: bad}], filter: {expression: 'response.code >= 400 && \
                  request.headers[\"x-team\"] != \"red\"'}}";
    gateway.apply("telemetry", &telemetry(errors));
    for (path, team, status) in
        [("/fine", "blue", 200), ("/none", "blue", 404), ("/none", "red", 404), ("/none", "", 404)]
    {
        let headers = [("x-team", team)];
        let headers = if team.is_empty() { &[][..] } else { &headers[..] };
        let host = if status == 404 { "other.test" } else { HOST };
        assert_eq!(client::send(address, request("GET", host, path, headers)).status, status);
    }
    let told = lines(&all, 4);
    assert!(told[0].starts_with("/fine 200 127.0.0.1:"), "{told:?}");
    assert_eq!(told[1..], ["/none 404 -", "/none 404 -", "/none 404 -"]);
    let told = lines(&bad, 1);
    let [only] = told.as_slice() else { panic!("{told:?}") };
    let only: Value = serde_json::from_str(only).expect("JSON");
    assert_eq!(only, json!({"status": 404, "team": "blue", "kind": null, "tries": 0}));

    // And no longer.
    gateway.apply(
        "telemetry",
        &telemetry("{providers: [{name: all}], disabled: true}, {providers: [{name: bad}]}"),
    );
    assert_eq!(get(address, HOST, "/after").status, 200);
    assert_eq!(lines(&bad, 2).len(), 2);
    assert_eq!(lines(&all, 4).len(), 4);
}

#[test]
fn the_mesh_says_where_lines_go_and_what_is_in_them() {
    let (backend, ports) = (Backend::http("webapp"), [port::free(), port::free()]);
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("access");
    let authority = Authority::new("ca");
    let (server, client) = (authority.issue(&[HOST]), authority.issue(&["somebody"]));
    let settings = |listener: bool| {
        json!({
            "accessLogFile": log,
            "accessLogFormat": "%DOWNSTREAM_TLS_VERSION% %REQUESTED_SERVER_NAME% %RESPONSE_CODE_DETAILS% %REQ(:SCHEME)%",
            "disableEnvoyListenerLog": !listener,
        })
    };
    let site = documents::gateway(
        "edge",
        &[Server::https(ports[0], "MUTUAL", "web", &[HOST]), Server::http(ports[1], &["*"])],
    ) + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[backend.server.address])
        + &documents::secret("web", &server, Some(&authority.certificate()));
    let gateway = Gateway::arrange()
        .document("site", &site)
        .document("mesh", &mesh(&settings(true).to_string()))
        .start();

    let tls = TlsClient::new(authority.roots(), HOST).identity(&client);
    let mut stream = tls.connect(gateway.at(ports[0])).expect("a connection");
    let asked = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    assert!(exchange(&mut stream, &asked).expect("an answer").starts_with("HTTP/1.1 200"));
    assert_eq!(lines(&log, 1), [format!("TLSv1.3 {HOST} via_upstream https")]);
    let stranger = TlsClient::new(authority.roots(), "other.test").identity(&client);
    assert!(stranger.connect(gateway.at(ports[0])).is_err());
    assert_eq!(lines(&log, 2)[1], "- other.test filter_chain_not_found -");

    gateway.apply("mesh", &mesh(&settings(false).to_string()));
    assert!(stranger.connect(gateway.at(ports[0])).is_err());
    assert_eq!(get(gateway.at(ports[1]), HOST, "/").status, 200);
    assert_eq!(lines(&log, 3)[2], "- - via_upstream http");
}
