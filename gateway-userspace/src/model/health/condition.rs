//! What checks have found of one endpoint: pure, a check in, a transition out.

use std::sync::{Arc, LazyLock};

use super::{Checked, HealthCheck, Transition};

/// Why an endpoint is unhealthy that nobody has checked.
static UNCHECKED: LazyLock<Arc<str>> = LazyLock::new(|| "not checked yet".into());

/// See the module.
#[derive(Debug)]
pub(super) struct Condition {
    /// Why it is unhealthy; `None`: it is healthy.
    reason: Option<Arc<str>>,
    /// Whether its first check is still to come, which decides at once.
    is_first: bool,
    /// Checks in a row that went against that.
    against: u32,
}

impl Condition {
    /// Of an endpoint that is taken to be healthy until its first check, or unhealthy.
    pub(super) fn new(is_healthy: bool) -> Self {
        Self { reason: (!is_healthy).then(|| UNCHECKED.clone()), is_first: true, against: 0 }
    }

    /// It is checked otherwise from now on, and stays what it is until then.
    pub(super) fn begin_anew(&mut self) {
        (self.is_first, self.against) = (true, 0);
    }

    /// Why it is unhealthy, if it is.
    pub(super) fn shown(&self) -> Option<&Arc<str>> {
        self.reason.as_ref()
    }

    /// Counts a check.
    pub(super) fn count(&mut self, rules: &HealthCheck, checked: &Checked) -> Option<Transition> {
        let is_first = std::mem::take(&mut self.is_first);
        let failure = match checked {
            Checked::Passed => None,
            Checked::Failed(reason) | Checked::Unanswered(reason) => Some(reason),
        };
        if failure.is_none() == self.reason.is_none() {
            self.against = 0;
            // Why it is unhealthy now is of more interest than why it became so.
            self.reason = failure.map(|reason| reason.as_str().into());
            return is_first.then(|| self.transition(true));
        }
        let due = match checked {
            Checked::Passed => rules.healthy_threshold,
            Checked::Failed(_) => 1,
            Checked::Unanswered(_) => rules.unhealthy_threshold,
        };
        self.against += 1;
        if !is_first && self.against < due {
            return None;
        }
        self.against = 0;
        self.reason = failure.map(|reason| reason.as_str().into());
        Some(self.transition(is_first))
    }

    fn transition(&self, is_first: bool) -> Transition {
        Transition { reason: self.reason.clone(), is_first }
    }
}
