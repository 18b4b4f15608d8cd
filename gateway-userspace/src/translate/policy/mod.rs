//! Which DestinationRule applies to a service, and what it makes of a port or a subset. Precedence as in Istio:
//! the gateway's namespace, the service's, the root; within one the most specific host; nothing is joined across
//! namespaces. Where the gateway's namespace is the root, only its private rules come first and those for the whole
//! mesh last. What a policy says, block by block, is in `blocks`, and what becomes of a cluster by it in `apply`.

mod apply;
mod balance;
mod blocks;
mod health;
mod limits;
mod locality;
mod tls;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::api::destination_rule::{DestinationRule, Subset};
use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced};
use crate::model::{GatewayIdentity, HostMap, HostPattern};

use super::bind::full_name;
use super::memo::Address;
use super::report::Report;
pub(super) use apply::apply_mesh;
pub(super) use tls::Facts;

/// The rules that this gateway sees.
pub(super) struct DestinationRules<'a> {
    /// Documents that are one, oldest first.
    groups: Vec<Vec<&'a Sourced<DestinationRule>>>,
    /// The group in force for a host; `None` for one that only others see, which hides wider ones from us as well.
    by_place: HashMap<Place<'a>, HostMap<Option<usize>>>,
    /// The hosts that were asked for, with the group in force for each.
    asked: RefCell<Vec<(Arc<str>, Option<usize>)>>,
}

/// Where rules are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place<'a> {
    /// The root namespace's rules for itself alone; they mean a gateway that lives there.
    PrivateOfRoot,
    /// All others of a namespace.
    Namespace(&'a str),
}

impl<'a> Place<'a> {
    fn of(document: &'a Sourced<DestinationRule>, identity: &GatewayIdentity) -> Self {
        let namespace = &**document.namespace();
        let is_private = match document.spec.export_to.as_slice() {
            // What selects workloads selects those of its own namespace.
            _ if document.spec.workload_selector.is_some() => true,
            [only] => only == "." || *only == namespace,
            _ => false,
        };
        if is_private && namespace == identity.root_namespace {
            Self::PrivateOfRoot
        } else {
            Self::Namespace(namespace)
        }
    }

    /// In order of precedence. A mesh-wide `*.local` rule of the root must not take a service's own rule from gateways
    /// that live in the root namespace, where most of them do.
    fn in_order(namespace: &'a str, identity: &'a GatewayIdentity) -> [Self; 3] {
        let root = Self::Namespace(&identity.root_namespace);
        let first = match Self::Namespace(&identity.namespace) {
            own if own == root => Self::PrivateOfRoot,
            own => own,
        };
        [first, Self::Namespace(namespace), root]
    }
}

/// The documents that apply to one service, oldest first.
#[derive(Clone, Copy)]
pub(super) struct ServiceRule<'r, 'a> {
    documents: &'r [&'a Sourced<DestinationRule>],
}

/// A subset with its place.
#[derive(Clone, Copy)]
pub(super) struct PlacedSubset<'a> {
    pub(super) document: &'a Sourced<DestinationRule>,
    pub(super) index: usize,
    pub(super) subset: &'a Subset,
}

impl PlacedSubset<'_> {
    /// `spec.subsets[i]`.
    pub(super) fn field(&self) -> FieldPath {
        FieldPath::spec().field("subsets").index(self.index)
    }
}

