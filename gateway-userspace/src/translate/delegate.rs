//! Rules that stand in another VirtualService: a root's rule names a delegate, a document without hosts, whose rules take
//! effect within the root's. One level only. Of two conditions the narrower holds; where they contradict each other, or
//! where that cannot be told, the delegate's rule has no place there, as in Istio, and that is reported.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::virtual_service::{Delegate, Destination, HttpMatchRequest, HttpRoute, MESH, StringMatch};
use crate::api::{ByName, Code, Diagnostic, FieldPath, Severity, Sourced, VirtualService};
use crate::model::GatewayIdentity;

use super::bind::{Bound, full_name};
use super::memo::Address;
use super::report::Report;
use super::usage::Place;

/// The `http` rules of a VirtualService with hosts, its delegates' in their places. Nothing in it depends on where documents
/// stand among others.
#[derive(Debug)]
pub(super) struct Expansion {
    /// The root, then its delegates.
    pub(super) documents: Vec<Arc<Bound>>,
    pub(super) rules: Vec<Rule>,
}

/// An `http` rule as it takes effect.
#[derive(Debug)]
pub(super) struct Rule {
    /// The document with its destinations, as an index of the expansion's.
    pub(super) document: usize,
    /// Where it stands in that document's `http`.
    pub(super) index: usize,
    /// As narrowed and completed by the root's; `None`: as written.
    merged: Option<Box<HttpRoute>>,
    /// For each match, or for having none: where it is written, a delegate's last.
    pub(super) places: Vec<Vec<Place>>,
}

impl Expansion {
    /// Of a root that delegates nothing.
    pub(super) fn own(root: &Arc<Bound>) -> Self {
        let rules = root.document.spec.http.iter().enumerate();
        let rules = rules.map(|(index, rule)| own(index, rule)).collect();
        Self { documents: vec![root.clone()], rules }
    }

    /// Whose rule it is.
    pub(super) fn document(&self, rule: &Rule) -> &Bound {
        &self.documents[rule.document]
    }

    /// What a rule says in its place.
    pub(super) fn written<'r>(&'r self, rule: &'r Rule) -> &'r HttpRoute {
        rule.merged
            .as_deref()
            .unwrap_or_else(|| &self.documents[rule.document].document.spec.http[rule.index])
    }
}

/// Whether a rule of a document stands elsewhere.
pub(super) fn delegates_some(document: &VirtualService) -> bool {
    document.http.iter().any(|rule| rule.delegate.is_some())
}

/// The documents without hosts.
pub(super) struct Delegates<'a> {
    list: Vec<&'a Arc<Sourced<VirtualService>>>,
    by_name: HashMap<(&'a str, &'a str), &'a Arc<Sourced<VirtualService>>>,
}

impl<'a> Delegates<'a> {
    /// In the order of documents.
    pub(super) fn new(list: Vec<&'a Arc<Sourced<VirtualService>>>) -> Self {
        let name = |document: &'a Sourced<VirtualService>| (&**document.namespace(), &**document.name());
        let by_name = list.iter().map(|document| (name(document), *document)).collect();
        Self { list, by_name }
    }

    /// In the order of documents.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a Arc<Sourced<VirtualService>>> {
        self.list.iter().copied()
    }

    fn find(&self, namespace: &str, name: &str) -> Option<&'a Arc<Sourced<VirtualService>>> {
        self.by_name.get(&(namespace, name)).copied()
    }

    /// Reports those that no root names.
    pub(super) fn report_unused(&self, is_used: impl Fn(Address) -> bool, report: &mut Report) {
        for document in self.iter().filter(|document| !is_used(Address::of(document))) {
            let message = "no VirtualService of this gateway delegates to it: it takes no effect here";
            let help = "a document without `hosts` is served by what names it in `http[].delegate`";
            let finding = document.diagnostic(Severity::Info, Code::NoEffect, &FieldPath::spec(), message);
            report.add(finding.help(help));
        }
    }
}

/// The rules of a root that delegates some, and what was found on the way.
#[derive(Debug)]
pub(super) struct Expanded {
    pub(super) expansion: Arc<Expansion>,
    /// Each delegate that the root names, as found.
    named: Vec<(String, String, Option<Address>)>,
    pub(super) findings: Vec<Diagnostic>,
}

impl Expanded {
    pub(super) fn new(root: &Arc<Bound>, delegates: &Delegates<'_>, identity: &GatewayIdentity) -> Self {
        let expansion = Expansion { documents: vec![root.clone()], rules: Vec::new() };
        let expanding =
            Expanding { delegates, identity, expansion, named: Vec::new(), report: Report::default() };
        expanding.expand()
    }

