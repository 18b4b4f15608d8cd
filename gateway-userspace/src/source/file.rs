//! Documents out of files. A document that breaks keeps its last sound state in force until it is mended or
//! removed, and harms no other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::{
    Chunk, Code, Diagnostic, FieldPath, Fingerprint, Object, ObjectRef, Position, Reading, Severity, cut,
    read_shared, without_mark,
};

use super::directory::{self, STDIN};
use super::together::{Loaded, in_force};

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Reads the documents of files and directories, again and again.
#[derive(Debug)]
pub struct FileSource {
    paths: Vec<PathBuf>,
    default_namespace: String,
    /// Files as read last, so that an unchanged one is not parsed again.
    read: HashMap<Arc<str>, Arc<FileReading>>,
    /// Objects in force.
    good: BTreeMap<ObjectRef, Object>,
    /// Of these.
    fingerprint: Fingerprint,
}

/// One file as read.
#[derive(Debug, Default)]
struct FileReading {
    /// All of its text.
    chunks: Vec<ChunkReading>,
    /// Why it could not be read at all.
    failure: Option<Diagnostic>,
}

/// One part of a file, as cut by `---`.
#[derive(Debug, Clone)]
struct ChunkReading {
    /// Held by the documents in it too.
    text: Arc<str>,
    first_line: u32,
    readings: Arc<Vec<Reading>>,
}

impl ChunkReading {
    fn new(name: &Arc<str>, chunk: Chunk<'_>, default_namespace: &str) -> Self {
        let (text, first_line) = (Arc::from(chunk.text), chunk.first_line);
        let readings = if chunk.is_blank() {
            Vec::new()
        } else {
            read_shared(name, (&text, first_line), default_namespace)
        };
        Self { text, first_line, readings: Arc::new(readings) }
    }
}

impl FileReading {
    /// Reads a text. What stands in it as it stood in the file before, on the same lines, goes on as the same objects.
    fn new(name: &Arc<str>, text: &str, before: Option<&Self>, default_namespace: &str) -> Self {
        let chunks = before.iter().flat_map(|before| &before.chunks);
        let known: HashMap<u32, &ChunkReading> = chunks.map(|chunk| (chunk.first_line, chunk)).collect();
        let read = |chunk: Chunk<'_>| match known.get(&chunk.first_line) {
            Some(known) if *known.text == *chunk.text => (*known).clone(),
            _ => ChunkReading::new(name, chunk, default_namespace),
        };
        Self { chunks: cut(without_mark(text)).into_iter().map(read).collect(), failure: None }
    }

    /// Whether this is the text, byte for byte.
    fn is_of(&self, text: &str) -> bool {
        let mut chunks = self.chunks.iter();
        let rest = chunks.try_fold(without_mark(text), |rest, chunk| rest.strip_prefix(&*chunk.text));
        rest.is_some_and(str::is_empty)
    }

    fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.chunks.iter().flat_map(|chunk| chunk.readings.iter())
    }

    /// Whether a broken document in it may be any that is missing: it has no name, or its name is a guess that
    /// leads to none of the objects in force.
    fn hides_documents(&self, good: &BTreeMap<ObjectRef, Object>) -> bool {
        let unknown = |reading: &Reading| match &reading.reference {
            None => true,
            Some(name) => !reading.is_yaml && !good.contains_key(name),
        };
        self.failure.is_some() || self.readings().any(|reading| reading.is_refused() && unknown(reading))
    }
}

impl FileSource {
    /// Will read these files and directories; documents without a namespace get the default one.
    pub fn new(paths: Vec<PathBuf>, default_namespace: impl Into<String>) -> Self {
        Self {
            paths,
            default_namespace: default_namespace.into(),
            read: HashMap::new(),
            good: BTreeMap::new(),
            fingerprint: Fingerprint::default(),
        }
    }

    /// What the files say now, alone.
    pub fn load(&mut self) -> Loaded {
        let (diagnostics, documents) = self.read();
        let objects = self.good.values().cloned().collect();
        Loaded { objects, diagnostics, documents, fingerprint: self.fingerprint }
    }

