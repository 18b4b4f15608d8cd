//! A client's stream whose TLS ends here. What TLS answers by itself, such as that nothing is negotiated anew (RFC 5746, 4.5), is
//! written while there is nothing to read: tokio-rustls would keep it until something else is written, and a client that
//! waits for it sends nothing that would be answered.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConnection;
use tokio_rustls::server::TlsStream;

use crate::net::rewind::Rewound;

/// Read and written by one task: each waits for the socket to take what is written.
#[derive(Debug)]
pub(super) struct Terminated(TlsStream<Rewound<TcpStream>>);

impl Terminated {
    /// One whose handshake is through.
    pub(super) fn new(stream: TlsStream<Rewound<TcpStream>>) -> Self {
        Self(stream)
    }

    /// What was agreed on.
    pub(super) fn session(&self) -> &ServerConnection {
        self.0.get_ref().1
    }
}

impl AsyncRead for Terminated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(cx, buf);
        if read.is_pending() && self.session().wants_write() {
            // Whatever fails here fails for whoever writes next, or reads.
            let _ = Pin::new(&mut self.0).poll_flush(cx);
        }
        read
    }
}

impl AsyncWrite for Terminated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