    /// Whether the root's names still lead to the same documents.
    pub(super) fn holds(&self, delegates: &Delegates<'_>) -> bool {
        let found = |namespace: &str, name: &str| delegates.find(namespace, name).map(|it| Address::of(it));
        self.named.iter().all(|(namespace, name, before)| found(namespace, name) == *before)
    }

    /// The delegates that were found, exported or not.
    pub(super) fn used(&self) -> impl Iterator<Item = Address> {
        self.named.iter().filter_map(|(_, _, found)| *found)
    }
}

struct Expanding<'e, 'a> {
    delegates: &'e Delegates<'a>,
    identity: &'e GatewayIdentity,
    expansion: Expansion,
    named: Vec<(String, String, Option<Address>)>,
    report: Report,
}

impl Expanding<'_, '_> {
    fn expand(mut self) -> Expanded {
        let root = self.expansion.documents[0].document.clone();
        for (index, rule) in root.spec.http.iter().enumerate() {
            match &rule.delegate {
                None => self.expansion.rules.push(own(index, rule)),
                Some(delegate) => self.delegated(&root, index, rule, delegate),
            }
        }
        Expanded { expansion: Arc::new(self.expansion), named: self.named, findings: self.report.finish() }
    }

    /// The delegate's rules within a root's. Without the delegate the root's rule alone is lost.
    fn delegated(
        &mut self,
        root: &Sourced<VirtualService>,
        index: usize,
        rule: &HttpRoute,
        delegate: &Delegate,
    ) {
        let Some(leaf) = self.find(root, index, delegate) else { return };
        let document = self.place(&leaf);
        let within = Within { root, index, rule, domain: &self.identity.domain };
        for (at, own) in leaf.spec.http.iter().enumerate() {
            match within.merge(&leaf, own) {
                Ok((written, pairs)) => {
                    let places = |(mine, theirs)| {
                        vec![
                            Place { document: 0, rule: index, at: mine },
                            Place { document, rule: at, at: theirs },
                        ]
                    };
                    let places = pairs.into_iter().map(places).collect();
                    let merged = Some(Box::new(written));
                    self.expansion.rules.push(Rule { document, index: at, merged, places });
                }
                Err(conflict) => report_conflict(&within, &leaf, at, &conflict, &mut self.report),
            }
        }
    }

    /// The index of a delegate among the expansion's documents.
    fn place(&mut self, leaf: &Arc<Sourced<VirtualService>>) -> usize {
        let documents = &mut self.expansion.documents;
        let known = documents.iter().skip(1).position(|bound| Arc::ptr_eq(&bound.document, leaf));
        known.map_or_else(
            || {
                documents.push(Arc::new(Bound::new(leaf, Vec::new())));
                documents.len() - 1
            },
            |at| at + 1,
        )
    }

    fn find(
        &mut self,
        root: &Sourced<VirtualService>,
        index: usize,
        delegate: &Delegate,
    ) -> Option<Arc<Sourced<VirtualService>>> {
        let namespace = match delegate.namespace.as_str() {
            "" => root.namespace().to_string(),
            namespace => namespace.to_owned(),
        };
        let field = FieldPath::spec().field("http").index(index).field("delegate");
        let label = format!("{namespace}/{}", delegate.name);
        let found = self.delegates.find(&namespace, &delegate.name);
        self.named.push((namespace, delegate.name.clone(), found.map(|found| Address::of(found))));
        let Some(document) = found else {
            let message = format!("Referenced delegate not found: \"{label}\"");
            let help =
                "the rule is left out, the others are served; a delegate is a VirtualService without `hosts`";
            let finding = root.diagnostic(Severity::Error, Code::ReferencedResourceNotFound, &field, message);
            self.report.add(finding.help(help));
            return None;
        };
        if exported(document, root.namespace()) {
            return Some(document.clone());
        }
        let message =
            format!("delegate {label} is not exported to {}: the rule is left out", root.namespace());
        let export = FieldPath::spec().field("exportTo");
        self.report.add(
            root.diagnostic(Severity::Warning, Code::NoEffect, &field, message)
                .help("a delegate is seen by the namespaces in its `exportTo`, or by all without one")
                .related(document.related(&export, "exported to these only")),
        );
        None
    }
}

fn report_conflict(
    within: &Within<'_>,
    leaf: &Sourced<VirtualService>,
    at: usize,
    conflict: &Conflict,
    report: &mut Report,
) {
    let rule = FieldPath::spec().field("http").index(at);
    let field = rule.field("match").index(conflict.at).field(conflict.what);
    let message = format!(
        "the rule has no place in rule #{} of VirtualService {}/{}: its {} is not within the conditions there",
        within.index,
        within.root.namespace(),
        within.root.name(),
        conflict.what
    );
    let root = FieldPath::spec().field("http").index(within.index).field("match");
    report.add(
        leaf.diagnostic(Severity::Warning, Code::NoEffect, &field, message)
            .help("ask for something narrower than the root does; a regex goes with no other condition")
            .related(within.root.related(&root, "these are the conditions")),
    );
}

