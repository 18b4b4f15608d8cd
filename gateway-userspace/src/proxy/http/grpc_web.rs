//! gRPC-Web (github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md), which browsers speak: to a backend it is gRPC, and what
//! the backend answers is gRPC-Web again, as Envoy's filter at Istio's gateway makes it. Rules see what the client says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;

use super::body::ResponseBody;
use super::{headers, reply};
use crate::upstream::ClientBody;

const BINARY: [&[u8]; 2] = [b"application/grpc-web", b"application/grpc-web+proto"];
const TEXT: [&[u8]; 2] = [b"application/grpc-web-text", b"application/grpc-web-text+proto"];
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Flag of the frame that holds trailers.
const TRAILERS: u8 = 0x80;
/// Flags and length, which each message begins with.
const PREFIX: usize = 5;
/// Bytes of an answer that is no gRPC which its client is told as a message (Envoy's bound).
const MAX_MESSAGE: usize = 16 * 1024;

/// How a client speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrpcWeb {
    sends_text: bool,
    takes_text: bool,
}

impl GrpcWeb {
    /// `None`: it speaks something else.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let is_text =
            |name| headers.get(name).is_some_and(|value: &HeaderValue| TEXT.contains(&value.as_bytes()));
        let sends_text = is_text(CONTENT_TYPE);
        let is_binary = || headers.get(CONTENT_TYPE).is_some_and(|it| BINARY.contains(&it.as_bytes()));
        (sends_text || is_binary()).then(|| Self { sends_text, takes_text: is_text(ACCEPT) })
    }

    /// Makes it the request that a gRPC client would have sent.
    pub(super) fn translate(self, request: &mut Request<ClientBody>) {
        let headers = request.headers_mut();
        // The length is another one, or the body's own business.
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        if self.sends_text {
            request.body_mut().is_base64();
        }
    }

    /// A response, whoever made it, as the client is to get it; with what its body has yet to go through. What is no gRPC
    /// becomes a status of gRPC's and a message, besides the status of HTTP that it has.
    pub(super) async fn answer(
        self,
        mut response: Response<ResponseBody>,
    ) -> (Response<ResponseBody>, Option<Encoder>) {
        let is_known = response.status() == http::StatusCode::OK && speaks_it(response.headers());
        let said =
            if self.takes_text { "application/grpc-web-text+proto" } else { "application/grpc-web+proto" };
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(said));
        if http_body::Body::is_end_stream(response.body()) {
            return (response, None);
        }
        if is_known {
            return (response, Some(Encoder::new(self.takes_text)));
        }
        let (mut head, body) = response.into_parts();
        let message = start_of(body).await;
        reply::tell_grpc(&mut head.headers, head.status, &message);
        (Response::from_parts(head, ResponseBody::empty()), None)
    }
}

/// Whether a response is gRPC's, or gRPC-Web's already.
fn speaks_it(of: &HeaderMap) -> bool {
    let is_web = |value: &HeaderValue| {
        let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
        BINARY.iter().any(|known| kind.eq_ignore_ascii_case(known))
    };
    headers::is_grpc(of) || of.get(CONTENT_TYPE).is_some_and(is_web)
}

/// A body as far as it comes and is not too long.
async fn start_of(mut body: ResponseBody) -> Vec<u8> {
    let mut start = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            start.extend_from_slice(&data[..data.len().min(MAX_MESSAGE - start.len())]);
        }
        if start.len() == MAX_MESSAGE {
            break;
        }
    }
    start
}

/// A body of gRPC on its way to becoming one of gRPC-Web: trailers are its last bytes.
#[derive(Debug)]
pub(super) struct Encoder {
    text: Option<Text>,
}

impl Encoder {
    fn new(is_text: bool) -> Self {
        Self { text: is_text.then(Text::default) }
    }

    /// The next frame.
    pub(super) fn encode(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        Frame::data(match (frame.into_data(), &mut self.text) {
            (Ok(data), None) => data,
            (Ok(data), Some(text)) => text.encode(&data),
            (Err(other), text) => {
                let last = other.into_trailers().map(|trailers| last_frame(&trailers)).unwrap_or_default();
                text.as_mut().map_or(last.clone(), |text| text.end(&last))
            }
        })
    }

    /// What is left of a body that has ended without trailers.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        let mut out = String::new();
        self.text.as_mut()?.pad(&mut out);
        Some(out.into()).filter(|rest: &Bytes| !rest.is_empty())
    }

    /// Whether nothing is left.
    pub(super) fn is_even(&self) -> bool {
        self.text.as_ref().is_none_or(|text| text.left.is_empty())
    }
}

/// Trailers as a frame: lines as in HTTP/1.1.
fn last_frame(trailers: &HeaderMap) -> Bytes {
    let mut lines = BytesMut::new();
    for (name, value) in trailers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.put_u8(b':');
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(PREFIX + lines.len());
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(lines.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&lines);
    frame.freeze()
}

/// Into base64, which is padded where a message ends: its client need not wait for the next one, and what it gets is made of
/// whole messages, each encoded by itself.
#[derive(Debug, Default)]
struct Text {
    /// One byte or two that stand for nothing without those behind them.
    left: Vec<u8>,
    messages: Messages,
}

impl Text {
    fn encode(&mut self, mut data: &[u8]) -> Bytes {
        let mut out = String::with_capacity(data.len() / 3 * 4 + 8);
        while !data.is_empty() {
            let (count, is_end) = self.messages.step(data);
            self.push(&data[..count], &mut out);
            if is_end {
                self.pad(&mut out);
            }
            data = &data[count..];
        }
        out.into()
    }

