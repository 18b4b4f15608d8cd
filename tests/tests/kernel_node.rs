//! The manifests on a real node: kubelet, containerd and kube-proxy run the DaemonSet and the pods behind it, and whatever
//! happens to either, clients are served. Needs root.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use harness::authority::Authority;
use harness::chatter::Chatter;
use harness::deploy::{NAMESPACE, chart, kustomized, kustomized_with, path};
use harness::documents::{self, Server, http_route, secret, tcp_route};
use harness::faults::Load;
use harness::faults::requests::Target;
use harness::gateway::program;
use harness::kube::{Cluster, Node};
use harness::program::{Said, curl, run};
use harness::steered::{connect_from, greet};
use harness::tls::TlsClient;
use harness::wait;
use serde_json::Value;

/// Namespace of the quickstart's documents.
const APPLICATIONS: &str = "istioinaction";
const HOST: &str = "webapp.istioinaction.io";
const SEALED: &str = "simple-sni-1.istioinaction.io";
const PODS: &str = include_str!("../data/kube/pods.yaml");
/// A busy machine starts pods slowly.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two requests of a client.
const PERIOD: Duration = Duration::from_millis(25);
/// Of a client that connects to each node in turn; the system gives nobody these.
const SOURCES: Range<u16> = 30_001..30_041;
/// Of each kind.
const STREAMS: usize = 20;
/// Seconds for which the API server is away, if `SLUICE_ABSENCE` says nothing else: longer than it takes an agent to find out, and
/// than probes need to fail.
const ABSENCE: u64 = 15;

