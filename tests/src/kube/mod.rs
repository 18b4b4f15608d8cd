//! A real Kubernetes without nodes: etcd and kube-apiserver on loopback, with the Istio kinds that the gateway reads, and
//! kubectl to change them. Nothing here runs pods or gives Services endpoints; what controllers would write, tests write. A
//! [`Cluster`] has all that.

mod access;
mod api;
mod audit;
mod kubelet;
mod node;
mod seat;
mod server;
mod tenant;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use crate::program::{Said, run_with_input, tool};
use crate::wait;

pub use self::access::User;
pub use self::api::{Api, ask};
pub use self::audit::Asked;
pub use self::kubelet::Kubelet;
pub use self::node::{Cluster, Node};
pub use self::server::ApiServer;
pub use self::tenant::Tenant;

use self::access::Access;
use self::seat::Seat;
use self::server::Etcd;

/// The kinds of Istio's that the gateway reads. Their schemas let everything through, as an old or a foreign definition may.
const ISTIO_KINDS: &str = include_str!("../../data/kube/crds.yaml");
/// Versions of the kinds of networking in there.
const NETWORKING_VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

/// A control plane. Its programs end, and all that they wrote is removed, when it is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    // Before what they write into.
    api_server: Mutex<Option<ApiServer>>,
    etcd: Etcd,
    access: Access,
    seat: Seat,
    /// The administrator's.
    kubeconfig: PathBuf,
    port: u16,
    directory: TempDir,
}

impl ControlPlane {
    /// Starts one that knows Kubernetes' own kinds alone, and waits until it is ready.
    #[track_caller]
    pub fn bare() -> Self {
        Self::bare_at(Seat::loopback(), &std::env::temp_dir())
    }

    /// The same elsewhere, with its files below a directory.
    #[track_caller]
    fn bare_at(seat: Seat, files: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("sluice-kube-").tempdir_in(files);
        let directory = directory.expect("a directory");
        let etcd = Etcd::start(directory.path(), &seat);
        let access = Access::new(directory.path(), &seat);
        let port = crate::port::free();
        let kubeconfig = access.administrator(port);
        let plane = Self { api_server: Mutex::new(None), etcd, access, seat, kubeconfig, port, directory };
        plane.start_api_server();
        plane
    }

    /// Starts one that knows Istio's kinds too.
    #[track_caller]
    pub fn start() -> Self {
        let plane = Self::bare();
        plane.define_istio_kinds();
        plane
    }

    /// One of Istio's kinds that tests of this process share as long as any of them runs. What they put into it is to have
    /// names of its own.
    #[track_caller]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<ControlPlane>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let plane = Arc::new(Self::start());
            *shared = Arc::downgrade(&plane);
            plane
        })
    }

    /// Defines Istio's kinds, and waits until documents of them are taken.
    #[track_caller]
    pub fn define_istio_kinds(&self) {
        self.apply(ISTIO_KINDS);
        self.wait_for_kinds("v1", 200);
    }

    /// Has Istio's kinds of networking served in one version and no other, and waits until it is so.
    #[track_caller]
    pub fn serve_only(&self, version: &str) {
        let others: Vec<_> = NETWORKING_VERSIONS.into_iter().filter(|known| *known != version).collect();
        let served = |known: &str, is: bool| format!("{{name: {known}, served: {is},");
        let without =
            |kinds: String, known: &&str| kinds.replace(&served(known, true), &served(known, false));
        self.apply(&others.iter().fold(ISTIO_KINDS.to_owned(), without));
        self.wait_for_kinds(version, 200);
        for other in others {
            self.wait_for_kinds(other, 404);
        }
    }

    /// Definitions are accepted a moment before they are served.
    #[track_caller]
    fn wait_for_kinds(&self, version: &str, status: u16) {
        let api = self.api();
        for plural in ["gateways", "virtualservices", "destinationrules", "serviceentries", "workloadentries"]
        {
            let path = format!("/apis/networking.istio.io/{version}/{plural}");
            let is_so = || api.get(&path).is_ok_and(|answer| answer.status == status).then_some(());
            wait::until(&format!("{status} for {path}"), is_so);
        }
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, words: &[&str]) -> Said {
        self.kubectl_with(words, "")
    }

    /// Runs kubectl as the administrator, with a text on its standard input.
    pub fn kubectl_with(&self, words: &[&str], input: &str) -> Said {
        let mut kubectl = self.command(tool("kube/kubectl"));
        kubectl.arg("--kubeconfig").arg(self.kubeconfig());
        kubectl.arg("--cache-dir").arg(self.directory.path().join("kubectl"));
        run_with_input(kubectl.arg("--request-timeout=20s").args(words), input.as_bytes())
    }

    /// A program where the API server can be reached.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.seat.command(program)
    }

    /// Creates or changes documents.
    #[track_caller]
    pub fn apply(&self, documents: &str) {
        self.kubectl_with(&["apply", "-f", "-"], documents).expect_success();
    }

    /// Deletes documents, which must be there.
    #[track_caller]
    pub fn delete(&self, documents: &str) {
        self.kubectl_with(&["delete", "-f", "-"], documents).expect_success();
    }

    /// Creates namespaces that are not there.
    #[track_caller]
    pub fn create_namespaces(&self, names: &[&str]) {
        let document = |name| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        self.apply(&names.iter().map(document).collect::<String>());
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig of somebody who may do what RBAC lets them, and nothing else.
    #[track_caller]
    pub fn kubeconfig_of(&self, user: &User<'_>) -> PathBuf {
        match user {
            User::Person(name) => self.access.person(self.port, name),
            User::ServiceAccount { namespace, name } => {
                let words = ["create", "token", name, "--namespace", namespace, "--duration=1h"];
                let token = self.kubectl(&words).expect_success().out;
                self.access.bearer(self.port, &format!("{namespace}-{name}"), token.trim())
            }
        }
    }

    /// Asks the API server as the administrator, without kubectl.
    pub fn api(&self) -> Api {
        self.access.api(self.port)
    }

    /// Kills the API server: to clients it is as if its machine had failed.
    pub fn stop_api_server(&self) {
        *self.api_server.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Has the API server say nothing while its connections stay, as when its machine hangs; `false`: no longer.
    #[track_caller]
    pub fn hold_api_server(&self, is_held: bool) {
        let server = self.api_server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().expect("an API server that runs").hold(is_held);
    }

    /// Starts the API server again, where it was, and waits until it is ready.
    #[track_caller]
    pub fn start_api_server(&self) {
        self.stop_api_server();
        let server =
            ApiServer::start(self.directory.path(), &self.etcd, self.port).wait_until_ready(&self.api());
        *self.api_server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// Makes etcd forget what was before the last change, as API servers have it do every five minutes.
    #[track_caller]
    pub fn compact(&self) {
        self.etcd.compact();
    }

    /// Another API server of the same cluster, as where control planes have several: what changes here changes there.
    #[track_caller]
    pub fn another_api_server(&self) -> ApiServer {
        let port = crate::port::free();
        let server = ApiServer::start(self.directory.path(), &self.etcd, port);
        server.wait_until_ready(&self.access.api(port))
    }

    /// What a user has asked the API servers for so far, in order. Not told of administrators.
    pub fn asked_by(&self, user: &str) -> Vec<Asked> {
        audit::asked_by(self.directory.path(), user)
    }

    /// Where files may be put that go with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}
