//! The manifests on a real node: kubelet, containerd and kube-proxy run the DaemonSet and the pods behind it, and whatever
//! happens to either, clients are served. Needs root.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use harness::authority::Authority;
use harness::chatter::Chatter;
use harness::deploy::{NAMESPACE, chart, kustomized, path};
use harness::documents::{self, Server, http_route, secret};
use harness::faults::Load;
use harness::faults::requests::Target;
use harness::gateway::program;
use harness::kube::{Cluster, Node};
use harness::program::{Said, curl, run};
use harness::steered::greet;
use harness::tls::TlsClient;
use harness::wait;
use serde_json::Value;

/// Namespace of the quickstart's documents.
const APPLICATIONS: &str = "istioinaction";
const HOST: &str = "webapp.istioinaction.io";
const SEALED: &str = "simple-sni-1.istioinaction.io";
const PODS: &str = include_str!("../data/kube/pods.yaml");
/// A busy machine starts pods slowly.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two requests of a client.
const PERIOD: Duration = Duration::from_millis(25);
/// Of each kind.
const STREAMS: usize = 20;
/// Longer than it takes an agent to find out, and than probes need to fail.
const ABSENCE: Duration = Duration::from_secs(15);

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
        let pods = ["delete", "pods", "--all", "-n", NAMESPACE, "--grace-period=1"];
        self.cluster.await_kubectl(&pods, PATIENCE);
        self.cluster.await_kubectl(&["wait", "--for=delete", &format!("namespace/{NAMESPACE}")], PATIENCE);
        let pins = "rm -rf /sys/fs/bpf/sluice";
        run(self.node().command("sh").args(["-c", pins])).expect_success();
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

    #[track_caller]
    fn await_rollout(&self) {
        self.cluster.await_kubectl(&["rollout", "status", "daemonset/sluice", "-n", NAMESPACE], PATIENCE);
    }

    fn target(&self) -> Target {
        let tls = Arc::new(TlsClient::new(self.authority.roots(), HOST));
        Target { http: self.at(80), https: self.at(443), host: HOST.to_owned(), tls }
    }

    /// By each of its listeners.
    #[track_caller]
    fn expect_quickstart(&self) {
        assert!(self.answers(HOST), "{}", self.cluster.report());
        let status = self.status();
        assert_eq!(status["kernelPlane"], "on", "{status}");
        let address = self.at(31400);
        drop(self.cluster.outside.enter(move || greet(address)));
        self.shown();
    }

    /// The streams of [`Traffic`] are the kernel's.
    #[track_caller]
    fn expect_flows(&self) {
        let flows = self.status()["kernel"]["flows"]["ipv4"].as_u64().expect("a number");
        assert!(flows >= 2 * STREAMS as u64, "{flows} flows in the kernel");
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

    /// The only pod of the gateway.
    #[track_caller]
    fn gateway(&self) -> String {
        let words = ["get", "pods", "-n", NAMESPACE, "-o", "jsonpath={.items[*].metadata.name}"];
        let said = self.cluster.plane.kubectl(&words).expect_success();
        assert_eq!(said.out.split(' ').count(), 1, "{}", said.out);
        said.out
    }

    /// A command as users type it, where the API server can be reached.
    fn sluice(&self, words: &[&str]) -> Said {
        let mut sluice = self.cluster.plane.command(program());
        run(sluice.args(words).arg("--kubeconfig").arg(self.cluster.plane.kubeconfig()))
    }

    /// Of the gateway's pod, through the API server.
    #[track_caller]
    fn status(&self) -> Value {
        let words = ["status", &self.gateway(), "-n", NAMESPACE, "-o", "json"];
        serde_json::from_str(&self.sluice(&words).expect_success().out).expect("JSON")
    }
}

