//! Where the programs of a control plane run and are asked: on loopback, or in a network namespace with nodes in reach.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::namespace::Namespace;

/// Services' addresses. Of loopback nobody ever asks one; a namespace has its own.
const SERVICES: &str = "10.96.0.0/12";
/// The first of them, which is the API server's.
pub(super) const SERVICE: &str = "10.96.0.1";

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    address: Ipv4Addr,
    namespace: Option<Arc<Namespace>>,
}

impl Seat {
    /// On loopback, without nodes.
    pub(super) fn loopback() -> Self {
        Self { address: Ipv4Addr::LOCALHOST, namespace: None }
    }

    /// At an address in a namespace that nodes reach.
    pub(super) fn within(namespace: Arc<Namespace>, address: Ipv4Addr) -> Self {
        Self { address, namespace: Some(namespace) }
    }

    /// A program there. Its process is the one that is started.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.namespace {
            Some(namespace) => namespace.command(program),
            None => Command::new(program),
        }
    }

    /// Runs a function whose sockets are made there.
    pub(super) fn enter<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> T {
        match &self.namespace {
            Some(namespace) => namespace.enter(run),
            None => run(),
        }
    }

    /// Where an API server listens.
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What an API server is to know of it. `directory` has the files that `access` has written.
    pub(super) fn flags(&self, directory: &Path) -> Vec<String> {
        let mut flags = vec![
            format!("--bind-address={}", self.address),
            format!("--service-cluster-ip-range={SERVICES}"),
        ];
        if self.namespace.is_none() {
            // Endpoints of the Service `kubernetes` may not be loopback's.
            flags.push("--endpoint-reconciler-type=none".to_owned());
            flags.push("--authorization-mode=RBAC".to_owned());
            // Nobody makes the service accounts that Pods would have.
            flags.push("--disable-admission-plugins=ServiceAccount".to_owned());
            return flags;
        }
        flags.push(format!("--advertise-address={}", self.address));
        flags.push("--endpoint-reconciler-type=lease".to_owned());
        flags.push("--authorization-mode=Node,RBAC".to_owned());
        flags.push("--enable-admission-plugins=NodeRestriction".to_owned());
        flags.push("--kubelet-preferred-address-types=InternalIP".to_owned());
        // No kube-proxy is where it runs: it finds webhooks' endpoints itself.
        flags.push("--enable-aggregator-routing=true".to_owned());
        let file = |name: &str| directory.join(name).display().to_string();
        flags.push(format!("--kubelet-client-certificate={}", file("administrator.crt")));
        flags.push(format!("--kubelet-client-key={}", file("administrator.key")));
        flags.push(format!("--kubelet-certificate-authority={}", file("ca-chain.cert.pem")));
        flags
    }
}