/// A rule of the root's own.
fn own(index: usize, rule: &HttpRoute) -> Rule {
    let place = |at| vec![Place { document: 0, rule: index, at }];
    let places = (0..rule.matches.len().max(1)).map(place).collect();
    Rule { document: 0, index, merged: None, places }
}

fn exported(delegate: &Sourced<VirtualService>, namespace: &str) -> bool {
    let export_to = &delegate.spec.export_to;
    let own = **delegate.namespace() == *namespace;
    export_to.is_empty() || export_to.iter().any(|to| to == "*" || to == namespace || (to == "." && own))
}

/// A root's rule.
struct Within<'a> {
    root: &'a Sourced<VirtualService>,
    index: usize,
    rule: &'a HttpRoute,
    domain: &'a str,
}

/// Which match of a delegate's rule does not go with any of the root's, and in what.
#[derive(Debug, PartialEq, Eq)]
struct Conflict {
    at: usize,
    what: &'static str,
}

/// What was merged, a rule or its matches, and for each match the index of the root's and of the delegate's.
type Merged<T> = (T, Vec<(usize, usize)>);

impl Within<'_> {
    /// The delegate's rule, narrowed by the root's matches and completed by what the root says besides.
    fn merge(
        &self,
        document: &Sourced<VirtualService>,
        leaf: &HttpRoute,
    ) -> Result<Merged<HttpRoute>, Conflict> {
        let roots = resolved(&self.rule.matches, self.root.namespace());
        let leaves = resolved(&leaf.matches, document.namespace());
        let (matches, pairs) = merge_matches(&roots, leaves)?;
        let root = self.rule;
        let mut merged = leaf.clone();
        merged.matches = matches;
        merged.name = joined(&root.name, &leaf.name);
        merged.rewrite = merged.rewrite.or_else(|| root.rewrite.clone());
        merged.direct_response = merged.direct_response.or_else(|| root.direct_response.clone());
        merged.timeout = merged.timeout.or(root.timeout);
        merged.retries = merged.retries.or_else(|| root.retries.clone());
        merged.fault = merged.fault.or_else(|| root.fault.clone());
        merged.cors_policy = merged.cors_policy.or_else(|| root.cors_policy.clone());
        merged.headers = merged.headers.or_else(|| root.headers.clone());
        merged.mirror_percent = merged.mirror_percent.or(root.mirror_percent);
        merged.mirror_percentage = merged.mirror_percentage.or(root.mirror_percentage);
        merged.mirror = merged.mirror.or_else(|| root.mirror.as_ref().map(|to| Box::new(self.complete(to))));
        if merged.mirrors.is_empty() {
            merged.mirrors.clone_from(&root.mirrors);
            for mirror in &mut merged.mirrors {
                mirror.destination = mirror.destination.as_ref().map(|to| self.complete(to));
            }
        }
        Ok((merged, pairs))
    }

    /// A destination of the root's, whose short names are not the delegate's.
    fn complete(&self, destination: &Destination) -> Destination {
        let host = full_name(&destination.host, self.root.namespace(), self.domain);
        Destination { host, ..destination.clone() }
    }
}

/// Matches with the gateways' names in full, as they mean another namespace's in each of the documents.
fn resolved(matches: &[HttpMatchRequest], namespace: &str) -> Vec<HttpMatchRequest> {
    let full = |name: &String| {
        if name == MESH {
            return name.clone();
        }
        let (namespace, name) = super::bind::gateway_name(name, namespace);
        format!("{namespace}/{name}")
    };
    let resolve = |condition: &HttpMatchRequest| {
        let gateways = condition.gateways.iter().map(full).collect();
        HttpMatchRequest { gateways, ..condition.clone() }
    };
    matches.iter().map(resolve).collect()
}

/// Every pair that goes together, in the order of the delegate's matches.
fn merge_matches(
    roots: &[HttpMatchRequest],
    leaves: Vec<HttpMatchRequest>,
) -> Result<Merged<Vec<HttpMatchRequest>>, Conflict> {
    if roots.is_empty() {
        let pairs = (0..leaves.len().max(1)).map(|at| (0, at)).collect();
        return Ok((leaves, pairs));
    }
    if leaves.is_empty() {
        return Ok((roots.to_vec(), (0..roots.len()).map(|at| (at, 0)).collect()));
    }
    let (mut merged, mut pairs) = (Vec::new(), Vec::new());
    for (at, leaf) in leaves.iter().enumerate() {
        let (before, mut what) = (merged.len(), "");
        for (of_root, root) in roots.iter().enumerate() {
            if let Some(conflict) = conflict(root, leaf) {
                what = conflict;
            } else {
                merged.push(merge_match(root, leaf));
                pairs.push((of_root, at));
            }
        }
        if merged.len() == before {
            return Err(Conflict { at, what });
        }
    }
    Ok((merged, pairs))
}