impl<'a> DestinationRules<'a> {
    pub(super) fn new(objects: &'a Objects, identity: &GatewayIdentity, report: &mut Report) -> Self {
        let mut by_host: BTreeMap<(Place<'_>, HostPattern), Kin<'_>> = BTreeMap::new();
        for document in objects.destination_rules.iter().map(AsRef::as_ref) {
            let host = full_name(&document.spec.host, document.namespace(), &identity.domain);
            let place = (Place::of(document, identity), HostPattern::new(&host));
            match sight(document, identity, report) {
                Sight::Ours => by_host.entry(place).or_default().add(document),
                Sight::Others => drop(by_host.entry(place).or_default()),
                Sight::Nobodys => {}
            }
        }
        let (mut groups, mut by_place) = (Vec::new(), HashMap::<Place<'_>, HostMap<Option<usize>>>::new());
        for ((place, host), kin) in by_host {
            let in_force = kin.in_force(report).map(|documents| {
                report_doubles(&documents, report);
                health::report_doubles(&documents, report);
                groups.push(documents);
                groups.len() - 1
            });
            by_place.entry(place).or_default().insert(&host, in_force);
        }
        Self { groups, by_place, asked: RefCell::default() }
    }

    /// What applies to a service's host.
    pub(super) fn of(
        &self,
        host: &Arc<str>,
        namespace: &str,
        identity: &GatewayIdentity,
    ) -> Option<ServiceRule<'_, 'a>> {
        let places = Place::in_order(namespace, identity);
        let group = places.iter().find_map(|place| *self.by_place.get(place)?.get(host)?);
        self.asked.borrow_mut().push((host.clone(), group));
        Some(ServiceRule { documents: &self.groups[group?] })
    }

    /// Reports the rules that no service has.
    pub(super) fn report_unused(&self, identity: &GatewayIdentity, report: &mut Report) {
        let asked = self.asked.borrow();
        let in_force: HashSet<usize> = asked.iter().filter_map(|(_, group)| *group).collect();
        let is_unused = |(group, _): &(usize, _)| !in_force.contains(group);
        let mut unused = self.groups.iter().enumerate().filter(is_unused).peekable();
        if unused.peek().is_none() {
            return;
        }
        let by_name: HashMap<&str, usize> =
            asked.iter().enumerate().rev().map(|(at, (host, _))| (&**host, at)).collect();
        let first_covered = |own: &HostPattern| match own {
            HostPattern::Exact(name) => by_name.get(&**name).map(|at| &asked[*at]),
            wide => asked.iter().find(|(host, _)| wide.covers_name(host)),
        };
        for document in unused.flat_map(|(_, documents)| documents) {
            let own = full_name(&document.spec.host, document.namespace(), &identity.domain);
            let own = HostPattern::new(&own);
            report.add(match first_covered(&own) {
                Some((host, group)) => preceded(document, host, group.map(|group| self.groups[group][0])),
                None => hostless(document),
            });
        }
    }
}

/// A rule for a service that there is not.
fn hostless(document: &Sourced<DestinationRule>) -> Diagnostic {
    let message = format!(
        "The host {} defined in the DestinationRule does not match any services in the mesh.",
        document.spec.host
    );
    let field = FieldPath::spec().field("host");
    let found = document.diagnostic(Severity::Warning, Code::DestinationRuleWithoutHost, &field, message);
    found.help("write the Service, or correct `host`; another namespace's service is named in full")
}

/// A rule for a service that has another one, or that looks for its rules elsewhere.
fn preceded(
    document: &Sourced<DestinationRule>,
    host: &str,
    first: Option<&Sourced<DestinationRule>>,
) -> Diagnostic {
    let field = FieldPath::spec().field("host");
    let why = match first {
        Some(_) => format!("another DestinationRule is in force for {host}"),
        None => format!("rules for {host} are not those of namespace {}", document.namespace()),
    };
    let help = "the gateway's own namespace comes first, then the service's, then the root's; within one the most specific \
                host; nothing is joined";
    let message = format!("{why}: this one takes no effect here");
    let found = document.diagnostic(Severity::Warning, Code::NoEffect, &field, message).help(help);
    match first {
        Some(first) => found.related(first.related(&field, "is in force")),
        None => found,
    }
}

/// Who sees a document.
enum Sight {
    Ours,
    /// Gateways of other namespaces; ours knows of it.
    Others,
    /// Its own namespace alone, or other workloads.
    Nobodys,
}

/// `exportTo` and `workloadSelector` are judged against the gateway.
fn sight(document: &Sourced<DestinationRule>, identity: &GatewayIdentity, report: &mut Report) -> Sight {
    let own = **document.namespace() == identity.namespace;
    let export_to = &document.spec.export_to;
    let sees = |entry: &String| entry == "*" || *entry == identity.namespace || (entry == "." && own);
    if !own && !export_to.is_empty() && !export_to.iter().any(sees) {
        let message = format!(
            "not exported to {}, the gateway's namespace: it takes no effect here",
            identity.namespace
        );
        let field = FieldPath::spec().field("exportTo");
        report.add(document.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
        let is_private = export_to.iter().all(|entry| entry == "." || *entry == **document.namespace());
        return if is_private { Sight::Nobodys } else { Sight::Others };
    }
    let Some(selector) = &document.spec.workload_selector else { return Sight::Ours };
    let selected =
        own && selector.match_labels.iter().all(|(key, value)| identity.labels.get(key) == Some(value));
    if selected {
        return Sight::Ours;
    }
    let message = "it selects other workloads than this gateway: it takes no effect here";
    let field = FieldPath::spec().field("workloadSelector");
    report.add(document.diagnostic(Severity::Info, Code::NotSelected, &field, message));
    Sight::Nobodys
}

/// The documents of a host in one namespace: those with equal `exportTo` and `workloadSelector` are one.
#[derive(Default)]
struct Kin<'a>(Vec<Vec<&'a Sourced<DestinationRule>>>);

impl<'a> Kin<'a> {
    fn add(&mut self, document: &'a Sourced<DestinationRule>) {
        let exports = |it: &'a Sourced<DestinationRule>| -> BTreeSet<&str> {
            it.spec.export_to.iter().map(String::as_str).collect()
        };
        let selector = |it: &'a Sourced<DestinationRule>| {
            it.spec.workload_selector.as_ref().map(|selector| &selector.match_labels)
        };
        let is_one = |group: &&mut Vec<&'a Sourced<DestinationRule>>| {
            exports(group[0]) == exports(document) && selector(group[0]) == selector(document)
        };
        match self.0.iter_mut().find(is_one) {
            Some(group) => group.push(document),
            None => self.0.push(vec![document]),
        }
    }

    /// The first that selects us, else the newest, as in Istio; the others are reported.
    fn in_force(mut self, report: &mut Report) -> Option<Vec<&'a Sourced<DestinationRule>>> {
        let selecting = self.0.iter().position(|group| group[0].spec.workload_selector.is_some());
        let at = selecting.or(self.0.len().checked_sub(1))?;
        let in_force = self.0.remove(at);
        let first = in_force[0];
        for document in self.0.iter().flatten() {
            let field = FieldPath::spec().field("host");
            let message = match selecting {
                Some(_) => {
                    "another DestinationRule of the host selects this gateway: this one takes no effect"
                }
                None => {
                    "a newer DestinationRule of the host is exported otherwise, so that the two are not joined: this one \
                     takes no effect"
                }
            };
            report.add(
                document
                    .diagnostic(Severity::Warning, Code::NoEffect, &field, message)
                    .related(first.related(&field, "is in force")),
            );
        }
        Some(in_force)
    }
}