    /// Reads what the files say now: what is wrong with it, in the order of files and lines, and how many documents there are,
    /// sound or not.
    pub fn read(&mut self) -> (Vec<Diagnostic>, usize) {
        let mut round = Round::default();
        let mut read = HashMap::new();
        for found in directory::files(&self.paths) {
            let (name, reading) = match found {
                Ok(path) => self.read_file(&path),
                Err((path, error)) => {
                    let name: Arc<str> = path.display().to_string().into();
                    // A file that is gone takes its documents along; one that cannot be looked at does not.
                    if error.kind() == io::ErrorKind::NotFound {
                        round.diagnostics.push(unreadable(&name, &error.to_string()));
                        continue;
                    }
                    (name.clone(), Arc::new(failed(&name, &error.to_string())))
                }
            };
            read.insert(name, reading.clone());
            round.take(&reading);
        }
        round.keep_broken(&self.good, &read);
        self.read = read;
        self.good = round.objects;
        self.fingerprint = round.fingerprint;
        (round.diagnostics, round.documents)
    }

    /// Of the documents in force, as they were read last.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Sound documents, and the last sound state of broken ones, as they were read last.
    pub fn objects(&self) -> &BTreeMap<ObjectRef, Object> {
        &self.good
    }

    fn read_file(&self, path: &Path) -> (Arc<str>, Arc<FileReading>) {
        let name: Arc<str> =
            if path.as_os_str() == STDIN { "<stdin>".into() } else { path.display().to_string().into() };
        let text = match read_text(path) {
            Ok(text) => text,
            Err(why) => return (name.clone(), Arc::new(failed(&name, &why))),
        };
        if let Some(known) =
            self.read.get(&name).filter(|known| known.failure.is_none() && known.is_of(&text))
        {
            return (name, known.clone());
        }
        let before = self.read.get(&name).map(AsRef::as_ref);
        let reading = FileReading::new(&name, &text, before, &self.default_namespace);
        (name, Arc::new(reading))
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == STDIN {
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("the file is larger than {} MiB", MAX_FILE / 1024 / 1024));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        format!("the file is not UTF-8 text (line {line})")
    })
}

fn failed(name: &Arc<str>, why: &str) -> FileReading {
    FileReading { failure: Some(unreadable(name, why)), ..FileReading::default() }
}

fn unreadable(name: &Arc<str>, why: &str) -> Diagnostic {
    let mut found = Diagnostic::new(Severity::Error, Code::Unreadable, format!("cannot read {name}: {why}"));
    found.position =
        Some(Position { file: name.clone(), line: 1, column: 1, length: 1, text: String::new() });
    found
}

/// One load under way.
#[derive(Default)]
struct Round {
    objects: BTreeMap<ObjectRef, Object>,
    /// Of these.
    fingerprint: Fingerprint,
    /// Documents that are there but not sound.
    broken: Vec<ObjectRef>,
    diagnostics: Vec<Diagnostic>,
    documents: usize,
}

impl Round {
    fn take(&mut self, file: &FileReading) {
        self.diagnostics.extend(file.failure.clone());
        for reading in file.readings() {
            self.documents += 1;
            self.diagnostics.extend(reading.diagnostics.iter().cloned());
            if reading.is_refused() {
                self.broken.extend(reading.reference.clone());
            }
            let Some(object) = &reading.object else { continue };
            if let Some(first) = self.objects.get(object.reference()) {
                self.diagnostics.push(duplicate(first, object));
            } else {
                self.insert(object.clone());
            }
        }
    }

    fn insert(&mut self, object: Object) {
        self.fingerprint.add(object.source().digest);
        self.objects.insert(object.reference().clone(), object);
    }

    /// Broken documents stay as they were: those that can still be told by name, and, of files with a document
    /// that cannot be told, all that are missing.
    fn keep_broken(
        &mut self,
        good: &BTreeMap<ObjectRef, Object>,
        files: &HashMap<Arc<str>, Arc<FileReading>>,
    ) {
        let named: HashSet<&ObjectRef> = self.broken.iter().collect();
        let hiding: HashSet<&Arc<str>> =
            files.iter().filter(|(_, file)| file.hides_documents(good)).map(|(name, _)| name).collect();
        let stays = |(name, object): &(&ObjectRef, &Object)| {
            let hidden = object.source().file.as_ref().is_some_and(|file| hiding.contains(file));
            !self.objects.contains_key(*name) && (named.contains(*name) || hidden)
        };
        let kept: Vec<Object> = good.iter().filter(stays).map(|(_, object)| object.clone()).collect();
        for object in kept {
            self.diagnostics.push(in_force(&object));
            self.insert(object);
        }
    }
}

pub(super) fn duplicate(first: &Object, second: &Object) -> Diagnostic {
    let name = FieldPath::metadata().field("name");
    let message = format!("{} is there already", second.reference());
    second
        .source()
        .diagnostic(Severity::Error, Code::DuplicateDocument, &name, message)
        .related(first.source().related(&name, "the first one, which is in force"))
        .help("remove one of them, or give it another name or namespace")
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