/// The cluster that the tests of this program share, one after the other.
struct Site {
    cluster: Arc<Cluster>,
    authority: Authority,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    /// The gateway as rendered, before the quickstart's services. Waits until all is ready.
    #[track_caller]
    fn with(rendered: &str) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let cluster = shared();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let site = Self { cluster, authority: Authority::new("the site"), _turn: turn };
        site.leave_nothing();
        site.install(rendered);
        site
    }

    /// The one that clients go to.
    fn node(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    fn at(&self, port: u16) -> SocketAddr {
        (self.node().address(), port).into()
    }

    /// What another test had installed.
    fn leave_nothing(&self) {
        let gone = ["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"];
        self.cluster.plane.kubectl(&gone).expect_success();
        let webhook = ["delete", "validatingwebhookconfiguration", "sluice", "--ignore-not-found"];
        self.cluster.plane.kubectl(&webhook).expect_success();
        let pods = ["delete", "pods", "--all", "-n", NAMESPACE, "--grace-period=1"];
        self.cluster.await_kubectl(&pods, PATIENCE);
        self.cluster.await_kubectl(&["wait", "--for=delete", &format!("namespace/{NAMESPACE}")], PATIENCE);
        for node in &self.cluster.nodes {
            run(node.command("rm").args(["-rf", "/sys/fs/bpf/sluice"])).expect_success();
        }
    }

    #[track_caller]
    fn install(&self, rendered: &str) {
        let plane = &self.cluster.plane;
        plane.create_namespaces(&[NAMESPACE]);
        plane.apply(rendered);
        for credential in ["webapp-credential", "catalog-credential"] {
            self.put_certificate(credential);
        }
        self.await_rollout();
    }

    /// A Secret with a new certificate.
    fn put_certificate(&self, name: &str) {
        let identity = self.authority.issue(&[HOST, "secure.istioinaction.io", "catalog.istioinaction.io"]);
        let text = secret(name, &identity, None);
        let here = text.replace("namespace: istio-system", &format!("namespace: {NAMESPACE}"));
        self.cluster.plane.apply(&here);
    }

    /// To the end of those that were there before.
    #[track_caller]
    fn await_rollout(&self) {
        self.cluster.await_kubectl(&["rollout", "status", "daemonset/sluice", "-n", NAMESPACE], PATIENCE);
        let count = || {
            let said =
                self.cluster.plane.kubectl(&["get", "pods", "-n", NAMESPACE, "-o", "name"]).expect_success();
            said.out.lines().count()
        };
        let is_over = || (count() == self.cluster.nodes.len()).then_some(());
        wait::within(PATIENCE, is_over).unwrap_or_else(|| panic!("pods stay\n{}", self.cluster.report()));
    }

    fn target(&self) -> Target {
        let tls = Arc::new(TlsClient::new(self.authority.roots(), HOST));
        Target { http: self.at(80), https: self.at(443), host: HOST.to_owned(), tls }
    }

    /// By each of its listeners.
    #[track_caller]
    fn expect_quickstart(&self) {
        assert!(self.answers(HOST), "{}", self.cluster.report());
        for node in &self.cluster.nodes {
            let status = self.status(node);
            assert_eq!(status["kernelPlane"], "on", "{}: {status}", node.name());
        }
        let address = self.at(31400);
        drop(self.cluster.outside.enter(move || greet(address)));
        self.shown();
    }

    /// The streams of [`Traffic`] are the kernel's. An agent counts its flows every few seconds.
    #[track_caller]
    fn await_flows(&self) {
        wait::until("flows in the kernel", || {
            let flows = self.status(self.node())["kernel"]["flows"]["ipv4"].as_u64();
            flows.is_some_and(|flows| flows >= 2 * STREAMS as u64).then_some(())
        });
    }

    /// Whether a pod answers requests for a host.
    fn answers(&self, host: &str) -> bool {
        let (host, url) = (format!("Host: {host}"), format!("http://{}/path", self.node().address()));
        let said = self.curl(&["--header", &host, &url]);
        said.out.starts_with("HTTP/1.1 200") && said.out.ends_with(" GET /path")
    }

    /// The certificate that clients are shown.
    #[track_caller]
    fn shown(&self) -> Vec<u8> {
        let (target, address) = (self.target(), self.at(443));
        self.cluster.outside.enter(move || {
            let stream = target.tls.connect(address).expect("a handshake");
            stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
        })
    }

    /// curl, where clients are.
    #[track_caller]
    fn curl(&self, words: &[&str]) -> Said {
        let mut command = self.cluster.outside.command("curl");
        command.args(curl().get_args()).args(words);
        run(&mut command)
    }

    /// The gateway's only pod on a node.
    #[track_caller]
    fn gateway(&self, node: &Node) -> String {
        let on = format!("spec.nodeName={}", node.name());
        let names = "jsonpath={.items[*].metadata.name}";
        let words = ["get", "pods", "-n", NAMESPACE, "--field-selector", &on, "-o", names];
        let said = self.cluster.plane.kubectl(&words).expect_success();
        assert!(!said.out.is_empty() && !said.out.contains(' '), "one pod on {}: {}", node.name(), said.out);
        said.out
    }

    /// A command as users type it, where the API server can be reached.
    fn sluice(&self, words: &[&str]) -> Said {
        let mut sluice = self.cluster.plane.command(program());
        run(sluice.args(words).arg("--kubeconfig").arg(self.cluster.plane.kubeconfig()))
    }

    /// Of a node's gateway, through the API server.
    #[track_caller]
    fn status(&self, node: &Node) -> Value {
        let words = ["status", &self.gateway(node), "-n", NAMESPACE, "-o", "json"];
        serde_json::from_str(&self.sluice(&words).expect_success().out).expect("JSON")
    }
}

/// Two nodes, with the definitions and the quickstart's services, whose pods are ready.
#[track_caller]
fn shared() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start(2, Path::new(env!("CARGO_BIN_EXE_sluice-pod"))));
        cluster.import_gateway(&program());
        let plane = &cluster.plane;
        let definitions = path("deploy/crds");
        plane.kubectl(&["create", "-f", definitions.to_str().expect("a path")]).expect_success();
        plane.create_namespaces(&[APPLICATIONS]);
        plane.kubectl_with(&["apply", "-n", APPLICATIONS, "-f", "-"], PODS).expect_success();
        for file in ["gateway.yaml", "routes.yaml"] {
            let file = path("config/quickstart").join(file).display().to_string();
            wait::until("documents that are taken", || {
                (plane.kubectl(&["apply", "-n", APPLICATIONS, "-f", &file]).code == Some(0)).then_some(())
            });
        }
        for name in ["webapp", "echo"] {
            let name = format!("deployment/{name}");
            cluster.await_kubectl(&["rollout", "status", &name, "-n", APPLICATIONS], PATIENCE);
        }
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

