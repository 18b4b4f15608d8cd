//! What a node's programs are told: files in its directory.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::image::POD;
use crate::program::tool;

/// All pods' addresses; a node has a /24 of them.
const PODS: &str = "198.19.0.0/16";

/// See the module.
#[derive(Debug)]
pub(super) struct Settings<'n> {
    pub(super) directory: &'n Path,
    pub(super) address: Ipv4Addr,
    /// `198.19.N.0/24`.
    pub(super) pods: &'n str,
    /// Below each hierarchy's root.
    pub(super) cgroup: &'n str,
    /// The kubelet's certificate and its key.
    pub(super) identity: &'n [PathBuf; 2],
    /// Whom the kubelet believes in.
    pub(super) authority: &'n Path,
    pub(super) proxy_kubeconfig: &'n Path,
}

/// Where Debian's packages are unpacked.
pub(super) fn unpacked() -> PathBuf {
    let stamp = tool("node/unpacked");
    stamp.parent().expect("a directory").to_owned()
}

impl Settings<'_> {
    /// Writes `containerd.toml`, `kubelet.json`, `proxy.json`, and what they name.
    pub(super) fn write(&self) {
        fs::create_dir(self.directory.join("cni")).expect("a directory");
        self.put("cni/10-ptp.conflist", &self.network().to_string());
        self.put("containerd.toml", &self.containerd());
        // Nothing answers names: pods of tests ask for none.
        self.put("resolv.conf", "");
        self.put("kubelet.json", &self.kubelet().to_string());
        self.put("proxy.json", &self.proxy().to_string());
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.directory.join(name), text).expect(name);
    }

    fn network(&self) -> serde_json::Value {
        json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{"type": "ptp", "mtu": 1500, "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": self.pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": "/run/cni",
            }}],
        })
    }

    /// Without AppArmor, whose profiles are the machine's, and without what a process needs `CAP_SYS_RESOURCE` for.
    fn containerd(&self) -> String {
        let (unpacked, directory) = (unpacked().display().to_string(), self.directory.display());
        format!(
            r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{POD}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{unpacked}/usr/lib/cni"
conf_dir = "{directory}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{unpacked}/usr/sbin/runc"
SystemdCgroup = false
"#
        )
    }

    fn kubelet(&self) -> serde_json::Value {
        let little = "50Mi";
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "healthzBindAddress": "127.0.0.1",
            "tlsCertFile": self.identity[0],
            "tlsPrivateKeyFile": self.identity[1],
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.authority},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.cgroup),
            "failCgroupV1": false,
            "failSwapOn": false,
            "oomScoreAdj": 0,
            "makeIPTablesUtilChains": false,
            "resolvConf": self.directory.join("resolv.conf"),
            "volumePluginDir": "/var/lib/kubelet/plugins",
            // A machine that is nearly full runs tests all the same.
            "evictionHard": {"memory.available": little, "nodefs.available": little, "imagefs.available": little},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "nodeStatusUpdateFrequency": "2s",
        })
    }

    fn proxy(&self) -> serde_json::Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": self.proxy_kubeconfig},
            "clusterCIDR": PODS,
            "detectLocalMode": "ClusterCIDR",
            "oomScoreAdj": 0,
            // These would be the machine's.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "nftables": {"minSyncPeriod": "100ms"},
        })
    }
}
