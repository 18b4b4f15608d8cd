//! What is told of a request: its line in the access log, filled in on the request's way, written when its response has ended,
//! or was dropped on the way, so also for a client that goes away; and metrics.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::body::ResponseBody;
use super::forward::SERVICE_TIME;
use super::grpc_web::Encoder;
use super::headers::{Asker, FORWARDED_FOR, REQUEST_ID};
use super::measured::Measured;
use super::outgoing::{Address, Target};
use super::request::protocol;
use super::serve::Connection;
use super::upgrade::Told;
use crate::model::{Cluster, Route};
use crate::proxy::error::RequestError;
use crate::telemetry::access::{self, Logging, Request as Asked, Wanted};
use crate::telemetry::{AccessLog, ResponseFlag};
use crate::upstream::body::BodyError;
use crate::upstream::{ConnectError, Ending, Messages, Pace};

/// What is noted on a request's way.
pub(super) struct Notes {
    /// If there is an access log.
    line: Option<Box<RefCell<Line>>>,
    /// If metrics are counted.
    measured: Option<RefCell<Measured>>,
}

/// See the module.
struct Line {
    log: AccessLog,
    logging: Arc<Logging>,
    began: Instant,
    connection: access::Connection,
    asked: Asked,
    /// Where bytes of the request's body are counted, once it goes on.
    pace: Option<Rc<Pace>>,
    /// The response has been sent as a whole, or nobody has to tell of it.
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing has: the client goes away.
    Open,
    Whole,
    /// A connection that has switched has another line.
    ToldElsewhere,
}

impl Notes {
    /// Begins a line.
    pub(super) fn begin(connection: &Connection, logging: Option<Arc<Logging>>) -> Self {
        let began = Instant::now();
        let log = connection.shared.access_log.as_ref();
        let line = log.and_then(|log| Some((log.rules(logging)?, log.clone()))).map(|(logging, log)| {
            let mut record = connection.ends.record(connection.server_name());
            record.handshake = connection.handshake();
            let mut asked = Asked { scheme: Some(connection.scheme()), ..Asked::default() };
            if logging.wanted().certificate
                && connection.handshake().is_some_and(|handshake| handshake.is_mutual)
            {
                let shown = connection.client_certificate().and_then(|told| told.to_str().ok());
                asked.certificate = shown.map(Box::from);
            }
            Box::new(RefCell::new(Line {
                log,
                logging,
                began,
                connection: record,
                asked,
                pace: None,
                end: End::Open,
            }))
        });
        Self { line, measured: Measured::begin(connection, began).map(RefCell::new) }
    }

    /// When the request began, as its line tells it if it has one.
    pub(super) fn started(&self) -> SystemTime {
        self.line.as_ref().map_or_else(SystemTime::now, |line| line.borrow().connection.started)
    }

    fn note(&self, note: impl FnOnce(&mut Line)) {
        if let Some(line) = &self.line {
            note(&mut line.borrow_mut());
        }
    }

    fn measure(&self, note: impl FnOnce(&mut Measured)) {
        if let Some(measured) = &self.measured {
            note(&mut measured.borrow_mut());
        }
    }

    /// gRPC: where the client's messages are counted, if they are.
    pub(super) fn messages(&self) -> Option<Rc<RefCell<Messages>>> {
        self.measured.as_ref().and_then(|measured| measured.borrow().messages())
    }

    /// Its client speaks gRPC, in whatever form.
    pub(super) fn is_grpc(&self) {
        self.measure(Measured::is_grpc);
    }

    /// A request that could be read, and asks for what nobody may ask, in the client's words.
    pub(super) fn heard<B>(&self, request: &Request<B>) {
        self.note(|line| {
            let (uri, headers) = (request.uri(), request.headers());
            line.read(request);
            line.asked.path = uri.path_and_query().map(ToString::to_string);
            line.asked.user_agent = text(headers, &USER_AGENT);
            line.asked.authority = uri.authority().map(ToString::to_string).or_else(|| text(headers, &HOST));
            line.asked.headers = Wanted::of(&line.logging.wanted().request, headers);
        });
    }

    /// A request that makes sense, with the headers that backends get.
    pub(super) fn asked<B>(&self, request: &Request<B>, target: &Target, asker: Asker) {
        self.measure(|measured| measured.asked(request.headers()));
        self.note(|line| {
            line.read(request);
            line.connection.downstream_remote = asker.address;
            line.asked.scheme = Some(asker.scheme);
            line.asked.path = Some(target.line(request.uri().query()));
            line.asked.authority = Some(target.authority.clone());
            line.headers(request.headers());
        });
    }

    /// The route that it is for.
    pub(super) fn routed(&self, route: &Route) {
        self.note(|line| {
            line.asked.route_name = Some(route.name.to_string()).filter(|name| !name.is_empty());
        });
    }