fn merge_match(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> HttpMatchRequest {
    let text = |leaf: &String, root: &String| if leaf.is_empty() { root.clone() } else { leaf.clone() };
    HttpMatchRequest {
        name: joined(&root.name, &leaf.name),
        uri: leaf.uri.as_ref().or(root.uri.as_ref()).cloned(),
        scheme: leaf.scheme.as_ref().or(root.scheme.as_ref()).cloned(),
        method: leaf.method.as_ref().or(root.method.as_ref()).cloned(),
        authority: leaf.authority.as_ref().or(root.authority.as_ref()).cloned(),
        headers: union(&root.headers, &leaf.headers),
        without_headers: union(&root.without_headers, &leaf.without_headers),
        query_params: union(&root.query_params, &leaf.query_params),
        ignore_uri_case: leaf.ignore_uri_case,
        port: if leaf.port == 0 { root.port } else { leaf.port },
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        source_labels: union(&root.source_labels, &leaf.source_labels),
        source_namespace: text(&leaf.source_namespace, &root.source_namespace),
        stat_prefix: text(&leaf.stat_prefix, &root.stat_prefix),
    }
}

/// `root-leaf`, or the one that there is.
fn joined(root: &str, leaf: &str) -> String {
    match (root, leaf) {
        ("", only) | (only, "") => only.to_owned(),
        (root, leaf) => format!("{root}-{leaf}"),
    }
}

/// Both maps; a key of both has the delegate's value.
fn union<T: Clone>(root: &ByName<T>, leaf: &ByName<T>) -> ByName<T> {
    root.iter().chain(leaf.iter()).map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

/// The field in which a delegate's match is not within a root's.
fn conflict(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> Option<&'static str> {
    let single = |root: Option<&StringMatch>, leaf: Option<&StringMatch>| {
        root.zip(leaf).is_some_and(|(root, leaf)| contradicts(root, leaf))
    };
    let mapped = |root: &ByName<StringMatch>, leaf: &ByName<StringMatch>| {
        leaf.iter().any(|(key, leaf)| root.get(key).is_some_and(|root| contradicts(root, leaf)))
    };
    let other_label = |(key, value)| root.source_labels.get(key).is_some_and(|other| other != value);
    let other_gateway = |name| !root.gateways.contains(name);
    [
        ("uri", single(root.uri.as_ref(), leaf.uri.as_ref())),
        ("scheme", single(root.scheme.as_deref(), leaf.scheme.as_deref())),
        ("method", single(root.method.as_deref(), leaf.method.as_deref())),
        ("authority", single(root.authority.as_deref(), leaf.authority.as_deref())),
        ("headers", mapped(&root.headers, &leaf.headers)),
        ("withoutHeaders", mapped(&root.without_headers, &leaf.without_headers)),
        ("queryParams", mapped(&root.query_params, &leaf.query_params)),
        ("ignoreUriCase", root.ignore_uri_case != leaf.ignore_uri_case),
        ("port", root.port != 0 && leaf.port != 0 && root.port != leaf.port),
        (
            "sourceNamespace",
            !root.source_namespace.is_empty() && root.source_namespace != leaf.source_namespace,
        ),
        ("sourceLabels", leaf.source_labels.iter().any(other_label)),
        ("gateways", !root.gateways.is_empty() && leaf.gateways.iter().any(other_gateway)),
    ]
    .into_iter()
    .find_map(|(field, conflicts)| conflicts.then_some(field))
}

/// Whether a delegate's value is not within the root's. Istio cannot tell of regular expressions, so they never are.
fn contradicts(root: &StringMatch, leaf: &StringMatch) -> bool {
    let [root_exact, root_prefix, root_regex] = said(root);
    let [exact, prefix, regex] = said(leaf);
    let anything = |values: [Option<&str>; 3]| values.iter().any(Option::is_some);
    if root_regex.is_some() && anything([exact, prefix, regex])
        || regex.is_some() && anything([root_exact, root_prefix, root_regex])
    {
        return true;
    }
    match (root_exact, root_prefix) {
        (Some(root), _) => prefix.is_some() || exact.is_some_and(|exact| exact != root),
        (None, Some(root)) => [exact, prefix].iter().flatten().any(|value| !value.starts_with(root)),
        (None, None) => false,
    }
}

/// What of a condition's three forms is there and not empty.
fn said(condition: &StringMatch) -> [Option<&str>; 3] {
    let StringMatch { exact, prefix, regex } = condition;
    [exact, prefix, regex].map(|text| text.as_deref().filter(|text| !text.is_empty()))
}
