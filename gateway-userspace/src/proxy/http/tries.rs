//! The tries of a request: each at an endpoint, the next at another one, until one brings what the route takes for an
//! answer.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, Version};
use tokio::time::sleep;

use super::deadline::{Times, of_request, of_try};
use super::record::Notes;
use super::rescue::{Lost, Rescue};
use super::retry::{Decision, Seen, decide, tries_so_far};
use super::serve::Connection;
use super::upgrade;
use crate::model::{Cluster, Outcome, RetryPolicy};
use crate::proxy::error::{RequestError, Reset, Tries};
use crate::proxy::tcp;
use crate::telemetry::ResponseFlag;
use crate::upstream::{Departure, Ending, Key, Opening, Outbound, SendError, Upload, UpstreamBody, limits};

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// A request that is ready to go, and how.
pub(super) struct Order<'a> {
    pub(super) connection: &'a Connection,
    pub(super) cluster: &'a Arc<Cluster>,
    /// What the request is kept at an endpoint by.
    pub(super) key: Option<Key>,
    /// How connections to it begin.
    pub(super) opening: &'a Opening,
    pub(super) policy: Option<&'a RetryPolicy>,
    pub(super) times: Times,
    /// The body, which holds what another try needs if `repeats`.
    pub(super) upload: &'a Upload,
    /// What has been sent may be sent again.
    pub(super) repeats: bool,
    /// What is done about endpoints that fail where no document says it.
    pub(super) rescue: Rescue,
    /// Somebody else still needs the held body.
    pub(super) is_copied: bool,
    pub(super) is_upgrade: bool,
    pub(super) notes: &'a Notes,
}

/// How a try failed.
enum Failure {
    Reset {
        reset: Reset,
        unsent: Option<Rc<Parts>>,
    },
    /// It was sent on a connection that was kept, and closed before it came.
    Stale,
    /// It was given up for another endpoint's sake.
    Lost(Lost),
    Timeout,
}

/// Tells from which end of ours a try was sent, however it ends: also for a client that goes.
struct ToldFrom<'a> {
    notes: &'a Notes,
    departure: &'a Departure,
}

impl Drop for ToldFrom<'_> {
    fn drop(&mut self) {
        self.notes.sent_from(self.departure.local());
    }
}

/// What is known after some tries.
#[derive(Default)]
struct State {
    made: u32,
    tried: Vec<SocketAddr>,
}

