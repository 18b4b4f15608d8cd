//! Documents of a cluster: a real API server, kubectl, and the real gateway that watches.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::authority::{Authority, Identity};
use harness::backend::{Backend, Version};
use harness::client::{self, Connection, get, request};
use harness::documents::{self, Server, http_route, http_service, secret};
use harness::gateway::Gateway;
use harness::kube::{ControlPlane, Tenant, User};
use harness::serve::Place;
use harness::tls::TlsClient;
use harness::{port, wait};
use hyper::StatusCode;

const HOST: &str = "webapp.istioinaction.io";

/// A backend where a cluster's endpoints may be.
fn backend(name: &str) -> Backend {
    Backend::start(name, Version::Http1, Place::outside_loopback())
}

fn edge(port: u16) -> String {
    documents::gateway("edge", &[Server::http(port, &["*"])])
}

fn services(backends: &[(&str, &Backend)]) -> String {
    backends.iter().map(|(name, backend)| http_service(name, &[backend.server.address])).collect()
}

/// The backend that answers, if one does.
fn answering(gateway: SocketAddr) -> Option<String> {
    let answer = client::try_send(gateway, request("GET", HOST, "/", &[])).ok()?;
    (answer.status == StatusCode::OK).then(|| answer.backend())
}

#[track_caller]
fn wait_for(gateway: SocketAddr, backend: &str) {
    wait::until(backend, || (answering(gateway)? == backend).then_some(()));
}

#[track_caller]
fn wait_for_status(gateway: SocketAddr, status: u16) {
    wait::until(&format!("{status}"), || (get(gateway, HOST, "/").status == status).then_some(()));
}

fn status_says(gateway: &Gateway, words: &str) -> bool {
    gateway.sluice(&["status"]).all().contains(words)
}

#[test]
fn a_control_plane_takes_documents_gives_rights_and_survives_its_api_server() {
    let tenant = Tenant::of(Arc::new(ControlPlane::start()));
    let plane = &tenant.plane;
    tenant.apply(&edge(8080));
    let read = plane.kubectl(&["get", "gateways.networking.istio.io", "--all-namespaces", "--output=name"]);
    assert_eq!(read.expect_success().out, "gateway.networking.istio.io/edge\n");

    let account = User::ServiceAccount { namespace: &tenant.system, name: "sluice" };
    for (user, verdict) in [(account, "yes"), (User::Person("stranger"), "no")] {
        let kubeconfig = plane.kubeconfig_of(&user);
        let words =
            ["--kubeconfig", kubeconfig.to_str().expect("a path"), "auth", "can-i", "list", "gateways"];
        let said = plane.kubectl(&[&words[..], &["--namespace", &tenant.applications]].concat());
        assert_eq!(said.out.trim(), verdict, "{user:?}: {}", said.all());
    }
    let asked = plane.asked_by(&tenant.user());
    assert!(
        asked.iter().any(|it| it.uri.contains("selfsubjectaccessreviews") && it.status == 201),
        "{asked:?}"
    );

    plane.stop_api_server();
    assert!(plane.api().get("/readyz").is_err());
    let other = plane.another_api_server();
    plane
        .kubectl(&["--server", &other.url(), "get", "gateway", "edge", "-n", &tenant.applications])
        .expect_success();
    drop(other);
    plane.start_api_server();
    tenant.delete(&edge(8080));
    let read = plane.kubectl(&["get", "gateways", "--all-namespaces", "--output=name"]).expect_success();
    assert_eq!(read.out, "");
}

#[test]
fn documents_are_served_and_their_changes_within_a_second() {
    let (blue, green) = (backend("blue"), backend("green"));
    let tenant = Tenant::of_shared();
    let port = port::free();
    tenant.apply(
        &(edge(port)
            + &http_route("webapp", HOST, "edge", "blue")
            + &services(&[("blue", &blue), ("green", &green)])),
    );
    let gateway = tenant.arrange().start();
    let address = gateway.at(port);
    assert_eq!(get(address, HOST, "/").backend(), "blue", "ready means served");

    // The best of five: a machine that is busy with other things proves nothing, a slow gateway is slow each time.
    let fastest = ["green", "blue", "green", "blue", "green"].map(|next| {
        tenant.apply(&http_route("webapp", HOST, "edge", next));
        let changed = Instant::now();
        wait_for(address, next);
        changed.elapsed()
    });
    let fastest = fastest.into_iter().min().expect("five times");
    assert!(fastest < Duration::from_secs(1), "the fastest of five changes took {fastest:?}");

    // Another EndpointSlice of the same name.
    tenant.apply(&http_service("green", &[blue.server.address]));
    wait_for(address, "blue");
    tenant.delete(&http_route("webapp", HOST, "edge", "green"));
    wait_for_status(address, 404);
    tenant.delete(&edge(port));
    wait::until("the port's end", || client::try_send(address, request("GET", HOST, "/", &[])).err());
}

#[test]
fn a_broken_document_keeps_its_last_sound_state_and_is_reported() {
    let (blue, green) = (backend("blue"), backend("green"));
    let tenant = Tenant::of_shared();
    let port = port::free();
    let route = |service: &str| http_route("webapp", HOST, "edge", service);
    tenant.apply(&(edge(port) + &route("blue") + &services(&[("blue", &blue), ("green", &green)])));
    let gateway = tenant.arrange().start();
    tenant.apply(&route("green").replace("route:", "rout:"));
    wait::until("word of the broken document", || status_says(&gateway, "rout").then_some(()));
    assert!(
        gateway.log().contains(&format!("VirtualService {}/webapp", tenant.applications)),
        "{}",
        gateway.log()
    );
    assert_eq!(get(gateway.at(port), HOST, "/").backend(), "blue");
    tenant.apply(&route("green"));
    wait_for(gateway.at(port), "green");
    wait::until("the end of the report", || (!status_says(&gateway, "rout:")).then_some(()));
}

