//! An HTTP/2 connection that is being made, and the requests that wait for it: as many as it will carry share it, so that
//! a cold endpoint is not dialled once for each of them. It is made on its own, whoever leaves meanwhile.

use std::cell::RefCell;

use hyper::client::conn::http2;
use tokio::sync::oneshot;

use super::connect::ConnectError;
use super::origin::{Multiplexed, Stream};
use super::replay::RequestBody;

/// A stream on a connection. The one who is first on it cannot blame its age if it fails.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) stream: Stream,
    pub(super) is_first: bool,
}

/// What those who wait are told. Nothing at all: the connection has no room for them after all.
pub(super) type Told = Result<Opened, ConnectError>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Dial {
    /// In the order in which they came.
    waiting: RefCell<Vec<oneshot::Sender<Told>>>,
}

impl Dial {
    /// Waits with the others, if fewer than `most` do.
    pub(super) fn join(&self, most: usize) -> Option<oneshot::Receiver<Told>> {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|one| !one.is_closed());
        (waiting.len() < most).then(|| {
            let (tell, told) = oneshot::channel();
            waiting.push(tell);
            told
        })
    }

    /// Tells everyone who still waits what became of it.
    pub(super) fn end(&self, result: Result<&Multiplexed, ConnectError>) {
        let waiting = self.waiting.take();
        match result {
            Ok(connection) => {
                let mut is_first = true;
                for one in waiting.into_iter().filter(|one| !one.is_closed()) {
                    if !connection.is_usable() {
                        break;
                    }
                    let (sender, stream) = connection.open();
                    // Whoever left in between leaves the place to the next.
                    is_first &= one.send(Ok(Opened { sender, stream, is_first })).is_err();
                }
            }
            Err(error) => {
                for one in waiting {
                    let _ = one.send(Err(error.repeated()));
                }
            }
        }
    }
}
