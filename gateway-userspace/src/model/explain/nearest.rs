//! What came nearest where nothing fits, and why it does not. Only for people: nothing is decided by it.

use std::sync::Arc;

use super::{Miss, Question, words};
use crate::model::host::HostPattern;
use crate::model::listener::{FilterChain, Listener};
use crate::model::route::{RequestHead, Route, RouteList, RouteTable, Unmet, without_port};
use crate::model::snapshot::Snapshot;

/// How many are told of.
const SHOWN: usize = 3;

/// The listener that a client meets: of the port itself, else the one that the gateway's own Service leads to; of the
/// address asked for rather than of all.
pub(super) fn listener<'a>(snapshot: &'a Snapshot, question: &Question) -> Option<&'a Listener> {
    let is_own = |listener: &Listener| listener.key.port == question.port;
    let is_led = |listener: &Listener| listener.servers.iter().any(|server| server.number == question.port);
    let fits = |listener: &Listener| match (listener.key.bind, question.address) {
        (Some(bind), Some(asked)) => bind == asked,
        // A name may stand for any address.
        (None, _) | (_, None) => true,
    };
    let all = snapshot.listeners.iter().map(|listener| &**listener);
    all.filter(|listener| fits(listener) && (is_own(listener) || is_led(listener)))
        .max_by_key(|listener| (is_own(listener), listener.key.bind.is_some() == question.address.is_some()))
}

/// The ports there are.
pub(super) fn ports(snapshot: &Snapshot) -> Vec<Miss> {
    let miss = |listener: &Arc<Listener>| Miss {
        name: listener.name.to_string(),
        origin: listener.servers.first().map(|server| server.origin.to_string()),
        why: format!("listens on {}", listener.key),
    };
    snapshot.listeners.iter().map(miss).collect()
}

/// The chains whose names are most like a server name.
pub(super) fn chains(chains: &[Arc<FilterChain>], sni: Option<&str>) -> Vec<Miss> {
    let mut ranked: Vec<(usize, Miss)> = Vec::new();
    for chain in chains {
        for pattern in &chain.sni {
            let why = match sni {
                None => "without a server name only `*` fits".to_owned(),
                Some(_) => format!("takes `{pattern}`"),
            };
            let miss = Miss {
                name: chain.name.to_string(),
                origin: chain.origin.as_ref().map(ToString::to_string),
                why,
            };
            ranked.push((likeness(&pattern.to_string(), sni.unwrap_or("")), miss));
        }
    }
    best(ranked)
}

/// The domains that are most like a host, and other tables that have it.
pub(super) fn hosts(snapshot: &Snapshot, table: &RouteTable, authority: &str) -> Vec<Miss> {
    let host = without_port(authority);
    let elsewhere =
        snapshot.route_tables().filter(|other| !std::ptr::eq(*other, table)).filter_map(|other| {
            let found = other.virtual_host(authority).filter(|host| host.domain != HostPattern::Any)?;
            Some(Miss {
                name: found.domain.to_string(),
                origin: None,
                why: format!("is served by {} only", other.name),
            })
        });
    let own = table.virtual_hosts.iter().map(|own| {
        let miss = Miss {
            name: own.domain.to_string(),
            origin: own.routes.iter().next().and_then(|route| route.origin.as_ref()).map(ToString::to_string),
            why: why_not(&own.domain, host),
        };
        (likeness(&own.domain.to_string(), host), miss)
    });
    elsewhere.take(SHOWN).chain(best(own.collect())).collect()
}

fn why_not(domain: &HostPattern, host: &str) -> String {
    match domain {
        HostPattern::Suffix(suffix)
            if suffix.strip_prefix('.').is_some_and(|bare| bare.eq_ignore_ascii_case(host)) =>
        {
            format!("a wildcard takes names below `{host}`, not the name itself")
        }
        _ => "is another name".to_owned(),
    }
}

/// The routes of which most conditions were fulfilled.
pub(super) fn routes(routes: &RouteList, head: &RequestHead<'_>) -> Vec<Miss> {
    let ranked = routes.iter().filter_map(|route| {
        let rank = match route.matcher.unmet(head)? {
            Unmet::Path(_) => 0,
            Unmet::Scheme(_) => 1,
            Unmet::Method(_) => 2,
            Unmet::Authority(_) => 3,
            Unmet::Header(_) | Unmet::WithoutHeader(_) | Unmet::Query(_) => 4,
        };
        Some((rank, miss(route, head)?))
    });
    best(ranked.collect())
}

/// Why a route does not take a request; `None` if it does.
pub(super) fn miss(route: &Route, head: &RequestHead<'_>) -> Option<Miss> {
    let unmet = route.matcher.unmet(head)?;
    Some(Miss {
        name: words::route_name(route),
        origin: route.origin.as_ref().map(ToString::to_string),
        why: words::unmet(unmet, head),
    })
}

/// The highest ranks; among equals the first.
fn best(mut ranked: Vec<(usize, Miss)>) -> Vec<Miss> {
    ranked.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    ranked.into_iter().take(SHOWN).map(|(_, miss)| miss).collect()
}

/// How many characters two names share at their ends and beginnings.
fn likeness(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let same = |pairs: &mut dyn Iterator<Item = (u8, u8)>| pairs.take_while(|(a, b)| a == b).count();
    same(&mut a.bytes().zip(b.bytes())) + same(&mut a.bytes().rev().zip(b.bytes().rev()))
}
