//! Streams around others.

/// Has a stream that holds another as `inner` write to it. A name behind says which of its methods sees the outcome of each
/// write, a count of bytes, and hands it on.
macro_rules! writes_to_inner {
    ($stream:ident<$inner:ident $(, $other:ident: $bound:path)?> $(, $seen_by:ident)?) => {
        $crate::net::writes_to_inner!(
            @ [<$inner: tokio::io::AsyncWrite + Unpin $(, $other: $bound)?>]
            [$stream<$inner $(, $other)?>] $($seen_by)?
        );
    };
    ($stream:ident $(, $seen_by:ident)?) => {
        $crate::net::writes_to_inner!(@ [] [$stream] $($seen_by)?);
    };
    (@ [$($generics:tt)*] [$($stream:tt)*] $($seen_by:ident)?) => {
        impl $($generics)* tokio::io::AsyncWrite for $($stream)* {
            fn poll_write(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let written = std::pin::Pin::new(&mut self.inner).poll_write(cx, buf);
                $(let written = self.$seen_by(written);)?
                written
            }

            fn poll_write_vectored(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let written = std::pin::Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
                $(let written = self.$seen_by(written);)?
                written
            }

            fn is_write_vectored(&self) -> bool {
                self.inner.is_write_vectored()
            }

            fn poll_flush(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let flushed = std::pin::Pin::new(&mut self.inner).poll_flush(cx);
                // No byte more, but what was written before may fail only now.
                $(let flushed = self.$seen_by(flushed.map_ok(|()| 0)).map_ok(drop);)?
                flushed
            }

            fn poll_shutdown(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.inner).poll_shutdown(cx)
            }
        }
    };
}
pub(crate) use writes_to_inner;