    /// It is for a cluster.
    pub(super) fn cluster(&self, cluster: &Arc<Cluster>) {
        self.measure(|measured| measured.cluster(cluster));
        self.note(|line| line.connection.upstream_cluster = Some(cluster.name.text()));
    }

    /// It goes on like this; `has_changed`: with other headers, perhaps, than it was asked with.
    pub(super) fn forwarded(
        &self,
        (head, address): (&Parts, &Address),
        has_changed: bool,
        pace: Option<Rc<Pace>>,
    ) {
        self.measure(|measured| measured.forwarded(pace.clone()));
        self.note(|line| {
            let path = address.path_and_query().as_str();
            line.asked.rewritten = (line.asked.path.as_deref() != Some(path)).then(|| path.to_owned());
            renew(&mut line.asked.authority, Some(address.authority().as_bytes()));
            if has_changed {
                line.headers(&head.headers);
            } else if !line.logging.wanted().request.is_empty() {
                line.asked.headers = Wanted::of(&line.logging.wanted().request, &head.headers);
            }
            line.pace = pace;
        });
    }

    /// It is tried at an endpoint.
    pub(super) fn tried(&self, endpoint: SocketAddr) {
        self.measure(|measured| measured.tried(endpoint));
        self.note(|line| {
            line.connection.upstream_host = Some(endpoint);
            line.connection.upstream_local = None;
            line.asked.attempts += 1;
        });
    }

    /// There was no endpoint to try it at, which counts as a try, as at Envoy.
    pub(super) fn tried_in_vain(&self) {
        self.note(|line| line.asked.attempts += 1);
    }

    /// It is sent there from this end of ours.
    pub(super) fn sent_from(&self, local: Option<SocketAddr>) {
        self.note(|line| line.connection.upstream_local = local);
    }

    /// The endpoint could not be reached.
    pub(super) fn unreached(&self, error: &ConnectError) {
        self.note(|line| line.connection.transport_failure = error.transport_failure());
    }

    /// Something that comes with the answer, whatever it is.
    pub(super) fn flag(&self, flag: ResponseFlag) {
        self.measure(|measured| measured.flag(&[flag]));
        self.note(|line| line.raise(&[flag]));
    }

    /// Where the answer comes from.
    pub(super) fn details(&self, details: &'static str) {
        self.note(|line| line.asked.details = Some(details));
    }

    /// It is answered with a failure.
    pub(super) fn failed(&self, error: RequestError) {
        self.measure(|measured| measured.flag(error.flags()));
        self.note(|line| {
            line.raise(error.flags());
            line.asked.details = Some(error.details());
        });
    }

    /// It is answered with a failure in plain bytes, of which so many are its body, and that is all.
    pub(super) fn refused(self, error: RequestError, version: &'static str, sent: usize) {
        self.failed(error);
        self.measure(|measured| measured.refused(error.status().as_u16(), sent));
        self.note(|line| {
            line.asked.protocol = Some(version);
            line.asked.status = error.status().as_u16();
            line.connection.sent = sent as u64;
            line.end = End::Whole;
        });
    }

    /// Ties the line to the response, whose end is its end.
    pub(super) fn follow(
        self,
        response: Response<ResponseBody>,
        method: &Method,
        encoder: Option<Encoder>,
    ) -> Response<Recorded> {
        let is_whole = *method == Method::HEAD
            || matches!(
                response.status(),
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS
            )
            || response.body().is_end_stream();
        self.measure(|measured| measured.answer(response.status().as_u16(), response.headers(), is_whole));
        self.note(|line| {
            line.asked.status = response.status().as_u16();
            if line.logging.wanted().times && line.asked.details == Some("via_upstream") {
                line.asked.answered = Some(line.began.elapsed());
            }
            line.asked.service_time = text(response.headers(), &SERVICE_TIME);
            line.asked.response_headers = Wanted::of(&line.logging.wanted().response, response.headers());
            line.end = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                if let Some(told) = response.extensions().get::<Told>() {
                    told.leave(line.began, line.so_far());
                }
                End::ToldElsewhere
            } else if is_whole {
                // Nobody will ask for the body.
                End::Whole
            } else {
                End::Open
            };
        });
        let (line, measured) = (self.line, self.measured.map(RefCell::into_inner));
        response.map(|body| Recorded { body, encoder: encoder.map(Box::new), line, measured })
    }
}

/// Most of what is told of a request stays the same on its way.
fn renew(told: &mut Option<String>, now: Option<&[u8]>) {
    if told.as_deref().map(str::as_bytes) != now {
        *told = now.map(owned);
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| owned(value.as_bytes()))
}

fn owned(bytes: &[u8]) -> String {
    // Nearly all is text, which this finds in larger steps.
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes).into_owned(), str::to_owned)
}

impl Line {
    /// What is the same of any request.
    fn read<B>(&mut self, request: &Request<B>) {
        self.asked.method = Some(request.method().clone());
        self.asked.protocol = Some(protocol(request.version()));
    }

