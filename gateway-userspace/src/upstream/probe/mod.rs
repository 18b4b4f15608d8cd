//! Asks an endpoint how it is, on a connection of its own that begins as those of requests do. Who is asked when, and what
//! is made of the answer, is not decided here.

mod grpc;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::pin;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::connect::{ConnectError, connect};
use super::executor::LocalExecutor;
use super::opening::{Asked, Opening};
use super::stream::UpstreamStream;
use crate::model::{Checked, Cluster, HealthCheck, Probe, UpstreamProtocol};
use crate::tls::ClientConfigs;

/// In the manner of Envoy, which calls itself `Envoy/HC`.
const OURSELVES: &str = "Sluice/HC";
/// Bytes of an answer's head, and of its body: what is beyond is not read.
const MOST: usize = 64 * 1024;

/// Characters that are told of a fault: some of them are the endpoint's own.
const LONGEST: usize = 200;

/// Why there is no sound answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{}", words(.0))]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Exchange(#[from] hyper::Error),
    /// Documents' words do not make a request.
    #[error("no request can be made of the check: {0}")]
    Request(#[from] http::Error),
    #[error("status {0}")]
    Status(u16),
    #[error(transparent)]
    Grpc(#[from] grpc::Unwell),
}

impl Fault {
    /// What it says of the endpoint; nothing where it is the gateway that lacks something.
    fn judged(&self) -> Option<Checked> {
        match self {
            Self::Status(_) | Self::Grpc(_) => Some(Checked::Failed(self.told())),
            Self::Connect(error) if is_our_own(error) => None,
            Self::Connect(_) | Self::Exchange(_) | Self::Request(_) => Some(Checked::Unanswered(self.told())),
        }
    }

    fn told(&self) -> String {
        self.to_string().chars().filter(|it| !it.is_control()).take(LONGEST).collect()
    }
}

/// Without the address, which whoever is told knows.
fn words(error: &ConnectError) -> String {
    match error {
        ConnectError::Failed { source, .. } => source.to_string(),
        ConnectError::Handshake { source, .. } => format!("TLS: {source}"),
        ConnectError::Timeout { timeout, .. } => format!("no connection within {timeout:?}"),
        ConnectError::Name { .. } | ConnectError::Policy(_) => error.to_string(),
    }
}

/// Whether we ran out of descriptors or memory.
fn is_our_own(error: &ConnectError) -> bool {
    let own = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    matches!(error, ConnectError::Failed { source, .. } if source.raw_os_error().is_some_and(|code| own.contains(&code)))
}

/// Asks the endpoint of a cluster at an address, and takes no longer than the check may. `None`: it could not be asked for
/// reasons of our own. To be called on a runtime with tasks of its thread's own.
pub async fn probe(
    (cluster, check): (&Cluster, &HealthCheck),
    address: SocketAddr,
    configs: &ClientConfigs,
) -> Option<Checked> {
    let asking = Asking { cluster, check, address, configs };
    match timeout(check.timeout, asking.ask()).await {
        Ok(Ok(())) => Some(Checked::Passed),
        Ok(Err(fault)) => fault.judged(),
        Err(_) => Some(Checked::Unanswered(format!("no answer within {:?}", check.timeout))),
    }
}

struct Asking<'a> {
    cluster: &'a Cluster,
    check: &'a HealthCheck,
    address: SocketAddr,
    configs: &'a ClientConfigs,
}

