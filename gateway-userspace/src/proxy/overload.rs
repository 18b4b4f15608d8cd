//! What the gateway does when memory or descriptors run short, in steps: connections end with their requests, requests are
//! refused, what clients don't take is given up, connections are refused. Shared by all workers.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

use super::memory::Meter;

/// Between two looks at the memory in use, when it may soon be short and when not.
const SOON: Duration = Duration::from_millis(20);
const SELDOM: Duration = Duration::from_millis(250);
/// Hundredths of the memory from which on each step is taken; and how much below it is left again.
const STEPS: Steps = [(65, Level::Closing), (75, Level::Refusing), (88, Level::Shedding)];
const SLACK: u64 = 3;
/// What may still be taken for those who were let in before each step, however little the memory is; and how many hundredths
/// sooner that has a step taken at most.
const ROOM_ABOVE: [u64; 3] = [36 << 20, 28 << 20, 16 << 20];
const SOONER: u64 = 15;
/// From here on it may soon be short.
const HALF: u64 = 50;
/// The part of the memory that may be taken before somebody looks again, however soon that is.
const BETWEEN_LOOKS: u64 = 32;
/// What a request takes until its answer is read: most of it for what its backend sends ahead.
const REQUEST: u64 = 64 * 1024;

/// Descriptors that are nobody's connection: listeners, files, the kernel plane's, those for administration.
const OWN_DESCRIPTORS: usize = 64;
/// What a client's connection takes at most while it is served: its own, one to a backend, and one that was left idle by another
/// worker. One that is idle has its own alone.
const FOR_EACH_CLIENT: usize = 3;
/// The part of all descriptors that is left for backends of clients that are idle now.
const LEFT: usize = 4;
/// Beyond those who can all be served at once, clients come in little by little, so that what they ask for shows: such a part of all
/// descriptors between two looks at what is in use.
const STEP: usize = 64;
const LOOK: Duration = Duration::from_millis(50);
/// Hundredths of the clients that can all be served at once, below which those who are idle may stay again.
const ROOM: usize = 70;

/// How short things are; each step goes beyond the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all.
    Calm,
    /// Connections end with the request under way, idle ones at once.
    Closing,
    /// Requests are refused, nothing more is read for clients, and what they don't take is given up.
    Refusing,
    /// Connections are refused.
    Shedding,
}

/// From which hundredths of the memory on each level holds, the lowest first.
type Steps = [(u64, Level); 3];

/// A handle; clones share it.
#[derive(Debug, Clone)]
pub struct Overload(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Absent where memory has no limit.
    meter: Option<Meter>,
    steps: Steps,
    /// Bytes that were taken since somebody looked.
    taken: AtomicU64,
    memory: AtomicU8,
    clients: AtomicUsize,
    descriptors: usize,
    full: AtomicBool,
    /// Since when it is known how many more may come in beyond those who can all be served.
    room: Mutex<(Option<Instant>, usize)>,
    level: watch::Sender<Level>,
}

/// A client's connection, counted until dropped.
#[derive(Debug)]
pub(super) struct Seat(Overload);

