//! All clusters, by the names that destinations have for them. Services come from Kubernetes' documents (`services`, with
//! the endpoints of `endpoints`) and from ServiceEntries (`entries`); `workload` knows who runs where, `visibility` which
//! services the gateway sees, `sharing` what becomes of several documents for one host. A cluster is made of each port, and
//! one of each subset of it.

mod asked;
mod distribution;
mod endpoints;
mod entries;
mod patch;
mod services;
mod sharing;
mod unit;
mod visibility;
mod workload;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::api::{Diagnostic, FieldPath, Objects, Service, Source, Sourced};
use crate::model::{Cluster, ClusterName, Discovery, Endpoint, UpstreamProtocol};

use super::credential::Credentials;
use super::memo::{Address, Kept, same};
use super::policy::DestinationRules;
use super::report::Report;
use super::surroundings::Surroundings;
pub(super) use asked::Asked;
use asked::Changed;
pub(super) use distribution::Distribution;
use endpoints::Group;
use entries::ListedEntry;
use services::ListedService;
use unit::{Ingredients, Unit};
use visibility::Visibility;
pub(super) use workload::{REGION, SUBZONE, Workloads, ZONE, labelled, of_node};

/// An alias of an alias of an alias, and so on, is followed so far.
const MAX_ALIASES: usize = 8;

/// Clusters by name.
type Clusters = BTreeMap<ClusterName, Arc<Cluster>>;

/// All services, each with its clusters.
#[derive(Debug)]
pub(super) struct Registry {
    known: Arc<Known>,
    /// Hosts of which something else is known than in the translation before.
    changed: Changed,
    /// Hosts that were looked up, whether there is such a service or not.
    asked: RefCell<Vec<Arc<str>>>,
}

/// What the registry's documents say.
#[derive(Debug, Default)]
struct Known {
    units: HashMap<Arc<str>, Arc<Unit>>,
    clusters: Arc<Clusters>,
    names: BTreeSet<String>,
    findings: Vec<Diagnostic>,
}

/// A service, whatever kind of document says so.
#[derive(Debug, PartialEq)]
struct Listed {
    host: Arc<str>,
    /// What the host is another name for.
    alias: Option<String>,
    ports: Vec<ListedPort>,
    /// Names of its endpoints' certificates, where no rule has some.
    subject_alt_names: Vec<String>,
    /// Which endpoints come first, where no rule says so.
    distribution: Distribution,
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
    known: Arc<Known>,
}

/// What is the same as in the translation before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settled {
    /// Pods and WorkloadEntries.
    workloads: bool,
    /// Addresses of names.
    names: bool,
    /// What every cluster depends on.
    policies: bool,
    /// All of it, and all services, but for what EndpointSlices say.
    but_for_slices: bool,
    /// Those too.
    everything: bool,
}

impl Settled {
    /// `names` and `files` say whether addresses of names, and the files that documents name, are the same.
    pub(super) fn between(before: &Objects, now: &Objects, (names, files): (bool, bool)) -> Self {
        let entries = same(&before.workload_entries, &now.workload_entries);
        let workloads = entries && same(&before.pods, &now.pods);
        let secrets = same(&before.secrets, &now.secrets) && same(&before.config_maps, &now.config_maps);
        let policies = secrets && files;
        let services = same(&before.services, &now.services)
            && same(&before.endpoints, &now.endpoints)
            && same(&before.service_entries, &now.service_entries)
            && same(&before.destination_rules, &now.destination_rules);
        let but_for_slices = workloads && names && policies && services;
        let everything = but_for_slices && same(&before.endpoint_slices, &now.endpoint_slices);
        Self { workloads, names, policies, but_for_slices, everything }
    }
}

