//! What is under way at a listener, as one writer sees it.

use super::rows::Number;

/// Connections and requests of a listener. Only one thread changes it.
#[derive(Debug, Default)]
pub struct InFlight {
    accepted: Number,
    connections: Number,
    requests: Number,
}

/// Likewise, of all writers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Underway {
    pub(super) accepted: u64,
    pub(super) connections: u64,
    pub(super) requests: u64,
}

impl InFlight {
    /// A connection begins.
    pub fn accept(&self) {
        self.accepted.add(1);
        self.connections.add(1);
    }

    /// A connection ends.
    pub fn close(&self) {
        self.connections.sub(1);
    }

    /// A request begins.
    pub fn begin(&self) {
        self.requests.add(1);
    }

    /// A request ends.
    pub fn end(&self) {
        self.requests.sub(1);
    }

    /// Whether nothing is.
    pub fn is_idle(&self) -> bool {
        self.connections.get() == 0 && self.requests.get() == 0
    }
}

impl Underway {
    pub(super) fn add(&mut self, of: &InFlight) {
        self.accepted += of.accepted.get();
        self.connections += of.connections.get();
        self.requests += of.requests.get();
    }
}
