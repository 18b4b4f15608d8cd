//! ServiceEntries by themselves and together: what sidecars need of them, and ports whose protocol they disagree about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::{Code, Diagnostic, FieldPath, Objects, ServiceEntry, Severity, Sourced};

/// What is odd about ServiceEntries.
pub(super) fn report(objects: &Objects) -> Vec<Diagnostic> {
    let addressless = objects.service_entries.iter().flat_map(|document| addressless(document));
    addressless.chain(conflicts(objects)).collect()
}

/// Where nothing but its address tells a connection of a sidecar's client.
fn addressless(document: &Sourced<ServiceEntry>) -> impl Iterator<Item = Diagnostic> {
    let needs = |protocol: &str| protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP");
    let ports = document.spec.ports.iter().enumerate().filter(move |(_, port)| needs(&port.protocol));
    ports.filter(|_| document.spec.addresses.is_empty()).map(|(at, _)| {
        let field = FieldPath::spec().field("ports").index(at);
        let (message, code) =
            ("ServiceEntry addresses are required for this protocol.", Code::EntryWithoutAddresses);
        document.diagnostic(Severity::Info, code, &field, message).help(code.remedy())
    })
}

/// A document and the protocol that it gives to a host's port.
type Said<'a> = (&'a Arc<Sourced<ServiceEntry>>, &'a str);

/// Who sees it (`*`: everybody), the host, and the port.
type Place<'a> = (&'a str, &'a str, u32);

/// ServiceEntries that whoever sees both takes for one service, and that disagree about a port. Each is reported once.
fn conflicts(objects: &Objects) -> Vec<Diagnostic> {
    let mut places: BTreeMap<Place<'_>, Vec<Said<'_>>> = BTreeMap::new();
    for document in &objects.service_entries {
        for scope in scopes(document) {
            for host in &document.spec.hosts {
                for port in &document.spec.ports {
                    places.entry((scope, host, port.number)).or_default().push((document, &port.protocol));
                }
            }
        }
    }
    let (mut found, mut reported) = (Vec::new(), BTreeSet::new());
    for (&(scope, host, port), said) in &places {
        let public = places.get(&("*", host, port)).filter(|_| scope != "*");
        let mut others = said.iter().chain(public.into_iter().flatten());
        if others.all(|(_, protocol)| protocol.eq_ignore_ascii_case(said[0].1)) {
            continue;
        }
        let said: Vec<Said<'_>> = said.iter().chain(public.into_iter().flatten()).copied().collect();
        let protocols: BTreeSet<String> = said.iter().map(|(_, it)| it.to_ascii_uppercase()).collect();
        let name = |(document, _): &Said<'_>| format!("{}/{}", document.namespace(), document.name());
        let names: BTreeSet<String> = said.iter().map(name).collect();
        let message = format!(
            "Multiple ServiceEntries ({}) define the same host \"{host}\" and port {port} with conflicting protocols \
             ({}).",
            joined(&names),
            joined(&protocols)
        );
        for (document, _) in said.iter().filter(|(document, _)| reported.insert(document.reference().clone()))
        {
            let (code, field) = (Code::EntriesDisagree, FieldPath::metadata().field("name"));
            let one = document.diagnostic(Severity::Warning, code, &field, message.clone());
            found.push(one.help(code.remedy()));
        }
    }
    found
}

/// Namespaces that see a document; `~` is none.
fn scopes(document: &Sourced<ServiceEntry>) -> Vec<&str> {
    let exported = &document.spec.export_to;
    if exported.is_empty() || exported.iter().any(|namespace| namespace == "*") {
        return vec!["*"];
    }
    let own: &str = document.namespace();
    let visible = exported.iter().filter(|namespace| *namespace != "~");
    visible.map(|namespace| if namespace == "." { own } else { namespace }).collect()
}

fn joined(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