/// An HTTPS port, and a backend behind it.
struct Https {
    tenant: Tenant,
    authority: Authority,
    port: u16,
    _backend: Backend,
}

impl Https {
    fn new() -> Self {
        let (tenant, backend, port) = (Tenant::of_shared(), backend("webapp"), port::free());
        let server = Server::https(port, "SIMPLE", "webapp-credential", &[HOST]);
        tenant.apply(
            &(documents::gateway("edge", &[server])
                + &http_route("webapp", HOST, "edge", "webapp")
                + &services(&[("webapp", &backend)])),
        );
        Self { tenant, authority: Authority::new("the test's"), port, _backend: backend }
    }

    /// Puts another certificate in the Secret.
    fn rotate(&self) -> Identity {
        let identity = self.authority.issue(&[HOST]);
        self.tenant.apply(&secret("webapp-credential", &identity, None));
        identity
    }

    fn client(&self) -> TlsClient {
        TlsClient::new(self.authority.roots(), HOST)
    }

    /// Whether clients are shown this very certificate.
    fn shows(&self, gateway: &Gateway, identity: &Identity) -> bool {
        let Ok(stream) = self.client().connect(gateway.at(self.port)) else { return false };
        stream.conn.peer_certificates() == Some(&identity.chain())
    }
}

#[test]
fn a_rotated_secret_is_shown_at_once_and_open_connections_live_on() {
    let https = Https::new();
    https.tenant.allow_secrets(&["webapp-credential"]);
    let first = https.rotate();
    let gateway = https.tenant.arrange().start();
    assert!(https.shows(&gateway, &first), "a gateway that is ready has its certificates");
    let fetch = || request("GET", HOST, "/", &[]);
    client::runtime().block_on(async {
        let mut open =
            Connection::open_tls(gateway.at(https.port), &https.client()).await.expect("a connection");
        assert_eq!(open.send(fetch()).await.expect("an answer").backend(), "webapp");
        let second = https.rotate();
        let rotated = Instant::now();
        wait::until("the new certificate", || https.shows(&gateway, &second).then_some(()));
        assert!(rotated.elapsed() < Duration::from_secs(2), "{:?}", rotated.elapsed());
        assert_eq!(open.send(fetch()).await.expect("an answer").backend(), "webapp");
    });
}

#[test]
fn secrets_that_no_gateway_names_are_never_asked_for() {
    let https = Https::new();
    let tenant = &https.tenant;
    tenant.apply(&secret("of-somebody-else", &https.authority.issue(&["else.test"]), None));
    tenant.allow_secrets(&["webapp-credential"]);
    let identity = https.rotate();
    let gateway = tenant.arrange().start();
    assert!(https.shows(&gateway, &identity));
    let asked = tenant.plane.asked_by(&tenant.user());
    let (secrets, rest): (Vec<_>, Vec<_>) = asked.iter().partition(|it| it.uri.contains("/secrets"));
    let named = |uri: &str| uri.contains("fieldSelector=metadata.name%3Dwebapp-credential");
    assert!(!secrets.is_empty() && secrets.iter().all(|it| named(&it.uri)), "{secrets:?}");
    let refused: Vec<_> = asked.iter().filter(|it| it.status >= 400).collect();
    assert!(refused.is_empty(), "{refused:?}");
    // Nor is anything ever written.
    assert!(rest.iter().all(|it| ["list", "watch", "get"].contains(&it.verb.as_str())), "{rest:?}");
}

/// A cluster whose definitions are of a version that is old, then of another one.
#[test]
fn kinds_may_be_defined_later_and_in_other_versions() {
    let tenant = Tenant::of(Arc::new(ControlPlane::bare()));
    let webapp = backend("webapp");
    let port = port::free();
    tenant.apply(&services(&[("webapp", &webapp)]));
    let gateway = tenant.arrange().start();
    wait::until("word of what is not defined", || status_says(&gateway, "not defined").then_some(()));
    tenant.plane.define_istio_kinds();
    tenant.apply(&(edge(port) + &http_route("webapp", HOST, "edge", "webapp")));
    wait_for(gateway.at(port), "webapp");
    wait::until("no word of it", || (!status_says(&gateway, "not defined")).then_some(()));
    // Those that are served by the versions before v1 alone, as before Istio 1.22.
    for (served, version) in [("v1beta1", "v1beta1"), ("v1alpha3", "v1alpha3"), ("v1", "v1")] {
        tenant.plane.serve_only(served);
        let (host, name) = (format!("{version}.test"), format!("of-{version}"));
        let route = http_route(&name, &host, "edge", "webapp");
        tenant
            .apply(&route.replace("networking.istio.io/v1alpha3", &format!("networking.istio.io/{version}")));
        wait::until(version, || (get(gateway.at(port), &host, "/").status == 200).then_some(()));
        assert_eq!(
            answering(gateway.at(port)).as_deref(),
            Some("webapp"),
            "{version}: what was known is still there"
        );
    }
}
