//! Which files the given paths stand for.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Directories below a given one that are looked into; symbolic links may turn in circles.
const MAX_DEPTH: usize = 16;

/// The path that stands for standard input.
pub(super) const STDIN: &str = "-";

/// A file to read, or why a path leads to none.
pub(super) type Found = Result<PathBuf, (PathBuf, io::Error)>;

/// Files as given, and those below directories whose names end in .yaml, .yml or .json, in the order of their
/// names. Names that begin with a dot are passed over: editors' files, and the `..data` directories that a
/// mounted ConfigMap keeps beside its links.
pub(super) fn files(paths: &[PathBuf]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            found.push(Ok(path.clone()));
        } else if path.is_dir() {
            walk(path, 0, &mut seen, &mut found);
        } else {
            match fs::metadata(path) {
                Ok(_) => add(path.clone(), &mut seen, &mut found),
                Err(error) => found.push(Err((path.clone(), error))),
            }
        }
    }
    found
}

/// A file that two of the given paths lead to is read once.
fn add(path: PathBuf, seen: &mut BTreeSet<PathBuf>, found: &mut Vec<Found>) {
    if seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
        found.push(Ok(path));
    }
}

fn walk(directory: &Path, depth: usize, seen: &mut BTreeSet<PathBuf>, found: &mut Vec<Found>) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return found.push(Err((directory.to_owned(), error))),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.into_iter().filter(|path| !is_hidden(path)) {
        if path.is_dir() {
            if depth < MAX_DEPTH {
                walk(&path, depth + 1, seen, found);
            }
        } else if is_document(&path) && path.is_file() {
            add(path, seen, found);
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
