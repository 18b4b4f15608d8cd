//! A node: namespaces of its own under a first process of its own, with which all that runs in them ends; containerd, kubelet and
//! kube-proxy in them.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::Image;
use super::settings::{Settings, unpacked};
use super::warden::Warden;
use super::{Cluster, address, cgroup};
use crate::kube::ControlPlane;
use crate::namespace::Namespace;
use crate::program::{Running, must, tool};
use crate::wait;

const INIT: &str = include_str!("init.sh");
/// The node's own, so that what the machine has there is neither seen nor written.
const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// See the module.
#[derive(Debug)]
pub struct Node {
    name: String,
    number: u8,
    directory: PathBuf,
    /// Of the first process, on this machine.
    init: u32,
    programs: Vec<(&'static str, Running)>,
    // Ends the first process with itself.
    _keeper: Running,
    network: Namespace,
}

impl Node {
    /// Makes the namespaces, joined to a bridge of another one. Nothing runs in them yet.
    pub(super) fn new(number: u8, directory: &Path, outside: &Namespace, warden: &mut Warden) -> Self {
        let name = format!("n{number}");
        let directory = directory.join(&name);
        fs::create_dir(&directory).expect("a directory");
        for place in [&directory, &unpacked()] {
            let hidden = HIDDEN.iter().find(|hidden| place.starts_with(hidden));
            assert!(
                hidden.is_none(),
                "{}: a node does not see it; set TMPDIR or CARGO_TARGET_DIR",
                place.display()
            );
        }
        let network = Namespace::new(&name).expect("a namespace");
        warden.undo(&format!("ip netns del {} 2>/dev/null", network.name()));
        link(number, outside, &network).expect("a link");
        cgroup::make(network.name(), warden);
        let mut first = network.command("unshare");
        first.args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]);
        first.args(["sh", "-c", INIT, "init", &name]).arg(&directory);
        let mut keeper = Running::start(&mut first, &directory.join("init.log"));
        // Unless it has ended, and its number is another's.
        let (keepers, own) = (keeper.id(), directory.display());
        warden.undo(&format!("grep -qs {own} /proc/{keepers}/cmdline && kill -KILL {keepers}"));
        wait::until("the first process of a node", || {
            assert!(keeper.ended().is_none(), "{}", keeper.log());
            directory.join("up").exists().then_some(())
        });
        let children = format!("/proc/{0}/task/{0}/children", keeper.id());
        let init = fs::read_to_string(children).expect("children of a process");
        let init = init.trim().parse().expect("one child");
        Self { name, number, directory, init, programs: Vec::new(), _keeper: keeper, network }
    }

    /// Starts what a node runs, and gives it the image of pods.
    pub(super) fn join(&mut self, plane: &ControlPlane, pods: &Image) {
        let (access, port) = (&plane.access, plane.port);
        let user = format!("system:node:{}", self.name);
        let kubeconfig = access.member(port, &user, "system:nodes");
        let identity = access.server(&self.name, &[&self.name, &self.address().to_string()]);
        Settings {
            directory: &self.directory,
            address: self.address(),
            pods: &self.pods(),
            cgroup: self.network.name(),
            identity: &identity,
            authority: access.trusted(),
            proxy_kubeconfig: &access.person(port, "system:kube-proxy"),
        }
        .write();
        let own = |name: &str| self.directory.join(name).display().to_string();
        let (containerd, kubelet, proxy) = (own("containerd.toml"), own("kubelet.json"), own("proxy.json"));
        self.start("containerd", unpacked().join("usr/bin/containerd"), &["--config", &containerd]);
        self.import(pods);
        let called = format!("--hostname-override={}", self.name);
        let (config, address) = (format!("--config={kubelet}"), format!("--node-ip={}", self.address()));
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        self.start("kubelet", tool("kube/kubelet"), &[&config, &kubeconfig, &address, &called]);
        let config = format!("--config={proxy}");
        self.start("kube-proxy", tool("kube/kube-proxy"), &[&config, &called]);
    }

    fn start(&mut self, name: &'static str, program: PathBuf, words: &[&str]) {
        let log = self.directory.join(format!("{name}.log"));
        let running = Running::start(self.command(program).args(words), &log);
        self.programs.push((name, running));
    }

    /// Waits for containerd, too.
    #[track_caller]
    pub(super) fn import(&self, image: &Image) {
        let socket = PathBuf::from(format!("/proc/{}/root/run/containerd/containerd.sock", self.init));
        wait::until("containerd", || socket.exists().then_some(()));
        let mut ctr = self.command(unpacked().join("usr/bin/ctr"));
        let imported = must(ctr.args(["--namespace", "k8s.io", "images", "import"]).arg(&image.0));
        imported.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
    }

    /// A program as on the node.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.init.to_string(), "--mount", "--net", "--pid", "--ipc", "--uts"]);
        let path = std::env::var("PATH").unwrap_or_default();
        let unpacked = unpacked().display().to_string();
        nsenter.args(["--wd=/", "--", "env"]);
        nsenter.arg(format!("PATH={unpacked}/usr/bin:{unpacked}/usr/sbin:{path}:/usr/sbin:/sbin"));
        nsenter.arg(program);
        nsenter
    }

    /// Its name, to the API server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients reach it.
    pub fn address(&self) -> Ipv4Addr {
        address(self.number)
    }

    /// Its pods' addresses.
    pub(super) fn pods(&self) -> String {
        format!("198.19.{}.0/24", self.number)
    }

    /// Its network.
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    /// The last lines that its programs said.
    pub fn logs(&self) -> String {
        let last = |(name, running): &(&str, Running)| {
            let log = running.log();
            let lines: Vec<&str> = log.lines().collect();
            format!("{} {name}:\n{}\n", self.name, lines[lines.len().saturating_sub(20)..].join("\n"))
        };
        self.programs.iter().map(last).collect()
    }
}

/// Its way to all else is the bridge.
fn link(number: u8, outside: &Namespace, network: &Namespace) -> anyhow::Result<()> {
    let (end, own) = (format!("n{number}"), format!("{}/24", address(number)));
    outside.ip(&["link", "add", &end, "type", "veth", "peer", "name", "eth0", "netns", network.name()])?;
    outside.ip(&["link", "set", &end, "master", super::BRIDGE, "up"])?;
    network.ip(&["addr", "add", &own, "dev", "eth0"])?;
    network.ip(&["link", "set", "eth0", "up"])?;
    network.ip(&["route", "add", "default", "via", &Cluster::OUTSIDE.to_string()])?;
    network.sysctl("net/ipv4/ip_forward", "1")
}