    /// What the line tells of headers.
    fn headers(&mut self, headers: &HeaderMap) {
        self.asked.headers = Wanted::of(&self.logging.wanted().request, headers);
        for (told, name) in [
            (&mut self.asked.forwarded_for, FORWARDED_FOR),
            (&mut self.asked.user_agent, USER_AGENT),
            (&mut self.asked.request_id, REQUEST_ID),
        ] {
            renew(told, headers.get(name).map(HeaderValue::as_bytes));
        }
    }

    /// Adds flags in the order in which they are raised, each once.
    fn raise(&mut self, flags: &[ResponseFlag]) {
        let raised = self.connection.flags.to_mut();
        for flag in flags {
            if !raised.contains(flag) {
                raised.push(*flag);
            }
        }
    }

    /// What is to be told, which goes with it.
    fn so_far(&mut self) -> access::Connection {
        self.connection.request = Some(Box::new(std::mem::take(&mut self.asked)));
        self.connection.take()
    }

    /// The response breaks off.
    fn break_off(&mut self, error: &BodyError) {
        let (flag, details) = broken_off(error);
        self.raise(&[flag]);
        self.asked.details = Some(details);
        self.end = End::Whole;
    }
}

/// Flag and details of a response that breaks off.
fn broken_off(error: &BodyError) -> (ResponseFlag, &'static str) {
    match error.ending() {
        None => (ResponseFlag::UpstreamRequestTimeout, "response_timeout"),
        Some(Ending::NotHttp) => {
            (ResponseFlag::UpstreamProtocolError, "upstream_reset_after_response_started{protocol_error}")
        }
        Some(Ending::Reset | Ending::Refused) => {
            (ResponseFlag::UpstreamRemoteReset, "upstream_reset_after_response_started{remote_reset}")
        }
        Some(Ending::Closed | Ending::Stale) => (
            ResponseFlag::UpstreamConnectionTermination,
            "upstream_reset_after_response_started{connection_termination}",
        ),
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        match self.end {
            End::ToldElsewhere => return,
            End::Whole => {}
            End::Open => {
                self.raise(&[ResponseFlag::DownstreamConnectionTermination]);
                self.asked.details = Some("downstream_remote_disconnect");
            }
        }
        self.connection.duration = self.began.elapsed();
        self.connection.received = self.pace.as_ref().map_or(0, |pace| pace.received());
        let record = self.so_far();
        self.log.write(&self.logging, record);
    }
}

/// A response's body as the client gets it, with what is told at its end.
pub(crate) struct Recorded {
    body: ResponseBody,
    /// What its bytes go through before the client gets them.
    encoder: Option<Box<Encoder>>,
    line: Option<Box<RefCell<Line>>>,
    measured: Option<Measured>,
}

impl Recorded {
    /// Whether it is an answer of our own.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.body, ResponseBody::Own(_))
    }
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Self { body, encoder, line, measured } = &mut *self;
        let mut open = line.as_deref_mut().map(RefCell::get_mut);
        // Nothing follows trailers, and not everybody asks whether.
        let mut is_last = frame.is_none();
        if let Some(Ok(frame)) = &frame {
            is_last = frame.is_trailers() || body.is_end_stream();
            if let Some(measured) = &mut *measured {
                measured.came(frame);
            }
            if let (Some(open), Some(trailers)) = (&mut open, frame.trailers_ref()) {
                open.asked.trailers = Wanted::of(&open.logging.wanted().trailers, trailers);
            }
        }
        let frame = match encoder {
            Some(encoder) => encoded(encoder, frame),
            None => frame,
        };
        let is_last = is_last && encoder.as_ref().is_none_or(|encoder| encoder.is_even());
        if let Some(open) = measured {
            match &frame {
                Some(Ok(frame)) => open.sent(frame, is_last),
                Some(Err(error)) => {
                    open.flag(&[broken_off(error).0]);
                    open.end();
                }
                None => open.end(),
            }
            if open.is_over() {
                measured.take();
            }
        }
        if let Some(open) = open {
            match &frame {
                Some(Ok(frame)) => {
                    open.connection.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if is_last {
                        open.end = End::Whole;
                    }
                }
                Some(Err(error)) => open.break_off(error),
                None => open.end = End::Whole,
            }
            if open.end == End::Whole {
                line.take();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.encoder.as_ref().is_none_or(|encoder| encoder.is_even())
    }

    fn size_hint(&self) -> SizeHint {
        if self.encoder.is_none() { self.body.size_hint() } else { SizeHint::default() }
    }
}

type Next = Option<Result<Frame<Bytes>, BodyError>>;

/// The next frame as the client gets it; behind the last one what is left.
fn encoded(encoder: &mut Encoder, frame: Next) -> Next {
    match frame {
        Some(frame) => Some(frame.map(|frame| encoder.encode(frame))),
        None => encoder.rest().map(|rest| Ok(Frame::data(rest))),
    }
}
