//! HTTP/1.1 on a connection that somebody has made: a request that has a connection of its own.

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::balance::Lease;
use super::body::UpstreamBody;
use super::conversation::Conversation;
use super::framing;
use super::pool::SendError;
use super::replay::RequestBody;

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
    let mut conversation = match Conversation::begin(stream, lease.address).await {
        Ok(conversation) => conversation,
        Err(error) => return Err(SendError::Connect { error, request: Box::new(request) }),
    };
    conversation.detach();
    match conversation.send(request).await {
        Ok(mut response) => {
            framing::settle(&mut response)?;
            Ok(response.map(|body| UpstreamBody::new(body, None, lease)))
        }
        Err(unsent) => Err(SendError::exchange(unsent.into_error(), false)),
    }
}
