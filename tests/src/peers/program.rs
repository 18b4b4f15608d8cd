//! The programs that are compared: where they are, what they say about themselves, how each is called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::gateway;
use crate::program::must;

/// What carries connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Nothing but the kernel's routing.
    None,
    /// Ours.
    Sluice,
    /// The kernel's own DNAT and masquerade.
    Nftables,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// nginx with its stream module.
    Nginx,
}

const NFT: &str = "/usr/sbin/nft";
const HAPROXY: &str = "/usr/sbin/haproxy";
const NGINX: &str = "/usr/sbin/nginx";
/// Of Debian's package libnginx-mod-stream.
pub(super) const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

impl Program {
    /// Says what is missing, and what brings it.
    pub fn ensure_installed(self) -> Result<()> {
        let needed = match self {
            Self::None => return Ok(()),
            Self::Sluice => vec![gateway::program()],
            Self::Nftables => vec![NFT.into()],
            Self::Haproxy => vec![HAPROXY.into()],
            Self::Envoy => vec![envoy()?],
            Self::Nginx => vec![NGINX.into(), STREAM_MODULE.into()],
        };
        for file in needed {
            ensure!(
                file.is_file(),
                "{} is not there: install the peers with `cargo xtask setup --peers`, or name those that are to be \
                 compared with --only",
                file.display()
            );
        }
        Ok(())
    }

    /// What it says about itself, for the report.
    pub fn version(self) -> Result<String> {
        let mut command = match self {
            Self::None => Command::new("uname"),
            Self::Sluice => Command::new(gateway::program()),
            Self::Nftables => Command::new(NFT),
            Self::Haproxy => Command::new(HAPROXY),
            Self::Envoy => Command::new(envoy()?),
            // nginx speaks on standard error only.
            Self::Nginx => Command::new("sh"),
        };
        match self {
            Self::None => command.arg("-sr"),
            Self::Haproxy => command.arg("-v"),
            Self::Nginx => command.args(["-c", &format!("{NGINX} -v 2>&1")]),
            _ => command.arg("--version"),
        };
        let said = must(&mut command)?;
        Ok(said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned())
    }

    /// Name of its configuration below a directory.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sluice => "documents/edge.yaml",
            Self::Nftables => "ruleset.nft",
            Self::Haproxy => "haproxy.cfg",
            Self::Envoy => "envoy.yaml",
            Self::Nginx => "nginx.conf",
        }
    }

    /// Program and arguments for a configuration in a directory; none where there is nothing to run.
    pub(super) fn words(self, directory: &Path) -> Result<Vec<String>> {
        let path = |path: &Path| path.display().to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let file = path(&directory.join(self.file_name()));
        Ok(match self {
            Self::None => Vec::new(),
            Self::Nftables => words(&[NFT, "-f", &file]),
            Self::Haproxy => words(&[HAPROXY, "-db", "-f", &file]),
            Self::Envoy => {
                let fixed = ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c", &file];
                [vec![path(&envoy()?)], words(&fixed)].concat()
            }
            Self::Nginx => words(&[NGINX, "-p", &path(directory), "-e", "stderr", "-c", &file]),
            Self::Sluice => {
                let (documents, socket) =
                    (path(&directory.join("documents")), path(&admin_socket(directory)));
                let fixed = ["run", "--config", &documents, "--admin-socket", &socket];
                let ours = ["--admin-address", "none", "--ready-address", "none", "--workers", "1"];
                [vec![path(&gateway::program())], words(&fixed), words(&ours)].concat()
            }
        })
    }
}

/// Of ours.
pub(super) fn admin_socket(directory: &Path) -> PathBuf {
    directory.join("admin.sock")
}

/// Where `cargo xtask setup --peers` puts it: below the target directory that this program was built into.
fn envoy() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("this program lies in no target directory")?;
    Ok(target.join("peers/bin/envoy"))
}
