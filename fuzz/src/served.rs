//! A connection as the agent serves it (`proxy::http::serve`): hyper's server on a watched stream. There are no sockets, no
//! threads and no time in it: the client has said everything, so that polling is all there is to do.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::heads::{Heads, Watched};
use crate::reading::MAX_LINES;

/// Bytes that hyper reads ahead, as in the agent.
const MAX_READ: usize = 128 * 1024;

/// A request that hyper has handed on.
#[derive(Debug, PartialEq, Eq)]
pub struct Served {
    /// Whether it would be served: `Heads::is_plain`, asked when the agent asks it.
    pub is_plain: bool,
    /// Of the request line.
    pub method: String,
    /// Likewise, as hyper understands it.
    pub target: String,
    /// All of it; `None` if it broke off, or was not read.
    pub body: Option<Vec<u8>>,
}

/// Serves what a client sends in pieces of a length; it closes its side when nothing comes of it any more. Requests are
/// answered behind their bodies, or at once. Panics if the connection never rests.
pub fn serve(octets: &[u8], piece: usize, reads_bodies: bool) -> Vec<Served> {
    let (served, before, heads) = (Rc::new(RefCell::default()), Cell::new(0), Heads::default());
    let is_closed = Arc::new(AtomicBool::new(false));
    let client = Client { left: octets.to_owned().into(), piece, is_closed: is_closed.clone() };
    let stream = Watched::new(client, heads.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let is_plain = heads.is_plain(before.replace(before.get() + 1));
        answer(request, is_plain, reads_bodies, served.clone())
    });
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_LINES).max_buf_size(MAX_READ);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    // How it ends tells nothing: what is no request is an error, too.
    if !rests(connection.as_mut(), octets.len()) {
        is_closed.store(true, Ordering::Relaxed);
        rests(connection.as_mut(), octets.len());
    }
    served.take()
}

/// Polls until nothing is left to do. Whether it is over, too.
fn rests(mut connection: Pin<&mut impl Future>, octets: usize) -> bool {
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let turns = 100 + 10 * octets;
    for _ in 0..turns {
        if !woken.0.swap(false, Ordering::Relaxed) {
            return false;
        }
        if connection.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return true;
        }
    }
    panic!("no rest after {turns} turns");
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn answer(
    request: Request<Incoming>,
    is_plain: bool,
    reads_body: bool,
    served: Rc<RefCell<Vec<Served>>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let at = served.borrow().len();
    let (method, target) = (head.method.to_string(), head.uri.to_string());
    served.borrow_mut().push(Served { is_plain, method, target, body: None });
    if reads_body {
        let body = body.collect().await.ok();
        served.borrow_mut()[at].body = body.map(|body| body.to_bytes().into());
    }
    Ok(Response::new(Empty::new()))
}

/// A client that says so many octets at a time, and does not care for what it is answered.
struct Client {
    left: Bytes,
    piece: usize,
    is_closed: Arc<AtomicBool>,
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() && !self.is_closed.load(Ordering::Relaxed) {
            // Whoever closes it polls again.
            return Poll::Pending;
        }
        let length = self.piece.min(self.left.len()).min(buf.remaining());
        buf.put_slice(&self.left.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