/// One node, with the definitions and the quickstart's services, whose pods are ready.
#[track_caller]
fn shared() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start(1, Path::new(env!("CARGO_BIN_EXE_sluice-pod"))));
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
        let (outside, hello) = (&site.cluster.outside, TlsClient::new(site.authority.roots(), SEALED).hello());
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
        assert!(first.is_none(), "{what}: {} failed, first {first:?}\n{}", failures.len(), self.site.cluster.report());
        let seen = self.load.expect_unharmed();
        let exchanges = self.streams.expect_unharmed() + self.sealed.expect_unharmed();
        println!(
            "{what}: {} requests on {} connections, the slowest {:?}; {exchanges} exchanges of streams; no failure",
            seen.answered, seen.connections, seen.slowest
        );
    }
}

#[test]
fn the_base_serves_the_quickstart() {
    let site = Site::with(&kustomized("base"));
    site.expect_quickstart();
}

#[test]
fn clients_of_the_chart_notice_nothing_of_what_happens() {
    let site = Site::with(&chart(&["crds.install=false", "tier=auto", "extraArgs={--kernel=require}"]));
    site.expect_quickstart();
    let traffic = Traffic::start(&site);
    commands_ask_the_pod(&site);
    traffic.expect_unharmed("commands");
    a_backend_goes(&site);
    traffic.expect_unharmed("a backend's pod deleted");
    the_gateway_is_replaced(&site);
    traffic.expect_unharmed("the gateway replaced");
    a_certificate_is_replaced(&site);
    traffic.expect_unharmed("a certificate replaced");
    the_api_server_is_away(&site);
    traffic.expect_unharmed("the API server away");
}

/// By the port-forward of a real kubelet.
#[track_caller]
fn commands_ask_the_pod(site: &Site) {
    let listeners = site.sluice(&["proxy-config", "listeners", &site.gateway(), "-n", NAMESPACE]);
    let listeners = listeners.expect_success().out;
    assert!(listeners.contains("31400") && listeners.contains("kernel"), "{listeners}");
    let all = site.sluice(&["status", "--all", "-n", NAMESPACE]).expect_success().out;
    assert!(all.contains(&site.gateway()), "{all}");
}

/// Goes as Kubernetes has pods go, and another one comes in its place.
#[track_caller]
fn a_backend_goes(site: &Site) {
    let first = ["get", "pods", "-n", APPLICATIONS, "-l", "app=webapp", "-o", "jsonpath={.items[0].metadata.name}"];
    let pod = site.cluster.plane.kubectl(&first).expect_success().out;
    site.cluster.await_kubectl(&["delete", "pod", &pod, "-n", APPLICATIONS], PATIENCE);
    let ready = ["rollout", "status", "deployment/webapp", "-n", APPLICATIONS];
    site.cluster.await_kubectl(&ready, PATIENCE);
}

/// Another pod beside the old one, which goes.
#[track_caller]
fn the_gateway_is_replaced(site: &Site) {
    let before = site.gateway();
    site.expect_flows();
    let restart = ["rollout", "restart", "daemonset/sluice", "-n", NAMESPACE];
    site.cluster.plane.kubectl(&restart).expect_success();
    site.await_rollout();
    let gone = format!("pod/{before}");
    site.cluster.await_kubectl(&["wait", "--for=delete", &gone, "-n", NAMESPACE], PATIENCE);
    assert_ne!(site.gateway(), before);
    site.expect_flows();
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
    wait::within(ABSENCE * 2, || {
        let said = run(site.node().command(program()).arg("ready"));
        assert!(said.code == Some(0), "{}", said.all());
        (gone.elapsed() > ABSENCE).then_some(())
    });
    plane.start_api_server();
    let route = http_route("later", "later.istioinaction.io", "coolstore-gateway", "webapp");
    let gateway = documents::gateway("later", &[Server::http(80, &["later.istioinaction.io"])]);
    plane.apply(&(gateway + &route.replace("coolstore-gateway", "later")));
    let put = Instant::now();
    let answered = wait::within(PATIENCE, || site.answers("later.istioinaction.io").then_some(put.elapsed()));
    println!("a document is in force {:?} after the API server's return", answered.expect("a route in force"));
    assert_eq!(readiness(), before, "no probe of the pod has failed meanwhile");
}
