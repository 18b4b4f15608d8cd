//! An HTTP/1.1 backend that says its name and what it was asked for, and falls ill on demand.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::serve::{Place, Server};

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Answers.
    Well,
    /// Takes connections and requests, as the kernel does for a process that is stopped, and does nothing with them.
    Hanging,
    /// Resets connections, those that there are and new ones.
    Resetting,
}

/// See the module. Dropped, it is gone with all of its connections, as a process that is killed.
#[derive(Debug)]
pub struct Faulty {
    /// Where it listens.
    pub server: Server,
    health: watch::Sender<Health>,
    requests: Arc<AtomicUsize>,
}

impl Faulty {
    /// Starts a healthy one.
    pub fn start(name: &str, place: Place) -> Self {
        let (health, requests) = (watch::Sender::new(Health::Well), Arc::new(AtomicUsize::new(0)));
        let (name, felt, counted) = (Arc::<str>::from(name), health.clone(), requests.clone());
        let server = Server::start(place, move |stream| {
            serve(stream, name.clone(), felt.subscribe(), counted.clone())
        });
        Self { server, health, requests }
    }

    /// From now on it is so.
    pub fn fall(&self, health: Health) {
        self.health.send_replace(health);
    }

    /// Requests that it has answered.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, name: Arc<str>, health: watch::Receiver<Health>, count: Arc<AtomicUsize>) {
    // What is closed without a word is reset: a task that is dropped has none.
    let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    let mut resets = health.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (name, count, mut health) = (name.clone(), count.clone(), health.clone());
        async move {
            // One that hangs has the requests of that time when it is well again.
            let _ = health.wait_for(|health| *health != Health::Hanging).await;
            count.fetch_add(1, Ordering::SeqCst);
            let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            Ok::<_, Infallible>(Response::new(format!("{name} {} {target}", request.method())))
        }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Clients that go away are part of some tests.
        _ = served => {}
        _ = resets.wait_for(|health| *health == Health::Resetting) => {}
    }
}
