//! The thread that checks endpoints: one for the agent, whatever the number of workers, and none as long as no document asks
//! for a check. What it finds is `model::HealthChecks`'s to count. Nothing that takes the agent's time makes an endpoint
//! look slow.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::model::{Checked, ClusterName, HealthCheck, HealthChecks, Transition};
use crate::proxy::Runtime;
use crate::upstream::probe;

/// Checks at a time. Others wait, which is not of the time that they may take.
const MOST_AT_ONCE: usize = 512;

/// Each check begins up to so much of its interval sooner or later.
const JITTER: f64 = 0.1;

/// Held as long as an endpoint's first check is to come.
type First = mpsc::Sender<Infallible>;

/// The agent's end. The thread ends with it.
pub(super) struct Checks {
    checks: HealthChecks,
    thread: Option<mpsc::UnboundedSender<(Arc<Runtime>, First)>>,
}

impl Checks {
    /// Without a thread yet.
    pub(super) fn new(checks: HealthChecks) -> Self {
        Self { checks, thread: None }
    }

    /// Checks what a runtime's clusters ask for, and no more what those before it did. The returned end closes when each
    /// endpoint that is new has been checked.
    pub(super) fn apply(&mut self, runtime: &Arc<Runtime>) -> mpsc::Receiver<Infallible> {
        let (first, firsts) = mpsc::channel(1);
        let is_wanted = runtime.snapshot.clusters.values().any(|cluster| cluster.health_check.is_some());
        if self.thread.is_none() && is_wanted {
            self.thread = start(self.checks.clone())
                .inspect_err(|error| tracing::error!(%error, "cannot start the thread that checks endpoints"))
                .ok();
        }
        if let Some(thread) = &self.thread {
            // A thread that has ended said why.
            let _ = thread.send((runtime.clone(), first));
        }
        firsts
    }
}

fn start(checks: HealthChecks) -> std::io::Result<mpsc::UnboundedSender<(Arc<Runtime>, First)>> {
    let (send, mut runtimes) = mpsc::unbounded_channel::<(Arc<Runtime>, First)>();
    std::thread::Builder::new().name("sluice-health".to_owned()).spawn(move || {
        let tokio = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let tokio = match tokio {
            Ok(tokio) => tokio,
            Err(error) => return tracing::error!(%error, "cannot check endpoints"),
        };
        tokio.block_on(async move {
            let mut checker = Checker::new(checks);
            while let Some((runtime, first)) = runtimes.recv().await {
                checker.follow(&runtime, &first);
            }
        });
    })?;
    Ok(send)
}

type Subject = (ClusterName, SocketAddr);

/// The endpoints that are checked, each by a task of its own.
struct Checker {
    shared: Rc<Shared>,
    watched: HashMap<Subject, Watched>,
}

struct Shared {
    checks: HealthChecks,
    runtime: watch::Sender<Arc<Runtime>>,
    room: Semaphore,
}

/// An endpoint's task, which ends when it is dropped.
struct Watched {
    rules: Arc<HealthCheck>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checker {
    fn new(checks: HealthChecks) -> Self {
        let runtime = watch::Sender::new(Arc::default());
        let shared = Rc::new(Shared { checks, runtime, room: Semaphore::new(MOST_AT_ONCE) });
        Self { shared, watched: HashMap::new() }
    }

    /// Begins with endpoints that are new or checked otherwise than before, at once, and lets go of those that are gone.
    fn follow(&mut self, runtime: &Arc<Runtime>, first: &First) {
        self.shared.runtime.send_replace(runtime.clone());
        let mut before = std::mem::take(&mut self.watched);
        for (name, cluster) in runtime.snapshot.clusters.iter() {
            let Some(rules) = &cluster.health_check else { continue };
            for endpoint in cluster.healthy() {
                let subject = (name.clone(), endpoint.address);
                let same = before.remove(&subject).filter(|watched| watched.rules == *rules);
                let watched = same.unwrap_or_else(|| {
                    let checking = self.shared.clone().watch(subject.clone(), rules.clone(), first.clone());
                    Watched { rules: rules.clone(), task: tokio::task::spawn_local(checking) }
                });
                self.watched.insert(subject, watched);
            }
        }
    }
}

impl Shared {
    async fn watch(self: Rc<Self>, subject: Subject, rules: Arc<HealthCheck>, first: First) {
        let mut first = Some(first);
        loop {
            // Boxed: most of the time it is not there.
            let checked = Box::pin(self.check(&subject, &rules)).await;
            if let Some(checked) = checked
                && let Some(transition) = self.checks.report(&subject.0, subject.1, &checked)
            {
                say(&subject, &transition);
            }
            drop(first.take());
            tokio::time::sleep(about(rules.interval)).await;
        }
    }

    /// By the cluster as it is now: its TLS may be another one than before.
    async fn check(&self, (name, address): &Subject, rules: &HealthCheck) -> Option<Checked> {
        // It is never closed.
        let _place = self.room.acquire().await.ok()?;
        let runtime = self.runtime.borrow().clone();
        let cluster = runtime.snapshot.clusters.get(name)?;
        probe((cluster, rules), *address, &runtime.upstream_tls).await
    }
}

fn about(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

/// That an endpoint is as healthy as it was taken to be is no news.
fn say((cluster, endpoint): &Subject, Transition { reason, is_first }: &Transition) {
    match reason {
        Some(reason) => tracing::warn!(%cluster, %endpoint, %reason, "endpoint unhealthy"),
        None if *is_first => tracing::debug!(%cluster, %endpoint, "endpoint healthy"),
        None => tracing::info!(%cluster, %endpoint, "endpoint healthy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_differ_by_a_tenth() {
        fastrand::seed(5);
        let drawn: Vec<Duration> = (0..1000).map(|_| about(Duration::from_secs(10))).collect();
        let (least, most) = (drawn.iter().min().expect("some"), drawn.iter().max().expect("some"));
        assert!(*least >= Duration::from_secs(9) && *most <= Duration::from_secs(11), "{least:?} {most:?}");
        assert!(least.as_millis() < 9050 && most.as_millis() > 10950, "{least:?} {most:?}");
    }
}
