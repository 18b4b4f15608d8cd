//! The clusters of a service: one of each port, and one of each subset of it.

use std::sync::Arc;

use crate::api::{Code, Diagnostic, FieldPath, MeshConfig, Severity};
use crate::model::{Cluster, ClusterName, Endpoint, GatewayIdentity};

use super::{Listed, ListedPort, endpoints, sharing, workload};
use crate::translate::credential::Credentials;
use crate::translate::memo::{Address, same};
use crate::translate::origin::origin;
use crate::translate::policy::{Facts, PlacedSubset, ServiceRule, apply_mesh};
use crate::translate::report::Report;

/// What a service's clusters are made from, besides what holds for all.
#[derive(Debug)]
pub(super) struct Ingredients {
    /// Never empty; the first one counts where they differ.
    parts: Vec<Arc<Listed>>,
    /// The DestinationRules that apply.
    rules: Vec<Address>,
}

impl Ingredients {
    pub(super) fn new(parts: Vec<Arc<Listed>>, rule: Option<&ServiceRule<'_, '_>>) -> Self {
        Self { parts, rules: rule.map(ServiceRule::documents).unwrap_or_default() }
    }
}

/// All that is known of a service.
#[derive(Debug)]
pub(super) struct Unit {
    from: Ingredients,
    /// What its host is another name for.
    pub(super) alias: Option<String>,
    /// In the order of the documents.
    pub(super) ports: Vec<u16>,
    /// Each name once.
    pub(super) clusters: Vec<Arc<Cluster>>,
    pub(super) findings: Vec<Diagnostic>,
}

impl Unit {
    /// Makes the clusters.
    pub(super) fn new(
        from: Ingredients,
        rule: Option<ServiceRule<'_, '_>>,
        (credentials, identity, mesh): (&Credentials<'_>, &GatewayIdentity, &MeshConfig),
    ) -> Self {
        let mut report = Report::default();
        let ports = sharing::joined(&from.parts, &mut report);
        let alias = from.parts.iter().find_map(|part| part.alias.clone());
        let numbers: Vec<u16> = ports.iter().map(|port| port.number).collect();
        let subject_alt_names = &from.parts[0].subject_alt_names;
        let distribution = from.parts[0].distribution;
        let facts = Facts { credentials, subject_alt_names, distribution, identity, mesh };
        let host = from.parts[0].host.clone();
        let mut maker = Maker { host, rule, facts, clusters: Vec::new(), report };
        // A name for something else has ports, for destinations that name none, and no clusters.
        if alias.is_none() {
            ports.iter().for_each(|port| maker.add(port));
            if let Some(rule) = rule {
                rule.report_ports(&from.parts[0].host, &numbers, identity, &mut maker.report);
            }
        }
        let Maker { mut clusters, mut report, .. } = maker;
        if alias.is_none() && clusters.iter().all(|cluster| cluster.tls.is_none()) {
            report_unused_names(&from.parts[0], &mut report);
        }
        for cluster in &mut clusters {
            set_origin(cluster, &from.parts);
        }
        let clusters = clusters.into_iter().map(Arc::new).collect();
        Self { from, alias, ports: numbers, clusters, findings: report.finish() }
    }

    /// What it was made from, with another part in the place of one; `None` if that is none of its parts.
    pub(super) fn parts_with(&self, before: &Arc<Listed>, now: &Arc<Listed>) -> Option<Vec<Arc<Listed>>> {
        let at = self.from.parts.iter().position(|part| Arc::ptr_eq(part, before))?;
        let mut parts = self.from.parts.clone();
        parts[at] = now.clone();
        Some(parts)
    }

    /// Whether it was made from these.
    pub(super) fn is_of(&self, ingredients: &Ingredients) -> bool {
        same(&self.from.parts, &ingredients.parts) && self.from.rules == ingredients.rules
    }
}

/// Names of certificates are of no use where no TLS is spoken.
fn report_unused_names(part: &Listed, report: &mut Report) {
    if part.subject_alt_names.is_empty() {
        return;
    }
    let field = FieldPath::spec().field("subjectAltNames");
    let message = "no DestinationRule has the backends spoken to by TLS: nobody's certificate is looked at";
    let found = part.document.source.diagnostic(Severity::Info, Code::NoEffect, &field, message);
    report.add(found.help("say `tls: {mode: SIMPLE}` in a DestinationRule of the host"));
}

/// Has the cluster of a Service remember which port it stands for, the first of a number.
fn set_origin(cluster: &mut Cluster, parts: &[Arc<Listed>]) {
    let Some(service) = parts.iter().find_map(|part| part.document.service.as_ref()) else { return };
    let at = service.spec.ports.iter().position(|port| port.port == cluster.name.port);
    cluster.origin = at.map(|at| origin(service, "ports", at, None));
}

struct Maker<'r, 'a> {
    host: Arc<str>,
    rule: Option<ServiceRule<'r, 'a>>,
    facts: Facts<'r>,
    clusters: Vec<Cluster>,
    report: Report,
}

impl<'a> Maker<'_, 'a> {
    fn add(&mut self, port: &ListedPort) {
        let all = endpoints::distinct(port.endpoints.clone());
        let subsets: Vec<_> = self.rule.iter().flat_map(ServiceRule::subsets).collect();
        for placed in subsets {
            let of_subset = with_labels(&all, placed);
            if of_subset.is_empty() && !all.is_empty() {
                report_empty(placed, &self.host, &mut self.report);
            }
            self.add_cluster(port, Some(placed), of_subset);
        }
        self.add_cluster(port, None, all);
    }

    fn add_cluster(&mut self, port: &ListedPort, subset: Option<PlacedSubset<'a>>, endpoints: Vec<Endpoint>) {
        let name = ClusterName {
            host: self.host.clone(),
            port: port.number,
            subset: subset.map(|placed| placed.subset.name.as_str().into()),
        };
        let mut cluster = Cluster::new(name, port.protocol, endpoints);
        cluster.discovery = port.discovery;
        let of_mesh = self.facts.mesh.connect_timeout.map(|timeout| timeout.0);
        cluster.connect_timeout = of_mesh.unwrap_or(cluster.connect_timeout);
        match self.rule {
            Some(rule) => rule.apply(&mut cluster, (subset, self.facts), &mut self.report),
            None => apply_mesh(&mut cluster, self.facts),
        }
        if !self.clusters.iter().any(|known| known.name == cluster.name) {
            self.clusters.push(cluster);
        }
    }
}

fn with_labels(endpoints: &[Endpoint], placed: PlacedSubset<'_>) -> Vec<Endpoint> {
    let fits = |endpoint: &&Endpoint| workload::has_all(&endpoint.labels, &placed.subset.labels);
    endpoints.iter().filter(fits).cloned().collect()
}

fn report_empty(placed: PlacedSubset<'_>, host: &str, report: &mut Report) {
    let field = placed.field().field("labels");
    let message = format!(
        "The Subset {} defined in the DestinationRule does not select any pods. ({host} has no endpoint with its labels)",
        placed.subset.name
    );
    report.add(
        placed.document.diagnostic(Severity::Error, Code::SubsetWithoutEndpoints, &field, message).help(
            "an endpoint has the labels of its Pod; where no document names that, those of its EndpointSlice",
        ),
    );
}
