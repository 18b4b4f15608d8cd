//! What of a cluster a gateway is to know beside the kinds of which it reads everything: no more than documents lead to.

use std::collections::BTreeSet;

use crate::api::mesh_config::CONFIG_MAP as MESH_CONFIG;
use crate::api::{CredentialName, DestinationRule, Objects, Sourced};
use crate::model::GatewayIdentity;

use super::kinds::{CONFIG_MAP, NAMESPACE, POD, SECRET, Scope, UNHEEDED, WHOLE};

/// The scopes of a gateway that knows these documents.
pub(super) fn scopes(
    objects: &Objects,
    identity: &GatewayIdentity,
    namespaces: &[String],
) -> BTreeSet<Scope> {
    let mut all: BTreeSet<Scope> =
        WHOLE.iter().flat_map(|kind| within(namespaces, |it| Scope::all(kind, it))).collect();
    all.insert(Scope::one(&CONFIG_MAP, &identity.root_namespace, MESH_CONFIG));
    if objects.mesh_configs.iter().any(|mesh| !mesh.spec.discovery_selectors.is_empty()) {
        all.insert(Scope::all(&NAMESPACE, None));
    }
    for namespace in [&identity.namespace, &identity.root_namespace] {
        all.extend(UNHEEDED.iter().map(|kind| Scope::all(kind, Some(namespace))));
    }
    for name in credentials(objects, identity) {
        all.extend(match CredentialName::parse(&name, &identity.namespace) {
            Ok(CredentialName::Secret(name)) => Some(Scope::one(&SECRET, &identity.namespace, &name)),
            Ok(CredentialName::ConfigMap(namespace, name)) => {
                Some(Scope::one(&CONFIG_MAP, &namespace, &name))
            }
            // The translation says why.
            Err(_) => None,
        });
    }
    all.extend(pods(objects, identity, namespaces));
    all
}

fn within(namespaces: &[String], scope: impl Fn(Option<&str>) -> Scope) -> Vec<Scope> {
    match namespaces {
        [] => vec![scope(None)],
        some => some.iter().map(|name| scope(Some(name))).collect(),
    }
}

/// The credentials that Gateways for this gateway name, and rules for its connections to backends.
fn credentials(objects: &Objects, identity: &GatewayIdentity) -> BTreeSet<String> {
    let ours = |namespace: &str| !identity.own_gateways_only || namespace == identity.namespace;
    let gateways =
        objects.gateways.iter().filter(|it| ours(it.namespace()) && identity.has(&it.spec.selector));
    let servers = gateways.flat_map(|gateway| &gateway.spec.servers).filter_map(|server| server.tls.as_ref());
    let of_servers = servers.flat_map(crate::api::gateway::ServerTlsSettings::all_credentials);
    let settings = objects.destination_rules.iter().flat_map(|rule| rule.spec.tls_settings());
    let named = settings.map(|tls| &tls.credential_name).filter(|name| !name.is_empty());
    of_servers.chain(named.flat_map(|name| [name.clone(), CredentialName::of_authority(name)])).collect()
}

/// Labels of endpoints are those of their Pods: where subsets ask for them, or ServiceEntries.
fn pods(objects: &Objects, identity: &GatewayIdentity, namespaces: &[String]) -> BTreeSet<Scope> {
    let mut all = BTreeSet::new();
    for entry in &objects.service_entries {
        if let Some(selector) = &entry.spec.workload_selector {
            all.insert(Scope::labelled(&POD, entry.namespace(), &selector.labels));
        }
    }
    let asks = |rule: &&std::sync::Arc<Sourced<DestinationRule>>| {
        rule.spec.subsets.iter().any(|subset| !subset.labels.is_empty())
    };
    for rule in objects.destination_rules.iter().filter(asks) {
        match namespace_of(&rule.spec.host, rule.namespace(), &identity.domain) {
            Some(namespace) => drop(all.insert(Scope::all(&POD, Some(namespace)))),
            None => all.extend(within(namespaces, |namespace| Scope::all(&POD, namespace))),
        }
    }
    if all.contains(&Scope::all(&POD, None)) {
        // They are all among these.
        all.retain(|scope| scope.namespace.is_none());
    }
    all
}

