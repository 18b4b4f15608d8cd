//! Which Telemetries are for this gateway: from the mesh's over the namespace's to its own, as istiod chooses them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced, Telemetry};
use crate::model::GatewayIdentity;

use super::report::Report;

/// One Telemetry.
pub(super) type Level<'a> = &'a Sourced<Telemetry>;

/// Telemetries that are for this gateway, the widest first, those of one width oldest first.
pub(super) fn applicable<'a>(
    objects: &'a Objects,
    identity: &GatewayIdentity,
    report: &mut Report,
) -> Vec<Level<'a>> {
    let mut levels = Vec::new();
    let namespaces = [identity.root_namespace.as_str(), identity.namespace.as_str()];
    let distinct = if namespaces[0] == namespaces[1] { &namespaces[..1] } else { &namespaces[..] };
    levels.extend(distinct.iter().filter_map(|namespace| of_namespace(objects, namespace)));
    let own: Vec<_> =
        objects.telemetries.iter().filter(|document| selects(document, identity, report)).collect();
    report_same_workload(&own, report);
    report_without_selector(objects, report);
    levels.extend(own.into_iter().map(|document| &**document));
    levels
}

/// The oldest that is for a whole namespace.
fn of_namespace<'a>(objects: &'a Objects, namespace: &str) -> Option<Level<'a>> {
    let is_meant = |document: &&Arc<Sourced<Telemetry>>| {
        **document.namespace() == *namespace && document.spec.is_namespace_wide()
    };
    objects.telemetries.iter().find(is_meant).map(|document| &**document)
}

/// Whether a Telemetry is for this gateway by its labels; says why one is not for it at all.
fn selects(document: &Sourced<Telemetry>, identity: &GatewayIdentity, report: &mut Report) -> bool {
    let spec = &document.spec;
    let is_near = **document.namespace() == *identity.namespace;
    let is_roots = **document.namespace() == *identity.root_namespace;
    if spec.is_namespace_wide() {
        if !is_near && !is_roots {
            let field = FieldPath::metadata().field("namespace");
            report.add(not_selected(document, &field, "it is for another namespace than this gateway's"));
        }
        return false;
    }
    let Some(selector) = &spec.selector else {
        let message = "targetRefs are for gateways of the Kubernetes Gateway API: it is not for this one";
        report.add(not_selected(document, &FieldPath::spec(), message));
        return false;
    };
    let field = FieldPath::spec().field("selector");
    if !is_near {
        let message =
            "its selector chooses workloads of its own namespace alone, which is not this gateway's";
        report.add(not_selected(document, &field, message));
        return false;
    }
    let lacks = selector.match_labels.iter().find(|(key, value)| identity.labels.get(*key) != Some(*value));
    if let Some((key, value)) = lacks {
        let message = format!("it is not for this gateway, which has no label {key}={value}");
        report.add(not_selected(document, &field, &message));
    }
    lacks.is_none()
}

fn not_selected(document: &Sourced<Telemetry>, field: &FieldPath, message: &str) -> Diagnostic {
    let found = document.diagnostic(Severity::Info, Code::NotSelected, field, message);
    found.help("nothing, if another workload is meant; the gateway's labels are set with --labels")
}

fn report_same_workload(documents: &[&Arc<Sourced<Telemetry>>], report: &mut Report) {
    if documents.len() < 2 {
        return;
    }
    for document in documents {
        let message = format!(
            "The Telemetries [{}] in namespace \"{}\" select the same workload, this gateway, which can lead to \
             undefined behavior: all of them count here, the younger one's word over the older one's.",
            names(documents.iter().copied()),
            document.namespace(),
        );
        let (code, field) = (Code::TelemetriesSelectSame, FieldPath::spec().field("selector"));
        report.add(document.diagnostic(Severity::Warning, code, &field, message).help(code.remedy()));
    }
}

fn report_without_selector(objects: &Objects, report: &mut Report) {
    let mut by_namespace: BTreeMap<&str, Vec<&Arc<Sourced<Telemetry>>>> = BTreeMap::new();
    for document in objects.telemetries.iter().filter(|document| document.spec.is_namespace_wide()) {
        by_namespace.entry(document.namespace()).or_default().push(document);
    }
    for (namespace, documents) in by_namespace.iter().filter(|(_, documents)| documents.len() > 1) {
        for document in documents {
            let message = format!(
                "The Telemetries [{}] in namespace \"{namespace}\" have no workload selector, which can lead to \
                 undefined behavior: the oldest counts, {}.",
                names(documents.iter().copied()),
                documents[0].name(),
            );
            let (code, field) = (Code::TelemetriesWithoutSelector, FieldPath::metadata().field("name"));
            report.add(document.diagnostic(Severity::Error, code, &field, message).help(code.remedy()));
        }
    }
}

fn names<'a>(documents: impl Iterator<Item = &'a Arc<Sourced<Telemetry>>>) -> String {
    documents.map(|document| &**document.name()).collect::<Vec<_>>().join(" ")
}
