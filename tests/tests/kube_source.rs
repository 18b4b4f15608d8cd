//! Documents of a cluster: a real API server, kubectl, and the real gateway that watches.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::authority::{Authority, Identity};
use harness::backend::{Backend, Version};
use harness::client::{self, Connection, get, request};
use harness::documents::{self, Server, http_route, http_service, secret};
use harness::gateway::Gateway;
use harness::kube::{Asked, ControlPlane, Tenant, User};
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
        // Deleted by mistake, it is missed by whoever looks, and by no client.
        https.tenant.delete(&secret("webapp-credential", &second, None));
        wait::until("word of it", || status_says(&gateway, "webapp-credential not found").then_some(()));
        assert!(https.shows(&gateway, &second));
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
    let refused: Vec<_> = asked.iter().filter(|it| it.status == 403).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let is_written = |it: &&&Asked| !["list", "watch", "get"].contains(&it.verb.as_str());
    let findings = |uri: &str| ["/status", "/leases", "/events"].iter().any(|words| uri.contains(words));
    let others: Vec<_> = rest.iter().filter(is_written).filter(|it| !findings(&it.uri)).collect();
    assert!(others.is_empty(), "it writes what it found and nothing else: {others:?}");
}

#[test]
fn what_it_may_not_read_and_can_do_without_keeps_nothing_else_from_being_served() {
    let https = Https::new();
    let identity = https.rotate();
    let other = port::free();
    https.tenant.apply(&documents::gateway("plain", &[Server::http(other, &["*"])]));
    // Nor policies that it would not heed anyway.
    https
        .tenant
        .plane
        .kubectl(&["delete", "role", "sluice-policies", "-n", &https.tenant.system])
        .expect_success();
    let gateway = https.tenant.arrange().start();
    assert_eq!(get(gateway.at(other), HOST, "/").status, 404, "nothing is routed by this port yet");
    https.tenant.apply(&http_route("plain", HOST, "plain", "webapp"));
    wait_for(gateway.at(other), "webapp");
    assert!(!https.shows(&gateway, &identity));
    assert!(status_says(&gateway, "webapp-credential"), "{}", gateway.sluice(&["status"]).all());
    https.tenant.allow_secrets(&["webapp-credential"]);
    wait::until("the certificate", || https.shows(&gateway, &identity).then_some(()));
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

/// Two backends, a route, and a gateway with a control plane of its own.
struct Alone {
    tenant: Tenant,
    gateway: Gateway,
    address: SocketAddr,
    _backends: [Backend; 2],
}

impl Alone {
    fn new() -> Self {
        let (blue, green) = (backend("blue"), backend("green"));
        let tenant = Tenant::of(Arc::new(ControlPlane::start()));
        let port = port::free();
        let services = services(&[("blue", &blue), ("green", &green)]);
        tenant.apply(&(edge(port) + &http_route("webapp", HOST, "edge", "blue") + &services));
        let gateway = tenant.arrange_for_all().start();
        Self { address: gateway.at(port), tenant, gateway, _backends: [blue, green] }
    }

    /// Seconds since changes are no longer learnt.
    fn age(&self) -> u64 {
        self.gateway.status()["cluster"]["stateAge"].as_u64().expect("a number of seconds")
    }

    fn is_ready(&self) -> bool {
        self.gateway.ask("/healthz/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

#[test]
fn while_the_api_server_is_away_traffic_goes_on_and_the_age_of_the_state_is_told() {
    let mut alone = Alone::new();
    let plane = alone.tenant.plane.clone();
    assert!(status_says(&alone.gateway, "all changes are heard"));
    plane.stop_api_server();
    wait::until("two seconds without a word", || {
        assert_eq!(answering(alone.address).as_deref(), Some("blue"));
        assert!(alone.is_ready(), "it serves what it knows");
        (alone.age() >= 2).then_some(())
    });
    let said = alone.gateway.sluice(&["status"]).expect_success().out;
    assert!(said.contains("changes have not been heard for"), "{said}");
    plane.start_api_server();
    alone.tenant.apply(&http_route("webapp", HOST, "edge", "green"));
    wait_for(alone.address, "green");
    wait::until("all to be heard", || status_says(&alone.gateway, "all changes are heard").then_some(()));
    assert_eq!(alone.age(), 0);

    // One that starts meanwhile knows nothing, and waits.
    plane.stop_api_server();
    alone.gateway.kill();
    std::thread::scope(|scope| {
        let restarted = scope.spawn(|| alone.gateway.restart());
        plane.start_api_server();
        restarted.join().expect("a gateway that is ready");
    });
    assert_eq!(answering(alone.address).as_deref(), Some("green"), "ready means served");
}

#[test]
fn documents_count_in_the_namespaces_that_the_mesh_selects() {
    let blue = backend("blue");
    let tenant = Tenant::of(Arc::new(ControlPlane::start()));
    let port = port::free();
    let mesh = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                data: {mesh: 'discoverySelectors: [{matchLabels: {mesh: \"yes\"}}]'}\n";
    let route = http_route("webapp", HOST, "edge", "blue");
    tenant.apply(&(edge(port) + &route + &services(&[("blue", &blue)]) + mesh));
    let gateway = tenant.arrange_for_all().start();
    let address = gateway.at(port);
    assert_eq!(answering(address), None, "not selected");
    let label = |label: &str| {
        tenant.plane.kubectl(&["label", "namespace", &tenant.applications, label]).expect_success();
    };
    label("mesh=yes");
    wait_for(address, "blue");
    label("mesh-");
    wait::until("the listener's end", || answering(address).is_none().then_some(()));
}

/// A machine that hangs, or has lost its power, closes no connection.
#[test]
fn an_api_server_that_says_nothing_is_noticed_and_its_return_too() {
    const NOTICED: Duration = Duration::from_secs(40);
    let alone = Alone::new();
    let plane = &alone.tenant.plane;
    plane.hold_api_server(true);
    let noticed = wait::within(NOTICED, || status_says(&alone.gateway, "have not been heard").then_some(()));
    assert!(noticed.is_some() && alone.is_ready(), "{}", alone.gateway.sluice(&["status"]).all());
    assert_eq!(answering(alone.address).as_deref(), Some("blue"));
    plane.hold_api_server(false);
    alone.tenant.apply(&http_route("webapp", HOST, "edge", "green"));
    wait_for(alone.address, "green");
    let heard = wait::within(NOTICED, || status_says(&alone.gateway, "all changes are heard").then_some(()));
    assert!(heard.is_some(), "{}", alone.gateway.sluice(&["status"]).all());
}

/// The API server that comes back has forgotten what happened while another one took the changes.
#[test]
fn changes_that_nobody_remembers_any_more_are_learnt_from_the_state_itself() {
    let alone = Alone::new();
    let (tenant, plane) = (&alone.tenant, &alone.tenant.plane);
    tenant.apply(&http_route("other", "other.test", "edge", "blue"));
    let other = || get(alone.address, "other.test", "/").status.as_u16();
    wait::until("the other host", || (other() == 200).then_some(()));
    plane.stop_api_server();
    let meanwhile = plane.another_api_server();
    for (verb, document) in [
        ("apply", http_route("webapp", HOST, "edge", "green")),
        ("apply", http_route("new", "new.test", "edge", "green")),
        ("delete", http_route("other", "other.test", "edge", "blue")),
    ] {
        let words = ["--server", &meanwhile.url(), verb, "--filename=-"];
        plane.kubectl_with(&words, &tenant.placed(&document)).expect_success();
    }
    drop(meanwhile);
    plane.compact();
    let asked = || plane.asked_by(&tenant.user());
    let before = asked().len();
    plane.start_api_server();
    wait_for(alone.address, "green");
    wait::until("what is new", || (get(alone.address, "new.test", "/").status == 200).then_some(()));
    assert_eq!(other(), 404, "what is gone");
    let after = asked();
    let after: Vec<_> = after[before..].iter().filter(|it| it.uri.contains("/virtualservices")).collect();
    assert!(after.iter().any(|it| it.verb == "list"), "{after:?}");
}

#[test]
fn files_and_a_cluster_are_served_together_and_the_files_document_counts() {
    let (blue, green) = (backend("blue"), backend("green"));
    let tenant = Tenant::of_shared();
    let port = port::free();
    tenant.apply(
        &(http_route("webapp", HOST, "edge", "green") + &services(&[("blue", &blue), ("green", &green)])),
    );
    let gateway = tenant.arrange().document("edge", &tenant.placed(&edge(port))).start();
    let address = gateway.at(port);
    assert_eq!(get(address, HOST, "/").backend(), "green");
    gateway.apply("webapp", &tenant.placed(&http_route("webapp", HOST, "edge", "blue")));
    assert_eq!(get(address, HOST, "/").backend(), "blue");
    assert!(status_says(&gateway, "is there already"), "{}", gateway.sluice(&["status"]).all());
    tenant.apply(&http_route("more", "more.test", "edge", "green"));
    wait::until("the cluster's other document", || {
        (get(address, "more.test", "/").status == 200).then_some(())
    });
    assert_eq!(get(address, HOST, "/").backend(), "blue");
    gateway.remove("webapp");
    wait_for(address, "green");
}

/// A Pod as its node would report it.
fn run_pod(tenant: &Tenant, name: &str, labels: &str, address: SocketAddr) {
    tenant.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {}, labels: {{{labels}}}}}\n\
         spec: {{containers: [{{name: main, image: none}}]}}\n",
        documents::NAMESPACE
    ));
    let ip = address.ip();
    let status = format!(
        r#"{{"status": {{"phase": "Running", "podIP": "{ip}", "podIPs": [{{"ip": "{ip}"}}],
            "conditions": [{{"type": "Ready", "status": "True"}}]}}}}"#
    );
    let words =
        ["patch", "pod", name, "--namespace", &tenant.applications, "--subresource=status", "--type=merge"];
    tenant.plane.kubectl(&[&words[..], &["--patch", &status]].concat()).expect_success();
}

