//! Asking an API server without kubectl, which takes a tenth of a second to start.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;

use crate::client::{Answer, Connection, request, runtime};
use crate::tls::TlsClient;

/// An API server, and who asks it.
#[derive(Debug, Clone)]
pub struct Api {
    address: SocketAddr,
    client: TlsClient,
}

impl Api {
    pub(super) fn new(address: SocketAddr, client: TlsClient) -> Self {
        Self { address, client }
    }

    /// A connection that stays open.
    pub async fn connect(&self) -> Result<Connection> {
        Connection::open_tls(self.address, &self.client).await.context("the API server")
    }

    /// A GET on a connection of its own.
    pub fn get(&self, path: &str) -> Result<Answer> {
        runtime().block_on(async { self.connect().await?.send(request("GET", "localhost", path, &[])).await })
    }
}

/// A request with a body of a type, such as application/yaml.
pub fn ask(method: &str, path: &str, kind: &str, body: String) -> Request<Full<Bytes>> {
    let mut asked = request(method, "localhost", path, &[("content-type", kind)]);
    *asked.body_mut() = Full::from(body);
    asked
}
