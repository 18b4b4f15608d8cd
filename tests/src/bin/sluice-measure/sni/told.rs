//! What the agent tells about handing connections over: member `kernel.handoff` of `sluice status --json`,
//! `{attempted, handedOver, refused: {reason: count}, microseconds: {p50, p99}}`.

use std::collections::BTreeMap;

use anyhow::Result;
use harness::peers::Peer;
use serde_json::Value;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) attempted: u64,
    pub(super) handed_over: u64,
    /// By reason.
    refused: BTreeMap<String, u64>,
    /// From the beginning of a handover to its end, microseconds; none while there was none.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Told {
    /// None by an agent that does not tell.
    pub(super) fn by(peer: &Peer) -> Result<Option<Self>> {
        Ok(Self::parse(&peer.status()?))
    }

    fn parse(status: &Value) -> Option<Self> {
        let told = status.get("kernel")?.get("handoff")?;
        let refused = told["refused"].as_object().into_iter().flatten();
        let is_any = told["handedOver"].as_u64()? > 0;
        let time = |name| told["microseconds"][name].as_f64().filter(|_| is_any);
        Some(Self {
            attempted: told["attempted"].as_u64()?,
            handed_over: told["handedOver"].as_u64()?,
            refused: refused.filter_map(|(reason, count)| Some((reason.clone(), count.as_u64()?))).collect(),
            p50: time("p50"),
            p99: time("p99"),
        })
    }

    /// What was counted since; times are of all.
    pub(super) fn since(&self, before: &Self) -> Self {
        let refused = self.refused.iter().map(|(reason, count)| {
            (reason.clone(), count.saturating_sub(before.refused.get(reason).copied().unwrap_or(0)))
        });
        Self {
            attempted: self.attempted.saturating_sub(before.attempted),
            handed_over: self.handed_over.saturating_sub(before.handed_over),
            refused: refused.filter(|(_, count)| *count > 0).collect(),
            ..*self
        }
    }

    /// Reasons and how often, in a line; none if nothing was refused.
    pub(super) fn refusals(&self) -> Option<String> {
        let each: Vec<_> = self.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        (!each.is_empty()).then(|| each.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_are_those_since_and_times_of_all() {
        let told = |attempted: u64, busy: u64| {
            Told::parse(&json!({"kernel": {"handoff": {
                "attempted": attempted, "handedOver": attempted - busy, "refused": {"busy": busy, "mss": 2},
                "microseconds": {"p50": 30.5, "p99": 90},
            }}}))
            .unwrap()
        };
        let since = told(12, 3).since(&told(5, 1));
        assert_eq!((since.attempted, since.handed_over), (7, 5));
        assert_eq!((since.p50, since.p99), (Some(30.5), Some(90.0)));
        assert_eq!(since.refusals().as_deref(), Some("busy 2"));
    }

    #[test]
    fn an_agent_that_does_not_tell_is_understood() {
        assert_eq!(Told::parse(&json!({"ready": true})), None);
        let none =
            json!({"attempted": 0, "handedOver": 0, "refused": {}, "microseconds": {"p50": 0, "p99": 0}});
        assert_eq!(Told::parse(&json!({"kernel": {"handoff": none}})).unwrap().p50, None);
    }
}
