//! Who of several gateways writes: the one that holds a Lease (coordination.k8s.io/v1). Clocks of machines are not compared:
//! a holder is gone when its Lease has not changed for as long as it says, by the watch of whoever looks.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::client;

/// Its name, in the gateway's namespace.
pub(super) const NAME: &str = "sluice-status";
/// How long a holder that says nothing has it.
const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed, and looked at by the others.
const RENEWAL: Duration = Duration::from_secs(4);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// One of those who would hold it.
pub(super) struct Candidate {
    leases: Api<Lease>,
    name: String,
    holds: watch::Sender<bool>,
    /// The Lease as it was seen last, and when it was seen so first.
    seen: Option<(String, Instant)>,
    renewed: Instant,
    is_told: bool,
}

impl Candidate {
    /// Names itself by its pod.
    pub(super) fn new(client: Client, namespace: &str, holds: watch::Sender<bool>) -> Self {
        let pod = pod_name();
        Self {
            leases: Api::namespaced(client, namespace),
            name: format!("{pod}_{:016x}", fastrand::u64(..)),
            holds,
            seen: None,
            renewed: Instant::now(),
            is_told: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let tried = Instant::now();
            match timeout(PATIENCE, self.try_to_hold()).await {
                Ok(Ok(true)) => {
                    self.renewed = tried;
                    self.say(true);
                }
                Ok(Ok(false)) => self.say(false),
                // Others may have it by now only once its time is over.
                failed if self.renewed.elapsed() + RENEWAL > DURATION => {
                    if let (Ok(Err(error)), false) = (&failed, std::mem::replace(&mut self.is_told, true)) {
                        let why = client::words(error);
                        tracing::warn!(%why, lease = NAME, "no status is written to documents by this gateway");
                    }
                    self.say(false);
                }
                _ => {}
            }
            sleep(RENEWAL).await;
        }
    }

    fn say(&self, holds: bool) {
        self.holds.send_if_modified(|before| {
            if holds && !*before {
                tracing::info!("this gateway writes the status of documents");
            }
            std::mem::replace(before, holds) != holds
        });
    }

    async fn try_to_hold(&mut self) -> Result<bool, Error> {
        let parameters = PostParams::default();
        let Some(mut lease) = self.leases.get_opt(NAME).await? else {
            let mut lease = Lease::default();
            lease.metadata.name = Some(NAME.to_owned());
            lease.spec = Some(self.held(None));
            return won(self.leases.create(&parameters, &lease).await);
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => Instant::now(),
        };
        self.seen = Some((version, since));
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let is_over = since.elapsed() >= seconds.map_or(DURATION, Duration::from_secs);
        if holder != self.name && !holder.is_empty() && !is_over {
            return Ok(false);
        }
        lease.spec = Some(self.held(Some(&spec)));
        // Refused if somebody else was faster: the version that was read goes with it.
        won(self.leases.replace(NAME, &parameters, &lease).await)
    }

    fn held(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine = before.filter(|spec| spec.holder_identity.as_deref() == Some(&self.name));
        let transitions = before.map_or(0, |spec| spec.lease_transitions.unwrap_or(0));
        LeaseSpec {
            acquire_time: mine.map_or_else(|| Some(now.clone()), |spec| spec.acquire_time.clone()),
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(transitions + i32::from(before.is_some() && mine.is_none())),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }
}

fn won(result: Result<Lease, Error>) -> Result<bool, Error> {
    match result {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.code == http::StatusCode::CONFLICT.as_u16() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The pod's name, or the machine's.
pub(super) fn pod_name() -> String {
    let machines = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = std::env::var("POD_NAME").ok().or_else(machines).unwrap_or_default();
    name.trim().to_owned()
}
