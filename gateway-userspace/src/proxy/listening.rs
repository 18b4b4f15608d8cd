//! A worker's listening sockets: opened, or inherited from the agent before this one. A connection belongs to the socket in
//! whose queue it waits: one that is closed loses its queue, one that another process has too does not.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::connection;
use super::drains::Place;
use super::worker::{Shared, unmapped};
use crate::model::{Listener, ListenerKey, Refusal};
use crate::net::socket;

/// Pause after an accept that failed, or would have failed, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A copy of a listening socket, for another process.
#[derive(Debug)]
pub struct Lent {
    /// What it listens for.
    pub listener: ListenerKey,
    /// The copy.
    pub socket: OwnedFd,
}

/// A listener that could not be opened; it is tried again every few seconds.
#[derive(Debug, Clone)]
pub struct BindFailure {
    /// Where.
    pub listener: ListenerKey,
    /// Why.
    pub reason: String,
}

impl BindFailure {
    pub(super) fn of(listener: ListenerKey, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need root or CAP_NET_BIND_SERVICE, or a Service of the gateway that maps them to others"
            }
            io::ErrorKind::AddrInUse => "; another process listens there",
            io::ErrorKind::AddrNotAvailable => "; the address is not this machine's",
            _ => "",
        };
        Self { listener, reason: format!("{error}{remedy}") }
    }
}

/// Sockets of the agent before this one that nobody accepts from yet.
#[derive(Debug, Default)]
pub(super) struct Inherited(HashMap<ListenerKey, Vec<OwnedFd>>);

impl Inherited {
    /// A share for each of so many workers. None of the sockets may be left out: connections go to all of them.
    pub(super) fn share(sockets: Vec<(ListenerKey, OwnedFd)>, workers: usize) -> Vec<Self> {
        let mut shares: Vec<Self> = (0..workers.max(1)).map(|_| Self::default()).collect();
        let mut next: HashMap<ListenerKey, usize> = HashMap::new();
        for (listener, socket) in sockets {
            let turn = next.entry(listener).or_default();
            let share = *turn % shares.len();
            *turn += 1;
            shares[share].0.entry(listener).or_default().push(socket);
        }
        shares
    }

    fn take(&mut self, listener: ListenerKey) -> io::Result<Vec<TcpListener>> {
        self.0.remove(&listener).unwrap_or_default().into_iter().map(socket::adopt).collect()
    }
}

/// A listener that is open.
pub(super) struct Open {
    sockets: Vec<Rc<TcpListener>>,
    accepting: Vec<AbortHandle>,
    /// What clients are told; `None` for what the link carries.
    segment_size: Option<u32>,
}

impl Open {
    /// Accepts from inherited sockets, or from one of its own where there are none.
    pub(super) fn of(key: ListenerKey, inherited: &mut Inherited, shared: &Rc<Shared>) -> io::Result<Self> {
        let mut sockets = inherited.take(key)?;
        if sockets.is_empty() {
            sockets.push(socket::listen(key.bind, key.port)?);
        }
        let sockets: Vec<_> = sockets.into_iter().map(Rc::new).collect();
        let accept = |socket: &Rc<TcpListener>| {
            tokio::task::spawn_local(accept(socket.clone(), key, shared.clone())).abort_handle()
        };
        let accepting = sockets.iter().map(accept).collect();
        Ok(Self { sockets, accepting, segment_size: None })
    }

    pub(super) fn is_accepting(&self) -> bool {
        !self.accepting.iter().any(AbortHandle::is_finished)
    }

    /// Accepts no more. The sockets are closed with the tasks and this.
    pub(super) fn stop(&self) {
        self.accepting.iter().for_each(AbortHandle::abort);
    }

    /// Has clients send no segments larger than that.
    pub(super) fn fit(&mut self, size: Option<u32>) {
        if self.segment_size == size {
            return;
        }
        for socket in &self.sockets {
            // A socket that refuses has clients whose connections stay in user space.
            let _ = SockRef::from(&**socket).set_tcp_mss(size.unwrap_or(0));
        }
        self.segment_size = size;
    }

    /// Copies for another process; one that cannot be had is not there.
    pub(super) fn lend(&self, listener: ListenerKey) -> impl Iterator<Item = Lent> {
        let copy = move |socket: &Rc<TcpListener>| {
            let copied = socket.as_fd().try_clone_to_owned();
            copied.inspect_err(|error| tracing::warn!(%listener, %error, "socket not handed over")).ok()
        };
        self.sockets.iter().filter_map(copy).map(move |socket| Lent { listener, socket })
    }

    /// Serves the connections that wait in the queues: they would be reset with the sockets.
    pub(super) fn serve_waiting(&self, listener: &Listener, shared: &Rc<Shared>) {
        for socket in &self.sockets {
            while let Ok((stream, peer)) = SockRef::from(&**socket).accept() {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream.into()));
                let (Ok(stream), Some(peer)) = (stream, peer.as_socket()) else { continue };
                // Waited for from now on, not only once it is served.
                let waited_for = shared.drains.watch(Place::of(listener));
                let serving = connection::serve(
                    shared.clone(),
                    listener.key,
                    stream,
                    unmapped(peer),
                    shared.overload.seat(),
                );
                tokio::task::spawn_local(async move {
                    serving.await;
                    drop(waited_for);
                });
            }
        }
    }
}

async fn accept(socket: Rc<TcpListener>, key: ListenerKey, shared: Rc<Shared>) {
    let mut is_paused = false;
    loop {
        if !shared.overload.has_seat() {
            pause(&shared, key, &mut is_paused, "all descriptors are in use").await;
            continue;
        }
        match socket.accept().await {
            Ok((stream, peer)) => {
                is_paused = false;
                // Taken now, so that no more are accepted than there is room for.
                let seat = shared.overload.seat();
                tokio::task::spawn_local(connection::serve(
                    shared.clone(),
                    key,
                    stream,
                    unmapped(peer),
                    seat,
                ));
            }
            Err(error) => pause(&shared, key, &mut is_paused, &error.to_string()).await,
        }
    }
}

/// Clients wait in the backlog. That is told once, not each time that the wait goes on.
async fn pause(shared: &Shared, key: ListenerKey, is_paused: &mut bool, reason: &str) {
    if !std::mem::replace(is_paused, true) {
        shared.counts.refusals.count(Refusal::Descriptors);
        tracing::warn!(listener = %key, reason, "no connection is accepted");
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_inherited_socket_is_left_out() {
        let key = |port| ListenerKey { bind: None, port };
        let socket = || OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        for (of_first, of_second, workers) in [(2, 2, 2), (4, 1, 2), (1, 1, 3), (3, 2, 1)] {
            let of = |port, count| (0..count).map(move |_| (key(port), socket()));
            let shares = Inherited::share(of(80, of_first).chain(of(81, of_second)).collect(), workers);
            assert_eq!(shares.len(), workers);
            for (port, count) in [(80, of_first), (81, of_second)] {
                let held: Vec<usize> =
                    shares.iter().map(|it| it.0.get(&key(port)).map_or(0, Vec::len)).collect();
                assert_eq!(held.iter().sum::<usize>(), count);
                assert!(held.iter().max().unwrap() - held.iter().min().unwrap() <= 1, "{held:?}");
            }
        }
    }
}
