//! Which namespaces' documents count: `discoverySelectors` of the mesh.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced};

use super::Surroundings;

/// The documents of namespaces that the mesh selects by their labels. Secrets and ConfigMaps are read by their names
/// alone, and stay. A namespace that no document describes has no labels; where none is described, all count.
pub fn discovered(objects: Objects, surroundings: &Surroundings) -> (Objects, Option<Diagnostic>) {
    let selectors = &surroundings.mesh.discovery_selectors;
    if selectors.is_empty() {
        return (objects, None);
    }
    if objects.namespaces.is_empty() {
        let found = undescribed(&objects, surroundings);
        return (objects, found);
    }
    let is_meant = |labels: &BTreeMap<_, _>| selectors.iter().any(|selector| selector.matches(labels));
    let is_any_meant = is_meant(&BTreeMap::new());
    let described: HashSet<&str> = objects.namespaces.iter().map(|namespace| &**namespace.name()).collect();
    let meant = objects.namespaces.iter().filter(|namespace| is_meant(&namespace.metadata.labels));
    let meant: HashSet<&str> = meant.map(|namespace| &**namespace.name()).collect();
    let counts =
        |namespace: &str| meant.contains(namespace) || (is_any_meant && !described.contains(namespace));
    let chosen = Objects {
        gateways: of(&objects.gateways, counts),
        virtual_services: of(&objects.virtual_services, counts),
        destination_rules: of(&objects.destination_rules, counts),
        service_entries: of(&objects.service_entries, counts),
        workload_entries: of(&objects.workload_entries, counts),
        services: of(&objects.services, counts),
        endpoint_slices: of(&objects.endpoint_slices, counts),
        endpoints: of(&objects.endpoints, counts),
        pods: of(&objects.pods, counts),
        telemetries: of(&objects.telemetries, counts),
        namespaces: objects.namespaces.clone(),
        mesh_configs: objects.mesh_configs.clone(),
        secrets: objects.secrets.clone(),
        config_maps: objects.config_maps.clone(),
    };
    (chosen, None)
}

fn of<T>(documents: &[Arc<Sourced<T>>], counts: impl Fn(&str) -> bool) -> Vec<Arc<Sourced<T>>> {
    documents.iter().filter(|document| counts(document.namespace())).cloned().collect()
}

fn undescribed(objects: &Objects, surroundings: &Surroundings) -> Option<Diagnostic> {
    let mesh = surroundings.mesh_document(objects)?;
    let field = FieldPath::root().field("data").field("mesh");
    let message =
        "discoverySelectors choose namespaces by their labels, and no Namespace is known: all of them count";
    let found = mesh.diagnostic(Severity::Warning, Code::NoEffect, &field, message);
    Some(found.help("add the Namespaces to the documents; in a cluster, let the gateway list them"))
}
