//! What a worker knows of an endpoint from its own requests: how busy it is, when it was last heard of, and whether it is in
//! doubt. Whoever is in doubt comes after the others until it has answered again; nobody is left out for it.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// An endpoint that answers nothing at all for so long, though it is asked, is silent; or for ten times as long as it has
/// taken for any of its late answers, if that is more.
const SILENCE: Duration = Duration::from_secs(2);
const PATIENCE: u32 = 10;
/// By how much the slowest answer counts less with each one that follows.
const FADING: f64 = 0.98;
/// How long an endpoint is in doubt after a failure; twice as long after each that follows, up to the most.
const DOUBT: Duration = Duration::from_secs(1);
const MOST_DOUBT: Duration = Duration::from_secs(16);
/// How long a request to one in doubt is waited for before it gets another.
const PROBE: Duration = Duration::from_secs(2);
/// What is known of an endpoint that nobody asks is kept for so long.
const MEMORY: Duration = Duration::from_mins(10);

/// See the module.
#[derive(Debug)]
pub struct Peer {
    /// Requests and connections under way.
    pub(super) active: Cell<u32>,
    /// When it last answered anything.
    heard: Cell<Option<Instant>>,
    /// How long its slowest answer took, lately.
    slowest: Cell<Duration>,
    /// Failures since it last answered.
    failures: Cell<u32>,
    /// Until when it comes after the others.
    doubted: Cell<Instant>,
}

impl Peer {
    pub(super) fn new(now: Instant) -> Self {
        let (active, heard, slowest, failures) =
            (Cell::new(0), Cell::new(None), Cell::default(), Cell::new(0));
        Self { active, heard, slowest, failures, doubted: Cell::new(now) }
    }

    /// It has answered a request that was sent at `asked`.
    pub fn answered(&self, asked: Instant, now: Instant) {
        self.heard.set(Some(now));
        let faded = self.slowest.get().mul_f64(FADING);
        self.slowest.set(faded.max(now.saturating_duration_since(asked)));
        self.failures.set(0);
        self.doubted.set(now);
    }

    /// It could not be reached, broke a connection off, or is silent. Returns until when it is in doubt.
    pub(super) fn failed(&self, now: Instant) -> Instant {
        let failures = self.failures.get();
        // What fails together is one failure.
        if failures == 0 || self.doubted.get() <= now {
            self.failures.set(failures.saturating_add(1));
            self.doubted.set(now + (DOUBT * (1 << failures.min(8))).min(MOST_DOUBT));
        } else {
            self.doubted.set(self.doubted.get().max(now + DOUBT));
        }
        self.doubted.get()
    }

    /// Whether others come before it.
    pub(super) fn is_doubted(&self, now: Instant) -> bool {
        self.doubted.get() > now
    }

    /// It gets a request. One that has failed gets no other before it has answered, or some time has passed; returns until
    /// when.
    pub(super) fn chosen(&self, now: Instant) -> Option<Instant> {
        if self.failures.get() == 0 {
            return None;
        }
        self.doubted.set(self.doubted.get().max(now + PROBE));
        Some(self.doubted.get())
    }

    /// When a request that was sent at `asked` will have been without an answer for too long, if the endpoint answers nothing
    /// else meanwhile. One that was never heard of may be just as slow.
    pub fn silent_at(&self, asked: Instant) -> Option<Instant> {
        let heard = self.heard.get()?;
        Some(heard.max(asked) + (self.slowest.get() * PATIENCE).max(SILENCE))
    }

    /// Whether there is anything worth keeping.
    pub(super) fn is_known(&self, now: Instant) -> bool {
        let failed = (self.failures.get() > 0).then(|| self.doubted.get());
        let is_fresh = |then: Instant| now.saturating_duration_since(then) < MEMORY;
        self.active.get() > 0 || self.heard.get().max(failed).is_some_and(is_fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn doubt_doubles_with_each_failure_and_ends_with_an_answer() {
        let mut now = Instant::now();
        let peer = Peer::new(now);
        assert!(!peer.is_doubted(now));
        for seconds in [1, 2, 4, 8, 16, 16] {
            assert_eq!(peer.failed(now), now + SECOND * seconds);
            assert!(peer.is_doubted(now + SECOND * seconds / 2));
            now += SECOND * seconds;
            assert!(!peer.is_doubted(now));
        }
        peer.answered(now, now);
        assert_eq!(peer.failed(now), now + SECOND, "from the beginning");
        assert_eq!(peer.failed(now), now + SECOND, "those of one moment are one");
    }

    #[test]
    fn one_in_doubt_is_asked_once() {
        let now = Instant::now();
        let peer = Peer::new(now);
        assert_eq!(peer.chosen(now), None, "nothing speaks against it");
        let later = peer.failed(now);
        assert!(!peer.is_doubted(later));
        assert_eq!(peer.chosen(later), Some(later + PROBE));
        assert!(peer.is_doubted(later));
        peer.answered(later, later);
        assert!(!peer.is_doubted(later));
    }

    #[test]
    fn what_was_found_out_is_kept_for_some_time() {
        let now = Instant::now();
        let [idle, busy, heard, failed] = [(); 4].map(|()| Peer::new(now));
        busy.active.set(1);
        heard.answered(now, now);
        failed.failed(now);
        let known = |later| [&idle, &busy, &heard, &failed].map(|peer| peer.is_known(later));
        assert_eq!(known(now + MEMORY / 2), [false, true, true, true]);
        assert_eq!(known(now + MEMORY * 2), [false, true, false, false]);
    }

    #[test]
    fn silence_is_measured_by_what_an_endpoint_has_taken_before() {
        let now = Instant::now();
        let peer = Peer::new(now);
        assert_eq!(peer.silent_at(now), None, "never heard of");
        peer.answered(now, now + SECOND / 100);
        assert_eq!(peer.silent_at(now), Some(now + SECOND / 100 + SILENCE));
        let asked = now + SECOND;
        assert_eq!(peer.silent_at(asked), Some(asked + SILENCE));
        peer.answered(asked, asked + SECOND * 2);
        assert_eq!(peer.silent_at(asked), Some(asked + SECOND * 22), "a slow one");
        for _ in 0..400 {
            peer.answered(asked, asked);
        }
        assert_eq!(peer.silent_at(asked), Some(asked + SILENCE), "once it was");
    }
}