/// Clients that ask, and streams that are compared byte for byte, while something happens.
struct Traffic<'s> {
    site: &'s Site,
    load: Load,
    /// Through the steered listener.
    streams: Chatter,
    /// Whose TLS is passed through; handed over to the kernel.
    sealed: Chatter,
}

impl<'s> Traffic<'s> {
    #[track_caller]
    fn start(site: &'s Site) -> Self {
        let (outside, hello) =
            (&site.cluster.outside, TlsClient::new(site.authority.roots(), SEALED).hello());
        // Its pods may begin behind those that were asked for so far.
        let (sealed, opening) = (site.at(31401), hello.clone());
        wait::until("an echo behind a server's name", || {
            let opening = opening.clone();
            outside.enter(move || {
                let mut stream = TcpStream::connect(sealed).ok()?;
                stream.write_all(&opening).ok()?;
                stream.read_exact(&mut vec![0; opening.len()]).ok()
            })
        });
        Self {
            site,
            load: Load::start(outside, &site.target(), 4, PERIOD),
            streams: Chatter::start(outside, site.at(31400), STREAMS),
            sealed: Chatter::start_behind(outside, site.at(31401), STREAMS, hello),
        }
    }

    /// Panics with what nodes and pods say if anybody noticed.
    #[track_caller]
    fn expect_unharmed(&self, what: &str) {
        let streams = self.streams.failures().into_iter().chain(self.sealed.failures());
        let failures: Vec<_> = self.load.seen().failures.into_iter().chain(streams).collect();
        let first = failures.first();
        assert!(
            first.is_none(),
            "{what}: {} failed, first {first:?}\n{}",
            failures.len(),
            self.site.cluster.report()
        );
        let seen = self.load.expect_unharmed();
        let exchanges = self.streams.expect_unharmed() + self.sealed.expect_unharmed();
        println!(
            "{what}: {} requests on {} connections, the slowest {:?}; {exchanges} exchanges of streams; no failure",
            seen.answered, seen.connections, seen.slowest
        );
    }
}

#[test]
fn the_base_serves_the_quickstart_and_its_nodes_choose_alike() {
    let site = Site::with(&kustomized("base"));
    site.expect_quickstart();
    nodes_choose_alike(&site);
}

#[test]
fn clients_of_the_chart_notice_nothing_of_what_happens() {
    let site = Site::with(&chart(&[
        "crds.install=false",
        "tier=auto",
        "extraArgs={--kernel=require,--access-log=/dev/stdout}",
    ]));
    site.expect_quickstart();
    a_node_port_keeps_addresses(&site);
    let traffic = Traffic::start(&site);
    commands_ask_the_pod(&site);
    traffic.expect_unharmed("commands");
    a_backend_goes(&site);
    traffic.expect_unharmed("a backend's pod deleted");
    the_gateways_are_replaced(&site);
    traffic.expect_unharmed("the gateways replaced");
    a_certificate_is_replaced(&site);
    traffic.expect_unharmed("a certificate replaced");
    the_api_server_is_away(&site);
    traffic.expect_unharmed("the API server away");
}

