//! How a conversation ends: the last answer is not lost to a reset, which a client gets that still sends when its connection is
//! closed (RFC 9112, 9.6).

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Conversation;
use crate::http1::{Answering, HeadError, Length, write_response};
use crate::proxy::error::RequestError;
use crate::proxy::http::record::Notes;
use crate::proxy::http::serve::LAST_WORDS;
use crate::wire::poll_forget;

/// Answers a head that cannot be read: nobody has seen a request.
pub(super) async fn refuse<S>(talk: &mut Conversation<'_, S>, error: HeadError)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (error, status) = match error {
        HeadError::Malformed => (RequestError::Malformed, StatusCode::BAD_REQUEST),
        HeadError::TooLarge => (RequestError::HeadersTooLarge, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        HeadError::TargetTooLong => (RequestError::TargetTooLong, StatusCode::URI_TOO_LONG),
    };
    let connection = talk.connection;
    tracing::trace!(peer = %connection.ends().peer, ?error, "no request");
    connection.count(error);
    Notes::begin(connection, connection.in_force().logging).refused(error, "HTTP/1.1", 0);
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    let answer = Answering {
        head: &head,
        version: Version::HTTP_11,
        length: Length::Exact(0),
        is_head: false,
        keeps_alive: false,
    };
    write_response(talk.wire.out().head(), answer);
    end(talk, false).await;
}

/// Sends what there is, says that nothing follows, and if the client is not done yet, `is_read`, listens to it without
/// believing a word.
pub(super) async fn end<S>(talk: &mut Conversation<'_, S>, is_read: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let last_words = poll_fn(|cx| {
        if talk.aside.poll_over(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        talk.poll_end(is_read, cx)
    });
    let _ = timeout(LAST_WORDS, last_words).await;
}

/// Sends what there is of an answer that broke off.
pub(super) async fn cut<S>(talk: &mut Conversation<'_, S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = timeout(LAST_WORDS, poll_fn(|cx| talk.poll_send(cx))).await;
}

/// Says that nothing follows on a connection that was paused.
pub(super) async fn shut<S: AsyncWrite + Unpin>(mut stream: S) {
    let _ = Box::pin(timeout(LAST_WORDS, stream.shutdown())).await;
}

impl<S> Conversation<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Sends what there is, and says that nothing follows.
    pub(super) fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if !self.is_shut {
            ready!(self.wire.poll_shutdown(cx))?;
            self.is_shut = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_end(&mut self, is_read: bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_shut(cx))?;
        if is_read || self.closed.is_some() {
            return Poll::Ready(Ok(()));
        }
        poll_forget(self.wire.stream_mut(), cx)
    }
}