/// Of several documents for a host that have something in a field, all but the first have no effect by it.
fn first_counts<'d>(
    documents: impl IntoIterator<Item = &'d &'d Sourced<DestinationRule>>,
    (field, what): (&FieldPath, &str),
    report: &mut Report,
) {
    let mut documents = documents.into_iter();
    let Some(first) = documents.next() else { return };
    for document in documents {
        let message = format!("an older DestinationRule of the host has {what}: this one takes no effect");
        report.add(
            document
                .diagnostic(Severity::Warning, Code::NoEffect, field, message)
                .related(first.related(field, "is in force")),
        );
    }
}

/// Of several documents for a host, the first top-level policy counts, and the first subset of each name.
fn report_doubles(documents: &[&Sourced<DestinationRule>], report: &mut Report) {
    let with_policy = documents.iter().filter(|it| it.spec.traffic_policy.is_some());
    first_counts(with_policy, (&FieldPath::spec().field("trafficPolicy"), "a policy"), report);
    let mut names: HashMap<&str, PlacedSubset<'_>> = HashMap::new();
    for placed in all_subsets(documents) {
        let first = *names.entry(&placed.subset.name).or_insert(placed);
        if !std::ptr::eq(first.subset, placed.subset) {
            let message = format!(
                "an older DestinationRule of the host has a subset {}: this one takes no effect",
                placed.subset.name
            );
            report.add(
                placed
                    .document
                    .diagnostic(Severity::Warning, Code::NoEffect, &placed.field(), message)
                    .related(first.document.related(&first.field(), "is in force")),
            );
        }
    }
}

fn all_subsets<'r, 'a>(
    documents: &'r [&'a Sourced<DestinationRule>],
) -> impl Iterator<Item = PlacedSubset<'a>> + use<'r, 'a> {
    documents.iter().flat_map(|document| {
        let subsets = document.spec.subsets.iter().enumerate();
        subsets.map(|(index, subset)| PlacedSubset { document, index, subset })
    })
}

impl<'a> ServiceRule<'_, 'a> {
    /// `name.namespace` of each document.
    pub(super) fn label(&self) -> String {
        let names = self.documents.iter().map(|it| format!("{}.{}", it.name(), it.namespace()));
        names.collect::<Vec<_>>().join(",")
    }

    /// Which documents they are.
    pub(super) fn documents(&self) -> Vec<Address> {
        self.documents.iter().map(|document| Address::of(document)).collect()
    }

    /// Reports settings of ports that the service does not have. A rule for many services may mean another's.
    pub(super) fn report_ports(
        &self,
        host: &str,
        ports: &[u16],
        identity: &GatewayIdentity,
        report: &mut Report,
    ) {
        for document in self.documents {
            if full_name(&document.spec.host, document.namespace(), &identity.domain) != host {
                continue;
            }
            health::report_ports(document, (host, ports), report);
            let own = document.spec.traffic_policy.iter().map(|policy| (FieldPath::spec(), policy));
            let subsets = all_subsets(std::slice::from_ref(document))
                .filter_map(|placed| Some((placed.field(), placed.subset.traffic_policy.as_ref()?)));
            for (field, policy) in own.chain(subsets) {
                let field = field.field("trafficPolicy").field("portLevelSettings");
                for (at, settings) in policy.port_level_settings.iter().enumerate() {
                    let number = settings.port.as_ref().map_or(0, |port| port.number);
                    if ports.iter().any(|port| u32::from(*port) == number) {
                        continue;
                    }
                    let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
                    let message =
                        format!("{host} has no port {number}, but {list}: these settings take no effect");
                    let field = field.index(at).field("port");
                    report.add(document.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
                }
            }
        }
    }

    /// The subsets, the first of each name.
    pub(super) fn subsets(&self) -> Vec<PlacedSubset<'a>> {
        let mut names = HashSet::new();
        all_subsets(self.documents).filter(|placed| names.insert(&placed.subset.name)).collect()
    }
}
