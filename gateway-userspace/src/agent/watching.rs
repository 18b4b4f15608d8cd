//! A trace under way: which client, for how long, and who reads it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::admin::trace::{LONGEST, Line, Wanted};
use crate::datapath::trace::Packet;

/// See the module.
pub(super) struct Tracing {
    pub(super) client: IpAddr,
    until: Instant,
    /// Packets to come; `None`: any number.
    remaining: Option<u64>,
    lines: mpsc::Sender<Line>,
    left_out: u64,
}

impl Tracing {
    /// Begins one.
    pub(super) fn new(wanted: &Wanted, lines: mpsc::Sender<Line>) -> Self {
        let duration = Duration::from_secs(wanted.seconds).min(LONGEST);
        let until = Instant::now() + duration;
        Self { client: wanted.client, until, remaining: wanted.count, lines, left_out: 0 }
    }

    /// Hands packets to the reader, and never waits for it.
    pub(super) fn hand_on(&mut self, packets: Vec<Packet>, left_out: u64) {
        self.left_out += left_out;
        for packet in packets {
            match &mut self.remaining {
                Some(0) => return,
                Some(remaining) => *remaining -= 1,
                None => {}
            }
            // Room for the last line stays.
            if self.lines.capacity() < 2 || self.lines.try_send(Line::Packet(Box::new(packet))).is_err() {
                self.left_out += 1;
            }
        }
    }

    /// Whether its time or number is over, or nobody reads any more.
    pub(super) fn is_over(&self) -> bool {
        self.remaining == Some(0) || Instant::now() >= self.until || self.lines.is_closed()
    }

    /// Says how much is missing.
    pub(super) fn end(self) {
        // Whoever read may have gone.
        let _ = self.lines.try_send(Line::End { left_out: self.left_out });
    }
}
