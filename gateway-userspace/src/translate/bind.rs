//! Which VirtualServices a Gateway carries, in which order.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::api::virtual_service::MESH;
use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced, VirtualService};
use crate::model::{GatewayIdentity, HostPattern};

use super::delegate::{Delegates, Expanded, Expansion, delegates_some};
use super::memo::{Address, Kept};
use super::report::Report;
use super::route::Compiled;
use super::select::SelectedServer;
use super::usage::{Place, Usage, is_for_mesh};

/// `namespace/name` of a Gateway.
pub(super) type GatewayName = (String, String);

/// A VirtualService with its hosts as they are meant.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) document: Arc<Sourced<VirtualService>>,
    pub(super) hosts: Vec<HostPattern>,
    label: Arc<str>,
    reference: Arc<str>,
}

impl Bound {
    pub(super) fn new(document: &Arc<Sourced<VirtualService>>, hosts: Vec<HostPattern>) -> Self {
        let label = format!("{}.{}", document.name(), document.namespace()).into();
        let reference = document.reference().to_string().into();
        Self { document: document.clone(), hosts, label, reference }
    }

    /// `VirtualService namespace/name`.
    pub(super) fn reference(&self) -> &Arc<str> {
        &self.reference
    }

    /// `name.namespace`.
    pub(super) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// How bad it is that a part does nothing at a gateway: it may be meant for the sidecars of a mesh that the document is for
    /// as well.
    pub(super) fn severity_of_unused(&self) -> Severity {
        let is_for_both = self.document.spec.gateways.iter().any(|name| name == MESH);
        if is_for_both { Severity::Info } else { Severity::Warning }
    }

    /// Resolves a gateway's name as written in this document.
    pub(super) fn gateway_name(&self, written: &str) -> GatewayName {
        gateway_name(written, self.document.namespace())
    }
}

/// A VirtualService with hosts, and where it is served.
#[derive(Debug)]
pub(super) struct Root {
    bound: Arc<Bound>,
    /// Gateways for us that it names and that see it, by their places among those for us.
    reached: Vec<usize>,
    visibility: Visibility,
    /// No host of it is served by any of its Gateways; that was said once, for all its rules.
    is_hostless: bool,
    /// Some of its rules stand in other documents.
    delegates_some: bool,
    /// It has `tcp` or `tls` rules.
    has_l4: bool,
    findings: Vec<Diagnostic>,
}

/// A `tcp` or `tls` rule of a VirtualService.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RuleId {
    document: usize,
    list: &'static str,
    index: usize,
}

/// What of earlier translations goes on: roots while they and all Gateways stay, expansions while the same delegates are found.
#[derive(Debug, Default)]
pub(super) struct Memo {
    roots: Kept<Address, Arc<Root>>,
    expanded: Kept<Address, Arc<Expanded>>,
}

impl Memo {
    pub(super) fn end_round(&mut self) {
        self.roots.end_round();
        self.expanded.end_round();
    }
}

/// What became of the `http` rules of a root.
#[derive(Debug, Clone, Default)]
struct Outcome {
    /// At some server every match of every rule is taken, so that there is nothing to say.
    is_whole: bool,
    /// Elsewhere.
    compiled: Vec<Arc<Compiled>>,
}

/// VirtualServices by Gateway.
pub(super) struct Bindings<'a> {
    /// Those with hosts that reach a Gateway of ours.
    roots: Vec<Arc<Root>>,
    /// Of the roots that delegate some rule.
    expanded: BTreeMap<usize, Arc<Expanded>>,
    delegates: Delegates<'a>,
    by_gateway: HashMap<GatewayName, Vec<usize>>,
    outcomes: RefCell<Vec<Outcome>>,
    /// `tcp` and `tls` rules that took effect somewhere: all others are reported.
    used: RefCell<HashSet<RuleId>>,
}

