//! What happens to a connection of HTTP/1 besides what its client says: a drain, its age, a shortage. It is looked at when it
//! has news, not whenever the conversation is woken.

use std::cell::Cell;
use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::net::seldom::Seldom;
use crate::proxy::detect::HttpVersion;
use crate::proxy::http::serve::{Connection, last_call};

/// See the module.
pub(super) struct Aside<'c> {
    watch: Seldom<Pin<&'c mut (dyn Future<Output = ()> + 'c)>>,
    leaving: &'c Cell<bool>,
}

/// Has `leaving` say when the connection is to take no more requests than the one under way, and ends when it is cut off.
pub(super) async fn watch(connection: &Connection, leaving: &Cell<bool>) {
    let (mut drain, mut end) = (connection.drain(), connection.drain());
    let leave = async {
        last_call(connection, &mut drain, HttpVersion::One).await;
        leaving.set(true);
        pending::<()>().await;
    };
    tokio::select! {
        () = end.over() => {}
        () = leave => {}
    }
}

impl<'c> Aside<'c> {
    /// Of what [`watch`] returns.
    pub(super) fn new(watch: Pin<&'c mut (dyn Future<Output = ()> + 'c)>, leaving: &'c Cell<bool>) -> Self {
        Self { watch: Seldom::new(watch), leaving }
    }

    /// Ready when the connection is to be cut off.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.watch).poll(cx)
    }

    /// Whether the connection is to take no more requests.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }
}
