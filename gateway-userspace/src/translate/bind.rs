//! Which VirtualServices a Gateway carries, in which order.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::api::{Code, FieldPath, Objects, Severity, Sourced, VirtualService};
use crate::model::{GatewayIdentity, HostPattern};

use super::delegate::{self, Rule};
use super::report::Report;
use super::select::SelectedServer;
use super::usage::Usage;

/// `namespace/name` of a Gateway.
pub(super) type GatewayName = (String, String);

/// A VirtualService with its hosts as they are meant.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    pub(super) document: &'a Sourced<VirtualService>,
    pub(super) hosts: Vec<HostPattern>,
}

impl Bound<'_> {
    /// `name.namespace`.
    pub(super) fn label(&self) -> String {
        format!("{}.{}", self.document.name(), self.document.namespace())
    }

    /// Resolves a gateway's name as written in this document.
    pub(super) fn gateway_name(&self, written: &str) -> GatewayName {
        gateway_name(written, self.document.namespace())
    }
}

/// A `tcp` or `tls` rule of a VirtualService.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RuleId {
    document: usize,
    list: &'static str,
    index: usize,
}

/// VirtualServices by Gateway.
pub(super) struct Bindings<'a> {
    /// Those with hosts, then delegates.
    all: Vec<Bound<'a>>,
    /// The `http` rules of those with hosts, with the delegates' in their places.
    rules: Vec<Vec<Rule<'a>>>,
    by_gateway: HashMap<GatewayName, Vec<usize>>,
    /// VirtualServices of which no host is served by any of their Gateways; that was said once, for all their rules.
    hostless: HashSet<usize>,
    /// `tcp` and `tls` rules that took effect somewhere: all others are reported.
    used: RefCell<HashSet<RuleId>>,
    /// What became of the `http` rules.
    pub(super) usage: Usage,
}

impl<'a> Bindings<'a> {
    /// Finds the VirtualServices of every Gateway that is for us, and reports what leads nowhere.
    pub(super) fn new(
        objects: &'a Objects,
        identity: &GatewayIdentity,
        servers: &[SelectedServer<'_>],
        report: &mut Report,
    ) -> Self {
        let known: HashSet<GatewayName> = objects.gateways.iter().map(|gateway| own_name(gateway)).collect();
        let selected: HashSet<GatewayName> = servers.iter().map(|server| own_name(server.gateway)).collect();
        let mut by_gateway: HashMap<GatewayName, Vec<(Visibility, usize)>> = HashMap::new();
        let mut all = Vec::new();
        let documents = objects.virtual_services.iter().map(AsRef::as_ref);
        for document in documents.filter(|document| !document.spec.hosts.is_empty()) {
            let gateways = gateways_of(document, &known, report);
            let reaching: Vec<GatewayName> =
                gateways.into_iter().filter(|name| selected.contains(name)).collect();
            if reaching.is_empty() {
                continue;
            }
            let Some(visibility) = visibility(document, identity) else {
                report_hidden(document, identity, report);
                continue;
            };
            for name in reaching {
                by_gateway.entry(name).or_default().push((visibility, all.len()));
            }
            all.push(Bound { document, hosts: hosts(document, identity) });
        }
        let sorted = by_gateway.into_iter().map(|(name, mut list)| {
            // Stable: within a class the older stays first.
            list.sort_by_key(|(visibility, _)| *visibility);
            (name, list.into_iter().map(|(_, index)| index).collect())
        });
        let hostless = report_hosts(&all, servers, report);
        let rules = delegate::expand(objects, identity, &mut all, report);
        let by_gateway = sorted.collect();
        Self { all, rules, by_gateway, hostless, used: RefCell::default(), usage: Usage::default() }
    }

    /// The VirtualServices of a server's Gateway, in the order in which their routes are tried.
    pub(super) fn of(&self, server: &SelectedServer<'_>) -> impl Iterator<Item = (usize, &Bound<'a>)> {
        let list = self.by_gateway.get(&own_name(server.gateway)).map_or(&[][..], Vec::as_slice);
        list.iter().map(|index| (*index, &self.all[*index]))
    }

    /// A document by its index.
    pub(super) fn document(&self, index: usize) -> &Bound<'a> {
        &self.all[index]
    }