impl<'a> Bindings<'a> {
    /// Finds the VirtualServices of every Gateway that is for us, and reports what leads nowhere. `is_settled` says that
    /// Gateways are the same as the last time.
    pub(super) fn new(
        objects: &'a Objects,
        identity: &GatewayIdentity,
        servers: &[SelectedServer<'_>],
        (memo, is_settled): (&mut Memo, bool),
        report: &mut Report,
    ) -> Self {
        let gateways = Gateways::new(objects, servers);
        let mut by_gateway: Vec<Vec<usize>> = vec![Vec::new(); gateways.selected.len()];
        let mut roots: Vec<Arc<Root>> = Vec::with_capacity(objects.virtual_services.len());
        let mut delegates = Vec::new();
        for document in &objects.virtual_services {
            if document.spec.hosts.is_empty() {
                delegates.push(document);
                continue;
            }
            let make = |_: Option<&_>| Arc::new(gateways.root(document, identity));
            let root = memo.roots.get(Address::of(document), |_| is_settled, make);
            report.extend(&root.findings);
            if root.reached.is_empty() {
                continue;
            }
            for at in &root.reached {
                by_gateway[*at].push(roots.len());
            }
            roots.push(root);
        }
        for list in &mut by_gateway {
            // Stable: within a class the older stays first.
            list.sort_by_key(|root| roots[*root].visibility);
        }
        let by_gateway = gateways.selected.into_iter().map(|gateway| gateway.name).zip(by_gateway).collect();
        let delegates = Delegates::new(delegates);
        let expanded = expand(&roots, &delegates, identity, memo, report);
        let outcomes = RefCell::new(vec![Outcome::default(); roots.len()]);
        Self { roots, expanded, delegates, by_gateway, outcomes, used: RefCell::default() }
    }

    /// The VirtualServices of a server's Gateway, in the order in which their routes are tried.
    pub(super) fn of(
        &self,
        server: &SelectedServer<'_>,
    ) -> impl ExactSizeIterator<Item = (usize, &Arc<Bound>)> {
        let list = self.by_gateway.get(&own_name(server.gateway)).map_or(&[][..], Vec::as_slice);
        list.iter().map(|index| (*index, &self.roots[*index].bound))
    }

    /// The `http` rules of a document; not kept for one that delegates nothing.
    pub(super) fn expansion(&self, root: usize) -> Arc<Expansion> {
        match self.expanded.get(&root) {
            Some(expanded) => expanded.expansion.clone(),
            None => Arc::new(Expansion::own(&self.roots[root].bound)),
        }
    }

    /// Identifies the `http` rules of a document: others have another identity.
    pub(super) fn identity(&self, root: usize) -> (Address, Option<Arc<Expansion>>) {
        let expansion = self.expanded.get(&root).map(|expanded| expanded.expansion.clone());
        (Address::of(&self.roots[root].bound.document), expansion)
    }

    /// Notes what became of a document's `http` rules at a server.
    pub(super) fn note(&self, root: usize, compiled: &Arc<Compiled>) {
        let outcome = &mut self.outcomes.borrow_mut()[root];
        outcome.is_whole |= compiled.is_whole();
        if !compiled.is_whole() {
            outcome.compiled.push(compiled.clone());
        }
    }

    /// Notes that a `tcp` or `tls` rule takes effect.
    pub(super) fn mark(&self, document: usize, list: &'static str, index: usize) {
        self.used.borrow_mut().insert(RuleId { document, list, index });
    }

    /// Reports the rules that take no effect at any of the ports.
    pub(super) fn report_unused(&self, report: &mut Report) {
        let used = self.used.borrow();
        let with_rules = |(_, root): &(_, &Arc<Root>)| root.has_l4 && !root.is_hostless;
        for (at, root) in self.roots.iter().enumerate().filter(with_rules) {
            report_unused_l4(&used, at, &root.bound, report);
        }
        self.report_unused_http(report);
    }

    fn report_unused_http(&self, report: &mut Report) {
        let outcomes = self.outcomes.borrow();
        let delegates = self.delegates.iter().zip(self.roots.len()..);
        let delegates: HashMap<Address, usize> =
            delegates.map(|(document, at)| (Address::of(document), at)).collect();
        let (mut usage, mut everyone, mut documents) = (Usage::default(), BTreeMap::new(), BTreeSet::new());
        for (at, root) in self.roots.iter().enumerate() {
            // A delegate is looked at where a rule of its takes effect through some root, and then through all of them.
            let is_open = !outcomes[at].is_whole && !root.is_hostless;
            if !is_open && !self.expanded.contains_key(&at) {
                continue;
            }
            let expansion = self.expansion(at);
            let index =
                |bound: &Arc<Bound>| delegates.get(&Address::of(&bound.document)).copied().unwrap_or(at);
            let indices: Vec<usize> = expansion.documents.iter().map(index).collect();
            everyone.extend(indices.iter().copied().zip(expansion.documents.iter().cloned()));
            let places = expansion.rules.iter().flat_map(|rule| rule.places.iter().flatten());
            usage.place(places.map(|place| globally(*place, &indices)));
            for (place, behind) in outcomes[at].compiled.iter().flat_map(|compiled| compiled.notes()) {
                usage.note(globally(*place, &indices), behind.map(|behind| globally(behind, &indices)));
            }
            if !root.is_hostless {
                documents.insert(at);
                documents.extend(expansion.rules.iter().map(|rule| indices[rule.document]));
            }
        }
        for document in documents {
            usage.report(&everyone, document, report);
        }
    }
}

/// The rules of the roots that delegate some.
fn expand(
    roots: &[Arc<Root>],
    delegates: &Delegates<'_>,
    identity: &GatewayIdentity,
    memo: &mut Memo,
    report: &mut Report,
) -> BTreeMap<usize, Arc<Expanded>> {
    let mut all = BTreeMap::new();
    let delegating = roots.iter().enumerate().filter(|(_, root)| root.delegates_some);
    for (at, Root { bound, .. }) in delegating.map(|(at, root)| (at, root.as_ref())) {
        let make = |_: Option<&_>| Arc::new(Expanded::new(bound, delegates, identity));
        let key = Address::of(&bound.document);
        let expanded = memo.expanded.get(key, |expanded| expanded.holds(delegates), make);
        report.extend(&expanded.findings);
        all.insert(at, expanded);
    }
    let used: HashSet<Address> = all.values().flat_map(|expanded| expanded.used()).collect();
    delegates.report_unused(|document| used.contains(&document), report);
    all
}

/// A place by the index of its document among all.
fn globally(place: Place, documents: &[usize]) -> Place {
    Place { document: documents[place.document], ..place }
}

fn report_unused_l4(used: &HashSet<RuleId>, document: usize, bound: &Bound, report: &mut Report) {
    let spec = &bound.document.spec;
    for (list, length) in [("tls", spec.tls.len()), ("tcp", spec.tcp.len())] {
        let unused = (0..length).filter(|index| !used.contains(&RuleId { document, list, index: *index }));
        for index in unused.filter(|index| !is_l4_for_mesh(spec, list, *index)) {
            let field = FieldPath::spec().field(list).index(index);
            let message = format!("the {list} rule takes no effect at any server of its gateways");
            let help = match list {
                "tls" => "tls rules serve TLS in PASSTHROUGH mode; do port, gateways and SNI hosts fit?",
                _ => "tcp rules serve TCP and terminated TLS, and the first one for a port has it",
            };
            let finding =
                bound.document.diagnostic(bound.severity_of_unused(), Code::NoEffect, &field, message);
            report.add(finding.help(help));
        }
    }
}

/// Whether all matches of a rule name sidecars alone.
fn is_l4_for_mesh(spec: &VirtualService, list: &str, index: usize) -> bool {
    let gateways: Vec<&[String]> = match list {
        "tls" => spec.tls[index].matches.iter().map(|condition| condition.gateways.as_slice()).collect(),
        _ => spec.tcp[index].matches.iter().map(|condition| condition.gateways.as_slice()).collect(),
    };
    !gateways.is_empty() && gateways.into_iter().all(is_for_mesh)
}

/// A Gateway that is for us.
struct Selected<'s, 'a> {
    name: GatewayName,
    servers: Vec<&'s SelectedServer<'a>>,
}

/// All Gateways, and those that are for us.
struct Gateways<'s, 'a> {
    known: HashSet<GatewayName>,
    selected: Vec<Selected<'s, 'a>>,
    by_name: HashMap<GatewayName, usize>,
}

impl<'s, 'a> Gateways<'s, 'a> {
    fn new(objects: &Objects, servers: &'s [SelectedServer<'a>]) -> Self {
        let known = objects.gateways.iter().map(|gateway| own_name(gateway)).collect();
        let (mut selected, mut by_name) = (Vec::<Selected<'_, '_>>::new(), HashMap::new());
        for server in servers {
            let name = own_name(server.gateway);
            let at = *by_name.entry(name.clone()).or_insert(selected.len());
            if at == selected.len() {
                selected.push(Selected { name, servers: Vec::new() });
            }
            selected[at].servers.push(server);
        }
        Self { known, selected, by_name }
    }

