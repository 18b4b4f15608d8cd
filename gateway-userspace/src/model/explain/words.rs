//! What is found and what is not, in words.

use std::sync::Arc;

use super::Outcome;
use crate::model::cluster::WeightedCluster;
use crate::model::credential::{Credential, CredentialProblem};
use crate::model::listener::{FilterChain, Listener};
use crate::model::route::{
    HeaderMatch, PathMatch, RequestHead, Route, RouteAction, StringMatch, Unmet, ValueMatch,
};

pub(super) fn listener(listener: &Listener, asked: u16) -> Vec<String> {
    let mut notes = Vec::new();
    if listener.key.port != asked {
        notes.push(format!("the gateway's own Service leads port {asked} to {}", listener.key.port));
    }
    notes.push(format!("served in {}", listener.steering));
    notes
}

pub(super) fn chain(chain: &FilterChain, terminates: bool) -> Vec<String> {
    let names: Vec<String> = chain.sni.iter().map(ToString::to_string).collect();
    let mut notes = vec![format!("takes the server names {}", names.join(", "))];
    notes.push(match chain.action.server_tls() {
        None => "TLS is passed through".to_owned(),
        Some(tls) => ending(&tls.credential, terminates),
    });
    notes
}

/// With which certificates TLS ends. A running gateway goes on with those of before where the new ones are no good.
fn ending(credential: &Result<Arc<Credential>, CredentialProblem>, terminates: bool) -> String {
    match (credential, terminates) {
        (Ok(credential), _) => {
            let shown = credential.certificates.iter().map(|shown| shown.source.to_string());
            let shown = shown.collect::<Vec<_>>().join(" and ");
            if terminates {
                format!("TLS ends here, with {shown}")
            } else {
                format!("TLS would end here, but {shown} cannot be used: `sluice check` says why")
            }
        }
        (Err(problem), true) => format!("TLS ends here with the certificate of before, as {problem}"),
        (Err(problem), false) => format!("TLS would end here, but {problem}"),
    }
}

/// The rule's name, or its VirtualService.
pub(super) fn route_name(route: &Route) -> String {
    if route.name.is_empty() {
        route.virtual_service.to_string()
    } else {
        format!("{} of {}", route.name, route.virtual_service)
    }
}

pub(super) fn route(route: &Route) -> Vec<String> {
    let mut notes = vec![format!("matches {}", condition(&route.matcher.path))];
    if let RouteAction::Forward(forward) = &route.action {
        notes.extend(forward.rewrite.as_ref().map(|_| "path or authority are rewritten".to_owned()));
        notes.extend(forward.timeout.map(|timeout| format!("timeout {timeout:?}")));
    }
    notes
}

pub(super) fn unavailable(destinations: &[WeightedCluster], outcome: Outcome) -> String {
    let names: Vec<String> = destinations.iter().map(|destination| destination.name.to_string()).collect();
    let what = if outcome == Outcome::Carried { "the connection is closed" } else { "503" };
    format!("no endpoint of {} can serve: {what}", names.join(", "))
}

fn condition(path: &PathMatch) -> String {
    let case = |ignore: bool| if ignore { ", whatever its case" } else { "" };
    match path {
        PathMatch::Any => "every path".to_owned(),
        PathMatch::Exact { path, ignore_case } => format!("path `{path}`{}", case(*ignore_case)),
        PathMatch::Prefix { prefix, ignore_case } => {
            format!("paths that begin with `{prefix}`{}", case(*ignore_case))
        }
        PathMatch::Regex(regex) => format!("paths like `{}` as a whole", regex.pattern()),
    }
}

/// Why a condition is not fulfilled.
pub(super) fn unmet(unmet: Unmet<'_>, head: &RequestHead<'_>) -> String {
    let no_text =
        |what: &str, want: &StringMatch, have: &str| format!("{what} `{have}` is not {}", text(want));
    match unmet {
        Unmet::Path(path) => format!("path `{}`: it takes {}", head.path, condition(path)),
        Unmet::Scheme(want) => no_text("scheme", want, head.scheme),
        Unmet::Method(want) => no_text("method", want, head.method),
        Unmet::Authority(want) => no_text("authority", want, head.authority),
        Unmet::Header(want) => header(want, head),
        Unmet::WithoutHeader(want) => {
            format!("header `{}` is {}, and must not be", want.name, value(&want.value))
        }
        Unmet::Query(want) => format!("no query parameter `{}` that is {}", want.name, value(&want.value)),
    }
}

fn header(want: &HeaderMatch, head: &RequestHead<'_>) -> String {
    let lines: Vec<String> = want.name.values(head).iter().map(|line| format!("`{line}`")).collect();
    if lines.is_empty() {
        return format!("no header `{}`: it must be {}", want.name, value(&want.value));
    }
    format!("header `{}` is {}: it must be {}", want.name, lines.join(" and "), value(&want.value))
}

fn value(want: &ValueMatch) -> String {
    match want {
        ValueMatch::Present => "there".to_owned(),
        ValueMatch::Value(want) => text(want),
    }
}

fn text(want: &StringMatch) -> String {
    match want {
        StringMatch::Exact(exact) => format!("`{exact}`"),
        StringMatch::Prefix(prefix) => format!("`{prefix}…`"),
        StringMatch::Regex(regex) => format!("like `{}` as a whole", regex.pattern()),
    }
}