impl Asking<'_> {
    async fn ask(&self) -> Result<(), Fault> {
        match &self.check.probe {
            Probe::Tcp => self.open(Asked::Endpoint(self.address.ip())).await.map(drop),
            Probe::Http { host, path, expected } => {
                let host = host.as_deref().unwrap_or(&self.cluster.name.host);
                let version = match self.cluster.speaks(false) {
                    UpstreamProtocol::Http2 => Version::HTTP_2,
                    UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => Version::HTTP_11,
                };
                let request = self.request(version, host, path)?.body(Full::default())?;
                self.expect(request, host, expected).await
            }
            Probe::Grpc { service } => {
                let host = &*self.cluster.name.host;
                let request = self
                    .request(Version::HTTP_2, host, grpc::PATH)?
                    .method(Method::POST)
                    .header(CONTENT_TYPE, grpc::CONTENT_TYPE)
                    .header(TE, "trailers")
                    .body(Full::from(grpc::request(service)))?;
                let stream = self.open(Asked::Http2Host(host)).await?;
                let answer = by_http2(stream, self.address, request).await?;
                Ok(grpc::judge(answer.status, &answer.head, &answer.body, answer.trailers.as_ref())?)
            }
        }
    }

    /// A GET, as its version addresses it (RFC 9112, 3.2.1; RFC 9113, 8.3.1).
    fn request(
        &self,
        version: Version,
        host: &str,
        path: &str,
    ) -> Result<http::request::Builder, http::Error> {
        let request = Request::builder().version(version).header(USER_AGENT, OURSELVES);
        if version != Version::HTTP_2 {
            return Ok(request.uri(path).header(HOST, host).header(CONNECTION, "close"));
        }
        let scheme = if self.cluster.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(Authority::try_from(host)?)
            .path_and_query(PathAndQuery::try_from(path)?);
        Ok(request.uri(uri.build()?))
    }

    async fn expect(
        &self,
        request: Request<Full<Bytes>>,
        host: &str,
        expected: &[RangeInclusive<u16>],
    ) -> Result<(), Fault> {
        let answer = if request.version() == Version::HTTP_2 {
            let stream = self.open(Asked::Http2Host(host)).await?;
            by_http2(stream, self.address, request).await?
        } else {
            let stream = self.open(Asked::Host(host)).await?;
            by_http1(stream, self.address, request).await?
        };
        let is_expected = expected.iter().any(|range| range.contains(&answer.status));
        if is_expected { Ok(()) } else { Err(Fault::Status(answer.status)) }
    }

    /// Connects, and begins as the cluster's policy asks. A header of the PROXY protocol tells of this very connection.
    async fn open(&self, asked: Asked<'_>) -> Result<UpstreamStream, Fault> {
        let (address, cluster) = (self.address, self.cluster);
        let stream = connect(address, self.check.timeout).await?;
        let local = stream.local_addr().map_err(|source| ConnectError::Failed { address, source })?;
        let ends = (cluster.proxy_protocol, local, address);
        let opening = Opening::of(cluster, self.configs, asked, ends)?;
        Ok(opening.begin(stream, address, cluster).await?)
    }
}

/// An answer, as far as it is read.
struct Answer {
    status: u16,
    head: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// Everything of the exchange is in this future: whoever drops it closes the connection.
async fn by_http1(
    stream: UpstreamStream,
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Fault> {
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder
        .max_buf_size(MOST)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(address, error))?;
    let mut exchange = pin!(async move { read(sender.send_request(request).await?).await });
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // What became of the connection the exchange tells.
        _ = connection => exchange.await,
    }
}

/// hyper ends the connection's tasks once nothing is under way on it.
async fn by_http2(
    stream: UpstreamStream,
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Fault> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder.max_header_list_size(MOST as u32).initial_stream_window_size(MOST as u32);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| failed(address, error))?;
    let mut exchange = pin!(async move { read(sender.send_request(request).await?).await });
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

fn failed(address: SocketAddr, error: hyper::Error) -> Fault {
    ConnectError::Failed { address, source: io::Error::other(error) }.into()
}

/// Reads to the end, as Envoy does, or as much as may be.
async fn read(response: Response<Incoming>) -> Result<Answer, Fault> {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(frame) = incoming.frame().await {
        match frame?.into_data() {
            Ok(data) => body.extend_from_slice(&data[..data.len().min(MOST - body.len())]),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if body.len() >= MOST {
            break;
        }
    }
    Ok(Answer { status: head.status.as_u16(), head: head.headers, body, trailers })
}

#[cfg(test)]
mod tests;