/// The namespace of the Services that a rule's `host` is about; `None`: of any.
fn namespace_of<'a>(host: &'a str, own: &'a str, domain: &str) -> Option<&'a str> {
    let inside = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix(".svc."));
    match inside {
        Some(inside) => inside.rsplit_once('.').map(|(_, namespace)| namespace).filter(|name| *name != "*"),
        None if host.contains('*') => None,
        // A short name, or one outside the cluster: of the latter, entries say where they are.
        None => Some(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::read_tree;

    fn objects(documents: &[&str]) -> Objects {
        let read = |text: &&str| read_tree(serde_json::from_str(text).unwrap()).object.expect(text);
        documents.iter().map(read).collect()
    }

    fn words(documents: &[&str]) -> Vec<String> {
        let scopes = scopes(&objects(documents), &GatewayIdentity::default(), &[]);
        let more =
            scopes.into_iter().filter(|scope| !WHOLE.contains(scope.kind) && !UNHEEDED.contains(scope.kind));
        more.map(|scope| {
            scope.words() + &scope.labels.map(|labels| format!(" with {labels}")).unwrap_or_default()
        })
        .collect()
    }

    const MESH: &str = "ConfigMap istio-system/istio";

    fn gateway(selector: &str, tls: &str) -> String {
        format!(
            r#"{{"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {{"name": "web", "namespace": "shop"}},
                "spec": {{"selector": {selector}, "servers": [{{"port": {{"number": 443, "name": "https", "protocol": "HTTPS"}},
                "hosts": ["*"], "tls": {tls}}}]}}}}"#
        )
    }

    #[test]
    fn of_secrets_only_those_are_read_that_a_gateway_for_us_names() {
        let simple = r#"{"mode": "SIMPLE", "credentialName": "web"}"#;
        assert_eq!(words(&[&gateway("{}", simple)]), [MESH, "Secret istio-system/web"]);
        assert_eq!(words(&[&gateway(r#"{"istio": "other"}"#, simple)]), [MESH]);
        let mutual = r#"{"mode": "MUTUAL", "credentialName": "web"}"#;
        let want = [MESH, "Secret istio-system/web", "Secret istio-system/web-cacert"];
        assert_eq!(words(&[&gateway(r#"{"istio": "ingressgateway"}"#, mutual)]), want);
        let map = r#"{"mode": "MUTUAL", "credentialName": "web", "caCertCredentialName": "configmap://trust/roots"}"#;
        assert_eq!(words(&[&gateway("{}", map)]), [MESH, "ConfigMap trust/roots", "Secret istio-system/web"]);
        let other = r#"{"mode": "SIMPLE", "credentialName": "elsewhere/web"}"#;
        assert_eq!(words(&[&gateway("{}", other)]), [MESH], "of another namespace");
    }

    fn rule(host: &str, subsets: &str) -> String {
        format!(
            r#"{{"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {{"name": "r", "namespace": "shop"}},
                "spec": {{"host": "{host}", "subsets": {subsets}}}}}"#
        )
    }

    #[test]
    fn namespaces_are_read_where_the_mesh_chooses_among_them() {
        let mesh = |settings: &str| {
            format!(
                r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "istio", "namespace": "istio-system"}},
                    "data": {{"mesh": "{settings}"}}}}"#
            )
        };
        assert_eq!(words(&[&mesh("accessLogFile: /dev/stdout")]), [MESH]);
        let want = ["ConfigMap istio-system/istio", "namespaces"];
        let mut found = words(&[&mesh("discoverySelectors: [{matchLabels: {env: prod}}]")]);
        found.sort();
        assert_eq!(found, want);
    }

    #[test]
    fn pods_are_read_where_labels_of_endpoints_are_asked_for() {
        let canary = r#"[{"name": "v2", "labels": {"version": "v2"}}]"#;
        assert_eq!(words(&[&rule("reviews", "[]")]), [MESH]);
        assert_eq!(words(&[&rule("reviews", canary)]), [MESH, "pods in shop"]);
        assert_eq!(words(&[&rule("reviews.prod.svc.cluster.local", canary)]), [MESH, "pods in prod"]);
        assert_eq!(words(&[&rule("*.svc.cluster.local", canary), &rule("a", canary)]), [MESH, "pods"]);
        let entry = r#"{"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "e", "namespace": "shop"},
            "spec": {"hosts": ["e.test"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC",
            "workloadSelector": {"labels": {"app": "e", "tier": "1"}}}}"#;
        assert_eq!(words(&[entry]), [MESH, "pods in shop with app=e,tier=1"]);
    }
}
