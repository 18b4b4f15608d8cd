//! Tells when files may have changed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::directory;

/// Quiet time after which a burst of changes is over: editors and ConfigMaps write in several steps.
const QUIET: Duration = Duration::from_millis(10);
/// A burst is over after this at the latest.
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// How often files are looked at where the kernel does not tell of changes.
const POLL: Duration = Duration::from_millis(800);
/// How often they are looked at where it does: a net below lost events.
const SLOW_POLL: Duration = Duration::from_secs(30);

/// Waits for changes of files.
#[derive(Debug)]
pub struct Watcher {
    paths: Vec<PathBuf>,
    events: mpsc::Receiver<()>,
    /// Ends the watch when dropped; `None` when the kernel's watch could not be had at all.
    watch: Option<RecommendedWatcher>,
    poll: Duration,
    last: Vec<State>,
    next_look: Instant,
    /// A burst of changes is under way; it is over at this instant at the latest.
    burst: Option<Instant>,
}

/// What a file looks like from outside: path, time of change, length.
type State = (PathBuf, Option<SystemTime>, u64);

/// Begins to watch files and directories. Never fails: where the kernel's watch cannot be had, files are looked
/// at every second.
pub fn watch(paths: &[PathBuf]) -> Watcher {
    // One event waiting says all that there is to say: something changed.
    let (sender, events) = mpsc::channel(1);
    let wanted: Vec<Wanted> = paths.iter().map(|path| Wanted::of(path)).collect();
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let is_about = |event: &Event| wanted.iter().any(|wanted| wanted.is_about(event));
        if event.as_ref().map_or(true, |event| is_change(event) && is_about(event)) {
            let _ = sender.try_send(());
        }
    });
    let (watch, complete) = match watcher {
        Ok(mut watch) => {
            let complete = paths.iter().all(|path| begin(&mut watch, path).is_ok());
            (Some(watch), complete)
        }
        Err(_) => (None, false),
    };
    let poll = if complete { SLOW_POLL } else { POLL };
    let next_look = Instant::now() + poll;
    Watcher { paths: paths.to_vec(), events, watch, poll, last: look(paths), next_look, burst: None }
}

/// Directories are watched, never files: whoever saves by renaming, or swaps a link as Kubernetes does in mounted
/// ConfigMaps, leaves the old file's watch behind.
fn begin(watch: &mut RecommendedWatcher, path: &Path) -> notify::Result<()> {
    if path.is_dir() {
        return watch.watch(path, RecursiveMode::Recursive);
    }
    let directories =
        [parent(path), path.canonicalize().ok().map(|target| parent(&target).unwrap_or(target))];
    for directory in directories.into_iter().flatten().collect::<BTreeSet<_>>() {
        watch.watch(&directory, RecursiveMode::NonRecursive)?;
    }
    Ok(())
}

