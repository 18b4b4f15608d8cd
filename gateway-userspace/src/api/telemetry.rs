//! telemetry.istio.io Telemetry as written: what is told of traffic.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `spec` of a Telemetry.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    /// Workloads of its namespace that it is for; absent, as `target_refs`: all of the namespace, or of the mesh where that
    /// is the root's.
    pub selector: Option<LabelSelector>,
    /// For one object of the Kubernetes Gateway API, or a Service; deprecated.
    pub target_ref: Option<TargetRef>,
    /// For several.
    pub target_refs: Vec<TargetRef>,
    /// Spans.
    pub tracing: Vec<Tracing>,
    /// Counters.
    pub metrics: Vec<Metrics>,
    /// Lines of access logs.
    pub access_logging: Vec<AccessLogging>,
}

impl Telemetry {
    /// Whether it is for a whole namespace.
    pub fn is_namespace_wide(&self) -> bool {
        let selects = self.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
        !selects && self.target_ref.is_none() && self.target_refs.is_empty()
    }
}

/// `selector`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// All of which a workload must have.
    pub match_labels: BTreeMap<String, String>,
}

/// `targetRef`, `targetRefs[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// API group; empty: core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Not to be set.
    pub namespace: String,
}

/// Which side of a connection something is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadMode {
    /// Both.
    #[default]
    ClientAndServer,
    /// Whoever asks; a gateway does.
    Client,
    /// Whoever is asked.
    Server,
}

/// `match` of tracing and access logging.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ModeMatch {
    /// Side.
    pub mode: WorkloadMode,
}

/// `providers[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderRef {
    /// In MeshConfig's `extensionProviders`, or `envoy`.
    pub name: String,
}

/// `accessLogging[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessLogging {
    /// Side.
    #[serde(rename = "match")]
    pub matches: Option<ModeMatch>,
    /// Who gets lines; empty: those named before, or MeshConfig's.
    pub providers: Vec<ProviderRef>,
    /// They get none.
    pub disabled: bool,
    /// Which connections and requests get a line.
    pub filter: Option<LogFilter>,
}

/// `accessLogging[].filter`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LogFilter {
    /// CEL.
    pub expression: String,
}

/// `tracing[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracing {
    /// Side.
    #[serde(rename = "match")]
    pub matches: Option<ModeMatch>,
    /// Who gets spans.
    pub providers: Vec<ProviderRef>,
    /// 0 to 100.
    pub random_sampling_percentage: Option<f64>,
    /// None are sent.
    pub disable_span_reporting: bool,
    /// Further tags.
    pub custom_tags: BTreeMap<String, Option<CustomTag>>,
    /// Whether x-request-id decides about sampling.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Whether Istio's own tags are there.
    pub enable_istio_tags: Option<bool>,
    /// Whether traces end here.
    pub disable_context_propagation: Option<bool>,
}

/// A value of `customTags`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomTag {
    /// The same always.
    pub literal: Option<LiteralTag>,
    /// Of the proxy's environment.
    pub environment: Option<NamedTag>,
    /// Of a request.
    pub header: Option<NamedTag>,
    /// Made from an operator.
    pub formatter: Option<LiteralTag>,
}

/// `literal`, `formatter`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LiteralTag {
    /// Value.
    pub value: String,
}

/// `environment`, `header`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedTag {
    /// Of what.
    pub name: String,
    /// Where there is none.
    pub default_value: String,
}

/// `metrics[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Metrics {
    /// Who gets them.
    pub providers: Vec<ProviderRef>,
    /// What is different from the standard ones.
    pub overrides: Vec<Option<MetricsOverrides>>,
    /// Of TCP.
    pub reporting_interval: Option<super::duration::DurationText>,
}

/// `metrics[].overrides[]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricsOverrides {
    /// Which ones.
    #[serde(rename = "match")]
    pub matches: Option<MetricSelector>,
    /// Not counted.
    pub disabled: Option<bool>,
    /// Labels.
    pub tag_overrides: BTreeMap<String, Option<TagOverride>>,
}

/// `metrics[].overrides[].match`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricSelector {
    /// One of Istio's.
    pub metric: Option<String>,
    /// Another one.
    pub custom_metric: Option<String>,
    /// Side.
    pub mode: WorkloadMode,
}

/// A value of `tagOverrides`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TagOverride {
    /// What is done.
    pub operation: TagOperation,
    /// CEL.
    pub value: String,
}

/// `operation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagOperation {
    /// Added or replaced.
    #[default]
    Upsert,
    /// Taken away.
    Remove,
}
