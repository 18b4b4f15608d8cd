//! Which requests and connections get a line in which access log: Telemetries from the mesh's over the namespace's to this
//! gateway's own, over MeshConfig, merged as istiod does it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::api::mesh_config::{ExtensionProvider, STDOUT};
use crate::api::telemetry::{AccessLogging, WorkloadMode};
use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced, Telemetry};
use crate::model::GatewayIdentity;
use crate::telemetry::access::{Encoding, Filter, Format, Logging, Rule};

use super::report::Report;
use super::surroundings::Surroundings;

/// The provider that is always there.
const ENVOY: &str = "envoy";
/// Providers that are always there too, and write no lines here.
const OTHERS: [&str; 2] = ["prometheus", "stackdriver"];

/// The rules in force.
pub(super) fn logging(objects: &Objects, surroundings: &Surroundings, report: &mut Report) -> Logging {
    let levels = applicable(objects, &surroundings.identity, report);
    let providers = Providers { surroundings };
    let merged = merge(&levels, providers.defaults(), &providers, report);
    // Names that stand for no log leave the older settings in force, as in istiod.
    let known = merged.iter().filter_map(|(name, wish)| Some((providers.file_log(name)?, wish)));
    let known: Vec<_> = known.collect();
    let rules = if known.is_empty() {
        providers.by_settings().into_iter().collect()
    } else {
        known.into_iter().filter_map(|(rule, wish)| wish.rule(rule)).collect()
    };
    let logging = Logging::new(rules);
    if surroundings.mesh.disable_envoy_listener_log { logging.without_unserved() } else { logging }
}

/// What becomes of a provider.
#[derive(Debug, Default)]
struct Wish {
    is_disabled: bool,
    filter: Option<Arc<Filter>>,
}

impl Wish {
    fn rule(&self, rule: Rule) -> Option<Rule> {
        (!self.is_disabled).then(|| Rule { filter: self.filter.clone(), ..rule })
    }
}

/// `accessLogging` of one Telemetry.
type Level<'a> = &'a Sourced<Telemetry>;

/// Telemetries that are for this gateway, the widest first, those of one width oldest first.
fn applicable<'a>(objects: &'a Objects, identity: &GatewayIdentity, report: &mut Report) -> Vec<Level<'a>> {
    let mut levels = Vec::new();
    let namespaces = [identity.root_namespace.as_str(), identity.namespace.as_str()];
    let distinct = if namespaces[0] == namespaces[1] { &namespaces[..1] } else { &namespaces[..] };
    levels.extend(distinct.iter().filter_map(|namespace| of_namespace(objects, namespace)));
    let own: Vec<_> =
        objects.telemetries.iter().filter(|document| selects(document, identity, report)).collect();
    report_same_workload(&own, report);
    report_without_selector(objects, report);
    levels.extend(own.into_iter().map(|document| &**document));
    levels.retain(|document| !document.spec.access_logging.is_empty());
    levels
}

/// The oldest that is for a whole namespace.
fn of_namespace<'a>(objects: &'a Objects, namespace: &str) -> Option<Level<'a>> {
    let is_meant = |document: &&Arc<Sourced<Telemetry>>| {
        **document.namespace() == *namespace && document.spec.is_namespace_wide()
    };
    objects.telemetries.iter().find(is_meant).map(|document| &**document)
}

/// Whether a Telemetry is for this gateway by its labels; says why one is not for it at all.
fn selects(document: &Sourced<Telemetry>, identity: &GatewayIdentity, report: &mut Report) -> bool {
    let spec = &document.spec;
    let is_near = **document.namespace() == *identity.namespace;
    let is_roots = **document.namespace() == *identity.root_namespace;
    if spec.is_namespace_wide() {
        if !is_near && !is_roots {
            let field = FieldPath::metadata().field("namespace");
            report.add(not_selected(document, &field, "it is for another namespace than this gateway's"));
        }
        return false;
    }
    let Some(selector) = &spec.selector else {
        let message = "targetRefs are for gateways of the Kubernetes Gateway API: it is not for this one";
        report.add(not_selected(document, &FieldPath::spec(), message));
        return false;
    };
    let field = FieldPath::spec().field("selector");
    if !is_near {
        let message =
            "its selector chooses workloads of its own namespace alone, which is not this gateway's";
        report.add(not_selected(document, &field, message));
        return false;
    }
    let lacks = selector.match_labels.iter().find(|(key, value)| identity.labels.get(*key) != Some(*value));
    if let Some((key, value)) = lacks {
        let message = format!("it is not for this gateway, which has no label {key}={value}");
        report.add(not_selected(document, &field, &message));
    }
    lacks.is_none()
}

