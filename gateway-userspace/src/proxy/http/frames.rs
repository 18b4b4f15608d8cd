//! What frames an HTTP/2 client may send that ask for nothing. They cost us more than they cost it, and h2 answers each as it
//! comes: so a connection has a ration of them, which grows with what it asks for and takes, and slowly with time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};

use crate::model::{Refusal, Refusals};

/// What a client begins with (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// Bytes of a frame's head (RFC 9113, 4.1).
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// Frames that say nothing which a connection may send at once, and most that it can save.
const IDLE_FRAMES: Ration = Ration { begin: 1_000, most: 10_000, by_second: 50 };
/// What a request allows of them: its stream's windows, priorities, settings.
const IDLE_FRAMES_BY_REQUEST: i64 = 10;
/// Bytes that we send for each that a client may answer with: Go's tells of its windows twice in 4 KiB.
const BYTES_FOR_IDLE_FRAME: usize = 512;
/// Streams that a connection may take back at once. A page that is left takes back all that it had asked for.
const RESETS: Ration = Ration { begin: 500, most: 1_000, by_second: 20 };
/// Requests for each that may be taken back in the long run: a proxy's clients may be impatient, but not most of them.
const REQUESTS_FOR_RESET: u8 = 2;

/// How many at once, and how many more in time.
#[derive(Debug, Clone, Copy)]
struct Ration {
    begin: i64,
    most: i64,
    by_second: i64,
}

/// What is left of a ration.
#[derive(Debug)]
struct Left {
    ration: Ration,
    count: i64,
    since: Instant,
}

impl Left {
    fn new(ration: Ration, now: Instant) -> Self {
        Self { ration, count: ration.begin, since: now }
    }

    fn add(&mut self, count: i64) {
        self.count = (self.count + count).min(self.ration.most);
    }

    /// Takes one; looks at the time only when none is left.
    fn take(&mut self, now: &impl Fn() -> Instant) -> bool {
        if self.count == 0 {
            let now = now();
            let milliseconds = now.saturating_duration_since(self.since).as_millis();
            let more =
                i64::try_from(milliseconds).unwrap_or(i64::MAX).saturating_mul(self.ration.by_second) / 1000;
            if more == 0 {
                return false;
            }
            self.since = now;
            self.add(more.min(self.ration.most));
        }
        self.count -= 1;
        true
    }
}

/// What has come of a connection's frames.
#[derive(Debug)]
struct Frames {
    head: [u8; HEAD],
    /// Bytes of it that have come.
    known: usize,
    /// Bytes to come before the next head.
    skip: usize,
    idle: Left,
    resets: Left,
    /// Requests that allow no reset yet.
    requests: u8,
    /// Bytes sent that allow no frame yet.
    sent: usize,
}

impl Frames {
    fn new(now: Instant) -> Self {
        Self {
            head: [0; HEAD],
            known: 0,
            skip: PREFACE,
            idle: Left::new(IDLE_FRAMES, now),
            resets: Left::new(RESETS, now),
            requests: 0,
            sent: 0,
        }
    }

    /// Reads what the client has sent, however it is cut.
    fn read(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Refusal> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEAD {
                self.known = 0;
                self.skip = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
                self.take(&now)?;
            }
        }
    }

    /// Takes a frame for what it is.
    fn take(&mut self, now: &impl Fn() -> Instant) -> Result<(), Refusal> {
        let (kind, flags) = (self.head[3], self.head[4]);
        match kind {
            HEADERS => {
                self.idle.add(IDLE_FRAMES_BY_REQUEST);
                self.requests += 1;
                if self.requests == REQUESTS_FOR_RESET {
                    self.requests = 0;
                    self.resets.add(1);
                }
            }
            // h2 bounds them within a head.
            CONTINUATION => {}
            DATA if self.skip > 0 || flags & END_STREAM != 0 => {}
            RST_STREAM if self.resets.take(now) => {}
            RST_STREAM => return Err(Refusal::RapidReset),
            _ if self.idle.take(now) => {}
            _ => return Err(Refusal::Flood),
        }
        Ok(())
    }

    fn wrote(&mut self, count: usize) {
        let sent = self.sent + count;
        self.sent = sent % BYTES_FOR_IDLE_FRAME;
        self.idle.add((sent / BYTES_FOR_IDLE_FRAME).cast_signed() as i64);
    }
}

