//! Streaming lines of the access log: one JSON object a line, until as many have come as were asked for, or nobody reads.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::telemetry::access::Following;

/// The lines as the body of an answer.
#[derive(Debug)]
pub struct LogLines(pub(super) Following);

impl Body for LogLines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.lines.poll_recv(context).map(|line| {
            let mut text = serde_json::to_vec(&line?).unwrap_or_default();
            text.push(b'\n');
            Some(Ok(Frame::data(text.into())))
        })
    }
}
