//! A connection's requests as the agent reads them (`proxy::http::conversation`). There are no sockets, no threads and no time in it:
//! the client has said everything.

use bytes::BytesMut;

use crate::http1::{Decoder, Length, Limits, Looked, RequestHead};
use crate::reading::MAX_LINES;

/// Heads as the agent takes them.
const LIMITS: Limits = Limits { bytes: 128 * 1024, lines: MAX_LINES };

/// A request that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Served {
    /// Whether it would be served.
    pub is_plain: bool,
    /// Of the request line.
    pub method: String,
    /// Likewise, as it is understood.
    pub target: String,
    /// All of it; `None` if it broke off.
    pub body: Option<Vec<u8>>,
}

/// Reads what a client sends in pieces of a length, up to what ends the connection.
pub fn serve(octets: &[u8], piece: usize) -> Vec<Served> {
    let mut client = Client { left: octets.chunks(piece.max(1)), read: BytesMut::new() };
    let mut served = Vec::new();
    while let Some(head) = client.head() {
        let (method, target) = (head.request.method().to_string(), head.request.uri().to_string());
        let body = head.length.ok().map(|length| client.body(length));
        let is_last = !matches!(body, Some(Some(_))) || !head.is_kept_alive;
        served.push(Served { is_plain: body.is_some(), method, target, body: body.flatten() });
        if is_last {
            break;
        }
    }
    served
}

/// What has come of what a client says.
struct Client<'o> {
    left: std::slice::Chunks<'o, u8>,
    read: BytesMut,
}

impl Client<'_> {
    /// Whether more has come.
    fn says_more(&mut self) -> bool {
        let piece = self.left.next();
        self.read.extend_from_slice(piece.unwrap_or_default());
        piece.is_some()
    }

    fn head(&mut self) -> Option<RequestHead> {
        let mut looked = Looked::default();
        loop {
            match RequestHead::read(&mut self.read, &mut looked, LIMITS) {
                Ok(Some(head)) => return Some(head),
                Ok(None) if self.says_more() => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }

    fn body(&mut self, length: Length) -> Option<Vec<u8>> {
        let (mut decoder, mut body) = (Decoder::new(length), Vec::new());
        loop {
            match decoder.decode(&mut self.read).ok()? {
                Some(frame) => body.extend(frame.into_data().unwrap_or_default()),
                None if decoder.is_done() => return Some(body),
                None if self.says_more() => {}
                None => return None,
            }
        }
    }
}
