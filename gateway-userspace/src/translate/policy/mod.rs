//! Which DestinationRule applies to a service, and what it makes of a port or a subset. Precedence as in Istio:
//! the gateway's namespace, the service's, the root; within one the most specific host; nothing is joined across
//! namespaces. Where the gateway's namespace is the root, only its private rules come first and those for the whole
//! mesh last. What a policy says, block by block, is in `blocks`, and what becomes of a cluster by it in `apply`.

mod apply;
mod blocks;
mod limits;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::api::destination_rule::{DestinationRule, Subset};
use crate::api::{Code, FieldPath, Objects, Severity, Sourced};
use crate::model::{GatewayIdentity, HostMap, HostPattern};

use super::bind::full_name;
use super::memo::Address;
use super::report::Report;

/// The rules that this gateway sees.
pub(super) struct DestinationRules<'a> {
    /// Documents of one host and namespace, oldest first.
    groups: Vec<Vec<&'a Sourced<DestinationRule>>>,
    by_place: HashMap<Place<'a>, HostMap<usize>>,
    used: RefCell<HashSet<usize>>,
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
        let mut by_host: BTreeMap<(Place<'_>, HostPattern), Vec<&Sourced<DestinationRule>>> = BTreeMap::new();
        for document in objects.destination_rules.iter().map(AsRef::as_ref) {
            if is_for_us(document, identity, report) {
                let host = full_name(&document.spec.host, document.namespace(), &identity.domain);
                let place = Place::of(document, identity);
                by_host.entry((place, HostPattern::new(&host))).or_default().push(document);
            }
        }
        let (mut groups, mut by_place) = (Vec::new(), HashMap::<Place<'_>, HostMap<usize>>::new());
        for ((place, host), documents) in by_host {
            report_doubles(&documents, report);
            by_place.entry(place).or_default().insert(&host, groups.len());
            groups.push(documents);
        }
        Self { groups, by_place, used: RefCell::default() }
    }

    /// What applies to a service's host.
    pub(super) fn of(
        &self,
        host: &str,
        namespace: &str,
        identity: &GatewayIdentity,
    ) -> Option<ServiceRule<'_, 'a>> {
        let places = Place::in_order(namespace, identity);
        let group = places.iter().find_map(|place| self.by_place.get(place)?.get(host))?;
        self.used.borrow_mut().insert(*group);
        Some(ServiceRule { documents: &self.groups[*group] })
    }

    /// Reports the rules that no service has.
    pub(super) fn report_unused(&self, report: &mut Report) {
        let used = self.used.borrow();
        let unused = self.groups.iter().enumerate().filter(|(group, _)| !used.contains(group));
        for document in unused.flat_map(|(_, documents)| documents) {
            let message = format!(
                "The host {} defined in the DestinationRule does not match any services in the mesh.",
                document.spec.host
            );
            let field = FieldPath::spec().field("host");
            report.add(
                document
                    .diagnostic(Severity::Warning, Code::DestinationRuleWithoutHost, &field, message)
                    .help(
                        "no Service of that name is left to this rule; another namespace's is named in full",
                    ),
            );
        }
    }
}

/// `exportTo` and `workloadSelector` are judged against the gateway.
fn is_for_us(document: &Sourced<DestinationRule>, identity: &GatewayIdentity, report: &mut Report) -> bool {
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
        return false;
    }
    let Some(selector) = &document.spec.workload_selector else { return true };
    let selected =
        own && selector.match_labels.iter().all(|(key, value)| identity.labels.get(key) == Some(value));
    if !selected {
        let message = "it selects other workloads than this gateway: it takes no effect here";
        let field = FieldPath::spec().field("workloadSelector");
        report.add(document.diagnostic(Severity::Info, Code::NotSelected, &field, message));
    }
    selected
}

/// Of several documents for a host, the first top-level policy counts, and the first subset of each name.
fn report_doubles(documents: &[&Sourced<DestinationRule>], report: &mut Report) {
    let with_policy: Vec<_> = documents.iter().filter(|it| it.spec.traffic_policy.is_some()).collect();
    let field = FieldPath::spec().field("trafficPolicy");
    if let [first, rest @ ..] = with_policy.as_slice() {
        for document in rest {
            let message = "an older DestinationRule of the host has a policy: this one takes no effect";
            report.add(
                document
                    .diagnostic(Severity::Warning, Code::NoEffect, &field, message)
                    .related(first.related(&field, "is in force")),
            );
        }
    }
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

    /// The subsets, the first of each name.
    pub(super) fn subsets(&self) -> Vec<PlacedSubset<'a>> {
        let mut names = HashSet::new();
        all_subsets(self.documents).filter(|placed| names.insert(&placed.subset.name)).collect()
    }
}