fn parent(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

/// Which events are about a path: a file has neighbours, an access log perhaps, that change all the time.
enum Wanted {
    /// Whatever is in it.
    Directory(PathBuf),
    /// What has one of these names, its own or that of the file it links to.
    File(Vec<OsString>),
}

impl Wanted {
    fn of(path: &Path) -> Self {
        if path.is_dir() {
            return Self::Directory(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        }
        let target = path.canonicalize().ok();
        let names = [Some(path), target.as_deref()].into_iter().flatten().filter_map(Path::file_name);
        Self::File(names.map(OsStr::to_owned).collect())
    }

    fn is_about(&self, event: &Event) -> bool {
        // Kubernetes swaps the link `..data` in mounted ConfigMaps.
        let is_link = |name: &OsStr| name.as_encoded_bytes().starts_with(b"..");
        let is_it = |changed: &PathBuf| match (self, changed.file_name()) {
            (Self::Directory(directory), _) => changed.starts_with(directory),
            (Self::File(names), Some(name)) => is_link(name) || names.iter().any(|wanted| wanted == name),
            (Self::File(_), None) => true,
        };
        // Without a path it may be anything: events that were lost.
        event.paths.is_empty() || event.paths.iter().any(is_it)
    }
}

/// Reading the files ourselves is no change.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn look(paths: &[PathBuf]) -> Vec<State> {
    let files = directory::files(paths).into_iter().map(|found| found.unwrap_or_else(|(path, _)| path));
    files
        .map(|path| {
            let metadata = fs::metadata(&path).ok();
            let changed = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
            (path, changed, metadata.map_or(0, |metadata| metadata.len()))
        })
        .collect()
}

impl Watcher {
    /// Whether the kernel tells of changes; else files are looked at every second.
    pub fn is_told(&self) -> bool {
        self.watch.is_some() && self.poll == SLOW_POLL
    }

    /// Waits until something may have changed since the last call, and for the end of the burst. What was learnt is
    /// kept when the wait is cancelled.
    pub async fn changed(&mut self) {
        loop {
            let now = Instant::now();
            let wake = self.burst.map_or(self.next_look, |latest| latest.min(now + QUIET));
            match timeout_at(wake, self.events.recv()).await {
                Ok(Some(())) => {
                    self.burst.get_or_insert_with(|| Instant::now() + LONGEST_BURST);
                    continue;
                }
                // Nobody tells: only looking is left.
                Ok(None) => sleep_until(wake).await,
                Err(_) => {}
            }
            self.next_look = Instant::now() + self.poll;
            let different = self.looks_different();
            if self.burst.take().is_some() || different {
                return;
            }
        }
    }

    fn looks_different(&mut self) -> bool {
        let now = look(&self.paths);
        let different = now != self.last;
        self.last = now;
        different
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    async fn changes_within(watcher: &mut Watcher, limit: Duration) -> bool {
        timeout(limit, watcher.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn changes_are_told_within_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        fs::write(&file, "a: 1\n").unwrap();
        for path in [directory.path().to_owned(), file.clone()] {
            let mut watcher = watch(&[path]);
            fs::write(&file, "a: 22\n").unwrap();
            assert!(changes_within(&mut watcher, Duration::from_secs(1)).await, "written");
            let other = directory.path().join("b.tmp");
            fs::write(&other, "a: 333\n").unwrap();
            fs::rename(&other, &file).unwrap();
            assert!(changes_within(&mut watcher, Duration::from_secs(1)).await, "renamed over");
            fs::remove_file(&file).unwrap();
            assert!(changes_within(&mut watcher, Duration::from_secs(1)).await, "removed");
            fs::write(&file, "a: 4444\n").unwrap();
            assert!(changes_within(&mut watcher, Duration::from_secs(1)).await, "created anew");
        }
    }

    #[tokio::test]
    async fn what_lies_beside_a_file_is_not_its_business() {
        let directory = tempfile::tempdir().unwrap();
        let [file, beside] = ["a.yaml", "access.log"].map(|name| directory.path().join(name));
        fs::write(&file, "a: 1\n").unwrap();
        let mut watcher = watch(std::slice::from_ref(&file));
        fs::write(&beside, "a line\n").unwrap();
        assert!(!changes_within(&mut watcher, Duration::from_millis(200)).await, "another file");
        fs::write(&file, "a: 2\n").unwrap();
        assert!(changes_within(&mut watcher, Duration::from_secs(1)).await, "its own");
    }

    #[tokio::test]
    async fn a_cancelled_wait_loses_no_change() {
        let directory = tempfile::tempdir().unwrap();
        let mut watcher = watch(&[directory.path().to_owned()]);
        fs::write(directory.path().join("a.yaml"), "a: 1\n").unwrap();
        // Long enough to hear of it, too short for the end of the burst.
        let begun = Instant::now();
        while !changes_within(&mut watcher, QUIET / 5).await {
            assert!(begun.elapsed() < Duration::from_secs(5), "lost");
        }
    }

    #[tokio::test]
    async fn reading_is_no_change() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        fs::write(&file, "a: 1\n").unwrap();
        let mut watcher = watch(&[directory.path().to_owned()]);
        let _ = fs::read_to_string(&file).unwrap();
        assert!(!changes_within(&mut watcher, Duration::from_millis(200)).await);
    }

    #[tokio::test]
    async fn a_path_that_does_not_exist_yet_is_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("later/deeper");
        let mut watcher = watch(std::slice::from_ref(&path));
        assert!(!watcher.is_told());
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("a.yaml"), "a: 1\n").unwrap();
        assert!(changes_within(&mut watcher, Duration::from_secs(1)).await);
    }
}
