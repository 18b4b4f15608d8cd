//! An image as an archive: the OCI image layout 1.0 in a tar, with one layer. The same contents make the same bytes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::contents::{Contents, PROGRAM};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The archive, with the image under a name.
pub(super) fn archive(contents: &Contents, name: &str) -> Result<Vec<u8>> {
    let layer = layer(contents)?;
    let config = config(contents, &digest(&layer));
    let config = serde_json::to_vec(&config)?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
    }))?;
    let mut index = descriptor(MANIFEST, &manifest);
    index["platform"] = json!({"architecture": contents.architecture.as_str(), "os": "linux"});
    // The first is the layout's own, and names a tag alone; containerd goes by the second one.
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    index["annotations"] =
        json!({"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [index]});

    let mut archive = Tar::new();
    archive.add("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.add("index.json", 0o644, &serde_json::to_vec(&index)?)?;
    for blob in [&manifest, &config, &layer] {
        archive.add(&format!("blobs/sha256/{}", hash(blob)), 0o644, blob)?;
    }
    archive.finish()
}

fn layer(contents: &Contents) -> Result<Vec<u8>> {
    let mut layer = Tar::new();
    for (path, file) in &contents.files {
        layer.add(path, file.mode(), &file.bytes)?;
    }
    layer.finish()
}

fn config(contents: &Contents, layer: &str) -> Value {
    let program = format!("/{PROGRAM}");
    json!({
        "architecture": contents.architecture.as_str(),
        "os": "linux",
        "config": {
            // Without capabilities it serves in user space; those that it asks for are root's alone in a container.
            "User": "0:0",
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": [program],
            "Cmd": ["--help"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "sluice",
                "org.opencontainers.image.description": "An ingress gateway that speaks Istio's API",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer]},
        "history": [{"created_by": "cargo xtask image"}],
    })
}

fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()})
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hash(blob))
}

fn hash(blob: &[u8]) -> String {
    let mut hash = String::new();
    for byte in Sha256::digest(blob) {
        // Text takes all that is written into it.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

/// A tar, of root's files of 1970.
struct Tar {
    builder: Builder<Vec<u8>>,
    directories: BTreeSet<String>,
}

impl Tar {
    fn new() -> Self {
        Self { builder: Builder::new(Vec::new()), directories: BTreeSet::new() }
    }

    /// A file, and before it the directories that it is in.
    fn add(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut above: Vec<_> = Path::new(path).ancestors().skip(1).filter_map(Path::to_str).collect();
        above.retain(|directory| !directory.is_empty());
        for directory in above.into_iter().rev() {
            if self.directories.insert(directory.to_owned()) {
                let mut header = header(EntryType::Directory, 0o755, 0);
                self.builder.append_data(&mut header, format!("{directory}/"), &[][..])?;
            }
        }
        let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
        Ok(self.builder.append_data(&mut header, path, bytes)?)
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.builder.into_inner()?)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::contents::Architecture;
    use super::*;
    use crate::cargo::workspace;

    #[test]
    fn the_containerfile_says_the_same() {
        let file = std::fs::read_to_string(workspace().unwrap().join("deploy/Containerfile")).unwrap();
        let contents = Contents { files: BTreeMap::new(), architecture: Architecture::Amd64 };
        let config = config(&contents, "sha256:0")["config"].clone();
        let word = |key: &str| config[key].as_str().unwrap().to_owned();
        let mut want = vec![
            format!("USER {}", word("User")),
            format!("WORKDIR {}", word("WorkingDir")),
            format!("ENV {}", config["Env"][0].as_str().unwrap()),
            format!("ENTRYPOINT {}", config["Entrypoint"]),
            format!("CMD {}", config["Cmd"]),
        ];
        want.extend(
            config["Labels"].as_object().unwrap().iter().map(|(key, value)| format!("{key}={value}")),
        );
        for line in want {
            assert!(file.contains(&line), "deploy/Containerfile lacks {line}");
        }
    }
}