impl Registry {
    /// `earlier` are the documents of the translation before.
    pub(super) fn new(
        (earlier, objects): (&Objects, &Objects),
        workloads: &Workloads<'_>,
        surroundings: &Surroundings,
        (memo, settled): (&mut Memo, Settled),
        report: &mut Report,
    ) -> Self {
        let mut changed = HashSet::new();
        let is_known = settled.everything
            || settled.but_for_slices
                && patch::slices((earlier, objects), workloads, surroundings, (memo, &mut changed));
        if !is_known {
            let before = memo.known.clone();
            let known = Known::new(objects, workloads, surroundings, (memo, settled), &mut changed);
            let gone = before.units.keys().filter(|host| !known.units.contains_key(*host)).cloned();
            changed.extend(gone);
            let clusters = before.clusters_with(&known, &changed);
            memo.known = Arc::new(Known { clusters, ..known });
            memo.groups.end_round();
            memo.services.end_round();
            memo.entries.end_round();
        }
        report.extend(&memo.known.findings);
        Self { known: memo.known.clone(), changed: Changed::new(changed), asked: RefCell::default() }
    }
}

impl Known {
    fn new(
        objects: &Objects,
        workloads: &Workloads<'_>,
        surroundings: &Surroundings,
        (memo, settled): (&mut Memo, Settled),
        changed: &mut HashSet<Arc<str>>,
    ) -> Self {
        let mut report = Report::default();
        let Surroundings { identity, mesh, resolved, .. } = surroundings;
        let visibility = Visibility { identity, default: &mesh.default_service_export_to };
        let mut listed = services::list(objects, workloads, visibility, (memo, settled), &mut report);
        let from = (visibility, resolved);
        let (more, names) = entries::list(objects, workloads, from, (memo, settled), &mut report);
        listed.extend(more);
        let rules = DestinationRules::new(objects, identity, &mut report);
        let credentials = &Credentials::new(objects, surroundings);
        let mut units = HashMap::with_capacity(listed.len());
        for parts in sharing::by_host(listed) {
            let host = parts[0].host.clone();
            let rule = rules.of(&host, parts[0].namespace(), identity);
            let ingredients = Ingredients::new(parts, rule.as_ref());
            let before = memo.known.units.get(&host);
            let unit = before.filter(|unit| settled.policies && unit.is_of(&ingredients)).cloned();
            let unit = unit.unwrap_or_else(|| {
                changed.insert(host.clone());
                Arc::new(Unit::new(ingredients, rule, (credentials, identity, mesh)))
            });
            report.extend(&unit.findings);
            units.insert(host, unit);
        }
        rules.report_unused(identity, &mut report);
        Self { units, clusters: Arc::default(), names, findings: report.finish() }
    }

    /// The clusters of what is known next, where those of `changed` hosts alone differ from these.
    fn clusters_with(&self, next: &Self, changed: &HashSet<Arc<str>>) -> Arc<Clusters> {
        let named = |cluster: &Arc<Cluster>| (cluster.name.clone(), cluster.clone());
        if changed.len() > next.units.len() / 2 {
            let all = next.units.values().flat_map(|unit| &unit.clusters);
            return Arc::new(all.map(named).collect());
        }
        let mut clusters = self.clusters.clone();
        if !changed.is_empty() {
            let clusters = Arc::make_mut(&mut clusters);
            let of = |known: &Self| -> Vec<Arc<Cluster>> {
                let units = changed.iter().filter_map(|host| known.units.get(host));
                units.flat_map(|unit| unit.clusters.iter().cloned()).collect()
            };
            for gone in of(self) {
                clusters.remove(&gone.name);
            }
            clusters.extend(of(next).iter().map(named));
        }
        clusters
    }
}

impl Registry {
    fn unit(&self, host: &str) -> Option<&Arc<Unit>> {
        let found = self.known.units.get_key_value(host);
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
    pub(super) fn asked(&self) -> Asked {
        Asked::new(std::mem::take(&mut *self.asked.borrow_mut()))
    }

    /// Whether something else is known of any of the hosts than in the translation before.
    pub(super) fn any_changed(&self, hosts: &Asked) -> bool {
        self.changed.any_of(hosts)
    }

    /// All clusters.
    pub(super) fn clusters(&self) -> &Arc<Clusters> {
        &self.known.clusters
    }

    /// The names whose addresses the clusters want.
    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.known.names
    }
}