    fn root(&self, document: &Arc<Sourced<VirtualService>>, identity: &GatewayIdentity) -> Root {
        let mut report = Report::default();
        let names = gateways_of(document, &self.known, &mut report);
        let mut reached: Vec<usize> =
            names.iter().filter_map(|name| self.by_name.get(name).copied()).collect();
        let visibility = visibility(document, identity);
        if visibility.is_none() && !reached.is_empty() {
            report_hidden(document, identity, &mut report);
            reached.clear();
        }
        let hosts = if reached.is_empty() { Vec::new() } else { hosts(document, identity) };
        let bound = Bound::new(document, hosts);
        let is_hostless = !self.report_hosts(&bound, &reached, &mut report);
        let visibility = visibility.unwrap_or(Visibility::Public);
        let spec = &document.spec;
        Root {
            bound: Arc::new(bound),
            reached,
            visibility,
            is_hostless,
            delegates_some: delegates_some(spec),
            has_l4: !spec.tcp.is_empty() || !spec.tls.is_empty(),
            findings: report.finish(),
        }
    }

    /// A host that no server of a Gateway has is never answered there, which is as it should be where another Gateway of
    /// the document has it. Whether any host is answered, at any of those reached.
    fn report_hosts(&self, bound: &Bound, reached: &[usize], report: &mut Report) -> bool {
        let gateways = bound.document.spec.gateways.iter().enumerate().filter_map(|(at, written)| {
            let found =
                self.by_name.get(&bound.gateway_name(written)).filter(|found| reached.contains(found))?;
            let servers = &self.selected[*found].servers;
            Some((at, servers, missing_hosts(bound, servers)))
        });
        let gateways: Vec<_> = gateways.collect();
        let all = bound.hosts.len();
        let is_nowhere = |host: &&str| gateways.iter().all(|(.., missing)| missing.contains(host));
        for (at, servers, missing) in &gateways {
            let missing: Vec<&str> =
                missing.iter().copied().filter(|host| missing.len() == all || is_nowhere(host)).collect();
            if !missing.is_empty() {
                report_missing(bound, *at, &missing, servers, report);
            }
        }
        gateways.iter().any(|(.., missing)| missing.len() < all)
    }
}

