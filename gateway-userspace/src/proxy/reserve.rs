//! Connecting to a backend so that the connection can be handed over: from a port of the kernel plane's, and agreeing with
//! the backend on what was agreed on with the client; under the client's own address where backends are to see that.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gateway_common::{Addr4, Addr6, Address as _};
use tokio::net::TcpStream;

use super::connection::Ends;
use super::worker::Shared;
use crate::datapath::Targets;
use crate::datapath::targets::{NoTarget, SourcePort};
use crate::model::{Below, SourceAddress, Tier};
use crate::net::repair::TcpInfo;
use crate::upstream::ConnectError;
use crate::upstream::connect::{self, Source};

/// How long the kernel plane is waited for. It takes some tenths of a second to start, and more where the verifier shares
/// its processor with many others.
const STARTING: Duration = Duration::from_secs(15);

/// What the backend's socket is bound to, or why the connection cannot be handed over.
pub(super) type Port = Result<SourcePort, Below>;

/// Of a snapshot: whichever the kernel plane knows the backends of.
const ANY_GENERATION: u64 = 0;

/// Ports that are tried in place of the client's own where that is taken.
const OTHER_PORTS: usize = 8;

/// A connection to a backend.
pub(super) struct Reached {
    pub(super) stream: TcpStream,
    pub(super) port: Port,
    /// The client's address, if the connection speaks under it and cannot be handed over; held as long as that lives.
    pub(super) speaker: Option<SourcePort>,
}

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
    let source = Source { address: port.address(), transparent: false, segment_size };
    let modest = port.modestly(&client);
    let connected = connect::connect_from(source, address, timeout).await;
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

/// Connects from the client's own address if that is wished and can be had, else from the gateway's. `wished` is of the
/// snapshot of a generation.
pub(super) async fn connect_as(
    (wished, generation): (SourceAddress, u64),
    shared: &Shared,
    ends: Ends,
    client: Result<TcpInfo, Below>,
    to: (SocketAddr, Duration),
) -> Result<Reached, ConnectError> {
    if wished == SourceAddress::Preserve
        && let Some(reached) = connect_transparently(shared, generation, ends, client, to).await?
    {
        return Ok(reached);
    }
    let (stream, port) = connect(shared, ends, client, to).await?;
    Ok(Reached { stream, port, speaker: None })
}

/// From the client's own port, or another one where a connection to the backend has that already: of the same port of the
/// client's, by another listener. `None` if the backend would not see the client, or no port was found.
async fn connect_transparently(
    shared: &Shared,
    generation: u64,
    ends: Ends,
    client: Result<TcpInfo, Below>,
    (address, timeout): (SocketAddr, Duration),
) -> Result<Option<Reached>, ConnectError> {
    if !can_meet(ends.peer.ip(), address.ip()) {
        return Ok(None);
    }
    let targets = targets(shared, generation).await;
    let (Some(tables), Ok(target)) = (targets.tables(), targets.preserving(address)) else {
        return Ok(None);
    };
    let client = if shared.highest_tier < Tier::Handoff { Err(Below::Limited) } else { client };
    let segment_size = {
        let mut handoff = shared.handoff.borrow_mut();
        handoff.as_mut().and_then(|handoff| handoff.segment_size(&targets, ends.peer.ip(), target))
    };
    let others = (0..OTHER_PORTS).map(|_| SocketAddr::new(ends.peer.ip(), tables.any_port()));
    for source in std::iter::once(ends.peer).chain(others) {
        let Some(port) = target.speak_as(tables, source) else { continue };
        let modest = client.as_ref().ok().and_then(|client| port.modestly(client));
        let source = Source { address: source, transparent: true, segment_size };
        let connected = connect::connect_from(source, address, timeout).await;
        drop(modest);
        match connected {
            Ok(stream) => {
                return Ok(Some(match client {
                    Ok(_) => Reached { stream, port: Ok(port), speaker: None },
                    Err(below) => Reached { stream, port: Err(below), speaker: Some(port) },
                }));
            }
            Err(error) if error.is_port_taken() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a backend can answer a client's address by way of this node: not if it means the backend itself by it, as
/// addresses of loopback and of a link are, and the backend's own.
fn can_meet(client: IpAddr, backend: IpAddr) -> bool {
    let is_far = match client {
        IpAddr::V4(ip) => Addr4::from(ip).is_host() && !ip.is_link_local(),
        IpAddr::V6(ip) => Addr6::from(ip).is_host() && !ip.is_unicast_link_local(),
    };
    is_far && client != backend && client.is_ipv4() == backend.is_ipv4()
}

async fn reserve(shared: &Shared, ends: Ends, backend: SocketAddr) -> Result<Reserved, Below> {
    if shared.highest_tier < Tier::Handoff {
        return Err(Below::Limited);
    }
    // The kernel plane is not waited for where another agent has it still: what is served without it meanwhile stays so.
    let targets =
        if shared.is_successor { shared.targets.current() } else { targets(shared, ANY_GENERATION).await };
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

/// Where connections can be handed over to. An agent's listeners are open before its kernel plane is there, and know of new
/// backends before it does: clients that come as soon as that wait a moment, else they would be user space's for good, or
/// seen as the gateway.
async fn targets(shared: &Shared, generation: u64) -> Arc<Targets> {
    let targets = shared.targets.current();
    if targets.know(generation) {
        return targets;
    }
    let mut published = shared.targets.clone();
    // Whoever has no plane says that nothing will be published.
    let starting = async { while !published.current().know(generation) && published.changed().await {} };
    // What takes longer than that is no start any more.
    let _ = tokio::time::timeout(STARTING, starting).await;
    shared.targets.current()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_told_of_clients_that_it_can_answer() {
        for (client, backend, can) in [
            ("198.18.0.2", "198.18.1.2", true),
            ("fd00::2", "fd00:1::2", true),
            ("198.18.1.2", "198.18.1.2", false),
            ("198.18.0.2", "fd00:1::2", false),
            ("fd00::2", "198.18.1.2", false),
            ("127.0.0.1", "198.18.1.2", false),
            ("169.254.0.1", "198.18.1.2", false),
            ("::1", "fd00:1::2", false),
            ("fe80::1", "fd00:1::2", false),
        ] {
            assert_eq!(
                can_meet(client.parse().unwrap(), backend.parse().unwrap()),
                can,
                "{client} {backend}"
            );
        }
    }
}
