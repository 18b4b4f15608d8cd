//! Carries bytes between a client and a backend until both directions have ended, or both have been silent too long:
//! between plain sockets by [`Relay`], which can move them by splice(2), between other streams by [`relay`].

mod buffer;
mod direction;
mod pipe;
mod sockets;
mod streams;

use std::io;
use std::time::Duration;

use tokio::time::Instant;

pub use sockets::{Outcome, Parts, Progress, Relay};
pub use streams::relay;

/// How long a relay may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Without a byte either way.
    pub idle: Duration,
    /// At all; `None` is for ever.
    pub until: Option<Instant>,
}

impl From<Duration> for Lifetime {
    fn from(idle: Duration) -> Self {
        Self { idle, until: None }
    }
}

impl Lifetime {
    /// When it is over, if nothing happens after `last`.
    fn end(&self, last: Instant) -> (Instant, RelayEnd) {
        let silent = last + self.idle;
        match self.until {
            Some(until) if until < silent => (until, RelayEnd::Expired),
            _ => (silent, RelayEnd::Idle),
        }
    }
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both directions closed in order.
    Closed,
    /// No byte either way for the idle timeout.
    Idle,
    /// It was not to last any longer.
    Expired,
    /// A side failed, mostly by a reset.
    Failed {
        /// Which.
        side: Side,
        /// How.
        error: io::Error,
    },
}

/// Who is on the other end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Downstream,
    /// The backend.
    Upstream,
}

/// Bytes carried: taken by the socket that they go to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Client to backend.
    pub up: u64,
    /// Backend to client.
    pub down: u64,
}