/// The hosts, as written, that none of a Gateway's servers has.
fn missing_hosts<'b>(bound: &'b Bound, servers: &[&SelectedServer<'_>]) -> Vec<&'b str> {
    let namespace = bound.document.namespace();
    let served = |host: &HostPattern| servers.iter().any(|server| server.hosts.meets(host, namespace));
    let hosts = bound.hosts.iter().zip(&bound.document.spec.hosts);
    hosts.filter(|(host, _)| !served(host)).map(|(_, written)| written.as_str()).collect()
}

fn report_missing(
    bound: &Bound,
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
    for (at, written) in document.spec.gateways.iter().enumerate().filter(|(_, written)| *written != MESH) {
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
    if document.spec.gateways.iter().all(|written| written == MESH) {
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
    /// Of the gateway's own namespace and exported to it, as `.` or by name.
    Private,
    /// Exported to the gateway's namespace by name.
    Named,
    Public,
}

/// `exportTo` is judged against the gateway's own namespace, not the Gateway document's.
fn visibility(document: &Sourced<VirtualService>, identity: &GatewayIdentity) -> Option<Visibility> {
    let export_to = &document.spec.export_to;
    let names = |word: &str| export_to.iter().any(|entry| entry == word);
    let own = **document.namespace() == identity.namespace;
    if export_to.is_empty() || names("*") {
        Some(Visibility::Public)
    } else if own && (names(".") || names(&identity.namespace)) {
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
pub(crate) fn full_name(host: &str, namespace: &str, domain: &str) -> String {
    if host.contains(['.', ':', '*']) { host.to_owned() } else { format!("{host}.{namespace}.svc.{domain}") }
}
