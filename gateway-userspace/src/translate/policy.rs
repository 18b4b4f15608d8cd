//! Which DestinationRule applies to a service, and what it makes of a port or a subset. Precedence as in Istio:
//! the gateway's namespace, the service's, the root; within one the most specific host; nothing is joined across
//! namespaces. Where the gateway's namespace is the root, only its private rules come first and those for the whole
//! mesh last. `portLevelSettings` replace the whole policy, a subset's policy block by block.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::api::destination_rule::{
    ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, OutlierDetection as Written,
    ProxyProtocol, ProxyProtocolVersion, Subset, TrafficPolicy,
};
use crate::api::{Code, FieldPath, Objects, Severity, Sourced};
use crate::model::{
    Affinity, Cluster, GatewayIdentity, HostMap, HostPattern, OutlierDetection, ProxyVersion,
    UpstreamProtocol,
};

use super::bind::full_name;
use super::report::Report;

/// `idleTimeout: 0s` is none; this is as good, and clocks hold it.
const NEVER: Duration = Duration::from_hours(24 * 365);

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
            let message = format!("Referenced host not found: \"{}\"", document.spec.host);
            let field = FieldPath::spec().field("host");
            report.add(
                document
                    .diagnostic(Severity::Warning, Code::ReferencedResourceNotFound, &field, message)
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

    /// The subsets, the first of each name.
    pub(super) fn subsets(&self) -> Vec<PlacedSubset<'a>> {
        let mut names = HashSet::new();
        all_subsets(self.documents).filter(|placed| names.insert(&placed.subset.name)).collect()
    }

    /// Puts the policy of a cluster's port, and of its subset, in force.
    pub(super) fn apply(&self, cluster: &mut Cluster, subset: Option<PlacedSubset<'a>>, report: &mut Report) {
        cluster.destination_rule = Some(self.label().into());
        let with_policy = self.documents.iter().find(|document| document.spec.traffic_policy.is_some());
        let base = with_policy.and_then(|document| document.spec.traffic_policy.as_ref());
        let port = cluster.name.port;
        let mut blocks = base.map_or_else(Blocks::default, |policy| Blocks::of(policy, port).0);
        if let Some(policy) = subset.and_then(|placed| placed.subset.traffic_policy.as_ref()) {
            blocks = blocks.overridden_by(Blocks::of(policy, port));
        }
        blocks.apply(cluster);
        let subsets_own = subset.filter(|placed| placed.subset.traffic_policy.is_some());
        let place = match subsets_own {
            Some(placed) => Some((placed.document, placed.field())),
            None => with_policy.map(|document| (*document, FieldPath::spec())),
        };
        if let Some((document, field)) = place {
            report_tcp_only(document, &field.field("trafficPolicy"), cluster, report);
        }
    }
}

/// What of a policy only TCP obeys, on a port that speaks HTTP.
fn report_tcp_only(
    document: &Sourced<DestinationRule>,
    field: &FieldPath,
    cluster: &Cluster,
    report: &mut Report,
) {
    if cluster.protocol == UpstreamProtocol::Tcp {
        return;
    }
    let of_tcp = [
        (cluster.max_connections.is_some(), "connectionPool.tcp.maxConnections"),
        (cluster.proxy_protocol.is_some(), "proxyProtocol"),
    ];
    for (_, name) in of_tcp.iter().filter(|(is_set, _)| *is_set) {
        let message = format!(
            "{name} is not yet supported for HTTP, which {}:{} speaks: it holds for TCP and passthrough alone",
            cluster.name.host, cluster.name.port
        );
        let field = name.split('.').fold(field.clone(), |field, step| field.field(step));
        report.add(document.diagnostic(Severity::Warning, Code::NotSupported, &field, message));
    }
}

