//! Connecting to a backend so that the connection can be handed over: from a port of the kernel plane's, and agreeing with
//! the backend on what was agreed on with the client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::connection::Ends;
use super::worker::Shared;
use crate::datapath::Targets;
use crate::datapath::targets::{NoTarget, SourcePort};
use crate::model::{Below, Tier};
use crate::net::repair::TcpInfo;
use crate::upstream::ConnectError;
use crate::upstream::connect::{self, Source};

/// How long the kernel plane is waited for. It takes some tenths of a second to start, and more where the verifier shares
/// its processor with many others.
const STARTING: Duration = Duration::from_secs(15);

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
    let reserved = match client {
        Ok(client) => reserve(shared, ends, address).await.map(|reserved| (client, reserved)),
        Err(below) => Err(below),
    };
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

async fn reserve(shared: &Shared, ends: Ends, backend: SocketAddr) -> Result<Reserved, Below> {
    if shared.highest_tier < Tier::Handoff {
        return Err(Below::Limited);
    }
    let targets = targets(shared).await;
    let tables = targets.tables().ok_or(Below::NoKernelPlane)?;
    let target = targets.backend(backend).map_err(|problem| match problem {
        NoTarget::NoRoom => Below::NoRoom,
        NoTarget::Unknown | NoTarget::Unreachable(_) => Below::Backend,
    })?;
    let port = target.claim(tables).ok_or(Below::NoRoom)?;
    let mut handoff = shared.handoff.borrow_mut();
    let handoff = handoff.as_mut().ok_or(Below::NoKernelPlane)?;
    Ok(Reserved { segment_size: handoff.segment_size(&targets, ends.peer.ip(), target), port })
}

/// Where connections can be handed over to. An agent's listeners are open before its kernel plane is there: clients that
/// come as soon as that wait a moment, else they would be user space's for good.
async fn targets(shared: &Shared) -> Arc<Targets> {
    let targets = shared.targets.current();
    if targets.tables().is_some() {
        return targets;
    }
    let mut published = shared.targets.clone();
    // Whoever has no plane says that nothing will be published.
    let starting = async { while published.current().tables().is_none() && published.changed().await {} };
    // What takes longer than that is no start any more.
    let _ = tokio::time::timeout(STARTING, starting).await;
    shared.targets.current()
}
