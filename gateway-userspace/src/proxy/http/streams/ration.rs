//! What frames a client may send that ask for nothing. They cost us more than they cost it: so a connection has a ration of them, which
//! grows with what it asks for and takes, and slowly with time.

use std::time::Instant;

use crate::http2::FrameHead;
use crate::http2::frame::{flag, kind};
use crate::model::Refusal;

/// Frames that say nothing which a connection may send at once, and most that it can save.
const IDLE_FRAMES: Rate = Rate { begin: 1_000, most: 10_000, by_second: 50 };
/// What a request allows of them: its stream's windows, priorities, settings.
const IDLE_FRAMES_BY_REQUEST: i64 = 10;
/// Bytes that we send for each that a client may answer with: Go's tells of its windows twice in 4 KiB.
const BYTES_FOR_IDLE_FRAME: usize = 512;
/// Streams that a connection may take back at once. A page that is left takes back all that it had asked for.
const RESETS: Rate = Rate { begin: 500, most: 1_000, by_second: 20 };
/// Requests for each that may be taken back in the long run: a proxy's clients may be impatient, but not most of them.
const REQUESTS_FOR_RESET: u8 = 2;

/// How many at once, and how many more in time.
#[derive(Debug, Clone, Copy)]
struct Rate {
    begin: i64,
    most: i64,
    by_second: i64,
}

/// What is left of a ration.
#[derive(Debug)]
struct Left {
    rate: Rate,
    count: i64,
    since: Instant,
}

impl Left {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, count: rate.begin, since: now }
    }

    fn add(&mut self, count: i64) {
        self.count = (self.count + count).min(self.rate.most);
    }

    /// Takes one; looks at the time only when none is left.
    fn take(&mut self, now: &impl Fn() -> Instant) -> bool {
        if self.count == 0 {
            let now = now();
            let milliseconds = now.saturating_duration_since(self.since).as_millis();
            let more =
                i64::try_from(milliseconds).unwrap_or(i64::MAX).saturating_mul(self.rate.by_second) / 1000;
            if more == 0 {
                return false;
            }
            self.since = now;
            self.add(more.min(self.rate.most));
        }
        self.count -= 1;
        true
    }
}

/// What a connection may say still.
#[derive(Debug)]
pub(super) struct Ration {
    idle: Left,
    resets: Left,
    /// Requests that allow no reset yet.
    requests: u8,
    /// Bytes sent that allow no frame yet.
    sent: usize,
}

impl Ration {
    /// Of a connection that begins.
    pub(super) fn new(now: Instant) -> Self {
        let (idle, resets) = (Left::new(IDLE_FRAMES, now), Left::new(RESETS, now));
        Self { idle, resets, requests: 0, sent: 0 }
    }

    /// Takes a frame for what it is.
    pub(super) fn take(&mut self, head: &FrameHead, now: impl Fn() -> Instant) -> Result<(), Refusal> {
        match head.kind {
            // Bounded within a head.
            kind::CONTINUATION => Ok(()),
            kind::DATA if head.length > 0 || head.has(flag::END_STREAM) => Ok(()),
            kind::RST_STREAM => self.reset(now),
            _ if self.idle.take(&now) => Ok(()),
            _ => Err(Refusal::Flood),
        }
    }

    /// A frame was a request, or the last of one.
    pub(super) fn asked(&mut self) {
        self.idle.add(1 + IDLE_FRAMES_BY_REQUEST);
        self.requests += 1;
        if self.requests == REQUESTS_FOR_RESET {
            self.requests = 0;
            self.resets.add(1);
        }
    }

    /// A stream ends before its time: the client takes it back, or has us do so by breaking the rules.
    pub(super) fn reset(&mut self, now: impl Fn() -> Instant) -> Result<(), Refusal> {
        if self.resets.take(&now) { Ok(()) } else { Err(Refusal::RapidReset) }
    }

    /// So many bytes were sent.
    pub(super) fn wrote(&mut self, count: usize) {
        let sent = self.sent + count;
        self.sent = sent % BYTES_FOR_IDLE_FRAME;
        self.idle.add((sent / BYTES_FOR_IDLE_FRAME).cast_signed() as i64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> FrameHead {
        FrameHead::new(length, kind, flags, 1)
    }

    /// What was left of `count` rounds of these frames at some moment.
    fn rounds(ration: &mut Ration, round: &[FrameHead], count: usize, at: Instant) -> Result<(), Refusal> {
        (0..count).flat_map(|_| round).try_for_each(|head| {
            ration.take(head, || at)?;
            if head.kind == kind::HEADERS {
                ration.asked();
            }
            Ok(())
        })
    }

    #[test]
    fn what_says_nothing_is_rationed() {
        let now = Instant::now();
        let request = frame(kind::HEADERS, 5, 20);
        for (round, count, want) in [
            (vec![frame(kind::PING, 0, 8)], 1_000, Ok(())),
            (vec![frame(kind::PING, 0, 8)], 1_001, Err(Refusal::Flood)),
            (vec![frame(kind::SETTINGS, 0, 6)], 1_001, Err(Refusal::Flood)),
            (vec![frame(kind::PRIORITY, 0, 5)], 1_001, Err(Refusal::Flood)),
            (vec![frame(kind::WINDOW_UPDATE, 0, 4)], 1_001, Err(Refusal::Flood)),
            (vec![frame(kind::DATA, 0, 0)], 1_001, Err(Refusal::Flood)),
            (vec![frame(0x77, 0, 3)], 1_001, Err(Refusal::Flood)),
            (vec![frame(kind::DATA, flag::END_STREAM, 0)], 20_000, Ok(())),
            (vec![frame(kind::DATA, 0, 1)], 20_000, Ok(())),
            // A request pays for its own, whatever else it says.
            (vec![request, frame(kind::WINDOW_UPDATE, 0, 4), frame(kind::PRIORITY, 0, 5)], 20_000, Ok(())),
            (vec![request], 20_000, Ok(())),
            (vec![request, frame(kind::RST_STREAM, 0, 4)], 990, Ok(())),
            (vec![request, frame(kind::RST_STREAM, 0, 4)], 1_010, Err(Refusal::RapidReset)),
            // One of three that is taken back is an impatient client.
            (vec![request, request, request, frame(kind::RST_STREAM, 0, 4)], 20_000, Ok(())),
            (vec![frame(kind::RST_STREAM, 0, 4)], 501, Err(Refusal::RapidReset)),
        ] {
            let found = rounds(&mut Ration::new(now), &round, count, now);
            assert_eq!(found, want, "{} of {:?}", count, round.last());
        }
    }

    #[test]
    fn rations_grow_with_time_and_with_what_is_sent() {
        let (start, mut ration) = (Instant::now(), Ration::new(Instant::now()));
        let ping = [frame(kind::PING, 0, 8)];
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rounds(&mut ration, &ping, 1_000, start), Ok(()));
        assert_eq!(rounds(&mut ration, &ping, 51, at(1)), Err(Refusal::Flood));
        let mut patient = Ration::new(start);
        for second in 0..60 {
            assert_eq!(rounds(&mut patient, &ping, 50, at(second + 1)), Ok(()));
        }
        let mut reader = Ration::new(start);
        for _ in 0..1_000 {
            reader.wrote(16_384);
            let updates = frame(kind::WINDOW_UPDATE, 0, 4);
            assert_eq!(rounds(&mut reader, &[updates], 8, start), Ok(()));
        }
    }
}
