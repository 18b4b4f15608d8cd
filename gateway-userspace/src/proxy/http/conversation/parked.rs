//! A client that pauses: most connections are here for most of their life, with one timer and no buffer. What would have each of
//! them go, a drain or a shortage, rouses all of a worker's at once: that is rare, and to wait for it alone would take room.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::sleep;

use super::PAUSE;
use crate::model::Refusal;
use crate::proxy::connection::HTTP_IDLE;
use crate::proxy::http::serve::Connection;
use crate::proxy::overload::Level;

/// Bytes that are read at once: most heads are shorter.
const FIRST: usize = 2048;

/// Waits for the next words of a client that pauses. `None`: none come.
pub(super) async fn next_words<S>(connection: &Connection, stream: &mut S) -> Option<Bytes>
where
    S: AsyncRead + Unpin,
{
    let mut was_short = is_short(connection);
    let mut end = pin!(sleep(left(connection)));
    loop {
        // Before that, if a drain lets go who says nothing.
        if let Some(quiet) = connection.drain.quiet_at().filter(|quiet| *quiet < end.deadline()) {
            end.as_mut().reset(quiet);
        }
        tokio::select! {
            biased;
            words = poll_fn(|cx| poll_words(stream, cx)) => return words.ok().filter(|words| !words.is_empty()),
            () = connection.shared.drains.news() => {}
            () = &mut end => {
                if connection.age_left() == Some(Duration::ZERO) {
                    connection.shared.counts.refusals.count(Refusal::Age);
                }
                return None;
            }
        }
        // Those that came while something was short end with their requests.
        if is_short(connection) && !was_short {
            return None;
        }
        was_short = is_short(connection);
    }
}

fn is_short(connection: &Connection) -> bool {
    connection.shared.overload.level() >= Level::Closing
}

/// A client's time to go on.
fn left(connection: &Connection) -> Duration {
    let idle = HTTP_IDLE.saturating_sub(PAUSE);
    connection.age_left().map_or(idle, |left| left.min(idle))
}

/// What has come, of which there is no copy while nothing has.
fn poll_words<S: AsyncRead + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut room = [const { MaybeUninit::uninit() }; FIRST];
    let mut room = ReadBuf::uninit(&mut room);
    ready!(Pin::new(stream).poll_read(cx, &mut room))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(room.filled())))
}
