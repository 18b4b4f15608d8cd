//! A client that closes its side once it has asked is not gone: it may still want the answer (RFC 9293, 3.6: half-closed),
//! and nothing tells it from one that has left but its resets. So its end of file is kept from hyper, which would break
//! off, for as long as something may come of it. One in the middle of a request's body is no such end.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client that has closed its side may get nothing. Then it counts as gone, so that its backend is free of it.
const SILENCE: Duration = Duration::from_secs(15);

/// What a client's end of file would mean; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Awaited(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: AtomicU8,
    /// Something has come behind the last request.
    heard: AtomicBool,
    /// Something may still have to be written.
    unsent: AtomicBool,
    /// Who keeps an end of file back.
    waker: Mutex<Option<Waker>>,
}

/// No request is under way: what it looks like.
const NOTHING: u8 = 0;
/// A request has come, and perhaps all of its body, of which not all has been looked at.
const COMING: u8 = 1;
/// All that came of a request's body has been looked at, and there must be more: it breaks off.
const STARVING: u8 = 2;
/// A request has come whole, and its response has not ended.
const ANSWER: u8 = 3;

impl Awaited {
    /// A request begins.
    pub fn begin(&self, is_whole: bool) {
        self.0.heard.store(false, Ordering::Relaxed);
        self.set(if is_whole { ANSWER } else { COMING });
    }

    /// Its body has come to its end.
    pub fn whole(&self) {
        self.set(ANSWER);
    }

    /// More of its body is asked for than there is.
    pub fn starving(&self) {
        if self.0.state.swap(STARVING, Ordering::Relaxed) != STARVING {
            self.wake();
        }
    }

    /// The response has ended.
    pub fn end(&self) {
        self.set(NOTHING);
    }

    /// Whether all is said on both sides, as far as can be seen here: what came ahead with the request before is whoever's
    /// who has read it.
    pub fn is_paused(&self) -> bool {
        let Inner { state, heard, .. } = &*self.0;
        state.load(Ordering::Relaxed) == NOTHING && !heard.load(Ordering::Relaxed) && !self.is_sending()
    }

    /// Whether something has to be written still.
    pub fn is_sending(&self) -> bool {
        self.0.unsent.load(Ordering::Relaxed)
    }

    fn set(&self, state: u8) {
        self.0.state.store(state, Ordering::Relaxed);
    }

    /// More has come of something.
    fn fed(&self) {
        self.0.heard.store(true, Ordering::Relaxed);
        let _ = self.0.state.compare_exchange(STARVING, COMING, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn sends(&self, unsent: bool) {
        self.0.unsent.store(unsent, Ordering::Relaxed);
    }

    fn is_end(&self) -> bool {
        matches!(self.0.state.load(Ordering::Relaxed), NOTHING | STARVING)
    }

    fn wake(&self) {
        // A lock that somebody has is one whose holder looks for itself.
        if let Some(waker) = self.0.waker.try_lock().ok().and_then(|mut waker| waker.take()) {
            waker.wake();
        }
    }

    fn wait(&self, cx: &Context<'_>) {
        if let Ok(mut waker) = self.0.waker.lock() {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Patient<S> {
    inner: S,
    awaited: Awaited,
    /// Since the client has closed its side: until when it may get nothing.
    closed: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Over a client's stream.
    pub fn new(inner: S, awaited: Awaited) -> Self {
        Self { inner, awaited, closed: None }
    }

    /// The stream itself.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// An end of file, when it is time for it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.awaited.wait(cx);
        if self.awaited.is_end() {
            return Poll::Ready(Ok(()));
        }
        let silence = self.closed.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + SILENCE)));
        silence.as_mut().poll(cx).map(Ok)
    }

    /// The client gets something.
    fn wrote<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let (Some(silence), Poll::Ready(Ok(_))) = (&mut self.closed, &result) {
            silence.as_mut().reset(Instant::now() + SILENCE);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.closed.is_some() {
            return self.poll_end(cx);
        }
        let (before, has_room) = (buf.filled().len(), buf.remaining() > 0);
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        match read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => self.awaited.fed(),
            Poll::Ready(Ok(())) if has_room => return self.poll_end(cx),
            _ => {}
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.awaited.sends(true);
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.awaited.sends(true);
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        // Whoever writes by way of a buffer flushes only when that is empty.
        if flushed.is_ready() {
            self.awaited.sends(false);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_end_waits_for_the_answer_but_not_for_ever() {
        let (client, server) = tokio::io::duplex(64);
        let awaited = Awaited::default();
        let mut server = Patient::new(server, awaited.clone());
        let (mut read, mut write) = tokio::io::split(client);
        write.write_all(b"ask").await.unwrap();
        let mut heard = [0; 3];
        server.read_exact(&mut heard).await.unwrap();
        awaited.begin(true);
        write.shutdown().await.unwrap();
        assert!(timeout(SILENCE.mul_f64(0.9), server.read(&mut heard)).await.is_err(), "asked");
        server.write_all(b"hm").await.unwrap();
        assert!(timeout(SILENCE.mul_f64(0.9), server.read(&mut heard)).await.is_err(), "it gets something");
        assert_eq!(timeout(SILENCE, server.read(&mut heard)).await.unwrap().unwrap(), 0);
        read.read_exact(&mut heard[..2]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_behind_which_nobody_waits_is_told_at_once() {
        type Then = Option<fn(&Awaited)>;
        let [whole, broken, none]: [Then; 3] =
            [Some(Awaited::whole), Some(Awaited::starving), Some(Awaited::end)];
        for (is_whole, then, waits) in [
            (true, None, true),
            (false, None, true),
            (false, whole, true),
            (false, broken, false),
            (true, none, false),
        ] {
            let (client, server) = tokio::io::duplex(64);
            let awaited = Awaited::default();
            let mut server = Patient::new(server, awaited.clone());
            awaited.begin(is_whole);
            if let Some(then) = then {
                then(&awaited);
            }
            drop(client);
            let mut heard = [0; 3];
            assert_eq!(timeout(SILENCE / 2, server.read(&mut heard)).await.is_err(), waits, "{is_whole}");
            awaited.end();
            assert_eq!(timeout(SILENCE / 2, server.read(&mut heard)).await.unwrap().unwrap(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_breaks_off_is_told_of_once_it_has_been_looked_at() {
        let (client, server) = tokio::io::duplex(64);
        let awaited = Awaited::default();
        let mut server = Patient::new(server, awaited.clone());
        awaited.begin(false);
        awaited.starving();
        let (mut heard, begun) = ([0; 3], Instant::now());
        let (_read, mut write) = tokio::io::split(client);
        write.write_all(b"som").await.unwrap();
        server.read_exact(&mut heard).await.unwrap();
        write.shutdown().await.unwrap();
        let looking = async {
            tokio::task::yield_now().await;
            awaited.starving();
        };
        let (end, ()) = tokio::join!(server.read(&mut heard), looking);
        assert_eq!((end.unwrap(), begun.elapsed()), (0, Duration::ZERO));
    }
}
