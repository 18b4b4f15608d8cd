//! Subsets that a service's own VirtualService chooses for sidecars, and that requests through a gateway pass by.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::api::virtual_service::{Destination, MESH};
use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced, VirtualService};
use crate::translate::full_name;

/// A VirtualService that says which subset of its own host is meant, by the host in full.
type Rules<'a> = HashMap<String, BTreeMap<String, &'a Arc<Sourced<VirtualService>>>>;

/// Destinations of rules for gateways that leave open what another VirtualService says for sidecars. `domain` completes short
/// names.
pub(super) fn report(objects: &Objects, domain: &str) -> Vec<Diagnostic> {
    let rules = rules(objects, domain);
    if rules.is_empty() {
        return Vec::new();
    }
    let for_gateways = |document: &&Arc<Sourced<VirtualService>>| {
        document.spec.gateways.iter().any(|gateway| gateway != MESH)
    };
    let documents = objects.virtual_services.iter().filter(for_gateways);
    documents.flat_map(|document| passed_by(document, &rules, domain)).collect()
}

fn rules<'a>(objects: &'a Objects, domain: &str) -> Rules<'a> {
    let mut rules = Rules::new();
    for document in &objects.virtual_services {
        for (_, destination) in destinations(document, |destination| !destination.subset.is_empty()) {
            let host = full(&destination.host, document, domain);
            if document.spec.hosts.iter().any(|own| full(own, document, domain) == host) {
                rules.entry(host).or_default().insert(name(document), document);
            }
        }
    }
    rules
}

fn passed_by(document: &Arc<Sourced<VirtualService>>, rules: &Rules<'_>, domain: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (field, destination) in destinations(document, |destination| destination.subset.is_empty()) {
        let others = rules.get(&full(&destination.host, document, domain)).into_iter().flatten();
        for (other, rule) in others.filter(|(_, it)| !Arc::ptr_eq(it, document)) {
            let own = name(document);
            let message =
                format!("Subset in virtual service {other} has no effect on ingress gateway {own} requests");
            let code = Code::SubsetOfMeshRule;
            let one = document.diagnostic(Severity::Warning, code, &field, message);
            let hosts = FieldPath::spec().field("hosts");
            let related = rule.related(&hosts, "chooses a subset of the host for sidecars");
            found.push(one.related(related).help(code.remedy()));
        }
    }
    found
}

/// Where `http` rules send to, of what is wanted, with the fields.
fn destinations(
    document: &Sourced<VirtualService>,
    is_wanted: impl Fn(&Destination) -> bool + Copy,
) -> impl Iterator<Item = (FieldPath, &Destination)> {
    document.spec.http.iter().enumerate().flat_map(move |(rule, http)| {
        http.route.iter().enumerate().filter_map(move |(at, route)| {
            let destination = route.destination.as_ref().filter(|destination| is_wanted(destination))?;
            let field = FieldPath::spec().field("http").index(rule).field("route").index(at);
            Some((field.field("destination"), destination))
        })
    })
}

fn full(host: &str, document: &Sourced<VirtualService>, domain: &str) -> String {
    full_name(host, document.namespace(), domain).to_ascii_lowercase()
}

fn name(document: &Sourced<VirtualService>) -> String {
    format!("{}/{}", document.namespace(), document.name())
}
