//! The container image that `cargo xtask image` makes: an archive as the OCI image layout has it, in which the program runs with
//! nothing else of this machine's. Needs root, to make what it finds the root of a process.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::deploy::path;
use harness::gateway::program;
use harness::program::{must, run};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const NAME: &str = "registry.test/edge/sluice:1.2.3";

/// Takes a tar apart, with another program than the one that wrote it.
fn untar(archive: &Path, into: &Path) {
    fs::create_dir(into).expect("a directory");
    must(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(into))
        .expect("a tar");
}

/// An archive of the program that is tested.
fn make(output: &Path) {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(path(".")).args(["xtask", "image", "--name", NAME, "--binary"]).arg(program());
    run(cargo.arg("--output").arg(output)).expect_success();
}

/// A blob of a layout by its descriptor, whose size and hash must be those that it tells.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().expect("a digest");
    let (_, hash) = digest.split_once(':').expect("sha256");
    let bytes = fs::read(layout.join("blobs/sha256").join(hash)).expect("a blob");
    assert_eq!(descriptor["size"], bytes.len());
    let own = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    assert_eq!(digest, format!("sha256:{own}"));
    bytes
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn the_image_is_whole_and_its_program_runs_with_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let (archive, layout, root) =
        (directory.path().join("image.tar"), directory.path().join("layout"), directory.path().join("root"));
    make(&archive);
    untar(&archive, &layout);
    assert_eq!(json_of(&fs::read(layout.join("oci-layout")).expect("a mark"))["imageLayoutVersion"], "1.0.0");
    let index = json_of(&fs::read(layout.join("index.json")).expect("an index"));
    let manifest = &index["manifests"][0];
    assert_eq!(
        manifest["annotations"],
        json!({"org.opencontainers.image.ref.name": "1.2.3", "io.containerd.image.name": NAME})
    );
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(manifest["platform"], json!({"architecture": architecture, "os": "linux"}));
    let manifest = json_of(&blob(&layout, manifest));
    let config = json_of(&blob(&layout, &manifest["config"]));
    let layer = &manifest["layers"][0];
    let bytes = blob(&layout, layer);
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([layer["digest"]]),
        "a layer that is not compressed is its own"
    );
    assert_eq!(config["architecture"], architecture);

    let tar = directory.path().join("layer.tar");
    fs::write(&tar, bytes).expect("writing");
    untar(&tar, &root);
    let entry = config["config"]["Entrypoint"][0].as_str().expect("an entry point");
    let within = |words: &[&str]| run(Command::new("chroot").arg(&root).arg(entry).args(words));
    let said = within(&["--version"]).expect_success().out;
    let own = run(Command::new(program()).arg("--version")).expect_success().out;
    assert_eq!(said, own);
    assert!(
        fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt"))
            .expect("authorities")
            .contains("BEGIN CERTIFICATE")
    );
    // No shell, nor anything else that could be run.
    let programs: Vec<_> = fs::read_dir(root.join("usr/bin"))
        .expect("usr/bin")
        .map(|it| it.expect("an entry").file_name())
        .collect();
    assert_eq!(programs, ["sluice"]);
}

#[test]
fn the_same_program_makes_the_same_image() {
    let directory = tempfile::tempdir().expect("a directory");
    let archives = ["one", "two"].map(|name| directory.path().join(name));
    for archive in &archives {
        make(archive);
    }
    let [one, two] = archives.map(|archive| fs::read(archive).expect("an archive"));
    assert!(one == two, "archives of {} and {} bytes differ", one.len(), two.len());
}

#[test]
fn a_program_that_is_none_makes_no_image() {
    let directory = tempfile::tempdir().expect("a directory");
    let (script, output) = (directory.path().join("sluice"), directory.path().join("image.tar"));
    fs::write(&script, "#!/bin/sh\n").expect("writing");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(path("."))
        .args(["xtask", "image", "--binary"])
        .arg(&script)
        .arg("--output")
        .arg(&output);
    let said = run(&mut cargo);
    assert!(said.code != Some(0) && said.all().contains("not an ELF file"), "{}", said.all());
    assert!(!output.exists());
}
