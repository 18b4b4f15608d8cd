//! What the agent is told to do over its admin socket.

use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// One of those.
#[derive(Debug)]
pub enum Order {
    /// To be ready no more and have clients told to go, and to serve on.
    Leave,
    /// To give its sockets to the process at the other end, which takes its place.
    HandOver(UnixStream),
}

/// Where orders go; nowhere by default.
#[derive(Debug, Clone, Default)]
pub struct Orders(Option<mpsc::UnboundedSender<Order>>);

impl Orders {
    /// A pair.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// Gives one; false where nobody takes it any more.
    pub(super) fn give(&self, order: Order) -> bool {
        self.0.as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }
}