fn not_selected(document: &Sourced<Telemetry>, field: &FieldPath, message: &str) -> Diagnostic {
    let found = document.diagnostic(Severity::Info, Code::NotSelected, field, message);
    found.help("nothing, if another workload is meant; the gateway's labels are set with --labels")
}

fn report_same_workload(documents: &[&Arc<Sourced<Telemetry>>], report: &mut Report) {
    if documents.len() < 2 {
        return;
    }
    for document in documents {
        let message = format!(
            "The Telemetries [{}] in namespace \"{}\" select the same workload, this gateway, which can lead to \
             undefined behavior: all of them count here, the younger one's word over the older one's.",
            names(documents.iter().copied()),
            document.namespace(),
        );
        let (code, field) = (Code::TelemetriesSelectSame, FieldPath::spec().field("selector"));
        report.add(document.diagnostic(Severity::Warning, code, &field, message).help(code.remedy()));
    }
}

fn report_without_selector(objects: &Objects, report: &mut Report) {
    let mut by_namespace: BTreeMap<&str, Vec<&Arc<Sourced<Telemetry>>>> = BTreeMap::new();
    for document in objects.telemetries.iter().filter(|document| document.spec.is_namespace_wide()) {
        by_namespace.entry(document.namespace()).or_default().push(document);
    }
    for (namespace, documents) in by_namespace.iter().filter(|(_, documents)| documents.len() > 1) {
        for document in documents {
            let message = format!(
                "The Telemetries [{}] in namespace \"{namespace}\" have no workload selector, which can lead to \
                 undefined behavior: the oldest counts, {}.",
                names(documents.iter().copied()),
                documents[0].name(),
            );
            let (code, field) = (Code::TelemetriesWithoutSelector, FieldPath::metadata().field("name"));
            report.add(document.diagnostic(Severity::Error, code, &field, message).help(code.remedy()));
        }
    }
}

fn names<'a>(documents: impl Iterator<Item = &'a Arc<Sourced<Telemetry>>>) -> String {
    documents.map(|document| &**document.name()).collect::<Vec<_>>().join(" ")
}

/// Providers by name, with what becomes of them. A level that names some takes the place of those before; its order among
/// the rules of a level decides who has the last word.
fn merge(
    levels: &[Level<'_>],
    defaults: &[String],
    providers: &Providers<'_>,
    report: &mut Report,
) -> BTreeMap<String, Wish> {
    let defaults: Vec<&str> = defaults.iter().map(String::as_str).collect();
    if levels.is_empty() {
        return defaults.into_iter().map(|name| (name.to_owned(), Wish::default())).collect();
    }
    let (mut in_scope, mut filters) = (defaults.iter().copied().collect::<BTreeSet<_>>(), BTreeMap::new());
    for level in levels {
        let meant = || level.spec.access_logging.iter().filter(|logging| is_for_gateways(logging));
        let named: BTreeSet<&str> = meant().flat_map(named).collect();
        filters.extend(meant().flat_map(named_with_filter));
        if !named.is_empty() {
            in_scope = named;
        }
    }
    let (mut wishes, mut before) = (BTreeMap::new(), defaults);
    for level in levels {
        for (at, logging) in level.spec.access_logging.iter().enumerate() {
            if !logging.providers.is_empty() {
                before = named(logging).collect();
            }
            let field = FieldPath::spec().field("accessLogging").index(at);
            providers.report(level, logging, (&field, before.is_empty()), report);
            if !is_for_gateways(logging) {
                continue;
            }
            for name in before.iter().copied().filter(|name| in_scope.contains(name)) {
                let filter = filters.get(name).cloned().flatten().filter(|_| !logging.disabled);
                wishes.insert(name.to_owned(), Wish { is_disabled: logging.disabled, filter });
            }
        }
    }
    wishes
}

/// A gateway is on the client's side of its backends.
fn is_for_gateways(logging: &AccessLogging) -> bool {
    logging.matches.as_ref().is_none_or(|matches| matches.mode != WorkloadMode::Server)
}

fn named(logging: &AccessLogging) -> impl Iterator<Item = &str> {
    logging.providers.iter().map(|provider| provider.name.as_str())
}

fn named_with_filter(logging: &AccessLogging) -> impl Iterator<Item = (&str, Option<Arc<Filter>>)> {
    // A sound document's expressions can be read.
    let filter = logging.filter.as_ref().and_then(|filter| Filter::parse(&filter.expression).ok());
    let filter = filter.map(Arc::new);
    named(logging).map(move |name| (name, filter.clone()))
}

/// What names of providers stand for.
struct Providers<'a> {
    surroundings: &'a Surroundings,
}

