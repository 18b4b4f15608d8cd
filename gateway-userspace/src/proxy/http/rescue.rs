//! Requests that an endpoint loses, where no document says what is to be done: it breaks the connection off, says nothing at
//! all any more, or cannot be reached in good time. Another endpoint is asked, if there is one that nothing speaks against, and
//! no endpoint is asked twice; but where its endpoint had closed a connection that was kept from other requests before this one came
//! there, the same one may be asked (RFC 9112, 9.3.1). Only a request that its method allows to repeat
//! (RFC 9110, 9.2.2) is sent again; what has not been sent may go anywhere.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep_until, timeout};

use crate::model::{Cluster, RetryPolicy};
use crate::upstream::{Departure, Peer};

/// A connection that takes longer is not waited for where another endpoint is there. A first SYN that got lost is sent again
/// after a second.
const CONNECTING: Duration = Duration::from_millis(1250);

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rescue {
    /// Nothing.
    Never,
    /// What was sent on a connection that was closed by then is sent on another.
    Stale,
    /// What has not been sent is sent elsewhere.
    Unsent,
    /// All of it, and what has been sent.
    Always,
}

/// How an endpoint lost a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// No connection in good time.
    Unreached,
    /// The connection broke off.
    Broken,
    /// Likewise, one that was kept from other requests, before this one had come.
    Stale,
    /// It answers nothing any more, whoever asks.
    Silent,
}

impl Rescue {
    /// For a request of a method, with so many bytes of a body as far as is known.
    pub(super) fn of(
        policy: Option<&RetryPolicy>,
        cluster: &Cluster,
        (method, body): (&Method, Option<u64>),
        is_upgrade: bool,
    ) -> Self {
        if is_upgrade || policy.is_none_or(|policy| !policy.rescues) {
            return Self::Never;
        }
        match (cluster.endpoints.len() > 1, method.is_idempotent() && body == Some(0)) {
            (true, true) => Self::Always,
            (true, false) => Self::Unsent,
            (false, true) => Self::Stale,
            (false, false) => Self::Never,
        }
    }

    /// Whether a request that was lost so goes elsewhere.
    pub(super) fn covers(self, lost: Lost) -> bool {
        match self {
            Self::Never => false,
            Self::Stale => lost == Lost::Stale,
            Self::Unsent => lost == Lost::Unreached,
            Self::Always => true,
        }
    }

    /// Waits until the endpoint has lost the request, as far as that can be told without its help and another one is there.
    pub(super) async fn lost(
        self,
        (peer, departure): (&Peer, &Departure),
        is_elsewhere: impl Fn() -> bool,
    ) -> Lost {
        if matches!(self, Self::Never | Self::Stale) {
            std::future::pending::<()>().await;
        }
        loop {
            let left = match departure.left() {
                Some(asked) => Ok(asked),
                None => timeout(CONNECTING, departure.at()).await,
            };
            match left {
                Err(_) if is_elsewhere() => return Lost::Unreached,
                Err(_) => {}
                // It is sent.
                Ok(_) if self == Self::Unsent => std::future::pending().await,
                Ok(asked) => {
                    silence(peer, asked).await;
                    if is_elsewhere() {
                        return Lost::Silent;
                    }
                    // Nobody else to ask, for now.
                    tokio::time::sleep(CONNECTING).await;
                }
            }
        }
    }
}

/// Waits until an endpoint has been silent for too long since it was asked.
async fn silence(peer: &Peer, asked: Instant) {
    let mut waited = None;
    loop {
        // One that was never heard of may be heard of meanwhile.
        let end = peer.silent_at(asked.into_std()).map(Instant::from_std);
        match end {
            Some(end) if Some(end) <= waited => return,
            Some(end) => {
                sleep_until(end).await;
                waited = Some(end);
            }
            None => tokio::time::sleep(CONNECTING).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusterName, Endpoint, Health, UpstreamProtocol};

    fn cluster(endpoints: u16) -> Cluster {
        let name = ClusterName { host: "a".into(), port: 80, subset: None };
        let endpoints =
            (1..=endpoints).map(|port| Endpoint::new(([10, 0, 0, 1], port).into(), Health::Healthy));
        Cluster::new(name, UpstreamProtocol::Http1, endpoints.collect())
    }

    #[test]
    fn what_may_be_repeated_is_rescued_where_no_document_says_otherwise() {
        use Rescue::{Always, Never, Stale, Unsent};
        let (default, written) =
            (RetryPolicy::default(), RetryPolicy { rescues: false, ..RetryPolicy::default() });
        for (policy, endpoints, method, body, is_upgrade, want) in [
            (Some(&default), 2, Method::GET, Some(0), false, Always),
            (Some(&default), 2, Method::HEAD, Some(0), false, Always),
            (Some(&default), 2, Method::DELETE, Some(0), false, Always),
            (Some(&default), 2, Method::PUT, Some(4), false, Unsent),
            (Some(&default), 2, Method::POST, Some(0), false, Unsent),
            (Some(&default), 2, Method::GET, None, false, Unsent),
            (Some(&default), 1, Method::GET, Some(0), false, Stale),
            (Some(&default), 1, Method::POST, Some(0), false, Never),
            (Some(&default), 1, Method::PUT, Some(4), false, Never),
            (Some(&default), 1, Method::GET, Some(0), true, Never),
            (Some(&default), 2, Method::GET, Some(0), true, Never),
            (Some(&written), 2, Method::GET, Some(0), false, Never),
            (None, 2, Method::GET, Some(0), false, Never),
        ] {
            let got = Rescue::of(policy, &cluster(endpoints), (&method, body), is_upgrade);
            assert_eq!(got, want, "{method} {body:?} {endpoints}");
        }
        for (rescue, covered) in [(Never, 0), (Stale, 1), (Unsent, 1), (Always, 4)] {
            let all = [Lost::Unreached, Lost::Broken, Lost::Stale, Lost::Silent];
            assert_eq!(all.into_iter().filter(|lost| rescue.covers(*lost)).count(), covered);
        }
    }
}
