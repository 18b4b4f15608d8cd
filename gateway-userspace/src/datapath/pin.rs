//! Pinned objects: where they lie in bpffs, mounting one where there is none, and removing every trace.
//!
//! `<pin dir>/<schema>/<MAP>` and `<pin dir>/<schema>/links/<interface number>`. Interfaces are named by number,
//! because bpffs refuses names with a dot in them, as VLAN interfaces have.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gateway_common::SCHEMA;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where everybody mounts bpffs.
const USUAL_MOUNT: &str = "/sys/fs/bpf";

/// Why there is no place for pins.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {source}", path = path.display())]
pub struct PinError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn at(what: &'static str, path: &Path) -> impl Fn(io::Error) -> PinError {
    move |source| PinError { what, path: path.to_owned(), source }
}

/// The directories of one pin directory.
#[derive(Debug, Clone)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Below a pin directory, which need not exist.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The maps.
    pub fn maps(&self) -> PathBuf {
        self.root.join(SCHEMA)
    }

    /// The links.
    pub fn links(&self) -> PathBuf {
        self.maps().join("links")
    }

    /// The link of an interface.
    pub fn link(&self, interface: u32) -> PathBuf {
        self.links().join(interface.to_string())
    }

    /// Numbers of the interfaces that have a pinned link.
    pub fn linked(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.links()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Makes the directories, and mounts a bpffs first if they would lie in none.
    pub fn prepare(&self) -> Result<(), PinError> {
        if !is_bpffs(&self.root) {
            let place = mount_point(&self.root);
            fs::create_dir_all(place).map_err(at("cannot create", place))?;
            mount(Some("bpf"), place, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(io::Error::from)
                .map_err(at("cannot mount bpffs at", place))?;
        }
        let links = self.links();
        fs::create_dir_all(&links).map_err(at("cannot create", &links))
    }

    /// Removes all pins, so that the kernel detaches the programs and frees the maps, and the mount if it is one
    /// of ours. Returns whether there was anything.
    pub fn remove(&self) -> Result<bool, PinError> {
        if !self.root.exists() {
            return Ok(false);
        }
        let found = fs::read_dir(&self.root).map_err(at("cannot read", &self.root))?.next().is_some();
        // Links first: a program never runs with half of its pins gone.
        for schema in directories(&self.root) {
            remove_tree(&schema.join("links"))?;
            remove_tree(&schema)?;
        }
        if self.root == Path::new(USUAL_MOUNT) {
            return Ok(found);
        }
        if is_mount_point(&self.root) && is_bpffs(&self.root) {
            umount2(&self.root, MntFlags::MNT_DETACH)
                .map_err(io::Error::from)
                .map_err(at("cannot unmount", &self.root))?;
        }
        fs::remove_dir(&self.root).map_err(at("cannot remove", &self.root))?;
        Ok(found)
    }
}

/// The usual place for directories below it, else the directory itself.
fn mount_point(root: &Path) -> &Path {
    let usual = Path::new(USUAL_MOUNT);
    if root.starts_with(usual) { usual } else { root }
}

/// Whether the nearest directory that exists is in a bpffs.
fn is_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find_map(|ancestor| statfs(ancestor).ok())
        .is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    path.parent().is_some_and(|parent| device(parent) != device(path))
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn remove_tree(path: &Path) -> Result<(), PinError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("cannot remove", path)(error)),
        _ => Ok(()),
    }
}
