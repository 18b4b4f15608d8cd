//! What a trace of a client's packets is asked for by, and its lines: until its time or number is over, or nobody reads.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::datapath::trace::Packet;

/// The longest that a trace may run.
pub const LONGEST: Duration = Duration::from_hours(1);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Whose packets.
    pub client: IpAddr,
    /// For how many seconds; at most [`LONGEST`].
    pub seconds: u64,
    /// How many at most.
    pub count: Option<u64>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A packet.
    Packet(Box<Packet>),
    /// The last line.
    #[serde(rename_all = "camelCase")]
    End {
        /// Packets that are not among the lines, because there were too many.
        left_out: u64,
    },
}
