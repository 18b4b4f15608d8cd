//! A document as the API server gives it, made what a gateway reads: without what others keep in it for themselves.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::api::yaml::{Content, Entry, Node, Span};
use crate::api::{ObjectRef, Reading, read_tree};

use super::kinds::{Kind, NAMESPACE, POD};
use super::standing::Standing;

/// Annotations that change often or are long, and say nothing to a gateway.
const IDLE_ANNOTATIONS: [&str; 2] =
    ["kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"];
/// Likewise of `metadata`.
const IDLE_METADATA: [&str; 6] =
    ["managedFields", "resourceVersion", "generation", "uid", "selfLink", "ownerReferences"];

/// See the module.
#[derive(Debug)]
pub(super) struct Raw {
    tree: Node,
    pub(super) reference: ObjectRef,
    /// Of kinds that get a status here.
    pub(super) standing: Option<Standing>,
}

impl Raw {
    /// `None`: it has no name, which no document of the API server's lacks.
    pub(super) fn new(mut tree: Node, kind: &Kind, version: &'static str) -> Option<Self> {
        let metadata = tree.get("metadata").map(|entry| &entry.value);
        let word = |key: &str| metadata?.get(key)?.value.text().map(str::to_owned);
        let namespace = word("namespace").unwrap_or_default();
        let reference = ObjectRef::new(kind.name, &namespace, &word("name")?);
        let standing = kind.gets_status().then(|| Standing::of(&tree, version));
        prune(&mut tree, kind);
        // Of what is listed, Kubernetes' own kinds don't say what they are.
        name(&mut tree, "kind", kind.name);
        name(&mut tree, "apiVersion", &kind.api_version(version));
        Some(Self { tree, reference, standing })
    }

    /// Whether it is for a workload with these labels: selectors that select nothing in particular are for all.
    pub(super) fn is_for(&self, labels: &BTreeMap<String, String>) -> bool {
        let within = |path: [&str; 3]| {
            path.iter().try_fold(&self.tree, |node, key| node.get(key).map(|entry| &entry.value))
        };
        let selector = within(["spec", "selector", "matchLabels"])
            .or_else(|| within(["spec", "workloadSelector", "labels"]));
        let Some(Content::Mapping(wanted)) = selector.map(|node| &node.content) else { return true };
        wanted.iter().all(|entry| entry.value.text() == labels.get(&entry.key).map(String::as_str))
    }

    /// Tells two states of a document apart, within this process.
    pub(super) fn digest(&self, keys: &RandomState) -> u64 {
        keys.hash_one(&self.tree)
    }

    /// What becomes of it.
    pub(super) fn read(self) -> Reading {
        read_tree(self.tree)
    }
}

fn prune(tree: &mut Node, kind: &Kind) {
    retain(tree, &[], |key| key != "status" || !kind.is_istios);
    retain(tree, &["metadata"], |key| !IDLE_METADATA.contains(&key));
    retain(tree, &["metadata", "annotations"], |key| !IDLE_ANNOTATIONS.contains(&key));
    if *kind == NAMESPACE {
        retain(tree, &[], |key| key == "metadata");
    }
    if *kind == POD {
        retain(tree, &["spec"], |key| key == "containers");
        retain(tree, &["spec", "containers"], |key| key == "ports");
        retain(tree, &["status"], |key| ["phase", "podIP", "conditions"].contains(&key));
        retain(tree, &["status", "conditions"], |key| ["type", "status"].contains(&key));
    }
}

/// Keeps of a mapping, or of each in a list, the fields that are meant.
fn retain(node: &mut Node, path: &[&str], is_kept: impl Fn(&str) -> bool + Copy) {
    match (&mut node.content, path) {
        (Content::Mapping(entries), []) => entries.retain(|entry| is_kept(&entry.key)),
        (Content::Mapping(entries), [first, rest @ ..]) => {
            for entry in entries.iter_mut().filter(|entry| entry.key == *first) {
                retain(&mut entry.value, rest, is_kept);
            }
        }
        (Content::Sequence(items), path) => items.iter_mut().for_each(|item| retain(item, path, is_kept)),
        (Content::Scalar { .. }, _) => {}
    }
}

