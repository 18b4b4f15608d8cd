//! What was refused, by reason: requests before any rule saw them and backends' answers for what they are, and whatever for the
//! gateway's own protection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! refusals {
    ($($(#[$doc:meta])+ $name:ident = $word:literal,)+) => {
        /// Why something is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[$doc])+ $name,)+
        }

        impl Refusal {
            /// All of them, in the order of their numbers.
            const ALL: &[(Self, &str)] = &[$((Self::$name, $word),)+];

            /// Its name in `sluice status`.
            pub fn label(self) -> &'static str {
                Self::ALL[self as usize].1
            }
        }
    };
}

refusals! {
    /// A head that says twice how long the body is.
    AmbiguousLength = "ambiguous_length",
    /// An answer of a backend that is not HTTP, or says twice how long it is.
    Answer = "answer",
    /// A body that is not in the form that its head says.
    Body = "body",
    /// A body that is longer than bodies may be.
    BodyTooLong = "body_too_long",
    /// No Host, several, or one that no host can have.
    Host = "host",
    /// A head that cannot be read.
    Malformed = "malformed",
    /// A method that nobody has registered, or CONNECT.
    Method = "method",
    /// A target that is none, or of another scheme.
    Target = "target",
    /// A head or target that is too long.
    TooLong = "too_long",
    /// A transfer coding other than `chunked`.
    TransferCoding = "transfer_coding",
    /// An upgrade to something else than a WebSocket.
    Upgrade = "upgrade",
    /// A version that is not spoken here.
    Version = "version",
    /// A connection that has lasted as long as connections may.
    Age = "connection_age",
    /// An HTTP/2 connection that breaks the protocol.
    BrokenFrames = "http2_broken",
    /// A connection that came while memory was short.
    ConnectionForMemory = "memory_connection",
    /// An accept that had to wait for descriptors.
    Descriptors = "descriptors",
    /// An HTTP/2 connection of frames that carry nothing, or of heads without end.
    Flood = "http2_flood",
    /// A request in which nothing moved for too long.
    Idle = "stream_idle",
    /// A connection beyond those that its listener may have.
    Listener = "listener_connections",
    /// An HTTP/2 connection that asks and takes back.
    RapidReset = "http2_rapid_reset",
    /// A request that came while memory was short.
    RequestForMemory = "memory_request",
    /// A request whose body comes too slowly.
    SlowBody = "slow_body",
    /// A connection beyond those that its source address may have.
    Source = "source_connections",
    /// A response that nobody took while memory was short.
    StalledForMemory = "memory_stalled",
}

const COUNT: usize = Refusal::ALL.len();

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<[AtomicU64; COUNT]>);

impl Refusals {
    /// One more.
    pub fn count(&self, refusal: Refusal) {
        self.0[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each was counted, by its name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = Refusal::ALL.iter().zip(self.0.iter());
        counts.map(|((_, word), count)| (*word, count.load(Ordering::Relaxed)))
    }

    /// Those that there were, by their names.
    pub fn view(&self) -> BTreeMap<String, u64> {
        let counted = self.all().filter(|(_, count)| *count > 0);
        counted.map(|(word, count)| (word.to_owned(), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_by_itself() {
        let refusals = Refusals::default();
        assert!(refusals.view().is_empty());
        for (at, (refusal, word)) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, at, "{word}");
            for _ in 0..=at {
                refusals.clone().count(*refusal);
            }
        }
        let view = refusals.view();
        assert!(Refusal::ALL.iter().enumerate().all(|(at, (_, word))| view[*word] == at as u64 + 1));
    }
}
