//! Streaming a client's packets: one JSON object a line, until the trace's time or number is over, or nobody reads.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

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

/// The lines as the body of an answer.
#[derive(Debug)]
pub struct Lines(pub(super) mpsc::Receiver<Line>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| {
            let mut text = serde_json::to_vec(&line?).unwrap_or_default();
            text.push(b'\n');
            Some(Ok(Frame::data(text.into())))
        })
    }
}
