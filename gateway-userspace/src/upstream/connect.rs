//! One TCP connection to one endpoint.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::net::socket;

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
}

/// Connects, at most for `timeout`.
pub async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, ConnectError> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            socket::prepare(&stream);
            Ok(stream)
        }
        Ok(Err(source)) => Err(ConnectError::Failed { address, source }),
        Err(_) => Err(ConnectError::Timeout { address, timeout }),
    }
}
