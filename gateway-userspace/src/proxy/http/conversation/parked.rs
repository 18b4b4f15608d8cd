//! A client that pauses: most connections are here for most of their life, with one timer and no buffer.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::sleep;

use super::PAUSE;
use crate::model::Refusal;
use crate::proxy::connection::HTTP_IDLE;
use crate::proxy::http::serve::Connection;
use crate::proxy::worker::Shared;

/// Bytes that are read at once: most heads are shorter.
const FIRST: usize = 2048;

/// Waits for the next words of a client that pauses. `None`: none come.
pub(super) async fn next_words<S>(connection: &Connection, stream: &mut S) -> Option<Bytes>
where
    S: AsyncRead + Unpin,
{
    let Shared { bounds, overload, counts, .. } = &*connection.shared;
    let mut drain = connection.drain();
    let idle = HTTP_IDLE.saturating_sub(PAUSE);
    let age = bounds.age.map_or(Duration::MAX, |age| age.saturating_sub(connection.ends().since.elapsed()));
    tokio::select! {
        biased;
        words = poll_fn(|cx| poll_words(stream, cx)) => words.ok().filter(|words| !words.is_empty()),
        () = drain.quiet() => None,
        () = overload.closing() => None,
        () = sleep(age.min(idle)) => {
            if age < idle {
                counts.refusals.count(Refusal::Age);
            }
            None
        }
    }
}

/// What has come, of which there is no copy while nothing has.
fn poll_words<S: AsyncRead + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut room = [const { MaybeUninit::uninit() }; FIRST];
    let mut room = ReadBuf::uninit(&mut room);
    ready!(Pin::new(stream).poll_read(cx, &mut room))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(room.filled())))
}
