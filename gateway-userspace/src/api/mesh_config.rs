//! Istio's MeshConfig, as written: what holds for the whole mesh where no document says otherwise. Of its many fields
//! those that are obeyed.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use super::destination_rule::{LocalityLoadBalancerSetting, TcpKeepalive};
use super::duration::DurationText;
use super::gateway::Protocol;
use super::selector::LabelSelector;
use super::virtual_service::HttpRetry;
use crate::telemetry::access::{Encoding, Format};

/// Name of the ConfigMap that holds it, in the root namespace.
pub const CONFIG_MAP: &str = "istio";

/// `mesh` of the ConfigMap `istio`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshConfig {
    /// Of TCP connections to endpoints, where no DestinationRule says otherwise; absent: 10 s.
    pub connect_timeout: Option<DurationText>,
    /// After how long a name is asked for again when it could not be resolved; absent: 60 s.
    pub dns_refresh_rate: Option<DurationText>,
    /// Namespaces that see Services and ServiceEntries that name none; empty: all.
    pub default_service_export_to: Vec<String>,
    /// Namespaces whose documents count: those that one of these selects by its labels; none: all.
    pub discovery_selectors: Vec<LabelSelector>,
    /// Whether HTTP/2 is spoken to ports whose name says HTTP, where no DestinationRule says otherwise.
    pub h2_upgrade_policy: MeshH2Upgrade,
    /// Who comes first by where it runs, where no DestinationRule says otherwise.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Probes of silent connections to endpoints, where a DestinationRule does not say otherwise, field by field.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Of TLS, where a server does not say otherwise, and towards backends.
    pub tls_defaults: Option<TlsDefaults>,
    /// Where each request and connection gets a line, where no Telemetry decides; empty: nowhere.
    pub access_log_file: String,
    /// Of such a line; empty: Istio's. For JSON, an object of texts.
    pub access_log_format: String,
    /// Of such a line.
    pub access_log_encoding: Encoding,
    /// Connections that no filter chain serves get no line.
    pub disable_envoy_listener_log: bool,
    /// What Telemetry can name.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Where Telemetry names none.
    pub default_providers: DefaultProviders,
    /// Further tries of HTTP requests, where a rule has no `retries`; absent: Istio's.
    pub default_http_retry_policy: Option<HttpRetry>,
    /// The form in which paths are matched.
    pub path_normalization: PathNormalization,
    /// Of proxies.
    pub default_config: ProxyConfig,
}

/// `pathNormalization`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PathNormalization {
    /// How far.
    pub normalization: Normalization,
}

/// `pathNormalization.normalization`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    /// As `Base`.
    #[default]
    Default,
    /// Not at all.
    None,
    /// RFC 3986.
    Base,
    /// And duplicate slashes are one.
    MergeSlashes,
    /// And encoded slashes are slashes.
    DecodeAndMergeSlashes,
}

/// `defaultConfig`: of its many fields the one that gateways obey.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyConfig {
    /// What is before the gateway.
    pub gateway_topology: Option<GatewayTopology>,
}

/// `defaultConfig.gatewayTopology`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewayTopology {
    /// Proxies before the gateway whose `x-forwarded-for` is believed.
    pub num_trusted_proxies: u32,
    /// What becomes of `x-forwarded-client-cert`.
    pub forward_client_cert_details: ForwardClientCertDetails,
    /// Connections to the gateway begin with a header of the PROXY protocol.
    pub proxy_protocol: Option<ProxyProtocolConfiguration>,
}

/// `gatewayTopology.proxyProtocol`, which has no fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyProtocolConfiguration {}

/// `gatewayTopology.forwardClientCertDetails`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCertDetails {
    /// As `SanitizeSet`.
    #[default]
    Undefined,
    /// Taken away.
    Sanitize,
    /// Sent on from clients with certificates.
    ForwardOnly,
    /// And theirs added.
    AppendForward,
    /// Theirs in its place.
    SanitizeSet,
    /// Sent on from all clients.
    AlwaysForwardOnly,
}

/// Fields of `defaultConfig` that change what a gateway does and are not obeyed; `gatewayTopology` is, all others are about
/// Envoy and its agent.
pub const PROXY_NOT_OBEYED: &[&str] = &["connectionSettings", "proxyHeaders", "tracing"];

impl MeshConfig {
    /// The form of lines in `access_log_file`. An error names what is wrong with it.
    pub fn log_format(&self) -> Result<Format, String> {
        let written = self.access_log_format.as_str();
        match self.access_log_encoding {
            Encoding::Text => Format::text(written),
            Encoding::Json if written.is_empty() => Ok(Format::default_json()),
            Encoding::Json => {
                let object = serde_json::from_str(written).map_err(|error| format!("not JSON: {error}"))?;
                Format::json(&object)
            }
        }
    }
}

