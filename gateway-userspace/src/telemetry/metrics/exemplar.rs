//! The last traced request of a series: what OpenMetrics calls an exemplar. One writer, any number of readers, no lock:
//! whoever reads while it is written reads none.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{SystemTime, UNIX_EPOCH};

/// A trace's id of 16 bytes (W3C Trace Context, 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// Of a `traceparent` of version 00.
    pub fn of(traceparent: &str) -> Option<Self> {
        Self::read(traceparent).map(|(id, _)| id)
    }

    /// Of one whose trace is sampled: nobody keeps others, so nobody could look them up.
    pub fn of_sampled(traceparent: &str) -> Option<Self> {
        Self::read(traceparent).filter(|(_, is_sampled)| *is_sampled).map(|(id, _)| id)
    }

    /// The id, and whether the trace is sampled.
    fn read(traceparent: &str) -> Option<(Self, bool)> {
        let mut fields = traceparent.split('-');
        let (version, id, parent, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let flags = Some(flags).filter(|flags| flags.len() == 2)?;
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let is_lower = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if version != "00" || id.len() != 32 || parent.len() != 16 || !is_lower {
            return None;
        }
        let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
        Some((Self(id), is_sampled))
    }
}

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One of a histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exemplar {
    pub(super) trace: TraceId,
    /// In the metric's unit.
    pub(super) value: f64,
    /// Milliseconds since 1970.
    pub(super) at: u64,
}

/// The place of one, odd while it is written (a sequence lock).
#[derive(Debug, Default)]
pub(super) struct Place {
    sequence: AtomicU64,
    words: [AtomicU64; 4],
}

impl Place {
    /// Only for the one thread that writes here.
    pub(super) fn put(&self, trace: TraceId, value: f64) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, now) in
            self.words.iter().zip([(trace.0 >> 64) as u64, trace.0 as u64, value.to_bits(), at])
        {
            word.store(now, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    pub(super) fn get(&self) -> Option<Exemplar> {
        let before = self.sequence.load(Ordering::Acquire);
        let [high, low, value, at] = [0, 1, 2, 3].map(|word: usize| self.words[word].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_whole = before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before;
        let trace = TraceId(u128::from(high) << 64 | u128::from(low));
        (is_whole && before > 0).then(|| Exemplar { trace, value: f64::from_bits(value), at })
    }

    /// Only while nobody writes here.
    pub(super) fn clear(&self) {
        self.sequence.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_of_this_version_has_an_id_and_counts_if_it_is_sampled() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (header, is_one, is_sampled) in [
            (format!("00-{id}-00f067aa0ba902b7-01"), true, true),
            (format!("00-{id}-00f067aa0ba902b7-00"), true, false),
            (format!("01-{id}-00f067aa0ba902b7-01"), false, false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false, false),
            (format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()), false, false),
            (format!("00-{id}-1-01"), false, false),
            (format!("00-{id}-00f067aa0ba902b7-1"), false, false),
            (format!("00-{id}-00f067aa0ba902b7-x1"), false, false),
            (format!("00-{id}"), false, false),
            (String::new(), false, false),
        ] {
            let text = |found: Option<TraceId>| found.map(|trace| trace.to_string());
            assert_eq!(text(TraceId::of(&header)).as_deref(), is_one.then_some(id), "{header}");
            assert_eq!(text(TraceId::of_sampled(&header)).as_deref(), is_sampled.then_some(id), "{header}");
        }
    }

    #[test]
    fn the_last_one_is_there_and_whole() {
        let place = Place::default();
        assert_eq!(place.get(), None);
        place.put(TraceId(1), 0.5);
        place.put(TraceId(1 << 100 | 7), 2.5);
        let found = place.get().unwrap();
        assert_eq!((found.trace, found.value), (TraceId(1 << 100 | 7), 2.5));
        place.clear();
        assert_eq!(place.get(), None);
    }
}
