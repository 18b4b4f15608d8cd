//! A stream that has switched to another protocol (RFC 8441, 5), as any other stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::fault::Broken;
use super::frame::LONGEST;
use super::inbound::Inbound;
use super::outbound::Outbound;

/// See the module.
#[derive(Debug)]
pub struct Tunnel {
    inbound: Inbound,
    outbound: Outbound,
    /// What has come, and was not read.
    unread: Bytes,
}

impl Tunnel {
    /// Of both ends of a stream, the head of whose answer was said.
    pub fn new(inbound: Inbound, outbound: Outbound) -> Self {
        Self { inbound, outbound, unread: Bytes::new() }
    }
}

fn broken(broken: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, broken)
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut self.inbound).poll_frame(cx)) else {
                return Poll::Ready(Ok(()));
            };
            // There is nothing to say at the end of other protocols.
            self.unread = frame.map_err(broken)?.into_data().unwrap_or_default();
        }
        let length = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let length = buf.len().min(LONGEST);
        let mut data = Bytes::copy_from_slice(&buf[..length]);
        match self.outbound.poll_data(&mut data, false, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(broken(error))),
            Poll::Pending if data.len() == length => Poll::Pending,
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(length - data.len())),
        }
    }

    /// Whoever drives the connection sends what there is.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Said once, it is an error of nobody to say it again.
        let _ = self.outbound.poll_data(&mut Bytes::new(), true, cx);
        Poll::Ready(Ok(()))
    }
}
