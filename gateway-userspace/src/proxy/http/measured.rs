//! A request as metrics count it: noted on its way, counted once when its response has ended, or was dropped on the way, so
//! also for a client that goes away. Nothing in it is allocated, but for gRPC.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http_body::Frame;

use super::serve::Connection;
use crate::model::Cluster;
use crate::proxy::worker::Shared;
use crate::telemetry::ResponseFlag;
use crate::telemetry::metrics::{Flags, HttpSample, InFlight, Outcome, Protocol, TraceId};
use crate::upstream::{Messages, Pace};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// See the module.
pub(super) struct Measured {
    shared: Rc<Shared>,
    listener: Arc<InFlight>,
    began: Instant,
    protocol: Protocol,
    cluster: Option<Arc<Cluster>>,
    endpoint: Option<SocketAddr>,
    status: u16,
    grpc: Option<u8>,
    flags: Flags,
    /// Where bytes of the request's body are counted, once it goes on.
    pace: Option<Rc<Pace>>,
    sent: u64,
    /// gRPC: messages of the client, and of the backend.
    asked: Option<Rc<RefCell<Messages>>>,
    answered: Messages,
    trace: Option<TraceId>,
    /// The response has been sent as a whole.
    is_whole: bool,
}

impl Measured {
    /// One that has begun then, if anything is counted.
    pub(super) fn begin(connection: &Connection, began: Instant) -> Option<Self> {
        let listener = connection.in_flight.clone()?;
        listener.begin();
        Some(Self {
            shared: connection.shared.clone(),
            listener,
            began,
            protocol: Protocol::Http,
            cluster: None,
            endpoint: None,
            status: 0,
            grpc: None,
            flags: Flags::default(),
            pace: None,
            sent: 0,
            asked: None,
            answered: Messages::default(),
            trace: None,
            is_whole: false,
        })
    }

    /// Its client speaks gRPC, in whatever form.
    pub(super) fn is_grpc(&mut self) {
        self.protocol = Protocol::Grpc;
        self.asked = Some(Rc::default());
    }

    /// gRPC: where the client's messages are counted.
    pub(super) fn messages(&self) -> Option<Rc<RefCell<Messages>>> {
        self.asked.clone()
    }

    /// It makes sense.
    pub(super) fn asked(&mut self, headers: &HeaderMap) {
        let traceparent = headers.get(&TRACEPARENT).and_then(|value| value.to_str().ok());
        self.trace = traceparent.and_then(TraceId::of_sampled);
    }

    /// It is for a cluster.
    pub(super) fn cluster(&mut self, cluster: &Arc<Cluster>) {
        self.cluster = Some(cluster.clone());
    }

    /// It is tried at an endpoint.
    pub(super) fn tried(&mut self, endpoint: SocketAddr) {
        self.endpoint = Some(endpoint);
    }

    /// It goes on; its body's bytes are counted there.
    pub(super) fn forwarded(&mut self, pace: Option<Rc<Pace>>) {
        self.pace = pace;
    }

    /// Something has happened to it.
    pub(super) fn flag(&mut self, flags: &[ResponseFlag]) {
        self.flags = self.flags.with(flags);
    }

    /// It is answered.
    pub(super) fn answer(&mut self, status: u16, headers: &HeaderMap, is_whole: bool) {
        self.status = status;
        self.is_whole = is_whole;
        self.take_grpc_status(headers);
    }

    /// It is answered with so many bytes, and that is all.
    pub(super) fn refused(&mut self, status: u16, sent: usize) {
        (self.status, self.sent, self.is_whole) = (status, sent as u64, true);
    }

    fn take_grpc_status(&mut self, headers: &HeaderMap) {
        if self.protocol == Protocol::Grpc
            && let Some(status) = headers.get(&GRPC_STATUS)
        {
            self.grpc = status.to_str().ok().and_then(|status| status.parse().ok());
        }
    }

    /// A piece of the response as its backend sends it.
    pub(super) fn came(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.take_grpc_status(trailers);
        }
        if self.protocol == Protocol::Grpc
            && let Some(data) = frame.data_ref()
        {
            self.answered.take(data);
        }
    }

    /// A piece of the response as its client gets it, and whether it is the last.
    pub(super) fn sent(&mut self, frame: &Frame<Bytes>, is_last: bool) {
        self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        self.is_whole |= is_last;
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        self.is_whole = true;
    }

    /// Whether the response has been sent as a whole.
    pub(super) fn is_over(&self) -> bool {
        self.is_whole
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.listener.end();
        if !self.is_whole {
            self.flag(&[ResponseFlag::DownstreamConnectionTermination]);
        }
        let Self { protocol, status, grpc, flags, .. } = *self;
        let outcome = Outcome { protocol, status, grpc, flags };
        let sample = HttpSample {
            duration: self.began.elapsed(),
            received: self.pace.as_ref().map_or(0, |pace| pace.received()),
            sent: self.sent,
            request_messages: self.asked.as_ref().map_or(0, |asked| asked.borrow().count()),
            response_messages: self.answered.count(),
            trace: self.trace,
        };
        self.shared.metering.request((self.cluster.as_ref(), self.endpoint), outcome, &sample);
    }
}