impl Order<'_> {
    /// Sends the request until there is an answer or the time is over.
    pub(super) async fn send(&self, head: Box<Parts>) -> Result<Response<UpstreamBody>, RequestError> {
        let departure = Departure::default();
        let trying = self.try_on(head, &departure);
        let Some(whole) = self.times.whole else { return trying.await };
        tokio::select! {
            answer = trying => answer,
            () = of_request(whole, self.upload.ended()) => {
                // Also where it is the client that gave so little time: to Envoy, too, the two are one.
                if let Some(endpoint) = departure.endpoint() {
                    self.report(endpoint, Outcome::Timeout);
                }
                Err(RequestError::Timeout)
            }
        }
    }

    /// `departure` tells which endpoint has been reached and is asked.
    async fn try_on(
        &self,
        head: Box<Parts>,
        departure: &Departure,
    ) -> Result<Response<UpstreamBody>, RequestError> {
        let mut state = State::default();
        // Shared, as most requests may be sent again and few are.
        let mut next = Rc::new(*head);
        // The place of a further try, until what became of it is known.
        let mut retrying = None;
        loop {
            state.made += 1;
            let more = self.policy.is_some_and(|policy| state.made <= policy.attempts);
            if !more && !self.is_copied {
                self.upload.let_go();
            }
            let rescue = if more { self.rescue } else { Rescue::Never };
            Rc::make_mut(&mut next).headers.insert(ATTEMPT_COUNT, count(state.made));
            let kept = (more && self.repeats || rescue != Rescue::Never).then(|| next.clone());
            let (outcome, endpoint) = self.try_once((next, rescue), &mut state, departure).await?;
            let seen = match &outcome {
                Ok(response) => Seen::Response(response.status(), response.headers()),
                Err(Failure::Reset { reset, .. }) => Seen::Reset(*reset),
                Err(Failure::Lost(Lost::Unreached)) => Seen::Reset(Reset::ConnectTimeout),
                Err(Failure::Lost(_) | Failure::Stale) => Seen::Reset(Reset::Terminated),
                Err(Failure::Timeout) => Seen::TryTimeout,
            };
            let is_stale = matches!(outcome, Err(Failure::Stale));
            let is_unsent = matches!(&outcome, Err(Failure::Reset { unsent: Some(_), .. }));
            let can_repeat = (self.repeats && kept.is_some() || is_unsent) && self.upload.is_repeatable();
            let decision = match decide(self.policy, state.made, seen, can_repeat) {
                Decision::Answer(_) if self.is_rescued(rescue, &outcome, &state) => Decision::Again,
                decision => decision,
            };
            departure.reset();
            match (decision, outcome) {
                (Decision::Answer(tries), outcome) => return self.answer(outcome, tries),
                (Decision::Again, outcome) => {
                    drop(retrying.take());
                    match limits::retry(&self.connection.shared.counts, self.cluster) {
                        Ok(place) => retrying = place,
                        Err(limits::Overflow) => return self.answer(outcome, tries_so_far(state.made)),
                    }
                    next = match (outcome, kept) {
                        (Err(Failure::Reset { unsent: Some(head), .. }), _) => head,
                        (outcome, None) => return self.answer(outcome, tries_so_far(state.made)),
                        (_, Some(head)) => head,
                    };
                }
            }
            tracing::debug!(cluster = %self.cluster.name, %endpoint, made = state.made, "another try");
            if !is_stale {
                self.pause(state.made).await;
            }
        }
    }

    /// Whether a request that is the endpoint's loss goes to another one, though no condition says so.
    fn is_rescued(
        &self,
        rescue: Rescue,
        outcome: &Result<Response<UpstreamBody>, Failure>,
        state: &State,
    ) -> bool {
        let is_covered = match outcome {
            // Nothing speaks against the endpoint.
            Err(Failure::Stale) => return rescue.covers(Lost::Stale),
            Err(Failure::Lost(lost)) => rescue.covers(*lost),
            Err(Failure::Reset { reset: Reset::Terminated, unsent: None }) => rescue.covers(Lost::Broken),
            _ => false,
        };
        is_covered && self.connection.shared.balancer.has_other(self.cluster, &state.tried)
    }

    fn answer(
        &self,
        outcome: Result<Response<UpstreamBody>, Failure>,
        tries: Tries,
    ) -> Result<Response<UpstreamBody>, RequestError> {
        match outcome {
            Ok(response) => {
                if tries == Tries::Exhausted {
                    tracing::debug!(cluster = %self.cluster.name, status = %response.status(), "no try left");
                    self.notes.flag(ResponseFlag::UpstreamRetryLimitExceeded);
                }
                if !self.is_copied {
                    self.upload.let_go();
                }
                Ok(response)
            }
            Err(Failure::Reset { reset, .. }) => Err(RequestError::Reset(reset, tries)),
            Err(Failure::Lost(Lost::Unreached)) => Err(RequestError::Reset(Reset::ConnectTimeout, tries)),
            Err(Failure::Lost(_) | Failure::Stale) => Err(RequestError::Reset(Reset::Terminated, tries)),
            Err(Failure::Timeout) => Err(RequestError::TryTimeout(tries)),
        }
    }

    /// One try. An error is the answer: there is nobody to ask.
    async fn try_once(
        &self,
        (head, rescue): (Rc<Parts>, Rescue),
        state: &mut State,
        departure: &Departure,
    ) -> Result<(Result<Response<UpstreamBody>, Failure>, SocketAddr), RequestError> {
        let Self { connection, cluster, .. } = self;
        let lease = connection.shared.balancer.choose_beyond(cluster, self.key, self.avoided(state));
        let mut lease =
            lease.ok_or(RequestError::NoHealthyUpstream).inspect_err(|_| self.notes.tried_in_vain())?;
        let (endpoint, peer) = (lease.address, lease.peer());
        self.notes.tried(endpoint);
        state.tried.push(endpoint);
        let request = Outbound { head, body: self.upload.body() };
        let Ok(place) = limits::request(&connection.shared.counts, cluster) else {
            return Ok((Err(Failure::Reset { reset: Reset::Overflow, unsent: None }), endpoint));
        };
        lease.hold(place, None);
        let _told = ToldFrom { notes: self.notes, departure };
        let sending = pin!(async {
            if self.is_upgrade && request.head.version != Version::HTTP_2 {
                // In a box, as few requests need its room.
                let to = (&***cluster, self.opening);
                Box::pin(upgrade::send(connection, to, request, lease, departure)).await
            } else {
                connection.shared.pool.send(request, (cluster, self.opening), lease, departure).await
            }
        });
        let sending = self.telling_of_connection(sending, departure);
        let is_elsewhere = || connection.shared.balancer.has_other(cluster, &state.tried);
        let sent = tokio::select! {
            biased;
            sent = sending => Ok(sent),
            () = of_try(self.times.of_try, departure, self.upload.ended()) => Err(Failure::Timeout),
            lost = rescue.lost((&peer, departure), is_elsewhere) => Err(Failure::Lost(lost)),
        };
        let outcome = match sent {
            Ok(sent) => {
                let asked = departure.left();
                let outcome = self.judge(sent, endpoint, rescue);
                if let (Ok(_), Some(asked)) = (&outcome, asked) {
                    peer.answered(asked.into_std(), Instant::now());
                }
                // Nobody else is to blame, and nothing is left to say again.
                if matches!(outcome, Err(Failure::Reset { unsent: None, .. }))
                    && let Some(flaw) = self.upload.flaw()
                {
                    return Err(RequestError::of(flaw));
                }
                outcome
            }
            Err(Failure::Lost(lost)) => {
                tracing::debug!(cluster = %cluster.name, %endpoint, ?lost, "another endpoint is asked");
                self.report(endpoint, Outcome::LocalOriginFailure);
                connection.shared.balancer.doubt(cluster, endpoint);
                Err(Failure::Lost(lost))
            }
            Err(failure) => {
                self.report(endpoint, Outcome::Timeout);
                Err(failure)
            }
        };
        Ok((outcome, endpoint))
    }

    /// Where failures to connect are counted by themselves, tells of a connection as soon as it is there: whatever the
    /// endpoint does on it ends a series of them.
    async fn telling_of_connection<T>(
        &self,
        mut sending: Pin<&mut impl Future<Output = T>>,
        departure: &Departure,
    ) -> T {
        if self.cluster.outlier.as_ref().is_none_or(|rules| !rules.split_local_origin) {
            return sending.await;
        }
        tokio::select! {
            biased;
            sent = &mut sending => return sent,
            _ = departure.at() => {}
        }
        if let Some(endpoint) = departure.endpoint() {
            self.report(endpoint, Outcome::Connected);
        }
        sending.await
    }

    /// Tells what became of a try, to those who watch endpoints too.
    fn judge(
        &self,
        sent: Result<Response<UpstreamBody>, SendError>,
        endpoint: SocketAddr,
        rescue: Rescue,
    ) -> Result<Response<UpstreamBody>, Failure> {
        match sent {
            Ok(response) => {
                self.report(endpoint, Outcome::Status(response.status().as_u16()));
                Ok(response)
            }
            Err(SendError::Exchange { ending: Ending::Stale, .. }) if rescue.covers(Lost::Stale) => {
                Err(Failure::Stale)
            }
            Err(SendError::Exchange { error, ending }) => {
                tracing::debug!(cluster = %self.cluster.name, %error, "no response");
                // No answer counts as no connection, as at Envoy; but not where it is the client that broke off.
                if self.upload.flaw().is_none() {
                    self.report(endpoint, Outcome::LocalOriginFailure);
                    if matches!(ending, Ending::Closed | Ending::Stale) {
                        self.connection.shared.balancer.doubt(self.cluster, endpoint);
                    }
                }
                let reset = match ending {
                    Ending::Closed | Ending::Stale => Reset::Terminated,
                    Ending::Reset => Reset::Remote,
                    Ending::Refused => Reset::Refused,
                    Ending::NotHttp => Reset::Protocol,
                };
                Err(Failure::Reset { reset, unsent: None })
            }
            Err(SendError::Ambiguous) => {
                tracing::debug!(cluster = %self.cluster.name, %endpoint, "a response that says twice how long it is");
                self.report(endpoint, Outcome::LocalOriginFailure);
                Err(Failure::Reset { reset: Reset::Protocol, unsent: None })
            }
            Err(SendError::Overflow) => Err(Failure::Reset { reset: Reset::Overflow, unsent: None }),
            Err(SendError::Connect { error, request }) => {
                self.report(endpoint, Outcome::LocalOriginFailure);
                self.connection.shared.balancer.doubt(self.cluster, endpoint);
                tcp::report(self.cluster, &error);
                self.notes.unreached(&error);
                let reset = Reset::of(&error);
                Err(Failure::Reset { reset, unsent: Some(request.head) })
            }
        }
    }

    /// Endpoints that come last, and those whose places do. As at Envoy, a client that is kept at an endpoint leaves it for
    /// another try, and each two tries are looked back at together.
    fn avoided<'s>(&self, state: &'s State) -> (&'s [SocketAddr], &'s [SocketAddr]) {
        let Some(policy) = self.policy else { return (&[], &[]) };
        let tried = if policy.avoid_previous { state.tried.as_slice() } else { &[] };
        let pairs = if policy.remote_localities { state.tried.len() / 2 * 2 } else { 0 };
        (tried, &state.tried[..pairs])
    }

    async fn pause(&self, made: u32) {
        if let Some(policy) = self.policy {
            sleep(policy.pause(made, fastrand::f64())).await;
        }
    }

    fn report(&self, endpoint: SocketAddr, outcome: Outcome) {
        self.connection.shared.balancer.report(self.cluster, endpoint, outcome);
    }
}

/// How often a request was sent, as backends are told: nearly always once.
fn count(made: u32) -> HeaderValue {
    if made == 1 { HeaderValue::from_static("1") } else { HeaderValue::from(made) }
}