impl Overload {
    /// Of a process that may have so many descriptors, and memory as the meter says.
    pub fn new(descriptors: u64, meter: Option<Meter>) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        Self(Arc::new(Inner {
            steps: meter.as_ref().map_or(STEPS, |meter| steps(meter.limit())),
            meter,
            taken: AtomicU64::new(0),
            memory: AtomicU8::new(Level::Calm as u8),
            clients: AtomicUsize::new(0),
            descriptors,
            full: AtomicBool::new(false),
            room: Mutex::default(),
            level: watch::Sender::new(Level::Calm),
        }))
    }

    /// The step that is taken.
    pub fn level(&self) -> Level {
        *self.0.level.borrow()
    }

    /// Whether memory is so short that nothing more is read for clients.
    pub(super) fn is_short(&self) -> bool {
        self.0.memory.load(Ordering::Relaxed) >= Level::Refusing as u8
    }

    /// Whether memory that is free is to be given back.
    pub(super) fn is_getting_short(&self) -> bool {
        self.0.memory.load(Ordering::Relaxed) >= Level::Closing as u8
    }

    /// Another request.
    pub(super) fn takes_request(&self) {
        self.takes(REQUEST);
    }

    /// So many bytes are held for somebody. A burst is not seen in time by those who look now and then: who takes much looks.
    pub(super) fn takes(&self, bytes: u64) {
        let Some(meter) = &self.0.meter else { return };
        let taken = self.0.taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if taken > meter.limit() / BETWEEN_LOOKS {
            self.look(meter);
        }
    }

    /// Whether there are descriptors for another client: for as many as can all be served at once, and for more as long as most of
    /// them are idle. The first time that there are none has idle connections end.
    pub(super) fn has_seat(&self) -> bool {
        let has = self.serves_all(100) || self.has_room();
        if !has {
            self.set_full(true);
        }
        has
    }

    /// Whether the clients are fewer than so many hundredths of those that can be served at once.
    fn serves_all(&self, hundredths: usize) -> bool {
        let most = self.0.descriptors.saturating_sub(OWN_DESCRIPTORS) / FOR_EACH_CLIENT;
        // One at least is served whatever the limit is.
        self.0.clients.load(Ordering::Relaxed) < (most.saturating_mul(hundredths) / 100).max(1)
    }

    /// Whether another one may come in beyond those who can all be served at once.
    fn has_room(&self) -> bool {
        // Whatever panics elsewhere leaves two whole numbers.
        let mut room = self.0.room.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, left) = &mut *room;
        if since.is_none_or(|since| since.elapsed() >= LOOK) {
            (*since, *left) = (Some(Instant::now()), open_descriptors().map_or(0, |used| self.room(used)));
        }
        let has = *left > 0;
        *left = left.saturating_sub(1);
        has
    }

    /// How many while so many descriptors are in use.
    fn room(&self, used: usize) -> usize {
        let all = self.0.descriptors;
        (all - all / LEFT).saturating_sub(used).min((all / STEP).max(1))
    }

    /// Counts a client's connection.
    pub(super) fn seat(&self) -> Seat {
        self.0.clients.fetch_add(1, Ordering::Relaxed);
        Seat(self.clone())
    }

    fn set_full(&self, full: bool) {
        if self.0.full.swap(full, Ordering::Relaxed) != full {
            self.tell();
        }
    }

    /// Waits until connections are to end that did not have to when this was asked for.
    pub(super) async fn closing(&self) {
        let mut level = self.0.level.subscribe();
        if *level.borrow_and_update() >= Level::Closing {
            // Those that come meanwhile end with their requests.
            let _ = level.wait_for(|level| *level == Level::Calm).await;
        }
        let _ = level.wait_for(|level| *level >= Level::Closing).await;
    }

    /// Waits for another step.
    pub(super) fn steps(&self) -> watch::Receiver<Level> {
        self.0.level.subscribe()
    }

    /// Measures as long as it is polled, if there is a limit.
    pub async fn measure(self) {
        let Some(meter) = &self.0.meter else { return };
        loop {
            let share = self.look(meter);
            tokio::time::sleep(if share > HALF { SOON } else { SELDOM }).await;
        }
    }

    /// Hundredths of the memory that are in use, after whatever step that takes.
    fn look(&self, meter: &Meter) -> u64 {
        self.0.taken.store(0, Ordering::Relaxed);
        let share = meter.share();
        let before = self.0.memory.load(Ordering::Relaxed);
        let level = step(&self.0.steps, share, before);
        // Another thread may just have seen the same.
        if level as u8 != before && self.0.memory.swap(level as u8, Ordering::Relaxed) != level as u8 {
            tracing::warn!(hundredths = share, ?level, "memory");
            self.tell();
        }
        share
    }

    fn tell(&self) {
        let memory = STEPS
            .iter()
            .map(|(_, level)| *level)
            .rfind(|level| *level as u8 <= self.0.memory.load(Ordering::Relaxed))
            .unwrap_or(Level::Calm);
        let full = self.0.full.load(Ordering::Relaxed);
        let level = memory.max(if full { Level::Closing } else { Level::Calm });
        self.0.level.send_if_modified(|now| std::mem::replace(now, level) != level);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let overload = &self.0;
        overload.0.clients.fetch_sub(1, Ordering::Relaxed);
        if overload.0.full.load(Ordering::Relaxed) && overload.serves_all(ROOM) {
            overload.set_full(false);
        }
    }
}

