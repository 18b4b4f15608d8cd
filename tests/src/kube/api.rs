//! Asking an API server without kubectl, which takes a tenth of a second to start.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;

use crate::client::{Answer, Connection, request, runtime};
use crate::kube::seat::Seat;
use crate::tls::TlsClient;

/// An API server, and who asks it.
#[derive(Debug, Clone)]
pub struct Api {
    seat: Seat,
    port: u16,
    client: TlsClient,
}

impl Api {
    pub(super) fn new(seat: Seat, port: u16, client: TlsClient) -> Self {
        Self { seat, port, client }
    }

    /// A connection that stays open, from the network that the calling thread is in.
    pub async fn connect(&self) -> Result<Connection> {
        Connection::open_tls(self.seat.at(self.port), &self.client).await.context("the API server")
    }

    /// A GET on a connection of its own.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let (own, path) = (self.clone(), path.to_owned());
        self.seat.enter(move || {
            let asked = request("GET", "localhost", &path, &[]);
            runtime().block_on(async { own.connect().await?.send(asked).await })
        })
    }
}

/// A request with a body of a type, such as application/yaml.
pub fn ask(method: &str, path: &str, kind: &str, body: String) -> Request<Full<Bytes>> {
    let mut asked = request(method, "localhost", path, &[("content-type", kind)]);
    *asked.body_mut() = Full::from(body);
    asked
}
