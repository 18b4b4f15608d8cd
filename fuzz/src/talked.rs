//! A connection of HTTP/2 as the agent has it (`proxy::http::streams`), with nobody behind it: each request is answered with as much as
//! has come of its body. There are no sockets, no threads and no time in it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::Body as _;

use crate::http2::frame::{self, PREFACE, kind};
use crate::http2::{Asked, Fault, Frame, Heard, Session, Settings};

const SETTINGS: Settings =
    Settings { streams: 5, stream_window: 1_000, connection_window: 70_000, head: 4_096, connects: true };
/// Bytes that the client is told at a time at most: what waits for it, and what each of its streams has to say in its turn.
const MOST_TOLD: usize = 256 * 1024;

/// What came to pass, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Talk {
    /// Requests, and what has come of their bodies.
    pub said: Vec<String>,
    /// Frames that the client was told: type, stream and length.
    pub told: Vec<(u8, u32, usize)>,
    /// What has ended it.
    pub fault: Option<String>,
}

/// Hears a client in pieces of a length, up to what ends the connection.
pub fn talk(octets: &[u8], piece: usize) -> Talk {
    let mut talk = Talk::default();
    let session = Session::new(SETTINGS);
    let (mut read, mut told) = (BytesMut::from(PREFACE), Vec::new());
    frame::put(&mut read, (kind::SETTINGS, 0, 0), &[]);
    let mut streams = Vec::new();
    for piece in octets.chunks(piece) {
        read.extend_from_slice(piece);
        if let Err(fault) = hear(&session, &mut read, &mut streams, &mut talk, &mut told) {
            talk.fault = Some(format!("{fault:?}"));
            break;
        }
    }
    drop(streams);
    assert!(session.is_idle(), "streams are left");
    talk
}

fn hear(
    session: &Session,
    read: &mut BytesMut,
    streams: &mut Vec<Asked>,
    talk: &mut Talk,
    told: &mut Vec<u8>,
) -> Result<(), Fault> {
    while let Some(frame) = session.next(read)? {
        if let Heard::Asked(asked) = session.receive(frame)? {
            let head = asked.head.as_ref().map(|head| format!("{:?}", head.request));
            talk.said.push(head.unwrap_or_default());
            streams.push(asked);
        }
        streams.retain_mut(|asked| goes_on(asked, talk));
        while session.rouse() {
            streams.retain_mut(|asked| goes_on(asked, talk));
        }
        send(session, told);
        assert!(told.len() <= MOST_TOLD && !session.is_clogged());
        take(told, talk);
    }
    Ok(())
}

/// Answers a request with what has come of its body. Whether there is more to come of either.
fn goes_on(asked: &mut Asked, talk: &mut Talk) -> bool {
    let cx = &mut Context::from_waker(Waker::noop());
    if asked.outbound.poll_gone(cx).is_ready() {
        return false;
    }
    let answer = |asked: &mut Asked| {
        if let Some(head) = asked.head.take() {
            let (mut answer, ()) = Response::new(()).into_parts();
            answer.headers = head.request.into_parts().0.headers;
            // The date is another one each second.
            answer.headers.insert(http::header::DATE, http::HeaderValue::from_static("today"));
            asked.outbound.head(&mut answer, false);
        }
    };
    while let Some(body) = &mut asked.inbound {
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let mut data = frame.into_data().unwrap_or_default();
                talk.said.push(format!("{data:?}"));
                answer(asked);
                let _ = asked.outbound.poll_data(&mut data, false, cx);
            }
            Poll::Ready(Some(Err(broken))) => {
                talk.said.push(broken.to_string());
                return false;
            }
            Poll::Ready(None) => asked.inbound = None,
            Poll::Pending => return true,
        }
    }
    answer(asked);
    let _ = asked.outbound.poll_data(&mut Bytes::new(), true, cx);
    false
}

fn send(session: &Session, told: &mut Vec<u8>) {
    let cx = &mut Context::from_waker(Waker::noop());
    // What is short waits for a turn.
    while session.poll_send(told, cx).0.is_pending() {}
}

/// Reads what the client was told.
fn take(told: &mut Vec<u8>, talk: &mut Talk) {
    let mut octets = BytesMut::from(&std::mem::take(told)[..]);
    while let Ok(Some(Frame { head, .. })) = Frame::take(&mut octets) {
        talk.told.push((head.kind, head.stream, head.length));
    }
    assert!(octets.is_empty(), "half a frame");
}
