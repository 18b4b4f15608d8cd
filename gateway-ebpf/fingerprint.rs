//! Which sources an object was built from, and where it lies. Compiled into both sides that must agree on it: the
//! build script of the agent, which embeds the object, and xtask, which builds it. Standard library only.

use std::io;
use std::path::{Path, PathBuf};

/// What the kernel programs are made of, relative to the workspace.
const SOURCES: [&str; 6] = [
    "gateway-common/Cargo.toml",
    "gateway-common/src",
    "gateway-ebpf/.cargo",
    "gateway-ebpf/Cargo.lock",
    "gateway-ebpf/Cargo.toml",
    "gateway-ebpf/src",
];

/// A built object and the note of what it was built from.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// The ELF object.
    pub(crate) object: PathBuf,
    /// Holds the fingerprint of the sources.
    pub(crate) note: PathBuf,
}

impl Built {
    /// Where they lie below cargo's target directory. Nothing else is in there.
    pub(crate) fn below(target: &Path) -> Self {
        let directory = target.join("bpf");
        Self { object: directory.join("gateway-ebpf.o"), note: directory.join("gateway-ebpf.fingerprint") }
    }

    /// Whether there is an object, and whether it was built from these sources.
    pub(crate) fn freshness(&self, fingerprint: &str) -> Freshness {
        match std::fs::read_to_string(&self.note) {
            _ if !self.object.is_file() => Freshness::Absent,
            Ok(note) if note.trim() == fingerprint => Freshness::Fresh,
            _ => Freshness::Stale,
        }
    }
}

/// How an object relates to the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Built from them.
    Fresh,
    /// Built from others.
    Stale,
    /// Not built.
    Absent,
}

/// Cargo's target directory that a path inside it belongs to, whatever its name: cargo leaves a tag in directories
/// that it made, and its notes on the compiler in all.
pub(crate) fn target_directory(inside: &Path) -> Option<&Path> {
    let marked = |directory: &Path| {
        ["CACHEDIR.TAG", ".rustc_info.json"].iter().any(|mark| directory.join(mark).is_file())
    };
    inside.ancestors().find(|directory| marked(directory))
}

/// The source files and directories, for `rerun-if-changed`.
pub(crate) fn sources(workspace: &Path) -> Vec<PathBuf> {
    SOURCES.iter().map(|source| workspace.join(source)).filter(|path| path.exists()).collect()
}

/// Hash over the names and bytes of all sources (FNV-1a, 128 bits: it must tell versions apart, not resist anyone).
pub(crate) fn fingerprint(workspace: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in sources(workspace) {
        collect(&source, &mut files)?;
    }
    files.sort();
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    let mut take = |bytes: &[u8]| {
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    };
    for file in files {
        take(file.strip_prefix(workspace).unwrap_or(&file).to_string_lossy().as_bytes());
        take(&std::fs::read(&file)?);
    }
    Ok(format!("{hash:032x}"))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
