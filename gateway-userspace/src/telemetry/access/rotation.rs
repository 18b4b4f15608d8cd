//! Log files that are full are put aside: `log` becomes `log.1`, that becomes `log.2`, and the oldest goes.

use std::io;
use std::path::{Path, PathBuf};

/// When, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes that a file may have; the line that makes it longer is its last.
    pub size: u64,
    /// Files that are kept besides the one that is written; at least 1.
    pub keep: u32,
}

impl Rotation {
    /// Puts a file aside. An error leaves it where it is; some of the older ones may have been put further.
    pub(super) fn put_aside(self, path: &Path) -> io::Result<()> {
        for number in (1..self.keep).rev() {
            match std::fs::rename(numbered(path, number), numbered(path, number + 1)) {
                // There are not so many yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        std::fs::rename(path, numbered(path, 1))
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