#[test]
fn the_privileged_overlay_serves_and_admission_refuses_what_is_broken() {
    let site = Site::with(&kustomized("overlays/privileged"));
    site.expect_quickstart();
    // Another way to the same pins: what stands there is taken over.
    site.install(&kustomized_with(&["admission"]));
    site.expect_quickstart();
    let route = http_route("broken", "broken.istioinaction.io", "coolstore-gateway", "webapp");
    let broken = route.replace("  http:\n  - ", "  http:\n  - timeout: soon\n    ");
    assert_ne!(broken, route);
    // Nobody is refused before the gateway has had itself trusted.
    let refused = wait::until("a refusal", || {
        let said = site.cluster.plane.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &broken);
        (said.code != Some(0)).then(|| said.all())
    });
    assert!(refused.contains("denied the request") && refused.contains("soon"), "{refused}");
    site.cluster.plane.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &route).expect_success();
}

/// `externalTrafficPolicy: Local`: kube-proxy leaves the client's address as it is, and the gateway has it.
#[track_caller]
fn a_node_port_keeps_addresses(site: &Site) {
    let port = "jsonpath={.spec.ports[?(@.name==\"http2\")].nodePort}";
    let port = site.cluster.plane.kubectl(&["get", "service", "sluice", "-n", NAMESPACE, "-o", port]);
    for node in &site.cluster.nodes {
        let (host, path) = (format!("Host: {HOST}"), format!("/by-node-port-of-{}", node.name()));
        let url = format!("http://{}:{}{path}", node.address(), port.out);
        let said = site.curl(&["--header", &host, &url]).expect_success();
        assert!(said.out.ends_with(&format!(" GET {path}")), "{}", said.out);
        let pod = site.gateway(node);
        let line = wait::until("a line in the access log", || {
            let log = site.cluster.plane.kubectl(&["logs", &pod, "-n", NAMESPACE]).out;
            log.lines().find(|line| line.contains(&path)).map(str::to_owned)
        });
        // A node's own address would be another one: 198.18.0.11.
        let client = format!("{}:", Cluster::OUTSIDE);
        assert!(line.contains(&client), "{line}");
    }
}

/// Routers spread the packets to an address that all nodes have, and may send a flow's next packets to another node at any time:
/// whoever gets a client's SYN, the same backend has the connection.
#[track_caller]
fn nodes_choose_alike(site: &Site) {
    const SHARED: Ipv4Addr = Ipv4Addr::new(198, 18, 100, 1);
    const PORT: u16 = 31402;
    let plane = &site.cluster.plane;
    let gateway = documents::gateway("shared", &[Server::tcp(PORT)]);
    plane.apply(&(gateway + &tcp_route("shared", PORT, "shared", "webapp")));
    let mut chosen: Vec<Vec<String>> = Vec::new();
    for node in &site.cluster.nodes {
        node.network().ip(&["addr", "replace", &format!("{SHARED}/32"), "dev", "lo"]).expect("an address");
        let (shared, via) = (SHARED.to_string(), node.address().to_string());
        site.cluster.outside.ip(&["route", "replace", &shared, "via", &via]).expect("a route");
        let ask = |port| site.cluster.outside.enter(move || who(port, (SHARED, PORT).into()));
        let steered = || site.status(node)["kernel"]["verdicts"]["steered"].as_u64().expect("a number");
        // The agent hears of the document, and of the address, a moment later.
        let before = steered();
        let is_steered = || ask(SOURCES.start - 1).is_ok() && steered() > before;
        wait::until("a connection that is steered", || is_steered().then_some(()));
        let before = steered();
        chosen.push(SOURCES.map(|port| ask(port).expect("an answer")).collect());
        let steered = steered() - before;
        assert!(steered >= SOURCES.len() as u64, "{}: {steered} steered in the kernel", node.name());
    }
    assert_eq!(chosen[0], chosen[1]);
    let backends: BTreeSet<_> = chosen[0].iter().collect();
    assert!(backends.len() > 1, "{backends:?}");
}

