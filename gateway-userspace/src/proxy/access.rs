//! What is told of a TCP connection: its line in the access log, and metrics. Filled in on the way, told when it is dropped,
//! so also of a connection that a stop cuts off; where it is asked for, told when there is a backend, too.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::connection::Ends;
use super::metering::Metered;
use super::worker::Shared;
use crate::model::Cluster;
use crate::net::relay::{Carried, RelayEnd, Side};
use crate::telemetry::access::{Connection, Handshake, Logging, Request};
use crate::telemetry::{AccessLog, ResponseFlag};
use crate::upstream::ConnectError;

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    /// For the access log, if one is in force.
    logged: Option<Logged>,
    /// For metrics, if they are counted.
    metered: Option<Rc<Metered>>,
}

#[derive(Debug)]
struct Logged {
    log: AccessLog,
    logging: Arc<Logging>,
    began: Instant,
    connection: Connection,
    is_left: bool,
}

impl Line {
    /// Begins a line, if there is somebody to tell.
    pub(super) fn begin(shared: &Shared, ends: Ends, server_name: Option<&str>) -> Option<Self> {
        let (logged, metered) = (Logged::begin(shared, ends, server_name), shared.metering.connection());
        (logged.is_some() || metered.is_some()).then_some(Self { logged, metered })
    }

    /// For metrics: whoever moves bytes tells how many.
    pub(super) fn metered(line: Option<&Self>) -> Option<Rc<Metered>> {
        line.and_then(|line| line.metered.clone())
    }

    /// It goes on from a request, as the request's line.
    pub(super) fn goes_on(&mut self, (began, record): (Instant, Connection)) {
        if let Some(logged) = &mut self.logged {
            (logged.began, logged.connection) = (began, record);
        }
    }

    /// It is to go to this cluster.
    pub(super) fn chosen(&mut self, cluster: &Arc<Cluster>) {
        if let Some(metered) = &self.metered {
            metered.chosen(cluster);
        }
        self.log(|connection| connection.upstream_cluster = Some(cluster.name.to_string()));
    }

    /// It goes to this backend, from an end of ours that has an address as long as it is open.
    pub(super) fn connected(&mut self, cluster: &Arc<Cluster>, host: SocketAddr, local: Option<SocketAddr>) {
        if let Some(metered) = &self.metered {
            metered.connected(cluster, host);
        }
        self.log(|connection| {
            connection.upstream_host = Some(host);
            connection.upstream_cluster.get_or_insert_with(|| cluster.name.to_string());
            connection.upstream_local = local;
        });
        if let Some(logged) = &self.logged {
            logged.tell_start();
        }
    }

    /// This backend could not be reached.
    pub(super) fn unreached(&mut self, host: SocketAddr, error: &ConnectError) {
        self.log(|connection| {
            connection.upstream_host = Some(host);
            connection.transport_failure = error.transport_failure();
        });
    }

    fn log(&mut self, note: impl FnOnce(&mut Connection)) {
        if let Some(logged) = &mut self.logged {
            note(&mut logged.connection);
        }
    }

    fn flag(&mut self, flags: &'static [ResponseFlag]) {
        if let Some(metered) = &self.metered {
            metered.flagged(flags);
        }
        if !flags.is_empty() {
            self.log(|connection| connection.flags = Cow::Borrowed(flags));
        }
    }

    /// Its TLS ends here.
    pub(super) fn agreed(&mut self, handshake: Handshake) {
        self.log(|connection| connection.handshake = Some(handshake));
    }

    /// No filter chain serves it: Envoy's words.
    pub(super) fn unserved(&mut self) {
        self.flag(&[ResponseFlag::NoRoute]);
        if let Some(logged) = &mut self.logged {
            logged.is_left = !logged.logging.tells_unserved();
            let details = Some("filter_chain_not_found");
            logged.connection.request = Some(Box::new(Request { details, ..Request::default() }));
        }
    }

    /// It found no backend.
    pub(super) fn failed(&mut self, flag: ResponseFlag) {
        self.flag(match flag {
            // All that may be tried was tried.
            ResponseFlag::UpstreamConnectionFailure => {
                &[ResponseFlag::UpstreamConnectionFailure, ResponseFlag::UpstreamRetryLimitExceeded]
            }
            ResponseFlag::NoHealthyUpstream => &[ResponseFlag::NoHealthyUpstream],
            ResponseFlag::UpstreamOverflow => &[ResponseFlag::UpstreamOverflow],
            _ => &[ResponseFlag::NoCluster],
        });
    }

    /// Its client has not switched to what it has asked for.
    pub(super) fn unswitched(&mut self) {
        self.flag(&[ResponseFlag::DownstreamConnectionTermination]);
    }

    /// It is over.
    pub(super) fn ended(&mut self, carried: Carried, end: &RelayEnd) {
        if let Some(metered) = &self.metered {
            metered.carried(carried);
        }
        self.log(|connection| (connection.received, connection.sent) = (carried.up, carried.down));
        self.flag(match end {
            RelayEnd::Failed { side: Side::Upstream, .. } => &[ResponseFlag::UpstreamConnectionTermination],
            RelayEnd::Failed { side: Side::Downstream, .. } => {
                &[ResponseFlag::DownstreamConnectionTermination]
            }
            RelayEnd::Expired => &[ResponseFlag::DurationTimeout],
            RelayEnd::Closed | RelayEnd::Idle => &[],
        });
    }

    /// The kernel plane has it, after so many bytes, and tells of it.
    pub(super) fn leave(mut self, carried: Carried) {
        if let Some(metered) = &self.metered {
            metered.carried(carried);
            metered.leave();
        }
        if let Some(logged) = &mut self.logged {
            logged.is_left = true;
        }
    }
}

impl Logged {
    fn begin(shared: &Shared, ends: Ends, server_name: Option<&str>) -> Option<Self> {
        let log = shared.access_log.clone()?;
        let logging = shared.runtime.current().snapshot.logging.clone();
        if !log.is_wanted(&logging) {
            return None;
        }
        let connection = ends.record(server_name);
        Some(Self { log, logging, began: Instant::now(), connection, is_left: false })
    }

    /// Not of a WebSocket, whose line is its request's.
    fn tell_start(&self) {
        if self.log.tells_starts() && self.connection.request.is_none() {
            let start = Connection { is_start: true, ..self.connection.clone() };
            self.log.write(&self.logging, start);
        }
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        if !self.is_left {
            self.connection.duration = self.began.elapsed();
            self.log.write(&self.logging, self.connection.take());
        }
    }
}