    /// The `http` rules of a document with hosts.
    pub(super) fn rules(&self, document: usize) -> &[Rule<'a>] {
        &self.rules[document]
    }

    /// Notes that a `tcp` or `tls` rule takes effect.
    pub(super) fn mark(&self, document: usize, list: &'static str, index: usize) {
        self.used.borrow_mut().insert(RuleId { document, list, index });
    }

    /// Reports the rules that take no effect at any of the ports.
    pub(super) fn report_unused(&self, report: &mut Report) {
        let reaching = (0..self.rules.len()).filter(|document| !self.hostless.contains(document));
        let mut documents: BTreeSet<usize> = reaching.collect();
        for document in documents.clone() {
            self.report_unused_l4(document, report);
            // A delegate is looked at where a rule of its takes effect through some root.
            documents.extend(self.rules[document].iter().map(|rule| rule.document));
        }
        // What has no place anywhere was reported with its reason.
        let placed = self.rules.iter().flatten().flat_map(|rule| rule.places.iter().flatten());
        let placed: HashSet<(usize, usize)> = placed.map(|place| (place.document, place.rule)).collect();
        for document in documents {
            self.usage.report(&self.all, document, &placed, report);
        }
    }

    fn report_unused_l4(&self, document: usize, report: &mut Report) {
        let used = self.used.borrow();
        let bound = &self.all[document];
        let spec = &bound.document.spec;
        for (list, length) in [("tls", spec.tls.len()), ("tcp", spec.tcp.len())] {
            for index in (0..length).filter(|index| !used.contains(&RuleId { document, list, index: *index }))
            {
                let field = FieldPath::spec().field(list).index(index);
                let message = format!("the {list} rule takes no effect at any server of its gateways");
                let help = match list {
                    "tls" => "tls rules serve TLS in PASSTHROUGH mode; do port, gateways and SNI hosts fit?",
                    _ => "tcp rules serve TCP and terminated TLS, and the first one for a port has it",
                };
                let finding = bound.document.diagnostic(Severity::Warning, Code::NoEffect, &field, message);
                report.add(finding.help(help));
            }
        }
    }
}

/// A host that no server of a Gateway has is never answered there. Returns the documents to which that happens with
/// every host at every Gateway.
fn report_hosts(all: &[Bound<'_>], servers: &[SelectedServer<'_>], report: &mut Report) -> HashSet<usize> {
    let mut by_name: HashMap<GatewayName, Vec<&SelectedServer<'_>>> = HashMap::new();
    for server in servers {
        by_name.entry(own_name(server.gateway)).or_default().push(server);
    }
    let mut hostless = HashSet::new();
    for (index, bound) in all.iter().enumerate() {
        let mut any_served = false;
        for (at, written) in bound.document.spec.gateways.iter().enumerate() {
            let Some(servers) = by_name.get(&bound.gateway_name(written)) else { continue };
            let missing = missing_hosts(bound, servers);
            any_served |= missing.len() < bound.hosts.len();
            if !missing.is_empty() {
                report_missing(bound, at, &missing, servers, report);
            }
        }
        if !any_served {
            hostless.insert(index);
        }
    }
    hostless
}

/// The hosts, as written, that none of a Gateway's servers has.
fn missing_hosts<'b>(bound: &'b Bound<'_>, servers: &[&SelectedServer<'_>]) -> Vec<&'b str> {
    let namespace = bound.document.namespace();
    let served = |host: &HostPattern| servers.iter().any(|server| server.hosts.meets(host, namespace));
    let hosts = bound.hosts.iter().zip(&bound.document.spec.hosts);
    hosts.filter(|(host, _)| !served(host)).map(|(_, written)| written.as_str()).collect()
}