impl<'a> Providers<'a> {
    fn defaults(&self) -> &'a [String] {
        &self.surroundings.mesh.default_providers.access_logging
    }

    /// What MeshConfig says of a provider. Case does not count, and of several the first does.
    fn said(&self, name: &str) -> Option<&'a ExtensionProvider> {
        let mut providers = self.surroundings.mesh.extension_providers.iter();
        providers.find(|provider| provider.name.eq_ignore_ascii_case(name))
    }

    /// A provider that writes lines into a file.
    fn file_log(&self, name: &str) -> Option<Rule> {
        let is_built_in = name.eq_ignore_ascii_case(ENVOY);
        let Some(said) = self.said(name) else { return is_built_in.then(|| self.built_in(None)) };
        let log = said.envoy_file_access_log.as_ref()?;
        if is_built_in && log.log_format.is_none() && !log.omit_empty_values {
            return Some(self.built_in(Some(log.path())));
        }
        // A sound document's formats can be read.
        let format = Arc::new(log.format().unwrap_or_else(|_| Format::default_text()));
        Some(Rule { name: name.into(), path: log.path(), format, filter: None })
    }

    /// The provider `envoy`, which has MeshConfig's format.
    fn built_in(&self, path: Option<Arc<Path>>) -> Rule {
        let stdout = || Path::new(STDOUT).into();
        let path = path.or_else(|| self.surroundings.logs.file.clone()).unwrap_or_else(stdout);
        Rule { name: ENVOY.into(), path, format: Arc::new(self.format()), filter: None }
    }

    /// What holds where no Telemetry does.
    fn by_settings(&self) -> Option<Rule> {
        let Surroundings { mesh, logs, .. } = self.surroundings;
        let of_mesh = Some(mesh.access_log_file.as_str()).filter(|path| !path.is_empty());
        let path = logs.file.clone().or_else(|| of_mesh.map(|path| Path::new(path).into()))?;
        Some(Rule { name: "accessLogFile".into(), path, format: Arc::new(self.format()), filter: None })
    }

    fn format(&self) -> Format {
        let Surroundings { mesh, logs, .. } = self.surroundings;
        match logs.encoding.filter(|encoding| *encoding != mesh.access_log_encoding) {
            Some(Encoding::Text) => Format::default_text(),
            Some(Encoding::Json) => Format::default_json(),
            // A sound document's format can be read.
            None => mesh.log_format().unwrap_or_else(|_| Format::default_text()),
        }
    }

    /// Says what of a part has no effect.
    fn report(
        &self,
        document: &Sourced<Telemetry>,
        logging: &AccessLogging,
        (field, has_none): (&FieldPath, bool),
        report: &mut Report,
    ) {
        if has_none {
            let code = Code::TelemetryWithoutProvider;
            let message = format!(
                "The Telemetry {} in namespace \"{}\" with empty providers will be ignored.",
                document.name(),
                document.namespace()
            );
            report.add(document.diagnostic(Severity::Warning, code, field, message).help(code.remedy()));
        }
        if !is_for_gateways(logging) {
            let message = "mode SERVER never applies to a gateway, which is the client of its backends";
            let field = field.field("match").field("mode");
            report.add(document.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
        }
        if logging.filter.is_some() && logging.providers.is_empty() {
            let message = "a filter holds for the providers named beside it, of which there are none";
            let found =
                document.diagnostic(Severity::Warning, Code::NoEffect, &field.field("filter"), message);
            report.add(found.help("name the providers that it is for in `providers`"));
        }
        for (at, provider) in logging.providers.iter().enumerate() {
            let field = field.field("providers").index(at).field("name");
            report.extend(self.fault(document, &field, &provider.name).as_slice());
        }
    }

    fn fault(&self, document: &Sourced<Telemetry>, field: &FieldPath, name: &str) -> Option<Diagnostic> {
        if self.file_log(name).is_some() {
            return None;
        }
        let is_known = self.said(name).is_some() || OTHERS.iter().any(|it| it.eq_ignore_ascii_case(name));
        if is_known {
            let message =
                format!("the provider {name} is not yet supported for access logs: it gets no lines");
            let found = document.diagnostic(Severity::Warning, Code::NotSupported, field, message);
            return Some(found.help("`envoy`, and providers of the kind envoyFileAccessLog, write lines"));
        }
        let message = format!("Referenced provider not found: \"{name}\"");
        let found = document.diagnostic(Severity::Error, Code::ReferencedResourceNotFound, field, message);
        Some(found.help("name one of MeshConfig's `extensionProviders`, or `envoy`"))
    }
}
