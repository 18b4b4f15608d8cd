//! Embeds the kernel programs: a fresh object is handed to the crate, a stale one stops the build, and without one
//! the agent is built without the kernel plane and says so when it starts.

use std::path::{Path, PathBuf};

#[path = "../gateway-ebpf/fingerprint.rs"]
mod fingerprint;

use fingerprint::{Built, Freshness};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(kernel_object)");
    println!("cargo::rerun-if-changed=../gateway-ebpf/fingerprint.rs");
    if let Err(error) = embed() {
        println!("cargo::error={error}");
    }
}

fn embed() -> Result<(), String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let target = fingerprint::target_directory(&out).ok_or("OUT_DIR is in no target directory")?;
    let built = Built::below(target);
    watch(workspace, &built)?;
    let fingerprint = fingerprint::fingerprint(workspace).map_err(|error| error.to_string())?;
    match built.freshness(&fingerprint) {
        Freshness::Fresh => {
            println!("cargo::rustc-cfg=kernel_object");
            println!("cargo::rustc-env=KERNEL_OBJECT={}", built.object.display());
        }
        Freshness::Absent => {}
        Freshness::Stale => {
            return Err(format!(
                "{} was built from other sources than those here; run `cargo xtask build-ebpf`, or remove it \
                 to build without the kernel plane",
                built.object.display()
            ));
        }
    }
    Ok(())
}

/// Runs this script again when a source or the object changes. The object's directory is watched, not the object:
/// cargo takes a file that is not there for changed and would compile the crate every time.
fn watch(workspace: &Path, built: &Built) -> Result<(), String> {
    for source in fingerprint::sources(workspace) {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    let directory = built.object.parent().ok_or("no directory")?;
    std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    println!("cargo::rerun-if-changed={}", directory.display());
    Ok(())
}
