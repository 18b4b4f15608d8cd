//! What a node of Kubernetes runs pods with, for `kernel_node`: Debian's containerd, runc and CNI plugins, unpacked below the
//! target directory's `tools/node` and not installed, as containerd would be started then.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::ebpf::target;
use crate::process::{self, command};

const PACKAGES: [&str; 3] = ["containerd", "containernetworking-plugins", "runc"];
/// What runc is linked with, besides libc.
const LIBRARY: &str = "libseccomp2";
/// The last file to be written: it is all there.
const STAMP: &str = "unpacked";

/// Fetches and unpacks the packages unless they are there.
pub(crate) fn ensure() -> Result<()> {
    let place = target()?.join("tools/node");
    let packages = PACKAGES.join(" ");
    if std::fs::read_to_string(place.join(STAMP)).is_ok_and(|unpacked| unpacked == packages) {
        return Ok(());
    }
    if !process::is_there("apt-get") || !process::is_there("dpkg-deb") {
        bail!(
            "the tests with a node need Debian's packages {packages}, unpacked to {}; leave them out with --no-kernel",
            place.display()
        );
    }
    eprintln!("unpacking {packages} to {}", place.display());
    empty(&place)?;
    for archive in fetch(&place)? {
        process::run(command("dpkg-deb").arg("--extract").arg(&archive).arg(&place))?;
        std::fs::remove_file(&archive).with_context(|| archive.display().to_string())?;
    }
    let runc = place.join("usr/sbin/runc");
    if !process::succeeds(command(&runc).arg("--version")) {
        process::install(&[LIBRARY])?;
    }
    process::run(command(runc).arg("--version").stdout(std::process::Stdio::null()))?;
    std::fs::write(place.join(STAMP), packages).with_context(|| place.display().to_string())
}

fn empty(place: &Path) -> Result<()> {
    if place.exists() {
        std::fs::remove_dir_all(place).with_context(|| place.display().to_string())?;
    }
    std::fs::create_dir_all(place).with_context(|| place.display().to_string())
}

/// The packages' archives, in the directory. A machine may never have fetched the lists of packages, or have old ones.
fn fetch(place: &Path) -> Result<Vec<PathBuf>> {
    let mut download = command("apt-get");
    // As root, apt fetches as a user of its own who may not write here.
    download.args(["-qq", "-o", "APT::Sandbox::User=root", "download"]).args(PACKAGES).current_dir(place);
    if !process::succeeds(&mut download) {
        process::run(command("apt-get").args(["-qq", "update"]))?;
        process::run(&mut download)?;
    }
    let entries = std::fs::read_dir(place)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter(|path| path.extension().is_some_and(|it| it == "deb")).collect())
}
