//! What the admin interface asks of the kernel plane, whose thread alone may look at it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::trace::{Line, Wanted};
use crate::datapath::Status;
use crate::datapath::view::Steered;

/// The thread looks into its inbox many times a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lines that wait for their reader; more are left out.
const LINES: usize = 4096;

/// A question. Whoever cannot answer drops it.
#[derive(Debug)]
pub enum Question {
    /// Its state and counters.
    Status(oneshot::Sender<Status>),
    /// Its flows, so many at most.
    Flows(usize, oneshot::Sender<Vec<Steered>>),
    /// A client's packets.
    Trace {
        /// What is asked for.
        wanted: Wanted,
        /// Where they go; closed when nobody wants them any more.
        lines: mpsc::Sender<Line>,
        /// Whether they will come, or why not.
        accepted: oneshot::Sender<Result<(), String>>,
    },
}

/// Puts questions to the kernel plane.
#[derive(Clone)]
pub struct Kernel(Arc<dyn Fn(Question) + Send + Sync>);

impl Kernel {
    /// Over whatever leads to the thread.
    pub fn over(ask: impl Fn(Question) + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Its state and counters; `None` if there is no kernel plane.
    pub async fn status(&self) -> Option<Status> {
        let (sender, answer) = oneshot::channel();
        (self.0)(Question::Status(sender));
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }

    /// Its flows, so many at most; none if there is no kernel plane.
    pub async fn flows(&self, most: usize) -> Vec<Steered> {
        let (sender, answer) = oneshot::channel();
        (self.0)(Question::Flows(most, sender));
        tokio::time::timeout(PATIENCE, answer).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// A client's packets, from now on; or why there are none.
    pub async fn trace(&self, wanted: Wanted) -> Result<mpsc::Receiver<Line>, String> {
        let (lines, receiver) = mpsc::channel(LINES);
        let (accepted, answer) = oneshot::channel();
        (self.0)(Question::Trace { wanted, lines, accepted });
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(accepted)) => accepted.map(|()| receiver),
            _ => Err("there is no kernel plane; `sluice status` says why".to_owned()),
        }
    }
}

impl Default for Kernel {
    /// To nobody.
    fn default() -> Self {
        Self::over(drop)
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}
