//! Opaque connections whose both sides are there: relayed by the best tier that they may reach, and listed while they
//! last.

use std::cell::OnceCell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::climb::{Climb, End};
use super::connection::Ends;
use super::metering::Metered;
use super::worker::{Shared, unmapped};
use crate::model::connections::Route;
use crate::model::{Below, Connection, Tier};
use crate::net::relay::{Carried, Lifetime, Parts, Progress, Relay, RelayEnd, relay};

/// Who is told what a connection carries.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// The list; one whose backend has gone before it could be asked for its address is not in it.
    connection: Option<Rc<Connection>>,
    metered: Option<Rc<Metered>>,
}

impl Listed {
    fn carried(&self, carried: Carried) {
        if let Some(listed) = &self.connection {
            listed.carried(carried.up, carried.down, Instant::now());
        }
        if let Some(metered) = &self.metered {
            metered.carried(carried);
        }
    }
}

/// Lists a connection that can only be copied.
pub(super) fn list_streams(
    shared: &Shared,
    (ends, server_name, metered): (Ends, Option<&str>, Option<Rc<Metered>>),
    upstream: &TcpStream,
    below: Below,
) -> Listed {
    let connection = list(shared, route(ends, server_name, upstream), Tier::Copy, Some(below));
    Listed { connection, metered }
}

fn list(
    shared: &Shared,
    route: io::Result<Route>,
    tier: Tier,
    below: Option<Below>,
) -> Option<Rc<Connection>> {
    Some(Rc::new(shared.counts.connections.open(route.ok()?, tier, below, Instant::now())))
}

fn route(ends: Ends, server_name: Option<&str>, upstream: &TcpStream) -> io::Result<Route> {
    Ok(Route {
        client: ends.peer,
        listener: ends.local,
        source: upstream.local_addr().map(unmapped)?,
        backend: upstream.peer_addr().map(unmapped)?,
        sni: server_name.map(Box::from),
    })
}

/// The tier of a connection between plain sockets, and why it is no better. One that was refused the best tier for good
/// is told why, one that may still reach the next one that it has carried too little for that.
fn standing(spliced: bool, highest: Tier, refused: Option<Below>) -> (Tier, Option<Below>) {
    match (spliced, highest) {
        (_, Tier::Copy) => (Tier::Copy, Some(Below::Limited)),
        (false, Tier::Splice) => (Tier::Copy, Some(Below::FewBytes)),
        (false, _) => (Tier::Copy, refused.or(Some(Below::FewBytes))),
        (true, Tier::Splice) => (Tier::Splice, Some(Below::Limited)),
        (true, _) => (Tier::Splice, refused),
    }
}

/// Relays between plain sockets until the end, or until the kernel plane has the connection. One that it has at once is
/// never listed.
pub(super) async fn between_sockets(
    shared: &Shared,
    (ends, server_name, metered): (Ends, Option<&str>, Option<Rc<Metered>>),
    mut climb: Climb<'_>,
    (parts, lifetime): (Parts, Lifetime),
    answered: impl FnMut(),
) -> (Carried, End) {
    let (highest, listed) = (shared.highest_tier, OnceCell::<Listed>::new());
    let build = |parts: Parts, refused: Option<Below>| {
        let list = || {
            let (tier, below) = standing(false, highest, refused);
            let connection = list(shared, route(ends, server_name, &parts.upstream), tier, below);
            Listed { connection, metered: metered.clone() }
        };
        let listed = listed.get_or_init(list).clone();
        let relay = Relay::from_parts(parts, lifetime);
        let relay = if highest < Tier::Splice { relay.without_splice() } else { relay };
        relay.watched(move |Progress { carried, spliced }| {
            listed.carried(carried);
            if let Some(connection) = &listed.connection {
                let (tier, below) = standing(spliced, highest, refused);
                connection.settle(tier, below);
            }
        })
    };
    climb.carry(parts, build, answered).await
}

/// Relays between streams of any kind.
pub(super) async fn between_streams(
    listed: Listed,
    (downstream, upstream): (impl AsyncRead + AsyncWrite, impl AsyncRead + AsyncWrite),
    lifetime: Lifetime,
    answered: impl Fn(),
) -> (Carried, RelayEnd) {
    relay(downstream, upstream, lifetime, answered, |carried| listed.carried(carried)).await
}
