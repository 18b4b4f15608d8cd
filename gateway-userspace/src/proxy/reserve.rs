//! Connecting to a backend so that the connection can be handed over: from a port of the kernel plane's, and agreeing with
//! the backend on what was agreed on with the client.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::connection::Ends;
use super::worker::Shared;
use crate::datapath::targets::SourcePort;
use crate::model::{Below, Tier};
use crate::net::repair::TcpInfo;
use crate::upstream::ConnectError;
use crate::upstream::connect::{self, Source};

/// What the backend's socket is bound to, or why the connection cannot be handed over.
pub(super) type Port = Result<SourcePort, Below>;

/// What a connection that may be handed over begins with.
struct Reserved {
    port: SourcePort,
    segment_size: Option<u32>,
}

/// Connects; `client` is what was agreed on with the client, or why that is of no use.
pub(super) async fn connect(
    shared: &Shared,
    ends: Ends,
    client: Result<TcpInfo, Below>,
    (address, timeout): (SocketAddr, Duration),
) -> Result<(TcpStream, Port), ConnectError> {
    let reserved = client.and_then(|client| Ok((client, reserve(shared, ends, address)?)));
    let (client, Reserved { port, segment_size }) = match reserved {
        Ok(reserved) => reserved,
        Err(below) => return Ok((connect::connect(address, timeout).await?, Err(below))),
    };
    let source = SocketAddr::new(port.target().source, port.number());
    let modest = port.modestly(&client);
    let connected = connect::connect_from(Source { address: source, segment_size }, address, timeout).await;
    drop(modest);
    match connected {
        Ok(stream) => Ok((stream, Ok(port))),
        // A connection of a moment ago had the port, and its end here still remembers it.
        Err(error) if error.is_port_taken() => {
            Ok((connect::connect(address, timeout).await?, Err(Below::NoRoom)))
        }
        Err(error) => Err(error),
    }
}

fn reserve(shared: &Shared, ends: Ends, backend: SocketAddr) -> Result<Reserved, Below> {
    if shared.highest_tier < Tier::Handoff {
        return Err(Below::Limited);
    }
    let targets = shared.targets.current();
    let tables = targets.tables().ok_or(Below::NoKernelPlane)?;
    let target = targets.backend(backend).map_err(|_| Below::Backend)?;
    let port = target.claim(tables).ok_or(Below::NoRoom)?;
    let mut handoff = shared.handoff.borrow_mut();
    let handoff = handoff.as_mut().ok_or(Below::NoKernelPlane)?;
    Ok(Reserved { segment_size: handoff.segment_size(&targets, ends.peer.ip(), target), port })
}