/// The blocks of a policy for one port.
#[derive(Debug, Clone, Copy, Default)]
struct Blocks<'a> {
    load_balancer: Option<&'a LoadBalancerSettings>,
    connection_pool: Option<&'a ConnectionPoolSettings>,
    outlier_detection: Option<&'a Written>,
    proxy_protocol: Option<ProxyProtocol>,
}

impl<'a> Blocks<'a> {
    /// Of a port, and whether it has settings of its own.
    fn of(policy: &'a TrafficPolicy, port: u16) -> (Self, bool) {
        let is_port = |number: u32| number == u32::from(port);
        let own = policy
            .port_level_settings
            .iter()
            .find(|settings| settings.port.as_ref().is_some_and(|port| is_port(port.number)));
        let blocks = match own {
            Some(own) => Self {
                load_balancer: own.load_balancer.as_ref(),
                connection_pool: own.connection_pool.as_ref(),
                outlier_detection: own.outlier_detection.as_ref(),
                proxy_protocol: None,
            },
            None => Self {
                load_balancer: policy.load_balancer.as_ref(),
                connection_pool: policy.connection_pool.as_ref(),
                outlier_detection: policy.outlier_detection.as_ref(),
                proxy_protocol: policy.proxy_protocol,
            },
        };
        (blocks, own.is_some())
    }

    /// A subset's port-level settings leave nothing of the service's policy.
    fn overridden_by(self, (subset, has_own): (Self, bool)) -> Self {
        if has_own {
            return subset;
        }
        Self {
            load_balancer: subset.load_balancer.or(self.load_balancer),
            connection_pool: subset.connection_pool.or(self.connection_pool),
            outlier_detection: subset.outlier_detection.or(self.outlier_detection),
            proxy_protocol: subset.proxy_protocol.or(self.proxy_protocol),
        }
    }

    fn apply(self, cluster: &mut Cluster) {
        let hash = self.load_balancer.and_then(|balancer| balancer.consistent_hash.as_ref());
        if hash.is_some_and(|hash| hash.use_source_ip == Some(true)) {
            cluster.affinity = Affinity::SourceAddress;
        }
        if let Some(tcp) = self.connection_pool.and_then(|pool| pool.tcp.as_ref()) {
            cluster.max_connections = u32::try_from(tcp.max_connections).ok().filter(|most| *most > 0);
            cluster.connect_timeout = tcp.connect_timeout.map_or(cluster.connect_timeout, |time| time.0);
            cluster.idle_timeout =
                tcp.idle_timeout.map(|time| if time.0.is_zero() { NEVER } else { time.0.min(NEVER) });
        }
        cluster.outlier = self.outlier_detection.map(outlier);
        cluster.proxy_protocol = self.proxy_protocol.map(|proxy| match proxy.version {
            ProxyProtocolVersion::V1 => ProxyVersion::V1,
            ProxyProtocolVersion::V2 => ProxyVersion::V2,
        });
    }
}

/// What is not said is Envoy's default; a `maxEjectionPercent` of 0 is not said.
fn outlier(written: &Written) -> OutlierDetection {
    let default = OutlierDetection::default();
    let percent = |value: i32| u32::try_from(value).unwrap_or(0);
    let local = written.consecutive_local_origin_failures.filter(|count| *count > 0);
    OutlierDetection {
        consecutive_5xx: written.consecutive_5xx_errors.unwrap_or(default.consecutive_5xx),
        consecutive_gateway: written.consecutive_gateway_errors.unwrap_or(default.consecutive_gateway),
        consecutive_local_origin: local.unwrap_or(default.consecutive_local_origin),
        split_local_origin: written.split_external_local_origin_errors,
        interval: written.interval.map_or(default.interval, |time| time.0),
        base_ejection_time: written.base_ejection_time.map_or(default.base_ejection_time, |time| time.0),
        max_ejection_percent: match percent(written.max_ejection_percent) {
            0 => default.max_ejection_percent,
            percent => percent,
        },
        min_health_percent: percent(written.min_health_percent),
    }
}
