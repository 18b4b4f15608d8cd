//! Which requests and connections get a line in which access log: Telemetries from the mesh's over the namespace's to this
//! gateway's own, over MeshConfig, merged as istiod does it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::api::mesh_config::{ExtensionProvider, STDOUT};
use crate::api::telemetry::{AccessLogging, WorkloadMode};
use crate::api::{Code, Diagnostic, FieldPath, Severity, Sourced, Telemetry};
use crate::telemetry::access::{Encoding, Filter, Format, Logging, Rule};

use super::levels::Level;
use super::report::Report;
use super::surroundings::Surroundings;

/// The provider that is always there.
const ENVOY: &str = "envoy";
/// Providers that are always there too, and write no lines here.
const OTHERS: [&str; 2] = ["prometheus", "stackdriver"];

/// The rules in force.
pub(super) fn logging(levels: &[Level<'_>], surroundings: &Surroundings, report: &mut Report) -> Logging {
    let is_told = |level: &&Level<'_>| !level.spec.access_logging.is_empty();
    let levels: Vec<_> = levels.iter().filter(is_told).copied().collect();
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
