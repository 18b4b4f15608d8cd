//! A client's stream whose TLS ends here. What TLS answers by itself, such as that nothing is negotiated anew (RFC 5746, 4.5), is
//! written while there is nothing to read: tokio-rustls would keep it until something else is written, and a client that
//! waits for it sends nothing that would be answered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConnection;
use tokio_rustls::server::TlsStream;

use crate::net::rewind::Rewound;

/// Read and written by one task: each waits for the socket to take what is written.
#[derive(Debug)]
pub(super) struct Terminated {
    inner: TlsStream<Rewound<TcpStream>>,
}

impl Terminated {
    /// One whose handshake is through.
    pub(super) fn new(inner: TlsStream<Rewound<TcpStream>>) -> Self {
        Self { inner }
    }

    /// What was agreed on.
    pub(super) fn session(&self) -> &ServerConnection {
        self.inner.get_ref().1
    }
}

impl AsyncRead for Terminated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_pending() && self.session().wants_write() {
            // Whatever fails here fails for whoever writes next, or reads.
            let _ = Pin::new(&mut self.inner).poll_flush(cx);
        }
        read
    }
}

crate::net::writes_to_inner!(Terminated);
