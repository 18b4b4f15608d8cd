//! Copies of requests: each goes out once its request has come whole, is sent once, and its answer is thrown away. Whatever
//! becomes of it, the request that it is a copy of does not notice.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::outgoing::{self, Address};
use super::serve::Connection;
use super::{affinity, headers};
use crate::model::{Cluster, Forward, Fraction, Outcome};
use crate::proxy::worker::Shared;
use crate::upstream::{Departure, Ended, Key, Opening, Outbound, SendError, UpstreamBody, limits};

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
/// Copies under way in a worker, each with up to 1 MiB of body; there are no more, however slow their backend.
const MOST: usize = 1024;
/// A copy's time where its route gives none.
const LONGEST: Duration = Duration::from_mins(1);

/// The mirrors of one request.
#[derive(Default)]
pub(super) struct Copies<'a>(Vec<&'a Arc<Cluster>>);

/// A copy on its way.
struct Copy {
    shared: Rc<Shared>,
    cluster: Arc<Cluster>,
    opening: Opening,
    key: Option<Key>,
    head: Parts,
    time: Duration,
}

impl<'a> Copies<'a> {
    /// Draws who gets a copy of a request.
    pub(super) fn draw(action: &'a Forward) -> Self {
        let drawn =
            action.mirrors.iter().filter(|mirror| mirror.share.takes(fastrand::u32(..Fraction::WHOLE)));
        Self(drawn.filter_map(|mirror| mirror.destination.cluster.as_ref()).collect())
    }

    /// Whether the request's body must be held.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets the copies go as soon as the request has ended. `head` is the request's own, as its backend gets it, but for
    /// the request line.
    pub(super) fn send(
        &self,
        connection: &Connection,
        (head, address, client_speaks_http2): (&Parts, &Address, bool),
        (time, ended): (Option<Duration>, &Ended),
    ) {
        let client = connection.ends.client().ip();
        for cluster in &self.0 {
            let mut head = head.clone();
            headers::append_forwarded_for(&mut head.headers, connection.ends.local.ip());
            head.headers.insert(INTERNAL, HeaderValue::from_static("true"));
            let protocol = cluster.speaks(client_speaks_http2);
            let Ok(opening) = connection.opening(cluster, address.authority(), protocol) else { continue };
            if address.clone().write(&mut head, cluster, protocol).is_err() {
                continue;
            }
            let copy = Copy {
                shared: connection.shared.clone(),
                cluster: (*cluster).clone(),
                opening,
                key: affinity::of(&cluster.affinity, &head, address, client).key,
                head,
                time: time.unwrap_or(LONGEST),
            };
            let ended = ended.clone();
            tokio::task::spawn_local(async move { copy.go(ended).await });
        }
    }
}

impl Copy {
    async fn go(self, mut ended: Ended) {
        let Some(body) = ended.copy().await else {
            tracing::debug!(cluster = %self.cluster.name, "no copy of a request that is too long, not whole, or had no room");
            return;
        };
        let Self { shared, cluster, opening, key, mut head, time } = self;
        let Some(_one) = One::begin(&shared) else {
            tracing::debug!(cluster = %cluster.name, "no copy: too many are under way");
            return;
        };
        outgoing::frame(&mut head, &http_body::Body::size_hint(&body));
        let balancer = &shared.balancer;
        let Some(mut lease) = balancer.choose(&cluster, key, &[]) else { return };
        let endpoint = lease.address;
        let Ok(place) = limits::request(&shared.counts, &cluster) else { return };
        lease.hold(place, None);
        let departure = Departure::default();
        let exchange = async {
            let request = Outbound { head: Rc::new(head), body };
            let response = shared.pool.send(request, (&cluster, &opening), lease, &departure).await?;
            let status = response.status().as_u16();
            read(response).await;
            Ok::<_, SendError>(status)
        };
        let exchanged = timeout(time, exchange).await;
        let outcome = match exchanged {
            Ok(Ok(status)) => Outcome::Status(status),
            Ok(Err(SendError::Connect { .. } | SendError::Ambiguous | SendError::Exchange { .. })) => {
                Outcome::LocalOriginFailure
            }
            Ok(Err(SendError::Overflow)) => return,
            // Whoever was not reached has had no time.
            Err(_) if departure.endpoint().is_none() => return,
            Err(_) => Outcome::Timeout,
        };
        balancer.report(&cluster, endpoint, outcome);
    }
}

/// To the end, so that the connection can be used again.
async fn read(response: Response<UpstreamBody>) {
    let mut body = response.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}

/// One of the copies under way.
struct One(Rc<Shared>);

impl One {
    fn begin(shared: &Rc<Shared>) -> Option<Self> {
        let under_way = shared.copies.get();
        (under_way < MOST).then(|| {
            shared.copies.set(under_way + 1);
            Self(shared.clone())
        })
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.copies.set(self.0.copies.get() - 1);
    }
}
