//! A Kubernetes for tests (`tests/src/kube`): etcd, the control plane, a node's kubelet and kube-proxy, and kubectl, of one program
//! that is each of them by the name that it is called by.

use std::os::unix::fs::symlink;

use anyhow::{Context, Result};

use crate::cargo::workspace;
use crate::go::Recipe;

/// Names that the program knows.
const NAMES: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];
/// Where Kubernetes keeps which version it is.
const VERSION: &str = "k8s.io/component-base/version";

/// Makes the programs unless they are there.
pub(crate) fn ensure() -> Result<()> {
    let flags = flags()?;
    let recipe = Recipe { program: "kube/kube", directory: "kube", package: ".", flags: &flags };
    let program = recipe.ensure()?;
    for name in NAMES {
        let link = program.with_file_name(name);
        if !link.exists() {
            symlink("kube", &link).with_context(|| link.display().to_string())?;
        }
    }
    Ok(())
}

/// Without what debuggers need; and Kubernetes is to know its version, by which it decides what it may do.
fn flags() -> Result<Vec<String>> {
    let module = std::fs::read_to_string(workspace()?.join("tests/data/kube/go.mod"))
        .context("tests/data/kube/go.mod")?;
    let version = version(&module).context("tests/data/kube/go.mod names no version of k8s.io/kubernetes")?;
    let minor = version.split('.').nth(1).unwrap_or_default();
    let facts = [
        ("gitVersion", version),
        ("gitCommit", version),
        ("gitMajor", "1"),
        ("gitMinor", minor),
        ("gitTreeState", "clean"),
    ];
    let facts = facts.map(|(name, value)| format!(" -X {VERSION}.{name}={value}")).concat();
    Ok(vec!["-trimpath".to_owned(), format!("-ldflags=-s -w{facts}")])
}

/// Such as `v1.36.3`.
fn version(module: &str) -> Option<&str> {
    let mut lines = module.lines().map(|line| line.trim().trim_start_matches("require "));
    lines.find_map(|line| line.strip_prefix("k8s.io/kubernetes ")?.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_modules() {
        assert_eq!(version("module x\n\nrequire k8s.io/kubernetes v1.36.3\n"), Some("v1.36.3"));
        assert_eq!(version("require (\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n"), Some("v1.36.3"));
        assert_eq!(version("require k8s.io/api v0.36.3\n"), None);
    }
}
