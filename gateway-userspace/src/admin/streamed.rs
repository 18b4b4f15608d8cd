//! Bodies of answers that are made while they are read.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use serde::Serialize;

/// Asks for the next piece.
type Next = dyn FnMut(&mut Context<'_>) -> Poll<Option<Vec<u8>>> + Send;

/// See the module. What it is made from goes with it.
pub(super) struct Streamed(Box<Next>);

impl Streamed {
    /// Of pieces as they come.
    pub(super) fn pieces(
        next: impl FnMut(&mut Context<'_>) -> Poll<Option<Vec<u8>>> + Send + 'static,
    ) -> Self {
        Self(Box::new(next))
    }

    /// One JSON object a line.
    pub(super) fn lines<T: Serialize>(
        mut next: impl FnMut(&mut Context<'_>) -> Poll<Option<T>> + Send + 'static,
    ) -> Self {
        Self::pieces(move |context| {
            next(context).map(|line| {
                let mut text = serde_json::to_vec(&line?).unwrap_or_default();
                text.push(b'\n');
                Some(text)
            })
        })
    }
}

impl fmt::Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streamed")
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        (self.0)(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece.into()))))
    }
}