/// `extensionProviders[]`, of those kinds that are of use here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtensionProvider {
    /// What Telemetry calls it.
    pub name: String,
    /// Lines in a file.
    pub envoy_file_access_log: Option<FileAccessLog>,
}

/// `extensionProviders[].envoyFileAccessLog`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FileAccessLog {
    /// Empty: standard output.
    pub path: String,
    /// Absent: Istio's text format.
    pub log_format: Option<LogFormat>,
    /// Values that are not there are left out.
    pub omit_empty_values: bool,
}

impl FileAccessLog {
    /// The file.
    pub fn path(&self) -> Arc<Path> {
        let path = if self.path.is_empty() { STDOUT } else { &self.path };
        Path::new(path).into()
    }

    /// The form of a line. An error names what is wrong with it.
    pub fn format(&self) -> Result<Format, String> {
        let written = self.log_format.as_ref();
        let format = match (written.and_then(|it| it.labels.as_ref()), written) {
            (Some(labels), _) => Format::json(labels)?,
            (None, Some(LogFormat { text: Some(text), .. })) => Format::text(text)?,
            (None, _) => Format::default_text(),
        };
        Ok(format.omitting_empty(self.omit_empty_values))
    }
}

/// Where lines go unless something else is said.
pub const STDOUT: &str = "/dev/stdout";

/// `logFormat`: one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LogFormat {
    /// A line of text.
    pub text: Option<String>,
    /// A JSON object.
    pub labels: Option<Json>,
}

/// `defaultProviders`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DefaultProviders {
    /// Of access logs.
    pub access_logging: Vec<String>,
}

/// `h2UpgradePolicy`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MeshH2Upgrade {
    /// No.
    #[default]
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// `tlsDefaults`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsDefaults {
    /// Default 1.2. At gateways alone.
    pub min_protocol_version: Protocol,
    /// OpenSSL's names, of TLS 1.2.
    pub cipher_suites: Vec<String>,
    /// Groups for the exchange of keys.
    pub ecdh_curves: Vec<String>,
}

/// Fields that are obeyed.
pub const SERVED: &[&str] = &[
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "connectTimeout",
    "defaultConfig",
    "defaultHttpRetryPolicy",
    "defaultProviders",
    "defaultServiceExportTo",
    "disableEnvoyListenerLog",
    "discoverySelectors",
    "dnsRefreshRate",
    "extensionProviders",
    "h2UpgradePolicy",
    "localityLbSetting",
    "pathNormalization",
    "tcpKeepalive",
    "tlsDefaults",
];

/// Fields that mean nothing to this gateway, and why.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("ca", CONTROL_PLANE),
    ("caCertificates", MESH_TLS),
    ("certificates", CONTROL_PLANE),
    ("configSources", "documents come from where `sluice run --config` says"),
    ("defaultInboundHttpRetryPolicy", SIDECARS),
    ("enableAutoMtls", MESH_TLS),
    ("enablePrometheusMerge", SIDECARS),
    ("enableTracing", "no spans are sent; headers of traces are passed on as they are"),
    ("hboneIdleTimeout", SIDECARS),
    ("inboundClusterStatName", SIDECARS),
    ("inboundTrafficPolicy", SIDECARS),
    ("ingressClass", INGRESS),
    ("ingressControllerMode", INGRESS),
    ("ingressSelector", INGRESS),
    ("ingressService", INGRESS),
    ("meshMTLS", MESH_TLS),
    ("outboundClusterStatName", "no such names are made up here: clusters keep theirs"),
    (
        "outboundTrafficPolicy",
        "it is about sidecars: a gateway sends nowhere but where its routes say, whatever the mode",
    ),
    ("protocolDetectionTimeout", SIDECARS),
    ("proxyHttpPort", SIDECARS),
    ("proxyInboundListenPort", SIDECARS),
    ("proxyListenPort", SIDECARS),
    ("rootNamespace", "`--root-namespace` says which it is"),
    ("serviceScopeConfigs", SIDECARS),
    ("serviceSettings", CONTROL_PLANE),
    ("trustDomain", MESH_TLS),
    ("trustDomainAliases", MESH_TLS),
    ("verifyCertificateAtClient", "certificates of backends are verified always"),
];

const CONTROL_PLANE: &str = "it is about Istio's control plane";
const SIDECARS: &str = "it is about sidecars";
const INGRESS: &str = "it is about documents of the kind Ingress, which are not read";
const MESH_TLS: &str = "it is about certificates of the mesh, of which this gateway has none";

/// Fields that change what a gateway does and are not obeyed.
pub const NOT_OBEYED: &[&str] = &[
    "defaultDestinationRuleExportTo",
    "defaultTrafficPolicy",
    "defaultVirtualServiceExportTo",
    "enableEnvoyAccessLogService",
    "zoneAwareLbSetting",
];
