//! HTTP/1.1 on a connection that somebody has made: how every conversation of it begins, and a request that has a
//! connection of its own.

use std::io;
use std::net::SocketAddr;

use http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::balance::Lease;
use super::body::UpstreamBody;
use super::connect::ConnectError;
use super::framing;
use super::pool::SendError;
use super::replay::RequestBody;

/// Bytes of a response that are read at once, its head among them: so much of it waits here for a client that is slower. Envoy
/// takes heads of 60 KiB.
const READ_BUFFER: usize = 64 * 1024;

/// Begins to speak HTTP/1.1 with the endpoint at an address. The stream goes to a task, which ends with it.
pub(super) async fn begin<S>(
    stream: S,
    address: SocketAddr,
) -> Result<http1::SendRequest<RequestBody>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ConnectError::Failed { address, source: io::Error::other(error) })?;
    tokio::task::spawn_local(async move {
        // Whoever waits for a response on this connection hears of the failure itself.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// Sends a request on a connection to the leased endpoint that no other request gets: it is closed behind the response,
/// unless that says that both ends switch protocols. Waits for the head of the response.
pub async fn send_alone<S>(
    stream: S,
    request: Request<RequestBody>,
    lease: Lease,
) -> Result<Response<UpstreamBody>, SendError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut sender = match begin(stream, lease.address).await {
        Ok(sender) => sender,
        Err(error) => return Err(SendError::Connect { error, request: Box::new(request) }),
    };
    match sender.try_send_request(request).await {
        Ok(mut response) => {
            framing::settle(&mut response)?;
            Ok(response.map(|body| UpstreamBody::new(body, None, lease)))
        }
        Err(unsent) => Err(SendError::exchange(unsent.into_error(), false)),
    }
}
