//! Images for a node's containerd: the gateway's, as users make it, and one of the harness's own program for pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::backend::hex;
use crate::deploy::path;
use crate::program::must;

/// An image as an archive that containerd imports.
#[derive(Debug)]
pub(super) struct Image(pub(super) PathBuf);

/// Name of the image of pods, a node's sandboxes among them. Untold, its program waits for its end.
pub(super) const POD: &str = "localhost/pod:1";
/// Where its program lies.
const POD_PROGRAM: &str = "/usr/bin/pod";

impl Image {
    /// `cargo xtask image`, of a program that is built already, under the name that the manifests have.
    #[track_caller]
    pub(super) fn of_gateway(program: &Path, directory: &Path) -> Self {
        let archive = directory.join("gateway.tar");
        xtask_image(program, "--output", &archive);
        Self(archive)
    }

    /// An image of one layer, with the program and its libraries: the kind of archive that `docker save` made first.
    #[track_caller]
    pub(super) fn of_pods(program: &Path, directory: &Path) -> Self {
        let (root, parts, archive) =
            (directory.join("pod"), directory.join("pod-parts"), directory.join("pod.tar"));
        xtask_image(program, "--directory", &root);
        fs::rename(root.join("usr/bin/sluice"), root.join(POD_PROGRAM.trim_start_matches('/')))
            .expect("a name of its own");
        fs::create_dir(&parts).expect("a directory");
        tar(&root, &["."], &parts.join("layer.tar"));
        let layer = hex(&Sha256::digest(fs::read(parts.join("layer.tar")).expect("a layer")));
        let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Entrypoint": [POD_PROGRAM], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": [POD], "Layers": ["layer.tar"]}]);
        for (name, text) in [("config.json", &config), ("manifest.json", &manifest)] {
            fs::write(parts.join(name), text.to_string()).expect("writing a part of an image");
        }
        tar(&parts, &["manifest.json", "config.json", "layer.tar"], &archive);
        Self(archive)
    }
}

#[track_caller]
fn xtask_image(program: &Path, into: &str, to: &Path) {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(path(".")).args(["xtask", "image", "--binary"]).arg(program).arg(into).arg(to);
    must(&mut cargo).expect("an image");
}

#[track_caller]
fn tar(directory: &Path, names: &[&str], to: &Path) {
    let mut tar = Command::new("tar");
    tar.arg("--directory").arg(directory).arg("--create").arg("--file").arg(to).args(names);
    must(&mut tar).expect("a tar");
}
