//! The thread that writes the lines, and the queue of records before it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::follow::{Followers, Following, Wish};
use super::record::Connection;
use super::rotation::Rotation;
use super::rule::Logging;

/// Records that wait for the writer at most; more are dropped.
const QUEUE: usize = 16_384;

/// Bytes that these have at most: clients choose how long what they say is.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// How long the writer lets records gather. Waking it for each would cost whoever serves the request a system call, and
/// where the two share a processor, two switches: together a quarter of what a small request takes.
const GATHER: Duration = Duration::from_millis(20);

/// Bytes of lines that are written at once.
const BUFFER: usize = 64 * 1024;

/// How long a stop waits for a file that takes no more.
const PATIENCE: Duration = Duration::from_secs(2);

/// After how long a file that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);

enum Item {
    Record(Box<Connection>, Arc<Logging>),
    /// Everything before it has to be written.
    Flush(SyncSender<()>),
    /// The files may have been moved away.
    Reopen,
    /// No other files are needed any more.
    Keep(Arc<Logging>),
}

/// Hands records to the writer.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: SyncSender<Item>,
    /// Bytes of the records in it.
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    followers: Followers,
    tells_starts: bool,
}

impl AccessLog {
    /// Starts the writer, which puts files aside when they are full, if that is asked for. It ends with the last clone of what
    /// this returns.
    pub fn start(rotation: Option<Rotation>) -> io::Result<Self> {
        Self::opening(Box::new(open), rotation)
    }