#[test]
fn subsets_follow_the_labels_of_pods() {
    let (one, two) = (backend("one"), backend("two"));
    let tenant = Tenant::of_shared();
    let port = port::free();
    let endpoints = [one.server.address, two.server.address];
    let mut service = http_service("webapp", &endpoints);
    for name in ["webapp-a", "webapp-b"] {
        // Each endpoint is its Pod's.
        let pod =
            format!("conditions: {{ready: true, serving: true}}\n  targetRef: {{kind: Pod, name: {name}}}\n");
        service = service.replacen("conditions: {ready: true}\n", &pod, 1);
    }
    run_pod(&tenant, "webapp-a", "version: v1", endpoints[0]);
    run_pod(&tenant, "webapp-b", "version: v2", endpoints[1]);
    let rule = documents::destination_rule("webapp", "{loadBalancer: {simple: ROUND_ROBIN}}")
        + "  subsets: [{name: canary, labels: {version: v2}}]\n";
    let rules = "  http: [{route: [{destination: {host: webapp, subset: canary}}]}]";
    tenant.apply(
        &(edge(port) + &documents::virtual_service("webapp", &[HOST], "edge", rules) + &service + &rule),
    );
    let gateway = tenant.arrange().start();
    let address = gateway.at(port);
    for _ in 0..8 {
        assert_eq!(get(address, HOST, "/").backend(), "two");
    }
    let label = |pod: &str, version: &str| {
        let version = format!("version={version}");
        tenant
            .plane
            .kubectl(&["label", "pod", pod, "-n", &tenant.applications, "--overwrite", &version])
            .expect_success();
    };
    label("webapp-a", "v2");
    label("webapp-b", "v1");
    wait::until("the other Pod alone", || {
        (0..8).all(|_| answering(address).as_deref() == Some("one")).then_some(())
    });
}

