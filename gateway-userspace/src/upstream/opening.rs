//! How a connection to an endpoint begins, before the first byte of what it is for: with a header of the PROXY protocol,
//! with TLS, both, or neither. Connections that begin alike may stand in for one another, and no others.

use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::uri::Authority;
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::connect::{ConnectError, connect};
use super::stream::UpstreamStream;
use crate::model::{Cluster, ProxyVersion};
use crate::net::{proxy_protocol, socket};
use crate::tls::ClientConfigs;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Opening {
    header: Option<Bytes>,
    tls: Option<Tls>,
}

/// A configuration and who is asked for.
#[derive(Debug, Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl Eq for Tls {}

impl Hash for Tls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.config), &self.name).hash(state);
    }
}

/// Who an endpoint is taken for, where the policy does not say.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// A request's Host, with or without a port.
    Host(&'a str),
    /// Likewise, of a request that is sent in HTTP/2.
    Http2Host(&'a str),
    /// Itself: nothing is known of opaque bytes.
    Endpoint(IpAddr),
}

impl Opening {
    /// Without TLS, as `header` says.
    fn plain(header: Option<Bytes>) -> Self {
        Self { header, tls: None }
    }

    /// Begins as a cluster's policy asks. The client and its side of the gateway are for those who are told of it.
    pub fn of(
        cluster: &Cluster,
        configs: &ClientConfigs,
        asked: Asked<'_>,
        (version, client, local): (Option<ProxyVersion>, SocketAddr, SocketAddr),
    ) -> Result<Self, ConnectError> {
        let header = version.map(|version| match version {
            ProxyVersion::V1 => proxy_protocol::version_1(client, local).into(),
            ProxyVersion::V2 => proxy_protocol::version_2(client, local).into(),
        });
        let Some(policy) = &cluster.tls else { return Ok(Self::plain(header)) };
        let configs = configs.get(policy)?;
        let (config, name) = match (&policy.sni, asked) {
            (Some(sni), Asked::Http2Host(_)) => (configs.by_host_http2, server_name(sni)?),
            (Some(sni), _) => (configs.by_host, server_name(sni)?),
            (None, Asked::Host(authority)) => (configs.by_host, server_name(&host(authority))?),
            (None, Asked::Http2Host(authority)) => (configs.by_host_http2, server_name(&host(authority))?),
            (None, Asked::Endpoint(address)) => (configs.anonymous, ServerName::IpAddress(address.into())),
        };
        Ok(Self { header, tls: Some(Tls { config, name }) })
    }

    /// Whether anything is said before the bytes that a connection is for.
    pub fn says_nothing(&self) -> bool {
        self.header.is_none() && self.tls.is_none()
    }

    /// Connects and begins, both within the cluster's time.
    pub(super) async fn open(
        &self,
        address: SocketAddr,
        cluster: &Cluster,
    ) -> Result<UpstreamStream, ConnectError> {
        let stream = connect(address, cluster.connect_timeout).await?;
        self.begin(stream, address, cluster).await
    }

    /// Begins on a connection that is there, within the cluster's time.
    pub async fn begin(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
        cluster: &Cluster,
    ) -> Result<UpstreamStream, ConnectError> {
        if let Some(keepalive) = &cluster.keepalive {
            socket::keep_alive(&stream, keepalive.probes, keepalive.time, keepalive.interval);
        }
        if self.says_nothing() {
            return Ok(UpstreamStream::Plain(stream));
        }
        let limit = cluster.connect_timeout;
        let beginning = async {
            if let Some(header) = &self.header {
                stream.write_all(header).await.map_err(|source| ConnectError::Failed { address, source })?;
            }
            let Some(Tls { config, name }) = &self.tls else { return Ok(UpstreamStream::Plain(stream)) };
            let connector = TlsConnector::from(config.clone());
            match connector.connect(name.clone(), stream).await {
                Ok(stream) => Ok(UpstreamStream::Sealed(Box::new(stream))),
                Err(source) => Err(ConnectError::Handshake { address, source }),
            }
        };
        match timeout(limit, beginning).await {
            Ok(begun) => begun,
            Err(_) => Err(ConnectError::Timeout { address, timeout: limit }),
        }
    }
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
fn host(authority: &str) -> String {
    let host =
        authority.parse::<Authority>().map_or_else(|_| authority.to_owned(), |it| it.host().to_owned());
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

fn server_name(name: &str) -> Result<ServerName<'static>, ConnectError> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, format!("\"{name}\" is no server name"));
        ConnectError::Name { source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_asked_for_without_their_ports() {
        for (authority, want) in [
            ("a.test", "a.test"),
            ("a.test:8443", "a.test"),
            ("10.0.0.1:1", "10.0.0.1"),
            ("[fd00::1]:443", "fd00::1"),
            ("[fd00::1]", "fd00::1"),
        ] {
            assert_eq!(host(authority), want, "{authority}");
            assert!(server_name(want).is_ok());
        }
        assert!(server_name("not a name").is_err());
    }
}