    fn opening(open: Open, rotation: Option<Rotation>) -> io::Result<Self> {
        let (queue, items) = sync_channel(QUEUE);
        let (waiting, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let (taken, lost) = (waiting.clone(), dropped.clone());
        let (files, line) = Default::default();
        let followers = Followers::default();
        let told = followers.clone();
        let writer = Writer { files, line, open, rotation, followers: told, waiting: taken, dropped: lost };
        std::thread::Builder::new().name("sluice-access".to_owned()).spawn(move || writer.run(&items))?;
        Ok(Self { queue, waiting, dropped, followers, tells_starts: false })
    }

    /// The same, of which connections that find a backend get a record, too, or do not.
    #[must_use]
    pub fn telling_starts(self, tells_starts: bool) -> Self {
        Self { tells_starts, ..self }
    }

    /// Whether connections that find a backend are to have a record.
    pub fn tells_starts(&self) -> bool {
        self.tells_starts
    }

    /// Has a record written where the rules say, or dropped if too many wait already.
    pub fn write(&self, logging: &Arc<Logging>, connection: Connection) {
        if !logging.takes(&connection) && !self.is_followed() {
            return;
        }
        let weight = connection.weight();
        let fits = self.waiting.fetch_add(weight, Ordering::Relaxed) + weight <= QUEUE_BYTES;
        let item = Item::Record(Box::new(connection), logging.clone());
        if !fits || self.queue.try_send(item).is_err() {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether anybody looks on, so that records are wanted that no rule takes.
    fn is_followed(&self) -> bool {
        self.followers.is_any()
    }

    /// Whether anybody wants records: these rules, or who looks on.
    pub fn is_wanted(&self, logging: &Logging) -> bool {
        !logging.is_off() || self.is_followed()
    }

    /// The rules that records are held against, if anybody wants records.
    pub fn rules(&self, in_force: Option<Arc<Logging>>) -> Option<Arc<Logging>> {
        in_force.or_else(|| self.is_followed().then(Arc::default))
    }

    /// Begins to show records to a reader. An error says why that cannot be; `logging` are the rules in force.
    pub fn follow(&self, wish: Wish, logging: &Logging) -> Result<Following, String> {
        self.followers.add(wish, logging.wanted())
    }

    /// Waits until everything handed over so far is written, but not for ever.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        // With a full queue the files take nothing anyway.
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }

    /// Opens the files anew, as those who move logs away ask for.
    pub fn reopen(&self) {
        // With a full queue the next request does it.
        let _ = self.queue.try_send(Item::Reopen);
    }

    /// Closes files that these rules don't need.
    pub fn keep(&self, logging: Arc<Logging>) {
        // With a full queue they stay open until the next rules come.
        let _ = self.queue.try_send(Item::Keep(logging));
    }

    /// Records that are lost, because too many waited or a file refused them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Where lines go.
type Sink = Box<dyn Write + Send>;
type Open = Box<dyn Fn(&Path) -> io::Result<Sink> + Send>;

fn open(path: &Path) -> io::Result<Sink> {
    Ok(match path.to_str() {
        // By its descriptor: the path cannot be opened if it is a socket, as journald's is.
        Some("/dev/stdout") => Box::new(io::stdout()),
        Some("/dev/stderr") => Box::new(io::stderr()),
        _ => Box::new(File::options().create(true).append(true).open(path)?),
    })
}

/// Whether lines can be written there; makes the file if there is none.
pub fn probe(path: &Path) -> io::Result<()> {
    open(path).map(drop)
}

struct Writer {
    /// Rules share few of them: looking at each is less than a hash of a path.
    files: Vec<(Arc<Path>, Log)>,
    /// The last one, for its room.
    line: String,
    open: Open,
    rotation: Option<Rotation>,
    followers: Followers,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

enum Log {
    Open(Opened),
    /// It could not be opened, and is tried again then.
    Refused(Instant),
}

struct Opened {
    file: BufWriter<Sink>,
    /// Bytes of it, for files that can be put aside.
    size: Option<u64>,
    /// An error has been told of.
    is_told: bool,
}

impl Opened {
    fn new(sink: Sink, path: &Path) -> Self {
        let size = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|file| file.len());
        Self { file: BufWriter::with_capacity(BUFFER, sink), size, is_told: false }
    }

    /// Adds a line, or says that it is lost. What waits already is kept.
    fn write(&mut self, line: &str, path: &Path) -> bool {
        let result = self.file.write_all(line.as_bytes());
        self.tell(path, &result);
        if result.is_ok() {
            self.size = self.size.map(|size| size + line.len() as u64);
        }
        result.is_ok()
    }

    /// What a file does not take waits for the next time.
    fn flush(&mut self, path: &Path) {
        let result = self.file.flush();
        self.tell(path, &result);
    }

    /// Tells of an error, once until the file takes something again.
    fn tell(&mut self, path: &Path, result: &io::Result<()>) {
        if let Err(error) = result
            && !self.is_told
        {
            tracing::error!(path = %path.display(), %error, "access log cannot be written");
        }
        self.is_told = result.is_err() || (self.is_told && !self.file.buffer().is_empty());
    }

    /// Puts the file aside if it is full, and begins another. Where that fails, this one is written on.
    fn rotate(&mut self, path: &Path, rotation: Rotation, open: &Open) {
        if self.size.is_none_or(|size| size < rotation.size) {
            return;
        }
        self.flush(path);
        if !self.file.buffer().is_empty() {
            return;
        }
        match rotation.put_aside(path).and_then(|()| open(path)) {
            Ok(sink) => *self = Self::new(sink, path),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "access log cannot be put aside: it is written on");
                // Not with every line.
                self.size = Some(0);
            }
        }
    }
}

impl Writer {
    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            let is_urgent = matches!(item, Item::Flush(_));
            self.take(item);
            if !is_urgent {
                std::thread::sleep(GATHER);
            }
            // As much at once as there is.
            loop {
                match items.try_recv() {
                    Ok(item) => self.take(item),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.flush(),
                }
            }
            self.flush();
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Record(connection, logging) => {
                self.waiting.fetch_sub(connection.weight(), Ordering::Relaxed);
                for rule in logging.rules().iter().filter(|rule| rule.takes(&connection)) {
                    self.line.clear();
                    rule.format.add_line(&mut self.line, &connection);
                    self.write(&rule.path);
                }
                if self.followers.is_any() {
                    self.followers.tell(&connection);
                }
            }
            Item::Flush(done) => {
                self.flush();
                // Whoever asked may have lost patience.
                let _ = done.try_send(());
            }
            Item::Reopen => self.reopen(),
            Item::Keep(logging) => {
                self.flush();
                self.files.retain(|(path, _)| logging.paths().any(|kept| kept == path));
            }
        }
    }

    /// Writes the line to a file, which is opened if need be.
    fn write(&mut self, path: &Arc<Path>) {
        let Self { files, line, open, rotation, dropped, .. } = self;
        let is_it = |(known, _): &(Arc<Path>, Log)| Arc::ptr_eq(known, path) || known == path;
        let place = files.iter().position(is_it).unwrap_or_else(|| {
            files.push((path.clone(), open_log(open, path)));
            files.len() - 1
        });
        let log = &mut files[place].1;
        if matches!(log, Log::Refused(until) if Instant::now() >= *until) {
            *log = open_log(open, path);
        }
        match log {
            Log::Open(file) => {
                if !file.write(line, path) {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(rotation) = *rotation {
                    file.rotate(path, rotation, open);
                }
            }
            Log::Refused(_) => {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// With the old file still, if the new one cannot be opened.
    fn reopen(&mut self) {
        self.flush();
        for (path, log) in &mut self.files {
            match (self.open)(path) {
                Ok(file) => *log = Log::Open(Opened::new(file, path)),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "access log cannot be opened anew");
                }
            }
        }
    }

    fn flush(&mut self) {
        for (path, log) in &mut self.files {
            if let Log::Open(file) = log {
                file.flush(path);
            }
        }
    }
}

fn open_log(open: &Open, path: &Path) -> Log {
    match open(path) {
        Ok(file) => Log::Open(Opened::new(file, path)),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "access log cannot be opened: its lines are lost");
            Log::Refused(Instant::now() + AGAIN)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::filter::Filter;
    use super::super::format::Format;
    use super::super::record::{Request, samples};
    use super::super::rule::Rule;
    use super::*;

    fn rule(path: &Path, filter: Option<&str>) -> Rule {
        let filter = filter.map(|written| Arc::new(Filter::parse(written).unwrap()));
        Rule { name: "test".into(), path: path.into(), format: Arc::new(Format::default_text()), filter }
    }

    fn all(path: &Path) -> Arc<Logging> {
        Arc::new(Logging::new(vec![rule(path, None)]))
    }

    fn lines(path: &Path) -> usize {
        std::fs::read_to_string(path).unwrap().lines().count()
    }

    #[test]
    fn a_record_goes_where_the_rules_say() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["all", "mutual", "none"].map(|name| directory.path().join(name));
        let filters = [None, Some("connection.mtls"), Some("response.code >= 400")];
        let rules = paths.iter().zip(filters).map(|(path, filter)| rule(path, filter)).collect();
        let (log, logging) = (AccessLog::start(None).unwrap(), Arc::new(Logging::new(rules)));
        log.write(&logging, samples::connection());
        log.write(&logging, samples::request());
        log.flush();
        assert_eq!((lines(&paths[0]), lines(&paths[1]), paths[2].exists()), (2, 1, false));
    }

    #[test]
    fn a_file_that_cannot_be_opened_costs_its_own_lines() {
        let directory = tempfile::tempdir().unwrap();
        let (good, bad) = (directory.path().join("good"), directory.path().join("none/bad"));
        let logging = Arc::new(Logging::new(vec![rule(&good, None), rule(&bad, None)]));
        let log = AccessLog::start(None).unwrap();
        log.write(&logging, samples::connection());
        log.write(&logging, samples::connection());
        log.flush();
        assert_eq!((lines(&good), log.dropped()), (2, 2));
    }

    #[test]
    fn files_that_no_rule_needs_are_closed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let log = AccessLog::start(None).unwrap();
        log.write(&all(&path), samples::connection());
        log.keep(all(&directory.path().join("other")));
        log.flush();
        std::fs::rename(&path, &moved).unwrap();
        log.write(&all(&path), samples::connection());
        log.flush();
        assert_eq!((lines(&moved), lines(&path)), (1, 1));
    }

    #[test]
    fn a_file_that_was_moved_away_is_left_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let (log, logging) = (AccessLog::start(None).unwrap(), all(&path));
        log.write(&logging, samples::connection());
        log.flush();
        std::fs::rename(&path, &moved).unwrap();
        log.write(&logging, samples::connection());
        log.reopen();
        log.write(&logging, samples::connection());
        log.flush();
        assert_eq!((lines(&moved), lines(&path), log.dropped()), (2, 1, 0));
    }

    #[test]
    fn a_file_that_is_full_is_put_aside_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let aside = |number: u32| directory.path().join(format!("log.{number}"));
        let rotation = Rotation { size: 1000, keep: 2 };
        let (log, logging) = (AccessLog::start(Some(rotation)).unwrap(), all(&path));
        let mut line = String::new();
        Format::default_text().add_line(&mut line, &samples::connection());
        let of_file = 1000_usize.div_ceil(line.len());
        // Twice full, and two lines more.
        for _ in 0..2 * of_file + 2 {
            log.write(&logging, samples::connection());
        }
        log.flush();
        assert_eq!([lines(&aside(2)), lines(&aside(1)), lines(&path)], [of_file, of_file, 2]);
        // What an agent finds counts as well.
        drop(log);
        let log = AccessLog::start(Some(rotation)).unwrap();
        for _ in 0..of_file {
            log.write(&logging, samples::connection());
        }
        log.flush();
        assert_eq!([lines(&aside(2)), lines(&aside(1)), lines(&path)], [of_file, of_file, 2]);
        assert!(!aside(3).exists());
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_is_written_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::create_dir(directory.path().join("log.1")).unwrap();
        let (log, logging) = (AccessLog::start(Some(Rotation { size: 1, keep: 1 })).unwrap(), all(&path));
        for _ in 0..5 {
            log.write(&logging, samples::connection());
        }
        log.flush();
        assert_eq!((lines(&path), log.dropped()), (5, 0));
    }

    #[test]
    fn a_full_disk_costs_the_lines_that_no_longer_fit_into_memory() {
        let (log, logging) = (AccessLog::start(None).unwrap(), all(Path::new("/dev/full")));
        let mut line = String::new();
        Format::default_text().add_line(&mut line, &samples::connection());
        let kept = BUFFER / line.len();
        for _ in 0..kept + 100 {
            log.write(&logging, samples::connection());
        }
        log.flush();
        assert_eq!(log.dropped(), 100);
    }

    /// A file that takes nothing until it is let.
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Stuck {
        fn log(file: &Arc<Mutex<Vec<u8>>>) -> AccessLog {
            let file = file.clone();
            AccessLog::opening(Box::new(move |_| Ok(Box::new(Self(file.clone())))), None).unwrap()
        }
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_clients_say_at_length_waits_for_a_stuck_file_within_a_bound() {
        let file = Arc::new(Mutex::new(Vec::new()));
        let stuck = file.lock().unwrap();
        let (log, logging) = (Stuck::log(&file), all(Path::new("stuck")));
        let path = "x".repeat(QUEUE_BYTES / 32);
        let asked = Request { path: Some(path), ..Request::default() };
        let long = Connection { request: Some(Box::new(asked)), ..samples::connection() };
        for _ in 0..64 {
            log.write(&logging, long.clone());
        }
        // One of them is with the writer.
        let dropped = log.dropped();
        assert!((32..=33).contains(&dropped), "{dropped}");
        drop(stuck);
        while log.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        log.flush();
        let written = String::from_utf8(file.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count() as u64, 64 - dropped);
    }

    #[test]
    fn a_stuck_file_costs_records_and_never_time() {
        let file = Arc::new(Mutex::new(Vec::new()));
        let stuck = file.lock().unwrap();
        let (log, logging) = (Stuck::log(&file), all(Path::new("stuck")));
        for _ in 0..2 * QUEUE {
            log.write(&logging, samples::connection());
        }
        let dropped = log.dropped();
        assert!(dropped > 0);
        drop(stuck);
        // The queue may be full still, and then nobody waits for it.
        let lines = || String::from_utf8(file.lock().unwrap().clone()).unwrap().lines().count() as u64;
        while lines() != 2 * QUEUE as u64 - dropped {
            std::thread::yield_now();
        }
    }
}