fn name(tree: &mut Node, key: &str, text: &str) {
    let Content::Mapping(entries) = &mut tree.content else { return };
    entries.retain(|entry| entry.key != key);
    let content = Content::Scalar { text: text.to_owned(), plain: false };
    let value = Node { content, span: Span::default() };
    entries.push(Entry { key: key.to_owned(), key_span: Span::default(), value });
}

#[cfg(test)]
mod tests {
    use super::super::kinds::{UNHEEDED, WHOLE};
    use super::*;

    fn raw(kind: &str, version: &str, more: &str) -> Raw {
        let text = format!(
            r#"{{"metadata": {{"name": "a", "namespace": "shop", "resourceVersion": "{version}", "uid": "{version}",
                "managedFields": [{{"time": "{version}"}}]}}{more}}}"#
        );
        let kind = WHOLE.iter().find(|known| known.name == kind).unwrap();
        Raw::new(serde_json::from_str(&text).unwrap(), kind, "v1").unwrap()
    }

    #[test]
    fn what_says_nothing_to_a_gateway_makes_no_other_document() {
        let keys = RandomState::new();
        let digest = |kind: &str, version: &str, more: &str| raw(kind, version, more).digest(&keys);
        let spec = r#", "spec": {"hosts": ["a"]}"#;
        let status = r#", "spec": {"hosts": ["a"]}, "status": {"observedGeneration": 1}"#;
        let plain = digest("VirtualService", "1", spec);
        assert_eq!(plain, digest("VirtualService", "2", status));
        assert_ne!(plain, digest("VirtualService", "1", r#", "spec": {"hosts": ["b"]}"#));
        assert_ne!(digest("Service", "1", spec), digest("Service", "1", status), "its status counts");
    }

    #[test]
    fn of_a_pod_no_more_is_kept_than_a_gateway_reads() {
        let text = r#"{"metadata": {"name": "p", "namespace": "shop"}, "spec": {"nodeName": "n", "volumes": [{"name": "v"}],
            "containers": [{"name": "c", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}]}]},
            "status": {"podIP": "10.0.0.1", "phase": "Running", "hostIP": "10.0.0.2"}}"#;
        let raw = Raw::new(serde_json::from_str(text).unwrap(), &POD, "v1").unwrap();
        let words = format!("{:?}", raw.tree);
        for gone in ["nodeName", "volumes", "env", "hostIP"] {
            assert!(!words.contains(gone), "{gone}");
        }
        let Some(crate::api::Object::Pod(pod)) = raw.read().object else { panic!("no Pod") };
        assert_eq!(
            (pod.spec.spec.containers[0].ports[0].container_port, &*pod.spec.status.pod_ip),
            (80, "10.0.0.1")
        );
    }

    #[test]
    fn policies_are_for_whom_they_select() {
        let ours = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
        let is_for = |spec: &str| {
            let text = format!(r#"{{"metadata": {{"name": "p", "namespace": "a"}}, "spec": {spec}}}"#);
            Raw::new(serde_json::from_str(&text).unwrap(), &UNHEEDED[0], "v1").unwrap().is_for(&ours)
        };
        assert!(is_for("{}"));
        assert!(is_for(r#"{"selector": {"matchLabels": {"istio": "ingressgateway"}}}"#));
        assert!(!is_for(r#"{"selector": {"matchLabels": {"istio": "ingressgateway", "app": "x"}}}"#));
        assert!(!is_for(r#"{"workloadSelector": {"labels": {"app": "x"}}}"#));
    }

    #[test]
    fn kubernetes_own_kinds_are_told_what_they_are() {
        let reading = raw("Service", "7", r#", "spec": {"ports": [{"port": 80}]}"#).read();
        assert_eq!(reading.object.expect("sound").reference().to_string(), "Service shop/a");
    }
}
