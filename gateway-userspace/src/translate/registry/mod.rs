//! All clusters, by the names that destinations have for them. Services come from Kubernetes' documents (`services`, with
//! the endpoints of `endpoints`) and from ServiceEntries (`entries`); `workload` knows who runs where, `visibility` which
//! services the gateway sees, `sharing` what becomes of several documents for one host. A cluster is made of each port, and
//! one of each subset of it.

mod endpoints;
mod entries;
mod services;
mod sharing;
mod visibility;
mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::api::{Code, FieldPath, Objects, Severity, Source};
use crate::model::{Cluster, ClusterName, Discovery, Endpoint, GatewayIdentity, UpstreamProtocol};

use super::credential::Credentials;
use super::policy::{DestinationRules, Facts, PlacedSubset, ServiceRule};
use super::report::Report;
use super::surroundings::Surroundings;
use visibility::Visibility;
pub(super) use workload::{Workloads, labelled};

/// An alias of an alias of an alias, and so on, is followed so far.
const MAX_ALIASES: usize = 8;

/// All clusters, and the ports of each service.
#[derive(Debug, Default)]
pub(super) struct Registry {
    clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    ports: HashMap<String, Vec<u16>>,
    /// What each ExternalName stands for.
    aliases: HashMap<String, String>,
    names: BTreeSet<String>,
    /// The mesh's, for clusters whose rule has none.
    connect_timeout: Option<Duration>,
}

/// A service, whatever kind of document says so.
struct Listed<'a> {
    host: String,
    namespace: &'a str,
    source: &'a Source,
    ports: Vec<ListedPort>,
    /// Names of its endpoints' certificates, where no rule has some.
    subject_alt_names: &'a [String],
}

/// One of its ports.
struct ListedPort {
    number: u16,
    protocol: UpstreamProtocol,
    discovery: Discovery,
    /// In no order yet, and maybe one twice.
    endpoints: Vec<Endpoint>,
    field: FieldPath,
}

impl Registry {
    pub(super) fn new(
        objects: &Objects,
        workloads: &Workloads<'_>,
        surroundings: &Surroundings,
        report: &mut Report,
    ) -> Self {
        let Surroundings { identity, mesh, resolved, .. } = surroundings;
        let visibility = Visibility { identity, default: &mesh.default_service_export_to };
        let mut names = BTreeSet::new();
        let (mut listed, aliases) = services::list(objects, workloads, visibility, report);
        listed.extend(entries::list(objects, workloads, (visibility, resolved), &mut names, report));
        let rules = DestinationRules::new(objects, identity, report);
        let credentials = Credentials::new(objects, surroundings);
        let mut registry = Self {
            connect_timeout: mesh.connect_timeout.map(|timeout| timeout.0),
            aliases: aliases.into_iter().collect(),
            names,
            ..Self::default()
        };
        for service in sharing::joined(listed, report) {
            let facts =
                Facts { credentials: &credentials, subject_alt_names: service.subject_alt_names, identity };
            registry.add(service, (&rules, facts), identity, report);
        }
        rules.report_unused(report);
        registry
    }

    fn add(
        &mut self,
        service: Listed<'_>,
        (rules, facts): (&DestinationRules<'_>, Facts<'_>),
        identity: &GatewayIdentity,
        report: &mut Report,
    ) {
        let host: Arc<str> = service.host.as_str().into();
        let rule = rules.of(&host, service.namespace, identity);
        let mut numbers = Vec::new();
        // A name for something else has ports, for destinations that name none, and no clusters.
        let is_alias = self.aliases.contains_key(&*host);
        for mut port in service.ports {
            numbers.push(port.number);
            if is_alias {
                continue;
            }
            port.endpoints = endpoints::distinct(port.endpoints);
            let name = ClusterName { host: host.clone(), port: port.number, subset: None };
            for placed in rule.iter().flat_map(ServiceRule::subsets) {
                let of_subset = with_labels(&port.endpoints, placed);
                if of_subset.is_empty() && !port.endpoints.is_empty() {
                    report_empty(placed, &host, report);
                }
                let name = ClusterName { subset: Some(placed.subset.name.as_str().into()), ..name.clone() };
                self.add_cluster((name, &port), of_subset, rule, (Some(placed), facts), report);
            }
            let all = std::mem::take(&mut port.endpoints);
            self.add_cluster((name, &port), all, rule, (None, facts), report);
        }
        if let Some(rule) = rule {
            rule.report_ports(&host, &numbers, identity, report);
        }
        self.ports.insert(service.host, numbers);
    }

    fn add_cluster<'a>(
        &mut self,
        (name, port): (ClusterName, &ListedPort),
        endpoints: Vec<Endpoint>,
        rule: Option<ServiceRule<'_, 'a>>,
        subset: (Option<PlacedSubset<'a>>, Facts<'_>),
        report: &mut Report,
    ) {
        let mut cluster = Cluster::new(name.clone(), port.protocol, endpoints);
        cluster.discovery = port.discovery;
        cluster.connect_timeout = self.connect_timeout.unwrap_or(cluster.connect_timeout);
        if let Some(rule) = rule {
            rule.apply(&mut cluster, subset, report);
        }
        self.clusters.entry(name).or_insert_with(|| Arc::new(cluster));
    }

    /// The ports of a service, or `None` when there is none of that name.
    pub(super) fn ports(&self, host: &str) -> Option<&[u16]> {
        self.ports.get(host).map(Vec::as_slice)
    }

    /// All of them, while no route holds one.
    pub(super) fn clusters_mut(&mut self) -> impl Iterator<Item = &mut Cluster> {
        self.clusters.values_mut().map(Arc::make_mut)
    }

    /// What a name stands for in the end; itself, unless it is that of an ExternalName.
    pub(super) fn behind<'s>(&'s self, host: &'s str) -> &'s str {
        let next = |host: &&'s str| self.aliases.get(*host).map(String::as_str);
        std::iter::successors(Some(host), next).take(MAX_ALIASES).last().unwrap_or(host)
    }

    pub(super) fn cluster(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// All clusters, and the names whose addresses they want.
    pub(super) fn into_parts(self) -> (BTreeMap<ClusterName, Arc<Cluster>>, BTreeSet<String>) {
        (self.clusters, self.names)
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
