//! Bytes and sockets: listening, rewinding, relaying, draining, saying who the client is, repairing, passing to another process. Knows no documents and no routes.

/// Has a stream that holds another as `inner` write to it.
macro_rules! writes_to_inner {
    ($stream:ident<$inner:ident $(, $other:ident: $bound:path)?>) => {
        impl<$inner: tokio::io::AsyncWrite + Unpin $(, $other: $bound)?> tokio::io::AsyncWrite
            for $stream<$inner $(, $other)?>
        {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.inner).poll_write(cx, buf)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                self.inner.is_write_vectored()
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.inner).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.inner).poll_shutdown(cx)
            }
        }
    };
}
use writes_to_inner;

pub mod drain;
pub mod gather;
pub mod heads;
pub mod keeping;
pub mod passing;
pub mod patient;
pub mod proxy_header;
pub mod proxy_protocol;
pub mod relay;
pub mod repair;
pub mod rewind;
pub mod socket;
