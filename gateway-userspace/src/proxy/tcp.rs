//! Opaque connections: to a backend, byte for byte.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::connection::Ends;
use super::worker::Shared;
use crate::model::{Cluster, TcpRoute};
use crate::net::drain::DrainWatch;
use crate::net::relay::{RelayEnd, relay};
use crate::telemetry::ResponseFlag;
use crate::upstream::balance::by_weight;
use crate::upstream::{ConnectError, Lease, connect};

/// Endpoints tried before the client is let down.
const MAX_CONNECT_ATTEMPTS: usize = 3;

/// Connects to a backend of the route and relays until both sides are done. Without one the connection is closed.
pub(super) async fn serve<S: AsyncRead + AsyncWrite>(
    shared: &Shared,
    ends: Ends,
    downstream: S,
    route: &TcpRoute,
    drain: DrainWatch,
) {
    match connect_any(shared, route).await {
        Ok((upstream, lease)) => {
            let (carried, end) = relay(downstream, upstream, route.idle_timeout).await;
            if let RelayEnd::Failed(error) = end {
                let (up, down) = (carried.up, carried.down);
                tracing::debug!(peer = %ends.peer, backend = %lease.address, up, down, %error, "connection failed");
            }
        }
        Err(flag) => {
            let route = &route.virtual_service;
            tracing::debug!(listener = %ends.listener, peer = %ends.peer, %flag, %route, "no backend");
        }
    }
    drop(drain);
}

async fn connect_any(shared: &Shared, route: &TcpRoute) -> Result<(TcpStream, Lease), ResponseFlag> {
    let chosen = by_weight(&route.destinations).and_then(|index| route.destinations.get(index));
    let cluster =
        chosen.and_then(|destination| destination.cluster.as_ref()).ok_or(ResponseFlag::NoCluster)?;
    let mut tried = Vec::new();
    while tried.len() < MAX_CONNECT_ATTEMPTS {
        let lease = shared.balancer.choose(cluster, &tried).ok_or(ResponseFlag::NoHealthyUpstream)?;
        if tried.contains(&lease.address) {
            break;
        }
        match connect::connect(lease.address, cluster.connect_timeout).await {
            Ok(stream) => return Ok((stream, lease)),
            Err(error) => {
                report(cluster, &error);
                tried.push(lease.address);
            }
        }
    }
    Err(ResponseFlag::UpstreamConnectionFailure)
}

/// Says that an endpoint could not be reached.
pub(super) fn report(cluster: &Cluster, error: &ConnectError) {
    let endpoint: SocketAddr = match error {
        ConnectError::Failed { address, .. } | ConnectError::Timeout { address, .. } => *address,
    };
    tracing::debug!(cluster = %cluster.name, %endpoint, %error, "endpoint not reached");
}
