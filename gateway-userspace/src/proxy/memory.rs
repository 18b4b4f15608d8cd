//! The memory that there is: how much of it is in use, and giving back what is free.
#![expect(unsafe_code, reason = "the allocator's own function, which has no wrapper")]

use std::fs;
use std::path::{Path, PathBuf};

/// Gives pages that this thread has freed back to the system. The allocator does so by itself only as it goes on to be used, which
/// may be never if all work is refused until there is memory.
pub(super) fn give_back() {
    // SAFETY: takes no pointer and may be called by any thread at any time; what is in use stays where it is.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Has all memory of this process come in pages of the usual size (`PR_SET_THP_DISABLE`, Linux 3.15). The allocator asks for huge
/// ones, each of which is filled with zeros as a whole as soon as a byte of it is used: a third of what a thousand idle
/// connections of HTTP/2 took was never used by anybody, and requests are no faster for it.
pub fn come_in_small_pages() {
    // A kernel without huge pages gives none.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// What of the memory that there is is in use.
#[derive(Debug)]
pub struct Meter {
    limit: u64,
    of: Of,
}

#[derive(Debug)]
enum Of {
    /// What this process has made use of, without files that are mapped.
    Process,
    /// What the control group has, without what the kernel can take back: sockets count too.
    Group(PathBuf),
}

impl Meter {
    /// Of a limit that was said, or else that of the control group, if there is one.
    pub fn new(said: Option<u64>) -> Option<Self> {
        match said {
            Some(0) => None,
            Some(limit) => Some(Self { limit, of: Of::Process }),
            None => group_limit().map(|(path, limit)| Self { limit, of: Of::Group(path) }),
        }
    }

    /// The limit in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Hundredths of it.
    pub(super) fn share(&self) -> u64 {
        let used = match &self.of {
            Of::Process => kibibytes("/proc/self/status", "RssAnon:").map(|count| count * 1024),
            Of::Group(path) => group_use(path),
        };
        // What cannot be read is not held against anybody.
        used.unwrap_or(0).saturating_mul(100) / self.limit
    }
}

fn kibibytes(path: &str, label: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The nearest directory with a limit, of the second version of control groups.
fn group_limit() -> Option<(PathBuf, u64)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    root.join(own).ancestors().take_while(|path| path.starts_with(root)).find_map(|path| {
        let limit = fs::read_to_string(path.join("memory.max")).ok()?.trim().parse().ok()?;
        Some((path.to_owned(), limit))
    })
}

fn group_use(path: &Path) -> Option<u64> {
    let current: u64 = fs::read_to_string(path.join("memory.current")).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(path.join("memory.stat")).ok()?;
    let files = stat.lines().filter_map(|line| {
        let (name, bytes) = line.split_once(' ')?;
        matches!(name, "active_file" | "inactive_file" | "slab_reclaimable")
            .then(|| bytes.parse::<u64>().ok())?
    });
    Some(current.saturating_sub(files.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_said_counts_and_none_is_none() {
        assert!(Meter::new(Some(0)).is_none());
        let meter = Meter::new(Some(1)).unwrap();
        assert!(meter.share() > 100 && meter.limit() == 1);
        assert!(Meter::new(Some(u64::MAX / 200)).unwrap().share() < 50);
    }
}
