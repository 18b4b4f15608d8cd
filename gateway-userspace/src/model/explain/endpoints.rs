//! The last stage: a destination's cluster and those of its endpoints that may be chosen.

use super::{Available, Question, Stage, Step, found};
use crate::model::cluster::{Affinity, Cluster, Endpoint, Health, WeightedCluster};

/// Endpoints that are named; a large cluster has too many to read.
const SHOWN: usize = 8;

/// What there is to say of a destination, and whether it can serve.
pub(super) fn step(
    destination: &WeightedCluster,
    sum: u64,
    question: &Question,
    available: Available<'_>,
) -> (Step, bool) {
    let mut step = found(Stage::Cluster, &destination.name.to_string());
    if u64::from(destination.weight) != sum {
        step.notes.push(format!("weight {} of {sum}", destination.weight));
    }
    let Some(cluster) = &destination.cluster else {
        step.notes.push("does not exist: 503 without a body (flag NC); a connection is closed".to_owned());
        return (step, false);
    };
    step.origins.extend(cluster.origin.iter().map(ToString::to_string));
    step.origins.extend(cluster.destination_rule.iter().map(|rule| format!("DestinationRule {rule}")));
    let chosen_from = available(cluster);
    step.notes.push(summary(cluster, chosen_from.len()));
    step.notes.extend(cluster.endpoints.iter().take(SHOWN).map(|endpoint| {
        let may_be_chosen = chosen_from.contains(&endpoint.address);
        format!("{} {}", endpoint.address, state(cluster, endpoint, may_be_chosen))
    }));
    if cluster.endpoints.len() > SHOWN {
        step.notes.push(format!("and {} more", cluster.endpoints.len() - SHOWN));
    }
    step.notes.extend(kept_by(&cluster.affinity, question));
    if cluster.tls.is_some() {
        step.notes.push("spoken to by TLS".to_owned());
    }
    (step, !chosen_from.is_empty())
}

fn kept_by(affinity: &Affinity, question: &Question) -> Option<String> {
    Some(match affinity {
        Affinity::None => return None,
        Affinity::SourceAddress => {
            let client = question.client.map_or_else(|| "a client".to_owned(), |client| client.to_string());
            format!("{client} keeps its endpoint (useSourceIp)")
        }
        Affinity::Header(name) => format!("requests with the same {name} have one endpoint (httpHeaderName)"),
        Affinity::QueryParameter(name) => {
            format!("requests with the same {name} have one endpoint (httpQueryParameterName)")
        }
        Affinity::Cookie(cookie) => {
            format!("requests with the same cookie {} have one endpoint (httpCookie)", cookie.name)
        }
    })
}

fn summary(cluster: &Cluster, chosen_from: usize) -> String {
    match (cluster.endpoints.len(), chosen_from) {
        (0, _) => "has no endpoint: 503 (flag UH); a connection is closed".to_owned(),
        (all, 0) => format!("none of its {all} endpoints may be chosen: 503 (flag UH)"),
        (all, some) => format!("{some} of {all} endpoints may be chosen"),
    }
}

fn state(cluster: &Cluster, endpoint: &Endpoint, may_be_chosen: bool) -> &'static str {
    match endpoint.health {
        Health::Healthy if may_be_chosen => "ready",
        Health::Healthy if cluster.health_check.is_some() => {
            "ready, but fails its health check, is ejected, or of a lower priority"
        }
        Health::Healthy => "ready, but ejected or of a lower priority",
        Health::Unhealthy => "not ready",
        Health::Draining => "ending: takes no new ones",
    }
}
