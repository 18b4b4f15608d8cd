//! Pinned objects: where they lie in bpffs, mounting one where there is none, and removing every trace.
//!
//! `<pin dir>/<schema>/<MAP>` and `<pin dir>/<schema>/links/<interface number>`. Interfaces are named by number,
//! because bpffs refuses names with a dot in them, as VLAN interfaces have.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gateway_common::SCHEMA;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use rustix::fs::{FlockOperation, flock};

/// Where everybody mounts bpffs.
const USUAL_MOUNT: &str = "/sys/fs/bpf";

/// Why there is no place for pins.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {cause}", path = path.display())]
pub struct PinError {
    what: &'static str,
    path: PathBuf,
    /// Told already: not the `source`, which whoever prints the whole chain would tell again.
    cause: io::Error,
}

fn at(what: &'static str, path: &Path) -> impl Fn(io::Error) -> PinError {
    move |cause| PinError { what, path: path.to_owned(), cause }
}

/// A pin directory in the hands of one agent.
#[derive(Debug)]
pub struct Lock {
    _files: Vec<File>,
}

/// Says to the agents after this one that somebody of this process may still write into the maps. Taken back when it is
/// dropped, so also by an agent's death.
#[derive(Debug)]
pub struct Presence {
    links: File,
}

impl Presence {
    /// Whether no other process is present. Only whoever has the [`Lock`] may ask.
    pub fn is_alone(&self) -> bool {
        let is_alone = flock(&self.links, FlockOperation::NonBlockingLockExclusive).is_ok();
        // Nobody else asks meanwhile, so it is had; what was there before is given up by asking for more.
        let _ = flock(&self.links, FlockOperation::NonBlockingLockShared);
        is_alone
    }
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

