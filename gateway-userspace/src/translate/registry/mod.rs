//! All clusters, by the names that destinations have for them. Services come from Kubernetes' documents (`services`, with
//! the endpoints of `endpoints`) and from ServiceEntries (`entries`); `workload` knows who runs where, `visibility` which
//! services the gateway sees, `sharing` what becomes of several documents for one host. A cluster is made of each port, and
//! one of each subset of it.

mod endpoints;
mod entries;
mod services;
mod sharing;
mod unit;
mod visibility;
mod workload;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::api::FieldPath;
use crate::api::{Objects, Service, Source, Sourced};
use crate::model::{Cluster, ClusterName, Discovery, Endpoint, UpstreamProtocol};

use super::memo::{Address, Kept};
use super::policy::DestinationRules;
use super::report::Report;
use super::surroundings::Surroundings;
use endpoints::Group;
use entries::ListedEntry;
use services::ListedService;
use unit::{Ingredients, Unit};
use visibility::Visibility;
pub(super) use workload::Workloads;

/// An alias of an alias of an alias, and so on, is followed so far.
const MAX_ALIASES: usize = 8;

/// All services, each with its clusters.
#[derive(Debug)]
pub(super) struct Registry {
    units: HashMap<Arc<str>, Arc<Unit>>,
    names: BTreeSet<String>,
    /// Hosts of which something else is known than in the translation before.
    changed: HashSet<Arc<str>>,
    /// Hosts that were looked up, whether there is such a service or not.
    asked: RefCell<Vec<Arc<str>>>,
}

/// A service, whatever kind of document says so.
#[derive(Debug, PartialEq)]
struct Listed {
    host: Arc<str>,
    /// What the host is another name for.
    alias: Option<String>,
    ports: Vec<ListedPort>,
    document: ListedIn,
}

/// The document of a service.
#[derive(Debug, Clone)]
struct ListedIn {
    source: Arc<Source>,
    service: Option<Arc<Sourced<Service>>>,
}

impl PartialEq for ListedIn {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }
}

impl Listed {
    fn source(&self) -> &Source {
        &self.document.source
    }

    fn namespace(&self) -> &str {
        &self.document.source.reference.namespace
    }
}

/// One of its ports.
#[derive(Debug, Clone, PartialEq)]
struct ListedPort {
    number: u16,
    protocol: UpstreamProtocol,
    discovery: Discovery,
    /// In no order yet, and maybe one twice.
    endpoints: Vec<Endpoint>,
    field: FieldPath,
}

/// What of earlier translations goes on.
#[derive(Debug, Default)]
pub(super) struct Memo {
    groups: Kept<Address, Arc<Vec<Group>>>,
    services: Kept<Address, Arc<ListedService>>,
    entries: Kept<Address, Arc<ListedEntry>>,
    units: HashMap<Arc<str>, Arc<Unit>>,
}

/// What is the same as in the translation before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settled {
    /// Pods and WorkloadEntries.
    pub(super) workloads: bool,
    /// Addresses of names.
    pub(super) names: bool,
    /// What every cluster depends on.
    pub(super) policies: bool,
}

impl Memo {
    pub(super) fn end_round(&mut self, registry: &Registry) {
        self.groups.end_round();
        self.services.end_round();
        self.entries.end_round();
        self.units.clone_from(&registry.units);
    }
}

impl Registry {
    pub(super) fn new(
        objects: &Objects,
        workloads: &Workloads<'_>,
        surroundings: &Surroundings,
        (memo, settled): (&mut Memo, Settled),
        report: &mut Report,
    ) -> Self {
        let Surroundings { identity, mesh, resolved } = surroundings;
        let visibility = Visibility { identity, default: &mesh.default_service_export_to };
        let mut listed = services::list(objects, workloads, visibility, (memo, settled), report);
        let from = (visibility, resolved);
        let (more, names) = entries::list(objects, workloads, from, (memo, settled), report);
        listed.extend(more);
        let rules = DestinationRules::new(objects, identity, report);
        let mut registry = Self {
            units: HashMap::with_capacity(listed.len()),
            names,
            changed: HashSet::new(),
            asked: RefCell::default(),
        };
        let connect_timeout = mesh.connect_timeout.map(|timeout| timeout.0);
        for parts in sharing::by_host(listed) {
            let host = parts[0].host.clone();
            let rule = rules.of(&host, parts[0].namespace(), identity);
            let ingredients = Ingredients::new(parts, rule.as_ref());
            let before = memo.units.get(&host).filter(|unit| settled.policies && unit.is_of(&ingredients));
            let unit = before.cloned().unwrap_or_else(|| {
                registry.changed.insert(host.clone());
                Arc::new(Unit::new(ingredients, rule, connect_timeout))
            });
            report.extend(&unit.findings);
            registry.units.insert(host, unit);
        }
        let gone = memo.units.keys().filter(|host| !registry.units.contains_key(*host)).cloned();
        registry.changed.extend(gone.collect::<Vec<_>>());
        rules.report_unused(report);
        registry
    }

    fn unit(&self, host: &str) -> Option<&Arc<Unit>> {
        let found = self.units.get_key_value(host);
        let host = found.map_or_else(|| host.into(), |(host, _)| host.clone());
        self.asked.borrow_mut().push(host);
        found.map(|(_, unit)| unit)
    }

    /// The ports of a service, or `None` when there is none of that name.
    pub(super) fn ports(&self, host: &str) -> Option<&[u16]> {
        self.unit(host).map(|unit| unit.ports.as_slice())
    }

    /// What a name stands for in the end; itself, unless it is that of an ExternalName.
    pub(super) fn behind<'s>(&'s self, host: &'s str) -> &'s str {
        let next = |host: &&'s str| self.unit(host).and_then(|unit| unit.alias.as_deref());
        std::iter::successors(Some(host), next).take(MAX_ALIASES).last().unwrap_or(host)
    }

    pub(super) fn cluster(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.unit(&name.host)?.clusters.iter().find(|cluster| cluster.name == *name)
    }

    /// Begins to note anew which hosts are asked for.
    pub(super) fn forget_asked(&self) {
        self.asked.borrow_mut().clear();
    }

    /// The hosts that were asked for since, each once.
    pub(super) fn asked(&self) -> Vec<Arc<str>> {
        let mut asked = std::mem::take(&mut *self.asked.borrow_mut());
        asked.sort_unstable();
        asked.dedup();
        asked.shrink_to_fit();
        asked
    }

    /// Whether something else is known of any of the hosts than in the translation before.
    pub(super) fn any_changed(&self, hosts: &[Arc<str>]) -> bool {
        !self.changed.is_empty() && hosts.iter().any(|host| self.changed.contains(host))
    }

    /// All clusters.
    pub(super) fn clusters(&self) -> BTreeMap<ClusterName, Arc<Cluster>> {
        let clusters = self.units.values().flat_map(|unit| &unit.clusters);
        clusters.map(|cluster| (cluster.name.clone(), cluster.clone())).collect()
    }

    /// The names whose addresses the clusters want.
    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }
}