fn report_missing(
    bound: &Bound<'_>,
    at: usize,
    missing: &[&str],
    servers: &[&SelectedServer<'_>],
    report: &mut Report,
) {
    let Some(gateway) = servers.first().map(|server| server.gateway) else { return };
    let message = format!(
        "one or more host [{}] defined in VirtualService {}/{} not found in Gateway {}/{}.",
        missing.join(" "),
        bound.document.namespace(),
        bound.document.name(),
        gateway.namespace(),
        gateway.name()
    );
    let field = FieldPath::spec().field("gateways").index(at);
    let servers = FieldPath::spec().field("servers");
    report.add(
        bound
            .document
            .diagnostic(Severity::Warning, Code::HostNotFoundInGateway, &field, message)
            .related(gateway.related(&servers, "its servers have other hosts")),
    );
}

pub(super) fn own_name(gateway: &Sourced<crate::api::Gateway>) -> GatewayName {
    (gateway.namespace().to_string(), gateway.name().to_string())
}

/// `name`, `namespace/name`, `./name`, or the old `name.namespace.svc…`.
pub(super) fn gateway_name(written: &str, own_namespace: &str) -> GatewayName {
    let (namespace, name) = match written.split_once('/') {
        Some((".", name)) => (own_namespace, name),
        Some((namespace, name)) => (namespace, name),
        None => match written.split_once('.') {
            Some((name, rest)) => (rest.split('.').next().unwrap_or(own_namespace), name),
            None => (own_namespace, written),
        },
    };
    (namespace.to_owned(), name.to_owned())
}

/// The Gateways a document names, each once; reports those that do not exist.
fn gateways_of(
    document: &Sourced<VirtualService>,
    known: &HashSet<GatewayName>,
    report: &mut Report,
) -> BTreeSet<GatewayName> {
    let field = FieldPath::spec().field("gateways");
    let mut names = BTreeSet::new();
    for (at, written) in document.spec.gateways.iter().enumerate().filter(|(_, written)| *written != "mesh") {
        let name = gateway_name(written, document.namespace());
        if known.contains(&name) {
            names.insert(name);
            continue;
        }
        let message = format!("Referenced gateway not found: \"{written}\"");
        let help =
            format!("there is no Gateway {}/{}; another namespace's is named namespace/name", name.0, name.1);
        report.add(
            document
                .diagnostic(Severity::Error, Code::ReferencedResourceNotFound, &field.index(at), message)
                .help(help),
        );
    }
    if document.spec.gateways.iter().all(|written| written == "mesh") {
        let message = "bound to the mesh only: no gateway serves it";
        report.add(
            document
                .diagnostic(Severity::Info, Code::NoEffect, &field, message)
                .help("name the gateways it is for in `gateways`"),
        );
    }
    names
}

/// Classes of VirtualServices in the order in which a gateway looks at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Visibility {
    /// `exportTo: ["."]` in the gateway's own namespace.
    Private,
    /// Exported to the gateway's namespace by name.
    Named,
    Public,
}

/// `exportTo` is judged against the gateway's own namespace, not the Gateway document's.
fn visibility(document: &Sourced<VirtualService>, identity: &GatewayIdentity) -> Option<Visibility> {
    let export_to = &document.spec.export_to;
    let names = |word: &str| export_to.iter().any(|entry| entry == word);
    if export_to.is_empty() || names("*") {
        Some(Visibility::Public)
    } else if names(".") && **document.namespace() == identity.namespace {
        Some(Visibility::Private)
    } else if names(&identity.namespace) {
        Some(Visibility::Named)
    } else {
        None
    }
}

fn report_hidden(document: &Sourced<VirtualService>, identity: &GatewayIdentity, report: &mut Report) {
    let field = FieldPath::spec().field("exportTo");
    let message =
        format!("not exported to {}, the gateway's namespace: it takes no effect here", identity.namespace);
    report.add(document.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
}

/// Hosts without a dot are completed with the document's namespace.
fn hosts(document: &Sourced<VirtualService>, identity: &GatewayIdentity) -> Vec<HostPattern> {
    let complete = |host: &String| HostPattern::new(&full_name(host, document.namespace(), &identity.domain));
    document.spec.hosts.iter().map(complete).collect()
}

/// A short name in full; a name with a dot, `*` and addresses as they are.
pub(super) fn full_name(host: &str, namespace: &str, domain: &str) -> String {
    if host.contains(['.', ':', '*']) { host.to_owned() } else { format!("{host}.{namespace}.svc.{domain}") }
}
