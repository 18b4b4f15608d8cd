//! A whole Kubernetes: a control plane with its controllers, and nodes that run pods, as namespaces of this machine. Needs root.
//!
//! ```text
//! outside 198.18.0.1: clients, kubectl, the control plane ── bridge ── n1 198.18.0.11: kubelet, pods 198.19.1.0/24
//!                                                                 └── n2 198.18.0.12: kubelet, pods 198.19.2.0/24
//! ```
//! Names have the process id in them, and nothing is reached from the machine's own network. It ends with the test, however that ends.

mod cgroup;
mod image;
mod machine;
mod settings;
mod warden;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::kube::ControlPlane;
use crate::kube::seat::Seat;
use crate::namespace::Namespace;
use crate::program::{Running, Said, tool};
use crate::wait;

pub use self::machine::Node;

use self::image::Image;
use self::warden::Warden;

const BRIDGE: &str = "br0";
/// All starts at once, on a machine that may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// See the module. Fields are dropped in order.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes.
    pub nodes: Vec<Node>,
    _controllers: [Running; 2],
    /// Its control plane.
    pub plane: ControlPlane,
    /// Where clients are.
    pub outside: Arc<Namespace>,
    directory: PathBuf,
    _warden: Warden,
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 10 + number)
}

impl Cluster {
    /// The clients' address, and the control plane's.
    pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    /// Starts one with so many nodes, and waits until they are ready. `pod` is the program in the image
    /// `localhost/pod:1`, as `/usr/bin/pod`.
    #[track_caller]
    pub fn start(nodes: u8, pod: &Path) -> Self {
        let mut warden = Warden::start();
        let directory =
            tempfile::Builder::new().prefix("sluice-node-").tempdir().expect("a directory").keep();
        // No file systems of pods, should one be mounted still.
        warden.undo(&format!("rm -rf --one-file-system {}", directory.display()));
        let outside = Namespace::new("outside").expect("a namespace");
        warden.undo(&format!("ip netns del {} 2>/dev/null", outside.name()));
        warden.undo(&format!(
            "ip netns pids {} 2>/dev/null | xargs --no-run-if-empty kill -KILL",
            outside.name()
        ));
        bridge(&outside).expect("a bridge");
        let mut machines: Vec<Node> =
            (1..=nodes).map(|number| Node::new(number, &directory, &outside, &mut warden)).collect();
        route_pods(&machines).expect("routes");
        let outside = Arc::new(outside);
        let plane = ControlPlane::bare_at(Seat::within(outside.clone(), Self::OUTSIDE), &directory);
        let controllers = [controllers(&plane, &directory), scheduler(&plane, &directory)];
        let pods = Image::of_pods(pod, &directory);
        for machine in &mut machines {
            machine.join(&plane, &pods);
        }
        let cluster =
            Self { nodes: machines, _controllers: controllers, plane, outside, directory, _warden: warden };
        cluster.wait_for_nodes();
        cluster
    }

    #[track_caller]
    fn wait_for_nodes(&self) {
        let condition = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        for node in &self.nodes {
            let is_ready = || {
                let said = self.plane.kubectl(&["get", "node", node.name(), condition]);
                (said.out == "True").then_some(())
            };
            wait::within(PATIENCE, is_ready)
                .unwrap_or_else(|| panic!("a node is not ready after {PATIENCE:?}\n{}", node.logs()));
        }
    }

    /// Makes the gateway's image of its program, and brings it to the nodes.
    #[track_caller]
    pub fn import_gateway(&self, program: &Path) {
        let image = Image::of_gateway(program, &self.directory);
        for node in &self.nodes {
            node.import(&image);
        }
    }

    /// Runs kubectl with words that wait for something, for so long; panics with what it said, and what the nodes did.
    #[track_caller]
    pub fn await_kubectl(&self, words: &[&str], limit: Duration) -> Said {
        let timeout = format!("--timeout={}s", limit.as_secs());
        let said = self.plane.kubectl(&[words, &[&timeout, "--request-timeout=0"]].concat());
        assert!(said.code == Some(0), "{words:?}: {}\n{}", said.all(), self.report());
        said
    }

    /// What a person would look at first.
    pub fn report(&self) -> String {
        let pods = self.plane.kubectl(&["get", "pods", "-A", "-o", "wide"]).all();
        let events = self.plane.kubectl(&["get", "events", "-A", "--sort-by=.lastTimestamp"]).all();
        let logs: String = self.nodes.iter().map(Node::logs).collect();
        format!("{pods}\n{events}\n{logs}")
    }
}

fn bridge(outside: &Namespace) -> anyhow::Result<()> {
    outside.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    outside.ip(&["addr", "add", &format!("{}/24", Cluster::OUTSIDE), "dev", BRIDGE])?;
    outside.ip(&["link", "set", BRIDGE, "up"])?;
    Ok(())
}

/// Nodes find each other's pods, as networks of clusters have it.
fn route_pods(nodes: &[Node]) -> anyhow::Result<()> {
    for (from, to) in nodes.iter().flat_map(|from| nodes.iter().map(move |to| (from, to))) {
        if from.name() != to.name() {
            let via = to.address().to_string();
            from.network().ip(&["route", "add", &to.pods(), "via", &via])?;
        }
    }
    Ok(())
}

fn controllers(plane: &ControlPlane, directory: &Path) -> Running {
    let kubeconfig = plane.access.person(plane.port, "system:kube-controller-manager");
    let mut program = plane.command(tool("kube/kube-controller-manager"));
    program.args(alone(&kubeconfig)).arg("--use-service-account-credentials=true");
    let key = plane.directory().join("service-accounts.key");
    program.arg(format!("--service-account-private-key-file={}", key.display()));
    program.arg(format!("--root-ca-file={}", plane.access.trusted().display()));
    Running::start(&mut program, &directory.join("kube-controller-manager.log"))
}

fn scheduler(plane: &ControlPlane, directory: &Path) -> Running {
    let kubeconfig = plane.access.person(plane.port, "system:kube-scheduler");
    let mut program = plane.command(tool("kube/kube-scheduler"));
    Running::start(program.args(alone(&kubeconfig)), &directory.join("kube-scheduler.log"))
}

/// Of a program that has no other beside it, so that none is to be elected.
fn alone(kubeconfig: &Path) -> [String; 3] {
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    [kubeconfig, "--leader-elect=false".to_owned(), "--bind-address=127.0.0.1".to_owned()]
}
