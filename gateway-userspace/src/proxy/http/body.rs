//! What a response's body is made of.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::upstream::UpstreamBody;
use crate::upstream::body::BodyError;

/// Ours, or the backend's.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// An answer of our own; `None` once it was given.
    Own(Option<Bytes>),
    /// Streamed from the backend.
    Upstream(UpstreamBody),
}

impl ResponseBody {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }

    /// Some bytes.
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Own(Some(text.into()).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Upstream(body) => body.size_hint(),
        }
    }
}
