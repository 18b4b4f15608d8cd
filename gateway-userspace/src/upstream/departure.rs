//! When a request leaves: the moment at which there is a connection to send it on. A try's time counts from then on, and
//! only who was reached is to blame when it passes, as at Envoy.

use std::cell::Cell;
use std::net::SocketAddr;

use tokio::sync::Notify;
use tokio::time::Instant;

/// See the module; of one request, over all its tries.
#[derive(Debug, Default)]
pub struct Departure {
    last: Cell<Option<(SocketAddr, Instant)>>,
    local: Cell<Option<SocketAddr>>,
    news: Notify,
}

impl Departure {
    /// The request leaves for an endpoint, from an end of ours. Another connection to the same one changes nothing else.
    pub fn leave(&self, endpoint: SocketAddr, local: Option<SocketAddr>) {
        self.local.set(local);
        if self.last.get().is_none() {
            self.last.set(Some((endpoint, Instant::now())));
            self.news.notify_waiters();
        }
    }

    /// It is here again: a try is over.
    pub fn reset(&self) {
        self.last.set(None);
        self.local.set(None);
    }

    /// Where it is.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.last.get().map(|(endpoint, _)| endpoint)
    }

    /// Our end of the connection that it left by last.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local.get()
    }

    /// When it left, if it has.
    pub fn left(&self) -> Option<Instant> {
        self.last.get().map(|(_, at)| at)
    }

    /// The moment at which it leaves.
    pub async fn at(&self) -> Instant {
        loop {
            let news = self.news.notified();
            if let Some((_, at)) = self.last.get() {
                return at;
            }
            news.await;
        }
    }
}
