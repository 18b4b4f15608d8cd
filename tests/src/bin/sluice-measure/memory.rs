//! What a gateway and its kernel take at a moment.

use anyhow::{Context as _, Result};
use harness::arena::Arena;
use harness::peers::Peer;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Resident bytes of the gateway's processes.
    pub(crate) resident: f64,
    /// Bytes of the whole machine's slab.
    pub(crate) slab: f64,
    /// TCP sockets in the gateway's namespace.
    pub(crate) sockets: usize,
}

impl Taken {
    /// Now.
    pub(crate) fn now(peer: &Peer, arena: &Arena) -> Result<Self> {
        let resident =
            peer.processes().into_iter().map(|process| kib(&format!("/proc/{process}/status"), "VmRSS"));
        Ok(Self {
            resident: resident.sum::<Result<f64>>()? * 1024.0,
            slab: kib("/proc/meminfo", "Slab")? * 1024.0,
            sockets: arena.gateway_sockets()?,
        })
    }
}

/// A field of a file of /proc that is in kB.
fn kib(path: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let of =
        |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse().ok();
    text.lines().find_map(of).with_context(|| format!("no {name} in {path}"))
}