/// The name of the pod that answers a connection from a port of the client's choice.
fn who(port: u16, address: SocketAddr) -> std::io::Result<String> {
    let mut stream = connect_from(Cluster::OUTSIDE, port, address)?;
    write!(stream, "GET / HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.rsplit("\r\n").next().unwrap_or_default();
    Ok(body.strip_suffix(" GET /").unwrap_or_default().to_owned())
}

/// By the port-forward of a real kubelet.
#[track_caller]
fn commands_ask_the_pod(site: &Site) {
    let all = site.sluice(&["status", "--all", "-n", NAMESPACE]).expect_success().out;
    for node in &site.cluster.nodes {
        let pod = site.gateway(node);
        assert!(all.contains(&pod), "{all}");
        let listeners = site.sluice(&["proxy-config", "listeners", &pod, "-n", NAMESPACE]);
        let listeners = listeners.expect_success().out;
        let steered = listeners.lines().find(|line| line.contains("31400"));
        assert!(steered.is_some_and(|line| line.contains("kernel")), "{listeners}");
    }
}

/// Goes as Kubernetes has pods go, and another one comes in its place.
#[track_caller]
fn a_backend_goes(site: &Site) {
    let first =
        ["get", "pods", "-n", APPLICATIONS, "-l", "app=webapp", "-o", "jsonpath={.items[0].metadata.name}"];
    let pod = site.cluster.plane.kubectl(&first).expect_success().out;
    site.cluster.await_kubectl(&["delete", "pod", &pod, "-n", APPLICATIONS], PATIENCE);
    let ready = ["rollout", "status", "deployment/webapp", "-n", APPLICATIONS];
    site.cluster.await_kubectl(&ready, PATIENCE);
}

/// On each node another pod beside the old one, which goes.
#[track_caller]
fn the_gateways_are_replaced(site: &Site) {
    let pods = || site.cluster.nodes.iter().map(|node| site.gateway(node)).collect::<Vec<_>>();
    let before = pods();
    site.await_flows();
    let restart = ["rollout", "restart", "daemonset/sluice", "-n", NAMESPACE];
    site.cluster.plane.kubectl(&restart).expect_success();
    site.await_rollout();
    assert!(pods().iter().all(|pod| !before.contains(pod)), "{before:?}");
    site.await_flows();
}

#[track_caller]
fn a_certificate_is_replaced(site: &Site) {
    let before = site.shown();
    site.put_certificate("webapp-credential");
    let put = Instant::now();
    wait::until("another certificate", || (site.shown() != before).then_some(()));
    println!("a certificate is shown {:?} after kubectl", put.elapsed());
    assert!(put.elapsed() < Duration::from_secs(2), "{:?}", put.elapsed());
}

/// Killed, and started again where it was.
#[track_caller]
fn the_api_server_is_away(site: &Site) {
    let plane = &site.cluster.plane;
    let words = ["get", "pods", "-n", NAMESPACE, "-o"];
    let ready = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")]}{.items[*].status.containerStatuses[*].restartCount}";
    let readiness = || plane.kubectl(&[&words[..], &[ready]].concat()).expect_success().out;
    let before = readiness();
    assert!(before.contains("\"True\""), "{before}");
    plane.stop_api_server();
    let gone = Instant::now();
    let said =
        std::env::var("SLUICE_ABSENCE").ok().map(|text| text.parse().expect("SLUICE_ABSENCE is a number"));
    let absence = Duration::from_secs(said.unwrap_or(ABSENCE));
    wait::within(absence * 2, || {
        let said = run(site.node().command(program()).arg("ready"));
        assert!(said.code == Some(0), "{}", said.all());
        (gone.elapsed() > absence).then_some(())
    });
    plane.start_api_server();
    let route = http_route("later", "later.istioinaction.io", "coolstore-gateway", "webapp");
    let gateway = documents::gateway("later", &[Server::http(80, &["later.istioinaction.io"])]);
    plane.apply(&(gateway + &route.replace("coolstore-gateway", "later")));
    let put = Instant::now();
    let answered = wait::within(PATIENCE, || site.answers("later.istioinaction.io").then_some(put.elapsed()));
    println!(
        "a document is in force {:?} after the API server's return",
        answered.expect("a route in force")
    );
    assert_eq!(readiness(), before, "no probe of the pod has failed meanwhile");
}