/// An HTTP/2 client's stream, from its preface on, which breaks where the client goes beyond its ration.
#[derive(Debug)]
pub(super) struct Rationed<S> {
    inner: S,
    frames: Frames,
    refusals: Refusals,
}

impl<S> Rationed<S> {
    /// Nothing of it has been read yet.
    pub(super) fn new(inner: S, refusals: Refusals) -> Self {
        Self { inner, frames: Frames::new(Instant::now()), refusals }
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.frames.wrote(*count);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rationed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let Self { frames, refusals, .. } = &mut *self;
        Poll::Ready(frames.read(&buf.filled()[before..], Instant::now).map_err(|refusal| {
            refusals.count(refusal);
            io::Error::other(refusal.label())
        }))
    }
}

crate::net::writes_to_inner!(Rationed<S>, wrote);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD + length, 0);
        frame
    }

    /// What was left of `count` rounds of these frames, behind the preface, `at` so many milliseconds from the start.
    fn rounds(frames: &mut Frames, round: &[Vec<u8>], count: usize, at: Instant) -> Result<(), Refusal> {
        let bytes = round.concat().repeat(count);
        // In pieces of a length that is no frame's.
        bytes.chunks(1021).try_for_each(|piece| frames.read(piece, || at))
    }

    fn begun(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        frames.read(&[0; PREFACE], || now).unwrap();
        frames
    }

    #[test]
    fn what_says_nothing_is_rationed() {
        let now = Instant::now();
        let request = frame(HEADERS, 5, 20);
        for (round, count, want) in [
            (vec![frame(PING, 0, 8)], 1_000, Ok(())),
            (vec![frame(PING, 0, 8)], 1_001, Err(Refusal::Flood)),
            (vec![frame(4, 0, 6)], 1_001, Err(Refusal::Flood)),
            (vec![frame(2, 0, 5)], 1_001, Err(Refusal::Flood)),
            (vec![frame(WINDOW_UPDATE, 0, 4)], 1_001, Err(Refusal::Flood)),
            (vec![frame(DATA, 0, 0)], 1_001, Err(Refusal::Flood)),
            (vec![frame(0x77, 0, 3)], 1_001, Err(Refusal::Flood)),
            (vec![frame(DATA, END_STREAM, 0)], 20_000, Ok(())),
            (vec![frame(DATA, 0, 1)], 20_000, Ok(())),
            // A request pays for its own, whatever else it says.
            (vec![request.clone(), frame(WINDOW_UPDATE, 0, 4), frame(2, 0, 5)], 20_000, Ok(())),
            (vec![request.clone()], 20_000, Ok(())),
            (vec![request.clone(), frame(RST_STREAM, 0, 4)], 990, Ok(())),
            (vec![request.clone(), frame(RST_STREAM, 0, 4)], 1_010, Err(Refusal::RapidReset)),
            // One of three that is taken back is an impatient client.
            (vec![request.clone(), request.clone(), request, frame(RST_STREAM, 0, 4)], 20_000, Ok(())),
            (vec![frame(RST_STREAM, 0, 4)], 501, Err(Refusal::RapidReset)),
        ] {
            let found = rounds(&mut begun(now), &round, count, now);
            assert_eq!(found, want, "{} of {:?}", count, round.last());
        }
    }

    #[test]
    fn rations_grow_with_time_and_with_what_is_sent() {
        let (start, mut frames) = (Instant::now(), begun(Instant::now()));
        let ping = [frame(PING, 0, 8)];
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rounds(&mut frames, &ping, 1_000, start), Ok(()));
        assert_eq!(rounds(&mut frames, &ping, 51, at(1)), Err(Refusal::Flood));
        let mut patient = begun(start);
        for second in 0..60 {
            assert_eq!(rounds(&mut patient, &ping, 50, at(second + 1)), Ok(()));
        }
        let mut reader = begun(start);
        for _ in 0..1_000 {
            reader.wrote(16_384);
            let updates = frame(WINDOW_UPDATE, 0, 4);
            assert_eq!(rounds(&mut reader, &[updates], 8, start), Ok(()));
        }
    }
}