#[test]
fn entries_select_workloads_and_pods() {
    let (machine, pod) = (Backend::http("machine"), backend("pod"));
    let tenant = Tenant::of_shared();
    let port = port::free();
    let entry = |name: &str, target: u16| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {}}}\n\
             spec:\n  hosts: [{name}.test]\n  resolution: STATIC\n  workloadSelector: {{labels: {{app: {name}}}}}\n  \
             ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {target}}}]\n",
            documents::NAMESPACE
        )
    };
    let workload = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: machine, namespace: {}}}\n\
         spec: {{address: 127.0.0.1, labels: {{app: machine}}}}\n",
        documents::NAMESPACE
    );
    let routes = ["machine", "pod"].map(|name| {
        let host = format!("{name}.test");
        http_route(name, &host, "edge", &host)
    });
    tenant.apply(
        &(edge(port)
            + &routes.concat()
            + &entry("machine", machine.server.address.port())
            + &entry("pod", pod.server.address.port())),
    );
    let gateway = tenant.arrange().start();
    let answers = |host: &str| {
        let answer = get(gateway.at(port), host, "/");
        if answer.status == StatusCode::OK { answer.backend() } else { answer.status.as_str().to_owned() }
    };
    assert_eq!(["machine.test", "pod.test"].map(answers), ["503", "503"]);
    tenant.apply(&workload);
    run_pod(&tenant, "pod", "app: pod", pod.server.address);
    wait::until("the WorkloadEntry", || (answers("machine.test") == "machine").then_some(()));
    wait::until("the Pod", || (answers("pod.test") == "pod").then_some(()));
    tenant.delete(&workload);
    wait::until("its end", || (answers("machine.test") == "503").then_some(()));
    tenant.plane.kubectl(&[
        "delete",
        "pod",
        "pod",
        "-n",
        &tenant.applications,
        "--force",
        "--grace-period=0",
    ]);
    wait::until("the Pod's end", || (answers("pod.test") == "503").then_some(()));
}
