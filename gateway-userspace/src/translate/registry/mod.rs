//! All clusters, by the names that destinations have for them.

mod endpoints;
mod services;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::api::kubernetes::{EndpointSlice, ServicePort};
use crate::api::{Objects, Sourced};
use crate::model::{Cluster, ClusterName};

use super::policy::{DestinationRules, PlacedSubset, ServiceRule};
use super::report::Report;
use super::surroundings::Surroundings;

/// All clusters, and the ports of each service.
#[derive(Debug, Default)]
pub(super) struct Registry {
    clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    ports: HashMap<String, Vec<u16>>,
    /// The mesh's, for clusters whose rule has none.
    connect_timeout: Option<Duration>,
}

impl Registry {
    pub(super) fn new(objects: &Objects, surroundings: &Surroundings, report: &mut Report) -> Self {
        let identity = &surroundings.identity;
        let slices = endpoints::by_service(objects, report);
        let rules = DestinationRules::new(objects, identity, report);
        let connect_timeout = surroundings.mesh.connect_timeout.map(|timeout| timeout.0);
        let mut registry = Self { connect_timeout, ..Self::default() };
        for service in &objects.services {
            let of_service =
                slices.get(&(&**service.namespace(), &**service.name())).map_or(&[][..], Vec::as_slice);
            registry.add(service, of_service, &rules, identity, report);
        }
        rules.report_unused(report);
        registry
    }

    fn add_cluster<'a>(
        &mut self,
        name: &ClusterName,
        port: &ServicePort,
        slices: &[&Sourced<EndpointSlice>],
        (rule, subset): (Option<ServiceRule<'_, 'a>>, Option<PlacedSubset<'a>>),
        report: &mut Report,
    ) {
        let mut cluster =
            Cluster::new(name.clone(), services::protocol(port), endpoints::endpoints(port, slices, report));
        cluster.connect_timeout = self.connect_timeout.unwrap_or(cluster.connect_timeout);
        if let Some(rule) = rule {
            rule.apply(&mut cluster, subset, report);
        }
        self.clusters.entry(name.clone()).or_insert_with(|| Arc::new(cluster));
    }

    /// The ports of a service, or `None` when there is none of that name.
    pub(super) fn ports(&self, host: &str) -> Option<&[u16]> {
        self.ports.get(host).map(Vec::as_slice)
    }

    /// All of them, while no route holds one.
    pub(super) fn clusters_mut(&mut self) -> impl Iterator<Item = &mut Cluster> {
        self.clusters.values_mut().map(Arc::make_mut)
    }

    pub(super) fn cluster(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    pub(super) fn into_clusters(self) -> BTreeMap<ClusterName, Arc<Cluster>> {
        self.clusters
    }
}