/// Descriptors that are open, which Linux tells since 6.2 (commit f1f1f2569901): as the size of the directory.
fn open_descriptors() -> Option<usize> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    usize::try_from(size).ok().filter(|count| *count > 0)
}

/// Those of a limit in bytes.
fn steps(limit: u64) -> Steps {
    let mut steps = STEPS;
    for ((from, _), room) in steps.iter_mut().zip(ROOM_ABOVE) {
        let below = limit.saturating_sub(room).saturating_mul(100) / limit;
        *from = below.clamp(*from - SOONER, *from);
    }
    steps
}

/// The step for so many hundredths, where one was taken before.
fn step(steps: &Steps, share: u64, before: u8) -> Level {
    let holds =
        |(from, level): &&(u64, Level)| share >= if *level as u8 <= before { from - SLACK } else { *from };
    steps.iter().rfind(holds).map_or(Level::Calm, |(_, level)| *level)
}

/// Raises the limit of descriptors as far as we are allowed, and returns it.
pub fn raise_descriptors() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    let current = if raised.is_ok() { now.maximum } else { now.current };
    current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_left_later_than_they_are_taken() {
        for (share, before, want) in [
            (0, Level::Calm, Level::Calm),
            (64, Level::Calm, Level::Calm),
            (65, Level::Calm, Level::Closing),
            (62, Level::Closing, Level::Closing),
            (61, Level::Closing, Level::Calm),
            (75, Level::Closing, Level::Refusing),
            (84, Level::Shedding, Level::Refusing),
            (71, Level::Shedding, Level::Closing),
            (88, Level::Calm, Level::Shedding),
            (200, Level::Refusing, Level::Shedding),
        ] {
            assert_eq!(step(&STEPS, share, before as u8), want, "{share} {before:?}");
        }
    }

    #[test]
    fn little_memory_is_short_sooner() {
        for (mebibytes, want) in
            [(1, [50, 60, 73]), (80, [55, 65, 80]), (128, [65, 75, 87]), (4096, [65, 75, 88])]
        {
            assert_eq!(steps(mebibytes << 20).map(|(from, _)| from), want, "{mebibytes}");
        }
    }

    #[test]
    fn seats_are_what_descriptors_allow() {
        let overload = Overload::new(OWN_DESCRIPTORS as u64 + 2, None);
        let first = overload.has_seat().then(|| overload.seat());
        assert!(first.is_some(), "one at least");
        let files: Vec<_> = (0..OWN_DESCRIPTORS).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(!overload.has_seat());
        assert_eq!(overload.level(), Level::Closing);
        drop((files, first));
        assert!(overload.has_seat());
        assert_eq!(overload.level(), Level::Calm);
        let roomy = Overload::new(OWN_DESCRIPTORS as u64 + 3_000, None);
        let seats: Vec<_> = (0..1_000).map(|_| roomy.seat()).collect();
        assert!(!roomy.serves_all(100));
        assert_eq!([2_000, 2_290, 2_300].map(|used| roomy.room(used)), [47, 8, 0]);
        drop(seats);
        assert!(roomy.serves_all(ROOM));
    }

    #[test]
    fn who_takes_much_looks() {
        let overload = Overload::new(1024, Meter::new(Some(1 << 20)));
        overload.takes((1 << 20) / BETWEEN_LOOKS);
        assert_eq!(overload.level(), Level::Calm);
        overload.takes_request();
        assert_eq!(overload.level(), Level::Shedding, "this process has more than a megabyte");
    }
}
