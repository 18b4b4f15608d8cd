//! A server on a thread of its own, in this or another network namespace. What it does with a connection is the
//! business of `backend`, `echo` and `bulk`.

use std::fs::File;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::namespace;

/// Where a server listens.
#[derive(Debug)]
pub struct Place {
    address: SocketAddr,
    namespace: Option<File>,
}

impl Place {
    /// A free port of 127.0.0.1.
    pub fn loopback() -> Self {
        Self::at(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())
    }

    /// A free port of an address of this machine that is not loopback's: a cluster has no endpoints on loopback.
    #[track_caller]
    pub fn outside_loopback() -> Self {
        let interfaces = nix::ifaddrs::getifaddrs().expect("the interfaces");
        let ip = |interface: nix::ifaddrs::InterfaceAddress| Some(interface.address?.as_sockaddr_in()?.ip());
        let found = interfaces.filter_map(ip).find(|ip| !ip.is_loopback() && !ip.is_link_local());
        Self::at((found.expect("an IPv4 address of this machine beside loopback's"), 0).into())
    }

    /// An address of this namespace; port 0 is any.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, namespace: None }
    }

    /// Its address without the port.
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// An address of another namespace; port 0 is any.
    pub fn within(namespace: &namespace::Namespace, address: SocketAddr) -> Self {
        Self { address, namespace: Some(namespace.open()) }
    }
}

/// A running server. Ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and gives each connection to `serve`, which may use tokio.
    pub fn start<F>(place: Place, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let thread = std::thread::spawn(move || {
            if let Some(namespace) = &place.namespace {
                namespace::join(namespace);
            }
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(place.address)
                    .await
                    .unwrap_or_else(|error| panic!("listening on {}: {error}", place.address));
                tell.send(listener.local_addr().expect("address of a listener")).expect("the starter waits");
                tokio::select! {
                    () = accept(listener, &count, serve) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = told.recv().expect("a server that listens");
        Self { address, accepted, stop: Some(stop), thread: Some(thread) }
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn accept<F>(listener: TcpListener, count: &AtomicUsize, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            // Answers in several writes would wait for acknowledgements.
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed, and the test that needed the server fails by itself.
            let _ = thread.join();
        }
    }
}
