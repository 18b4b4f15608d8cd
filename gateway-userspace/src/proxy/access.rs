//! A TCP connection's line in the access log: filled in on the way, written when it is dropped, so also for a
//! connection that a stop cuts off.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::connection::Ends;
use super::worker::Shared;
use crate::model::ClusterName;
use crate::net::relay::{Carried, RelayEnd, Side};
use crate::telemetry::access::{Connection, Handshake, Logging, Request};
use crate::telemetry::{AccessLog, ResponseFlag};

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    log: AccessLog,
    logging: Arc<Logging>,
    began: Instant,
    connection: Connection,
    is_left: bool,
}

impl Line {
    /// Begins a line, if there is an access log in force.
    pub(super) fn begin(shared: &Shared, ends: Ends, server_name: Option<&str>) -> Option<Self> {
        let log = shared.access_log.clone()?;
        let logging = shared.runtime.current().snapshot.logging.clone();
        if logging.is_off() {
            return None;
        }
        let connection = ends.record(server_name);
        Some(Self { log, logging, began: Instant::now(), connection, is_left: false })
    }

    /// It goes to this backend, from an end of ours that has an address as long as it is open.
    pub(super) fn connected(&mut self, cluster: &ClusterName, host: SocketAddr, local: Option<SocketAddr>) {
        self.connection.upstream_host = Some(host);
        self.connection.upstream_cluster = Some(cluster.to_string());
        self.connection.upstream_local = local;
    }

    /// Its TLS ends here.
    pub(super) fn agreed(&mut self, handshake: Handshake) {
        self.connection.handshake = Some(handshake);
    }

    /// No filter chain serves it: Envoy's words.
    pub(super) fn unserved(&mut self) {
        self.is_left = !self.logging.tells_unserved();
        self.connection.flags = Cow::Borrowed(&[ResponseFlag::NoRoute]);
        let details = Some("filter_chain_not_found");
        self.connection.request = Some(Box::new(Request { details, ..Request::default() }));
    }

    /// It found no backend.
    pub(super) fn failed(&mut self, flag: ResponseFlag) {
        self.connection.flags = Cow::Borrowed(match flag {
            // All that may be tried was tried.
            ResponseFlag::UpstreamConnectionFailure => {
                &[ResponseFlag::UpstreamConnectionFailure, ResponseFlag::UpstreamRetryLimitExceeded]
            }
            ResponseFlag::NoHealthyUpstream => &[ResponseFlag::NoHealthyUpstream],
            ResponseFlag::UpstreamOverflow => &[ResponseFlag::UpstreamOverflow],
            _ => &[ResponseFlag::NoCluster],
        });
    }

    /// It is over.
    pub(super) fn ended(&mut self, carried: Carried, end: &RelayEnd) {
        (self.connection.received, self.connection.sent) = (carried.up, carried.down);
        self.connection.flags = Cow::Borrowed(match end {
            RelayEnd::Failed { side: Side::Upstream, .. } => &[ResponseFlag::UpstreamConnectionTermination],
            RelayEnd::Failed { side: Side::Downstream, .. } => {
                &[ResponseFlag::DownstreamConnectionTermination]
            }
            RelayEnd::Expired => &[ResponseFlag::DurationTimeout],
            RelayEnd::Closed | RelayEnd::Idle => &[],
        });
    }

    /// The kernel plane tells of it at its end.
    pub(super) fn leave(mut self) {
        self.is_left = true;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.is_left {
            self.connection.duration = self.began.elapsed();
            self.log.write(&self.logging, self.connection.take());
        }
    }
}
