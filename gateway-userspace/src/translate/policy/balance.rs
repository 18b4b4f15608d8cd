//! Who gets a request: `loadBalancer` of a policy.

use std::fmt::Write as _;

use crate::api::destination_rule::{ConsistentHash, HttpCookie, LoadBalancerSettings, Simple};
use crate::model::{Affinity, Balance, CookieAffinity, Warmup};

/// Istio's, where a warm-up says nothing.
const MINIMUM_PERCENT: f64 = 10.0;
const LINEAR: f64 = 1.0;

pub(super) fn balance(settings: &LoadBalancerSettings) -> Balance {
    match settings.simple {
        Some(Simple::RoundRobin) => Balance::RoundRobin,
        Some(Simple::Random) => Balance::Random,
        // The last one has no meaning at a gateway and is reported.
        None | Some(Simple::Unspecified | Simple::LeastRequest | Simple::LeastConn | Simple::Passthrough) => {
            Balance::LeastRequest
        }
    }
}

/// None where endpoints are chosen at random or by a hash: Envoy's balancers of these kinds know no warm-up.
pub(super) fn warmup(settings: &LoadBalancerSettings) -> Option<Warmup> {
    if settings.consistent_hash.is_some() || settings.simple == Some(Simple::Random) {
        return None;
    }
    let written = settings.warmup.as_ref();
    let window = written.map_or(settings.warmup_duration_secs, |warmup| warmup.duration)?.0;
    let aggression = written.and_then(|warmup| warmup.aggression).filter(|aggression| *aggression > 0.0);
    Some(Warmup {
        window,
        minimum_percent: written.and_then(|warmup| warmup.minimum_percent).unwrap_or(MINIMUM_PERCENT),
        aggression: aggression.unwrap_or(LINEAR),
    })
}

pub(super) fn affinity(hash: &ConsistentHash) -> Affinity {
    if let Some(name) = &hash.http_header_name {
        return Affinity::Header(name.to_ascii_lowercase().into());
    }
    if let Some(cookie) = &hash.http_cookie {
        return Affinity::Cookie(of_cookie(cookie).into());
    }
    if let Some(name) = &hash.http_query_parameter_name {
        return Affinity::QueryParameter(name.as_str().into());
    }
    if hash.use_source_ip == Some(true) { Affinity::SourceAddress } else { Affinity::None }
}

/// Written as Envoy writes it.
fn of_cookie(cookie: &HttpCookie) -> CookieAffinity {
    let given = cookie.ttl.map(|ttl| {
        let mut text = String::new();
        if ttl.0.as_secs() > 0 {
            let _ = write!(text, "; Max-Age={}", ttl.0.as_secs());
        }
        if !cookie.path.is_empty() {
            let _ = write!(text, "; Path={}", cookie.path);
        }
        for attribute in &cookie.attributes {
            let _ = match attribute.value.as_str() {
                "" => write!(text, "; {}", attribute.name),
                value => write!(text, "; {}={value}", attribute.name),
            };
        }
        text + "; HttpOnly"
    });
    CookieAffinity { name: cookie.name.as_str().into(), given: given.map(Into::into) }
}
