//! A test's own part of a control plane: namespaces for documents and for the gateway, and the gateway's service account, which
//! may read what is in them, and of Secrets none but those that it was given by name, and write what is found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::documents::{GATEWAY_NAMESPACE, NAMESPACE};
use crate::gateway::{Arrangement, Gateway};
use crate::kube::{ControlPlane, User};

/// Name of the gateway's service account, and of what gives it rights.
const ACCOUNT: &str = "sluice";

/// See the module.
#[derive(Debug)]
pub struct Tenant {
    /// Where it is.
    pub plane: Arc<ControlPlane>,
    /// In place of [`NAMESPACE`].
    pub applications: String,
    /// In place of [`GATEWAY_NAMESPACE`].
    pub system: String,
}

impl Tenant {
    /// Another one in a control plane.
    #[track_caller]
    pub fn of(plane: Arc<ControlPlane>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [applications, system] = ["apps", "system"].map(|name| format!("{name}-{number}"));
        plane.create_namespaces(&[&applications, &system]);
        let tenant = Self { plane, applications, system };
        tenant.plane.apply(&tenant.rights());
        tenant
    }

    /// Another one in the control plane that tests share.
    #[track_caller]
    pub fn of_shared() -> Self {
        Self::of(ControlPlane::shared())
    }

    /// Creates or changes documents, in the namespaces of this tenant instead of those that they name.
    #[track_caller]
    pub fn apply(&self, documents: &str) {
        self.plane.apply(&self.placed(documents));
    }

    /// Deletes documents.
    #[track_caller]
    pub fn delete(&self, documents: &str) {
        self.plane.delete(&self.placed(documents));
    }

    /// The same documents in this tenant's namespaces.
    pub fn placed(&self, documents: &str) -> String {
        let documents = documents
            .replace(&format!("namespace: {NAMESPACE}"), &format!("namespace: {}", self.applications));
        documents.replace(&format!("namespace: {GATEWAY_NAMESPACE}"), &format!("namespace: {}", self.system))
    }

    /// Lets the gateway read Secrets of its namespace by their names.
    #[track_caller]
    pub fn allow_secrets(&self, names: &[&str]) {
        let rule = format!(
            "{{apiGroups: [''], resources: [secrets], resourceNames: {names:?}, verbs: [get, list, watch]}}"
        );
        self.plane.apply(&self.role("secrets", &self.system, &rule));
    }

    /// Lets the gateway keep the certificate of an admission webhook, and have it trusted.
    #[track_caller]
    pub fn allow_admission(&self) {
        let secret = "{apiGroups: [''], resources: [secrets], resourceNames: [sluice-admission], verbs: [get, update]}, \
                      {apiGroups: [''], resources: [secrets], verbs: [create]}";
        let group = "rbac.authorization.k8s.io";
        let name = format!("{ACCOUNT}-{}", self.system);
        let trust = format!(
            "---\napiVersion: {group}/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\n\
             rules: [{{apiGroups: [admissionregistration.k8s.io], resources: [validatingwebhookconfigurations], \
             resourceNames: [sluice], verbs: [get, patch]}}]\n\
             ---\napiVersion: {group}/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\n\
             roleRef: {{apiGroup: {group}, kind: ClusterRole, name: {name}}}\n\
             subjects: [{{kind: ServiceAccount, name: {ACCOUNT}, namespace: {}}}]\n",
            self.system
        );
        self.plane.apply(&(self.role("admission", &self.system, secret) + &trust));
    }

    /// Begins to arrange a gateway that reads this tenant's documents and has no other rights.
    #[track_caller]
    pub fn arrange(&self) -> Arrangement {
        let namespaces = ["--watch-namespace", &self.applications, "--watch-namespace", &self.system];
        self.arranged().flags(&namespaces)
    }

    /// Begins to arrange one that reads the documents of all namespaces, and may.
    #[track_caller]
    pub fn arrange_for_all(&self) -> Arrangement {
        let name = format!("{ACCOUNT}-documents-{}", self.system);
        let metadata = format!("{{name: {name}}}");
        self.plane.apply(&self.bound("ClusterRole", &name, &metadata, &documents()));
        self.arranged()
    }

    fn arranged(&self) -> Arrangement {
        let account = User::ServiceAccount { namespace: &self.system, name: ACCOUNT };
        let kubeconfig = self.plane.kubeconfig_of(&account);
        let kubeconfig = kubeconfig.to_str().expect("a path of our own making");
        let arrangement = Gateway::arrange().flags(&["--kubernetes", "--kubeconfig", kubeconfig]);
        arrangement.flags(&["--namespace", &self.system, "--root-namespace", &self.system])
    }

    /// Who the gateway is to the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{ACCOUNT}", self.system)
    }

    /// The account, what it may read without names, and what it may write.
    fn rights(&self) -> String {
        let account = format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {ACCOUNT}, namespace: {}}}\n",
            self.system
        );
        let leases = "{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}";
        account
            + &self.role("documents", &self.applications, &documents())
            + &self.role("documents", &self.system, &documents())
            + &self.role("policies", &self.system, &read("security.istio.io", "'*'"))
            + &self.role("leases", &self.system, leases)
    }

    fn role(&self, name: &str, namespace: &str, rules: &str) -> String {
        let name = format!("{ACCOUNT}-{name}");
        self.bound("Role", &name, &format!("{{name: {name}, namespace: {namespace}}}"), rules)
    }

    /// A role, and that the account has it.
    fn bound(&self, kind: &str, name: &str, metadata: &str, rules: &str) -> String {
        let group = "rbac.authorization.k8s.io";
        format!(
            "---\napiVersion: {group}/v1\nkind: {kind}\nmetadata: {metadata}\nrules: [{rules}]\n---\n\
             apiVersion: {group}/v1\nkind: {kind}Binding\nmetadata: {metadata}\n\
             roleRef: {{apiGroup: {group}, kind: {kind}, name: {name}}}\n\
             subjects: [{{kind: ServiceAccount, name: {ACCOUNT}, namespace: {}}}]\n",
            self.system
        )
    }
}

fn read(group: &str, resources: &str) -> String {
    format!("{{apiGroups: ['{group}'], resources: [{resources}], verbs: [get, list, watch]}}")
}

/// The rules for documents: reading them, and saying what is wrong with them.
fn documents() -> String {
    let rules = [
        read("networking.istio.io", "'*'"),
        read("telemetry.istio.io", "'*'"),
        read("", "services, pods, namespaces, configmaps"),
        read("discovery.k8s.io", "endpointslices"),
        "{apiGroups: [networking.istio.io], resources: ['*/status'], verbs: [patch]}".to_owned(),
        "{apiGroups: [events.k8s.io], resources: [events], verbs: [create]}".to_owned(),
    ];
    rules.join(", ")
}
