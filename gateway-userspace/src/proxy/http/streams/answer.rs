//! A request of a stream and its answer, in one future: it is served, then the answer is sent as the client takes it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, SERVER};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as _, Frame};

use super::idle::Stream;
use crate::http2::{Asked, Code, Inbound, Outbound, Protocol, RequestHead, Tunnel};
use crate::proxy::error::RequestError;
use crate::proxy::http::exchange::Moving;
use crate::proxy::http::record::Notes;
use crate::proxy::http::request;
use crate::proxy::http::serve::Connection;
use crate::upstream::ClientBody;
use crate::wire::{Switched, switching};

/// Serves what was asked for on a stream. It ends early when the client takes it back.
pub(super) async fn answer(connection: Rc<Connection>, stream: Stream, asked: Asked) {
    let _stream = stream;
    let Asked { head, inbound, outbound } = asked;
    let Some(head) = head else { return refuse(&connection, &outbound) };
    let RequestHead { request, expects_continue, .. } = head;
    let exchange = connection.shared.exchanges.begin(Rc::as_ptr(&connection).addr());
    let watch = exchange.watch();
    let may_switch = request.extensions().get::<Protocol>().is_some();
    let (tunnel, body) = body(inbound, may_switch, expects_continue);
    let (switch, switching) = tunnel.is_some().then(switching).unzip();
    exchange.may_switch(switching);
    let response = {
        // In a box, as futures within futures each have room for it.
        let request = Box::new(request.map(|()| body));
        // Its frames say how long it is.
        let mut serving = pin!(request::serve(&connection, request, true, &exchange));
        poll_fn(|cx| match outbound.poll_gone(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => serving.as_mut().poll(cx).map(Some),
        })
        .await
    };
    let Some(response) = response else { return };
    let response = response.map(|body| exchange.with(body, &connection.shared.overload));
    let switch = switch.filter(|switch| response.status().is_success() && switch.is_wanted());
    let Some(mut sending) = begin(response, &outbound, switch.is_some()) else {
        if let (Some(switch), Some(inbound)) = (switch, tunnel) {
            switch.to(Switched::new(Tunnel::new(inbound, outbound), Bytes::new()));
        }
        return;
    };
    poll_fn(|cx| {
        let sent = sending.poll_sent(&outbound, cx);
        let is_over = sent.is_ready() || outbound.poll_gone(cx).is_ready() || watch.is_given_up(cx);
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// What comes on a stream is the body of its request, unless the stream may switch.
fn body(inbound: Option<Inbound>, may_switch: bool, expects_continue: bool) -> (Option<Inbound>, ClientBody) {
    match inbound {
        Some(inbound) if may_switch => (Some(inbound), ClientBody::empty()),
        Some(mut inbound) => {
            if expects_continue {
                inbound.owes_continue();
            }
            (None, ClientBody::http2(inbound))
        }
        None => (None, ClientBody::empty()),
    }
}

/// Answers a head that is too large: nobody has seen a request.
fn refuse(connection: &Connection, outbound: &Outbound) {
    let error = RequestError::HeadersTooLarge;
    connection.count(error);
    Notes::begin(connection, connection.in_force().logging).refused(error, "HTTP/2", 0);
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    if let Some(server) = &connection.shared.server_header {
        head.headers.insert(SERVER, server.clone());
    }
    outbound.head(&mut head, true);
}

/// Says the head. Returns what follows, if anything does.
fn begin(response: Response<Moving>, outbound: &Outbound, switches: bool) -> Option<Sending> {
    let (mut head, body) = response.into_parts();
    let is_over = body.is_end_stream();
    if !is_over && let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    outbound.head(&mut head, is_over && !switches);
    (!is_over).then_some(Sending { body, data: Bytes::new(), behind: Behind::More })
}

/// What stands behind the data that is known.
enum Behind {
    More,
    Nothing,
    Trailers(HeaderMap),
}

/// The body of an answer on its way.
struct Sending {
    body: Moving,
    /// What was read of it, and not said.
    data: Bytes,
    behind: Behind,
}

impl Sending {
    /// Says all of it, as it comes and as there is room. An answer that breaks off is a stream that does.
    fn poll_sent(&mut self, outbound: &Outbound, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Self { body, data, behind } = self;
            let ends = matches!(behind, Behind::Nothing);
            if ends || !data.is_empty() {
                let before = data.len();
                let said = outbound.poll_data(data, ends, cx);
                if data.len() < before {
                    body.moved();
                }
                if ready!(said).is_err() {
                    return Poll::Ready(());
                }
            }
            match behind {
                Behind::More => {}
                Behind::Nothing => return Poll::Ready(()),
                Behind::Trailers(trailers) => {
                    outbound.trailers(trailers);
                    return Poll::Ready(());
                }
            }
            let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => Some(frame),
                Some(Err(_)) => {
                    outbound.reset(Code::INTERNAL);
                    return Poll::Ready(());
                }
                None => None,
            };
            let is_last = frame.is_none() || body.is_end_stream();
            if is_last {
                *behind = Behind::Nothing;
            }
            match frame.map(Frame::into_data) {
                Some(Ok(piece)) => *data = piece,
                Some(Err(frame)) => {
                    *behind = frame.into_trailers().map_or(Behind::Nothing, Behind::Trailers);
                }
                None => {}
            }
        }
    }
}