    /// The pin directory itself.
    pub fn root(&self) -> &Path {
        &self.root
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

    /// The link of the guard on what leaves by an interface.
    pub fn guard_link(&self, interface: u32) -> PathBuf {
        self.links().join(format!("{interface}-guard"))
    }

    /// The XDP link of an interface.
    pub fn xdp_link(&self, interface: u32) -> PathBuf {
        self.links().join(format!("{interface}-xdp"))
    }

    /// Numbers of the interfaces that have a pinned link.
    pub fn linked(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.links()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Directories of other versions of the maps' layout.
    pub fn others(&self) -> Vec<PathBuf> {
        schemas(&self.root).into_iter().filter(|schema| *schema != self.maps()).collect()
    }

    /// Makes the directories, and mounts a bpffs first if they would lie in none.
    pub fn prepare(&self) -> Result<(), PinError> {
        if !is_bpffs(&self.root) {
            let place = mount_point(&self.root);
            fs::create_dir_all(place).map_err(at("cannot create", place))?;
            // A mount hides what is below it.
            if fs::read_dir(place).map_err(at("cannot read", place))?.next().is_some() {
                return Err(at("cannot mount bpffs at", place)(io::ErrorKind::DirectoryNotEmpty.into()));
            }
            mount(Some("bpf"), place, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(io::Error::from)
                .map_err(at("cannot mount bpffs at", place))?;
        }
        let links = self.links();
        fs::create_dir_all(&links).map_err(at("cannot create", &links))
    }

    /// Takes the directory for one agent, whatever its version; `None` when another one has it. Given back when the
    /// files are closed, so also by an agent's death.
    pub fn lock(&self) -> Result<Option<Lock>, PinError> {
        let mut files = Vec::new();
        for directory in schemas(&self.root) {
            let file = File::open(&directory).map_err(at("cannot open", &directory))?;
            match file.try_lock() {
                Ok(()) => files.push(file),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(at("cannot lock", &directory)(error)),
            }
        }
        Ok(Some(Lock { _files: files }))
    }

    /// Makes this process present, once the directories are there.
    pub fn attend(&self) -> Result<Presence, PinError> {
        let path = self.links();
        let links = File::open(&path).map_err(at("cannot open", &path))?;
        flock(&links, FlockOperation::LockShared)
            .map_err(io::Error::from)
            .map_err(at("cannot lock", &path))?;
        Ok(Presence { links })
    }

    /// Whether there is a directory that may have pins in it.
    pub fn exist(&self) -> Result<bool, PinError> {
        // One that may not be read is not one that is not there.
        if !self.root.try_exists().map_err(at("cannot read (root may)", &self.root))? {
            return Ok(false);
        }
        // Whatever else a mistyped directory holds is not ours.
        if !is_bpffs(&self.root) {
            return Err(at("no pins in", &self.root)(io::Error::other("it is in no bpffs")));
        }
        Ok(true)
    }

    /// Removes all pins, so that the kernel detaches the programs and frees the maps, and the mount if it is one
    /// of ours. Returns whether there was anything.
    pub fn remove(&self) -> Result<bool, PinError> {
        if !self.exist()? {
            return Ok(false);
        }
        let schemas = schemas(&self.root);
        for schema in &schemas {
            remove_schema(schema)?;
        }
        self.remove_root()?;
        Ok(!schemas.is_empty())
    }

    /// Removes the pins of this version, and with the last ones the directory.
    pub fn remove_own(&self) -> Result<(), PinError> {
        remove_schema(&self.maps())?;
        if self.others().is_empty() { self.remove_root() } else { Ok(()) }
    }

    /// Removes the pins of this version, but not the directory that they are in, which is locked.
    pub fn clear(&self) -> Result<(), PinError> {
        let (maps, links) = (self.maps(), self.links());
        remove_tree(&links)?;
        for entry in fs::read_dir(&maps).map_err(at("cannot read", &maps))?.flatten() {
            fs::remove_file(entry.path()).map_err(at("cannot remove", &entry.path()))?;
        }
        fs::create_dir_all(&links).map_err(at("cannot create", &links))
    }

    /// Removes the directory itself, with the mount on it if there is one, unless somebody else's pins are in it.
    fn remove_root(&self) -> Result<(), PinError> {
        if self.root == Path::new(USUAL_MOUNT) {
            return Ok(());
        }
        // Names with a dot are the kernel's own (`maps.debug`, `progs.debug`); it grants them to nobody else.
        let theirs = |name: String| !name.contains('.');
        let mut entries = fs::read_dir(&self.root).map_err(at("cannot read", &self.root))?.flatten();
        if entries.any(|entry| theirs(entry.file_name().to_string_lossy().into_owned())) {
            return Ok(());
        }
        if is_mount_point(&self.root) {
            umount2(&self.root, MntFlags::MNT_DETACH)
                .map_err(io::Error::from)
                .map_err(at("cannot unmount", &self.root))?;
        }
        fs::remove_dir(&self.root).map_err(at("cannot remove", &self.root))
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

/// The directories of all schemas: of this version and of others.
fn schemas(root: &Path) -> Vec<PathBuf> {
    let is_schema = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.is_dir() && name.strip_prefix('v').is_some_and(|version| version.parse::<u32>().is_ok())
    };
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_schema).collect()
}

/// Links first: a program never runs with half of its pins gone.
fn remove_schema(schema: &Path) -> Result<(), PinError> {
    remove_tree(&schema.join("links"))?;
    remove_tree(schema)
}

fn remove_tree(path: &Path) -> Result<(), PinError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("cannot remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_alone_when_those_before_it_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let pins = Pins::below(directory.path());
        fs::create_dir_all(pins.links()).unwrap();
        let first = pins.attend().unwrap();
        assert!(first.is_alone() && first.is_alone());
        let second = pins.attend().unwrap();
        assert!(!second.is_alone());
        // Having asked, it is present all the same.
        assert!(!first.is_alone());
        drop(first);
        assert!(second.is_alone());
    }
}
