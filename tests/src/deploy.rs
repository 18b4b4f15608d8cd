//! What `deploy` has for Kubernetes, as its tools render it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::program::{run, tool};

/// The namespace that the gateway is installed in.
pub const NAMESPACE: &str = "sluice-system";
/// What the chart's own bound is held against: no cluster is asked.
const VERSION: &str = "1.33.0";

/// A path below the workspace.
pub fn path(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(below)
}

/// What kustomize makes of a directory below `deploy/kustomize`.
#[track_caller]
pub fn kustomized(directory: &str) -> String {
    let mut kubectl = Command::new(tool("kube/kubectl"));
    run(kubectl.arg("kustomize").arg(path("deploy/kustomize").join(directory))).expect_success().out
}

/// What kustomize makes of the base with components.
#[track_caller]
pub fn kustomized_with(components: &[&str]) -> String {
    // Beside the others: kustomize follows no absolute path.
    let directory = tempfile::tempdir_in(path("deploy/kustomize")).expect("a directory");
    let components: Vec<_> = components.iter().map(|name| format!("../components/{name}")).collect();
    let text = format!("resources: [../base]\ncomponents: [{}]\n", components.join(", "));
    std::fs::write(directory.path().join("kustomization.yaml"), text).expect("writing");
    let name = directory.path().file_name().expect("a name").to_string_lossy().into_owned();
    kustomized(&name)
}

/// What Helm makes of the chart, with these values besides its own, each `key=value` as `--set` takes them.
#[track_caller]
pub fn chart(values: &[&str]) -> String {
    let mut helm = Command::new(tool("helm"));
    helm.args(["template", "sluice"]).arg(path("deploy/helm/sluice"));
    helm.args(["--namespace", NAMESPACE, "--kube-version", VERSION]);
    run(helm.args(values.iter().flat_map(|value| ["--set", value]))).expect_success().out
}

/// The objects of a text of documents.
#[track_caller]
pub fn objects(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// The only object of a kind.
#[track_caller]
pub fn the(kind: &str, objects: &[Value]) -> Value {
    let found: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {found:?}");
    found[0].clone()
}

/// Names in a list of texts.
pub fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
