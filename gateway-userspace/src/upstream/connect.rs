//! One TCP connection to one endpoint.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use crate::net::socket;
use crate::tls::ClientFault;

/// Why an endpoint could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Refused, unreachable, or no local port left.
    #[error("{address}: {source}")]
    Failed {
        /// The endpoint.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No answer within the cluster's connect timeout.
    #[error("{address}: no connection within {timeout:?}")]
    Timeout {
        /// The endpoint.
        address: SocketAddr,
        /// The cluster's limit.
        timeout: Duration,
    },
    /// TLS with it did not come about: it is not who it should be, or speaks no TLS.
    #[error("{address}: TLS: {source}")]
    Handshake {
        /// The endpoint.
        address: SocketAddr,
        /// What rustls said.
        source: io::Error,
    },
    /// There is no server name to ask for.
    #[error("{source}")]
    Name {
        /// Which, and why.
        source: io::Error,
    },
    /// The policy cannot be kept: a certificate, key or authority is missing.
    #[error("{0}")]
    Policy(#[from] ClientFault),
}

impl ConnectError {
    /// The same for another request that waited for the same connection.
    pub(super) fn repeated(&self) -> Self {
        let again = |source: &io::Error| io::Error::new(source.kind(), source.to_string());
        match self {
            Self::Failed { address, source } => Self::Failed { address: *address, source: again(source) },
            Self::Timeout { address, timeout } => Self::Timeout { address: *address, timeout: *timeout },
            Self::Handshake { address, source } => {
                Self::Handshake { address: *address, source: again(source) }
            }
            Self::Name { source } => Self::Name { source: again(source) },
            Self::Policy(fault) => Self::Policy(fault.clone()),
        }
    }

    /// What Envoy calls it (`%UPSTREAM_TRANSPORT_FAILURE_REASON%`), with underscores for spaces: the kernel's words for a
    /// connection that failed, rustls' for a handshake that did.
    pub fn transport_failure(&self) -> Option<Box<str>> {
        let words = match self {
            Self::Failed { source, .. } => format!("delayed connect error: {}", kernel_words(source)),
            Self::Timeout { .. } => return None,
            Self::Handshake { source, .. } => format!("TLS_error: {source}"),
            Self::Name { source } => format!("TLS_error: {source}"),
            Self::Policy(fault) => format!("TLS_error: {fault}"),
        };
        Some(words.replace(' ', "_").into())
    }

    /// Whether another connection to the endpoint has the source port still.
    pub fn is_port_taken(&self) -> bool {
        let kinds = [io::ErrorKind::AddrInUse, io::ErrorKind::AddrNotAvailable];
        matches!(self, Self::Failed { source, .. } if kinds.contains(&source.kind()))
    }
}

/// Without the number that Rust puts behind them.
fn kernel_words(error: &io::Error) -> String {
    let words = error.to_string();
    words.split_once(" (os error").map_or(words.as_str(), |(words, _)| words).to_owned()
}

/// Connects, at most for `timeout`.
pub async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, ConnectError> {
    within(TcpStream::connect(address), address, timeout).await
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Address and port, which other connections may have towards other endpoints.
    pub address: SocketAddr,
    /// Whether the address is not this machine's but a client's: answers must be brought here by whoever asks for that.
    pub transparent: bool,
    /// Largest segment that the endpoint is told to send, in bytes; `None` for what the link carries.
    pub segment_size: Option<u32>,
}

/// The same from an address and port.
pub async fn connect_from(
    source: Source,
    address: SocketAddr,
    timeout: Duration,
) -> Result<TcpStream, ConnectError> {
    let connecting = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        if source.transparent {
            speak_for_another(&SockRef::from(&socket), address)?;
        }
        if let Some(size) = source.segment_size {
            SockRef::from(&socket).set_tcp_mss(size)?;
        }
        socket.bind(source.address)?;
        socket.connect(address).await
    };
    within(connecting, address, timeout).await
}

/// Lets a socket have an address that is not this machine's (`IP_TRANSPARENT`, which needs CAP_NET_ADMIN).
fn speak_for_another(socket: &SockRef<'_>, to: SocketAddr) -> io::Result<()> {
    if to.is_ipv4() { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) }
}

async fn within(
    connecting: impl Future<Output = io::Result<TcpStream>>,
    address: SocketAddr,
    timeout: Duration,
) -> Result<TcpStream, ConnectError> {
    match tokio::time::timeout(timeout, connecting).await {
        Ok(Ok(stream)) => {
            socket::prepare(&stream);
            Ok(stream)
        }
        Ok(Err(source)) => Err(ConnectError::Failed { address, source }),
        Err(_) => Err(ConnectError::Timeout { address, timeout }),
    }
}
