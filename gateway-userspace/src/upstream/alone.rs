//! A request of HTTP/1.1 that has a connection of its own.

use std::any::Any;

use http::{Response, StatusCode};

use super::balance::Lease;
use super::body::UpstreamBody;
use super::ending::ExchangeError;
use super::framing;
use super::http1::{Channel, Sending};
use super::loan::{Loan, Own};
use super::outbound::Outbound;
use super::pool::SendError;
use super::stream::UpstreamStream;
use crate::http1::{Length, ResponseHead};

/// Sends a request on a connection to the leased endpoint that no other request gets: it is closed behind the response,
/// unless that says that both ends switch protocols. Waits for the head of the response. What is `kept` ends with the connection.
pub async fn send_alone(
    stream: UpstreamStream,
    kept: Box<dyn Any>,
    Outbound { head, body }: Outbound,
    lease: Lease,
) -> Result<Response<UpstreamBody>, SendError> {
    let mut own = Box::new(Own { channel: Channel::new(stream), kept });
    let mut sending = own.channel.begin(&head, body);
    match own.channel.exchange(&head.method, &mut sending, true).await {
        Ok(head) => answer(head, Loan::Own(own), sending, lease),
        Err(fault) => Err(SendError::exchange(ExchangeError::Http1(fault), false)),
    }
}

/// The response whose head has come on a connection that was lent. What says twice how long it is ends the connection.
pub(super) fn answer(
    ResponseHead { mut response, length, is_kept_alive }: ResponseHead,
    mut loan: Loan,
    sending: Sending,
    lease: Lease,
) -> Result<Response<UpstreamBody>, SendError> {
    let length = length?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|()| UpstreamBody::switching(loan, lease)));
    }
    if matches!(length, Length::Exact(_)) {
        framing::settle_length(response.headers_mut())?;
    }
    loan.channel_mut().expect(length, is_kept_alive);
    Ok(response.map(|()| UpstreamBody::lent(loan, sending, lease)))
}
