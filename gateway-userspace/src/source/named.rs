//! Files that documents name: certificates, keys and lists of revoked certificates. Read with each load and watched
//! between, so that one that is replaced is in force at once.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{FileProblem, Files};

use super::watch::{Watcher, watch};

/// Largest such file, in bytes: bundles of public authorities have a quarter of that.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads files once.
pub fn read_named(paths: &BTreeSet<&str>) -> Files {
    paths.iter().map(|path| ((*path).to_owned(), read(path))).collect()
}

/// Reads the files that are named now, and tells when they change.
#[derive(Debug, Default)]
pub struct NamedFiles {
    paths: Vec<PathBuf>,
    watcher: Option<Watcher>,
    /// What they held when they were read last.
    last: Files,
}

impl NamedFiles {
    /// What the files hold now; from here on these are watched.
    pub fn read(&mut self, paths: &BTreeSet<&str>) -> Files {
        let wanted: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        if wanted != self.paths {
            // Before they are read, so that no change is missed.
            self.watcher = (!wanted.is_empty()).then(|| watch(&wanted));
            self.paths = wanted;
        }
        self.last = read_named(paths);
        self.last.clone()
    }

    /// Waits until one of them holds something else than when they were read. They may lie in a directory where much is
    /// written, so that the watcher's word alone is not enough.
    pub async fn changed(&mut self) {
        let Some(watcher) = &mut self.watcher else { return std::future::pending().await };
        loop {
            watcher.changed().await;
            let paths: Vec<_> = self.paths.iter().map(|path| path.to_string_lossy()).collect();
            if read_named(&paths.iter().map(AsRef::as_ref).collect()) != self.last {
                return;
            }
        }
    }
}

fn read(path: &str) -> Result<Arc<[u8]>, FileProblem> {
    let content = open(path).and_then(|file| {
        let mut content = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut content)?;
        Ok(content)
    });
    match content {
        Ok(content) if content.len() as u64 > MAX_FILE => {
            Err(FileProblem::Unreadable(format!("it is larger than {} MiB", MAX_FILE / 1024 / 1024)))
        }
        Ok(content) => Ok(content.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FileProblem::NotFound),
        Err(error) => Err(FileProblem::Unreadable(error.to_string())),
    }
}

/// Not what would have the reader wait, such as a pipe.
fn open(path: &str) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    File::open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn what_cannot_be_read_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (here, large, missing) = (path("here"), path("large"), path("missing"));
        fs::write(&here, "x").unwrap();
        File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
        let own = directory.path().display().to_string();
        let files = read_named(&[&*here, &*large, &*missing, &*own].into());
        let words = |path: &str| files.get(path).map(|it| it.len()).map_err(|problem| problem.to_string());
        assert_eq!(words(&here), Ok(1));
        assert_eq!(words(&missing), Err("not found".to_owned()));
        assert_eq!(words(&large), Err("cannot be read: it is larger than 1 MiB".to_owned()));
        assert_eq!(words(&own), Err("cannot be read: it is no file".to_owned()));
        assert_eq!(words("/never/asked/for"), Err("not found".to_owned()));
        assert!(!format!("{files:?}").contains("Ok"), "contents don't show");
    }

    #[tokio::test]
    async fn a_file_that_is_swapped_is_told_and_another_set_is_watched_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (first, second) = (path("first"), path("second"));
        fs::write(&first, "1").unwrap();
        let mut named = NamedFiles::default();
        assert_eq!(named.read(&[&*first].into()).get(&first).unwrap()[..], *b"1");
        fs::write(path("other"), "22").unwrap();
        let nothing = timeout(Duration::from_millis(200), named.changed()).await;
        assert!(nothing.is_err(), "another file of the directory");
        fs::rename(path("other"), &first).unwrap();
        timeout(Duration::from_secs(2), named.changed()).await.expect("swapped");
        assert_eq!(named.read(&[&*first, &*second].into()).get(&first).unwrap()[..], *b"22");
        fs::write(&second, "3").unwrap();
        timeout(Duration::from_secs(2), named.changed()).await.expect("there for the first time");
        assert_eq!(named.read(&BTreeSet::new()), Files::default());
    }
}
