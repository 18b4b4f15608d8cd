//! A connection that speaks another protocol from now on (RFC 9110, 7.8): who served HTTP on it hands it on, to whoever has asked for the
//! switch.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// A stream of some kind that may be asked which one it is.
pub trait AnyStream: AsyncRead + AsyncWrite + Unpin + Any {}

impl<S: AsyncRead + AsyncWrite + Unpin + Any> AnyStream for S {}

/// See the module.
pub struct Switched {
    stream: Box<dyn AnyStream>,
    unread: Bytes,
}

impl fmt::Debug for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switched").field("unread", &self.unread.len()).finish_non_exhaustive()
    }
}

impl Switched {
    /// A stream, and what was read of it behind the head.
    pub fn new(stream: impl AnyStream, unread: Bytes) -> Self {
        Self { stream: Box::new(stream), unread }
    }

    /// Both, if the stream is of this kind.
    pub fn downcast<S: AnyStream>(self) -> Result<(S, Bytes), Self> {
        let Self { stream, unread } = self;
        let known: &dyn Any = &*stream;
        if !known.is::<S>() {
            return Err(Self { stream, unread });
        }
        let stream: Box<dyn Any> = stream;
        match stream.downcast::<S>() {
            Ok(stream) => Ok((*stream, unread)),
            Err(_) => unreachable!("it was asked which one it is"),
        }
    }

    /// Both, whatever the stream is.
    pub fn into_parts(self) -> (Box<dyn AnyStream>, Bytes) {
        (self.stream, self.unread)
    }
}

/// The connection has ended without a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection has not switched")]
pub struct NotSwitched;

/// With who serves HTTP on the connection.
#[derive(Debug)]
pub struct Switch(oneshot::Sender<Switched>);

impl Switch {
    /// Whether anybody waits for it.
    pub fn is_wanted(&self) -> bool {
        !self.0.is_closed()
    }

    /// Hands it on. One that nobody waits for is closed.
    pub fn to(self, switched: Switched) {
        let _ = self.0.send(switched);
    }
}

/// With who waits for the connection.
#[derive(Debug)]
pub struct Switching(oneshot::Receiver<Switched>);

impl Future for Switching {
    type Output = Result<Switched, NotSwitched>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| NotSwitched)
    }
}

/// Both ends of a switch to come.
pub fn switching() -> (Switch, Switching) {
    let (switch, switching) = oneshot::channel();
    (Switch(switch), Switching(switching))
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, Empty};

    use super::*;

    #[tokio::test]
    async fn who_waits_gets_the_stream_that_was_handed_on() {
        let (switch, waiting) = switching();
        switch.to(Switched::new(tokio::io::duplex(8).0, Bytes::from_static(b"hm")));
        let switched = waiting.await.unwrap().downcast::<Empty>().unwrap_err();
        let (_stream, unread) = switched.downcast::<DuplexStream>().unwrap();
        assert_eq!(unread, "hm");
        let (switch, waiting) = switching();
        drop(switch);
        assert_eq!(waiting.await.unwrap_err(), NotSwitched);
    }
}