    /// Trailers, behind what is left.
    fn end(&mut self, last: &[u8]) -> Bytes {
        let mut out = String::new();
        self.pad(&mut out);
        STANDARD.encode_string(last, &mut out);
        out.into()
    }

    fn push(&mut self, mut data: &[u8], out: &mut String) {
        if !self.left.is_empty() {
            let missing = (3 - self.left.len()).min(data.len());
            self.left.extend_from_slice(&data[..missing]);
            data = &data[missing..];
            if self.left.len() < 3 {
                return;
            }
            self.pad(out);
        }
        let (groups, left) = data.split_at(data.len() / 3 * 3);
        STANDARD.encode_string(groups, out);
        self.left.extend_from_slice(left);
    }

    /// Writes what is left; three bytes need no padding.
    fn pad(&mut self, out: &mut String) {
        STANDARD.encode_string(&self.left, out);
        self.left.clear();
    }
}

/// Where messages end in a stream of them.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are known.
    known: usize,
    /// Bytes to come behind it.
    left: usize,
}

impl Messages {
    /// How many of these bytes are of the message under way, and whether it ends with them.
    fn step(&mut self, bytes: &[u8]) -> (usize, bool) {
        let count = if self.known < PREFIX {
            let count = (PREFIX - self.known).min(bytes.len());
            self.prefix[self.known..self.known + count].copy_from_slice(&bytes[..count]);
            self.known += count;
            if self.known < PREFIX {
                return (count, false);
            }
            let [_, length @ ..] = self.prefix;
            self.left = u32::from_be_bytes(length) as usize;
            count
        } else {
            let count = self.left.min(bytes.len());
            self.left -= count;
            count
        };
        let is_end = self.left == 0;
        if is_end {
            self.known = 0;
        }
        (count, is_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: &'static str, accept: &'static str) -> Option<(bool, bool)> {
        let headers =
            [(CONTENT_TYPE, HeaderValue::from_static(kind)), (ACCEPT, HeaderValue::from_static(accept))];
        GrpcWeb::of(&headers.into_iter().collect()).map(|web| (web.sends_text, web.takes_text))
    }

    #[test]
    fn a_client_says_what_it_sends_and_what_it_takes() {
        for (kind, accept, want) in [
            ("application/grpc-web", "*/*", Some((false, false))),
            ("application/grpc-web+proto", "application/grpc-web-text", Some((false, true))),
            ("application/grpc-web-text", "application/grpc-web-text+proto", Some((true, true))),
            ("application/grpc-web-text+proto", "", Some((true, false))),
            ("application/grpc-web+json", "", None),
            ("application/grpc", "application/grpc-web-text", None),
            ("text/plain", "", None),
        ] {
            assert_eq!(asked(kind, accept), want, "{kind}");
        }
    }

    fn message(text: &str) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        message.extend(text.bytes());
        message
    }

    fn trailers() -> HeaderMap {
        [("grpc-status", "0"), ("grpc-message", "")]
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn trailers_are_the_last_bytes() {
        let mut encoder = Encoder::new(false);
        let data = encoder.encode(Frame::data(Bytes::from(message("hello")))).into_data().unwrap();
        assert_eq!(data, message("hello"));
        let last = encoder.encode(Frame::trailers(trailers())).into_data().unwrap();
        assert_eq!(last, &b"\x80\0\0\0\x1egrpc-status:0\r\ngrpc-message:\r\n"[..]);
        assert!(encoder.is_even() && encoder.rest().is_none());
    }

    #[test]
    fn messages_are_encoded_each_by_itself_however_they_are_cut() {
        let messages = [message("hello"), message(""), message("a longer one"), message("x")];
        let want: String = messages.iter().map(|message| STANDARD.encode(message)).collect();
        let all = messages.concat();
        for size in 1..=all.len() {
            let mut encoder = Encoder::new(true);
            let mut out = Vec::new();
            for piece in all.chunks(size) {
                let data = encoder.encode(Frame::data(Bytes::copy_from_slice(piece)));
                out.extend(data.into_data().unwrap());
            }
            assert_eq!(String::from_utf8(out).unwrap(), want, "pieces of {size}");
            assert!(encoder.is_even());
            let last = encoder.encode(Frame::trailers(trailers())).into_data().unwrap();
            assert_eq!(STANDARD.decode(last).unwrap()[0], TRAILERS);
        }
    }

    #[test]
    fn a_message_that_breaks_off_is_told_as_far_as_it_came() {
        let mut encoder = Encoder::new(true);
        let data = encoder.encode(Frame::data(Bytes::copy_from_slice(&message("hello")[..7])));
        assert!(!encoder.is_even());
        let text = [data.into_data().unwrap(), encoder.rest().unwrap()].concat();
        assert_eq!(STANDARD.decode(text).unwrap(), &message("hello")[..7]);
    }

    #[tokio::test]
    async fn what_is_no_grpc_becomes_a_status_and_a_message() {
        let web = GrpcWeb { sends_text: false, takes_text: true };
        let mut failure = Response::new(ResponseBody::text("no healthy upstream"));
        *failure.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        let (answer, encoder) = web.answer(failure).await;
        assert!(encoder.is_none() && http_body::Body::is_end_stream(answer.body()));
        assert_eq!(answer.status(), http::StatusCode::SERVICE_UNAVAILABLE);
        for (name, value) in [
            ("content-type", "application/grpc-web-text+proto"),
            ("grpc-status", "14"),
            ("grpc-message", "no healthy upstream"),
        ] {
            assert_eq!(answer.headers()[name], value);
        }
        let long = Response::new(ResponseBody::text(vec![b'x'; MAX_MESSAGE + 1]));
        assert_eq!(web.answer(long).await.0.headers()["grpc-message"].len(), MAX_MESSAGE);
    }
}
