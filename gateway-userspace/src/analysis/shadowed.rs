//! Rules that another document keeps from ever being reached: where two VirtualServices share a host, the older one's
//! rule for every request comes before the newer one's.

use std::collections::{HashMap, HashSet};

use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced, VirtualService};
use crate::model::{Origin, Route, Snapshot};

/// By the names that origins have for them.
type Documents<'a> = HashMap<String, &'a Sourced<VirtualService>>;

/// Each rule once, at the first host on which it is never reached; only if there is no host on which it is.
pub(super) fn report(objects: &Objects, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut reached: HashSet<&Origin> = HashSet::new();
    let mut behind: Vec<(&Route, &Route, String)> = Vec::new();
    for host in snapshot.route_tables().flat_map(|table| &table.virtual_hosts) {
        let mut catch_all: Option<&Route> = None;
        for route in &host.routes {
            match catch_all {
                None => {
                    reached.extend(route.origin.as_deref());
                    catch_all = Some(route).filter(|route| route.matcher.is_catch_all());
                }
                Some(first) => behind.push((first, route, host.domain.to_string())),
            }
        }
    }
    if behind.is_empty() {
        return Vec::new();
    }
    let documents: Documents<'_> =
        objects.virtual_services.iter().map(|it| (it.reference().to_string(), it.as_ref())).collect();
    let mut said = HashSet::new();
    let never = behind.into_iter().filter(|(_, route, _)| {
        let origin = route.origin.as_deref();
        origin.is_some_and(|origin| !reached.contains(origin) && said.insert(origin))
    });
    never.filter_map(|(first, route, host)| diagnostic(&documents, first, route, &host)).collect()
}

fn diagnostic(documents: &Documents<'_>, first: &Route, route: &Route, host: &str) -> Option<Diagnostic> {
    let (older, newer) = (first.origin.as_deref()?, route.origin.as_deref()?);
    let (before, document) = (documents.get(&*older.document)?, documents.get(&*newer.document)?);
    let message = format!(
        "virtualService rule #{} not used ({} takes every request for {host} before it)",
        newer.index, older.document
    );
    let help = "the oldest document comes first, a rule for every request behind all others of its host: give the rule a \
                `match`, or leave the host to one document";
    let diagnostic =
        document.diagnostic(Severity::Warning, Code::UnreachableRule, &field(newer), message).help(help);
    Some(diagnostic.related(before.related(&field(older), "takes every request")))
}

fn field(origin: &Origin) -> FieldPath {
    FieldPath::spec().field(origin.list).index(origin.index)
}
