//! Documents that were read and found sound, each with its source, and the set of them that a gateway is made
//! from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::destination_rule::{ClientTlsSettings, DestinationRule};
use super::diagnostic::{Code, Diagnostic, Position, Related, Severity};
use super::digest::Digest;
use super::gateway::{Gateway, ServerTlsSettings};
use super::kubernetes::{ConfigMap, EndpointSlice, Namespace, Secret, Service};
use super::mesh_config::MeshConfig;
use super::path::FieldPath;
use super::places::Places;
use super::service_entry::{ServiceEntry, WorkloadEntry};
use super::telemetry::Telemetry;
use super::timestamp::Timestamp;
use super::virtual_service::VirtualService;
use super::workload::{Endpoints, Pod};
use super::yaml::{Node, Span};

/// Names a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// `kind`, as written.
    pub kind: Arc<str>,
    /// `metadata.namespace`, or the default.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// From its parts.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// `metadata`, as far as a gateway reads it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty until the default is filled in.
    pub namespace: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`; absent counts as the oldest, and all absent ones as equally old.
    pub creation_timestamp: Option<Timestamp>,
}

/// Where a document was read: keeps what is needed to point into it later.
pub struct Source {
    /// Which document.
    pub reference: ObjectRef,
    /// As given on the command line, or found below a directory given; `None` when it came from the API server.
    pub file: Option<Arc<str>>,
    /// The document's text; empty for Secrets, whose lines must not show in logs.
    pub text: Arc<str>,
    /// Line of the file that the text begins on, from 1.
    pub first_line: u32,
    /// Where its fields stand.
    pub places: Arc<Places>,
    /// What it says, in short.
    pub digest: Digest,
    /// The text's tree, while the document is read and checked.
    pub tree: Option<Node>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.reference, self.file.as_deref().unwrap_or("-"), self.first_line)
    }
}

impl Source {
    /// For as long as the document is in force: without its tree.
    pub fn settled(&self) -> Self {
        Self {
            reference: self.reference.clone(),
            file: self.file.clone(),
            text: self.text.clone(),
            first_line: self.first_line,
            places: self.places.clone(),
            digest: self.digest,
            tree: None,
        }
    }

    /// A finding about a field.
    pub fn diagnostic(
        &self,
        severity: Severity,
        code: Code,
        field: &FieldPath,
        message: impl Into<String>,
    ) -> Diagnostic {
        self.diagnostic_at(severity, code, field, self.places.locate(field), message)
    }

    /// A finding about a field, at a place that is known better than by the field's path.
    pub fn diagnostic_at(
        &self,
        severity: Severity,
        code: Code,
        field: &FieldPath,
        span: Span,
        message: impl Into<String>,
    ) -> Diagnostic {
        let mut diagnostic = Diagnostic::new(severity, code, message);
        diagnostic.document = Some(self.reference.clone());
        diagnostic.field = Some(field.to_string()).filter(|field| !field.is_empty());
        diagnostic.position = self.position(span);
        if let (Code::SchemaValidation, Some(page)) = (code, reference_page(&self.reference.kind)) {
            diagnostic.help = Some(format!("what the field may hold: {page}"));
        }
        diagnostic
    }

    /// A field as the other place of a finding.
    pub fn related(&self, field: &FieldPath, message: impl Into<String>) -> Related {
        Related {
            message: message.into(),
            document: self.reference.clone(),
            position: self.position(self.places.locate(field)),
        }
    }

    fn position(&self, span: Span) -> Option<Position> {
        Some(position(self.file.as_ref()?, &self.text, self.first_line, span))
    }
}

/// Where the fields of a kind are described.
fn reference_page(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Gateway" => "https://istio.io/latest/docs/reference/config/networking/gateway/",
        "VirtualService" => "https://istio.io/latest/docs/reference/config/networking/virtual-service/",
        "DestinationRule" => "https://istio.io/latest/docs/reference/config/networking/destination-rule/",
        "ServiceEntry" => "https://istio.io/latest/docs/reference/config/networking/service-entry/",
        "Telemetry" => "https://istio.io/latest/docs/reference/config/telemetry/",
        "WorkloadEntry" => "https://istio.io/latest/docs/reference/config/networking/workload-entry/",
        _ => return None,
    })
}

/// The place of a span in a text that begins on a line of a file.
pub fn position(file: &Arc<str>, text: &str, first_line: u32, span: Span) -> Position {
    let line = text.lines().nth(span.line.saturating_sub(first_line) as usize).unwrap_or("");
    let width = line.chars().count() as u32;
    let rest = (width + 1).saturating_sub(span.column).max(1);
    Position {
        file: file.clone(),
        line: span.line,
        column: span.column,
        length: span.length.clamp(1, rest),
        text: line.to_owned(),
    }
}

/// A document's content with its name and source.
#[derive(Debug)]
pub struct Sourced<T> {
    /// Its labels and age; the namespace is filled in.
    pub metadata: Metadata,
    /// What it says.
    pub spec: T,
    /// Which document it is and where it says so.
    pub source: Arc<Source>,
}

impl<T> Sourced<T> {
    /// As it is kept once it has been found sound.
    pub fn settled(self) -> Arc<Self> {
        Arc::new(Self { source: Arc::new(self.source.settled()), ..self })
    }

    /// Which document.
    pub fn reference(&self) -> &ObjectRef {
        &self.source.reference
    }

    /// `metadata.name`.
    pub fn name(&self) -> &Arc<str> {
        &self.source.reference.name
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &Arc<str> {
        &self.source.reference.namespace
    }

    /// A finding about one of its fields.
    pub fn diagnostic(
        &self,
        severity: Severity,
        code: Code,
        field: &FieldPath,
        message: impl Into<String>,
    ) -> Diagnostic {
        self.source.diagnostic(severity, code, field, message)
    }

    /// One of its fields as the other place of a finding.
    pub fn related(&self, field: &FieldPath, message: impl Into<String>) -> Related {
        self.source.related(field, message)
    }

    /// Istio's order of documents: oldest first, then by name, then by namespace.
    fn age(&self) -> (Option<Timestamp>, &Arc<str>, &Arc<str>) {
        (self.metadata.creation_timestamp, self.name(), self.namespace())
    }
}

/// A sound document of a kind that the gateway reads.
#[derive(Debug, Clone)]
pub enum Object {
    /// networking.istio.io Gateway.
    Gateway(Arc<Sourced<Gateway>>),
    /// networking.istio.io VirtualService.
    VirtualService(Arc<Sourced<VirtualService>>),
    /// networking.istio.io DestinationRule.
    DestinationRule(Arc<Sourced<DestinationRule>>),
    /// networking.istio.io ServiceEntry.
    ServiceEntry(Arc<Sourced<ServiceEntry>>),
    /// networking.istio.io WorkloadEntry.
    WorkloadEntry(Arc<Sourced<WorkloadEntry>>),
    /// v1 Service.
    Service(Arc<Sourced<Service>>),
    /// discovery.k8s.io EndpointSlice.
    EndpointSlice(Arc<Sourced<EndpointSlice>>),
    /// v1 Endpoints.
    Endpoints(Arc<Sourced<Endpoints>>),
    /// v1 Pod.
    Pod(Arc<Sourced<Pod>>),
    /// v1 Namespace.
    Namespace(Arc<Sourced<Namespace>>),
    /// telemetry.istio.io Telemetry.
    Telemetry(Arc<Sourced<Telemetry>>),
    /// The ConfigMap `istio`.
    MeshConfig(Arc<Sourced<MeshConfig>>),
    /// v1 Secret.
    Secret(Arc<Sourced<Secret>>),
    /// v1 ConfigMap that holds a CA.
    ConfigMap(Arc<Sourced<ConfigMap>>),
}

impl Object {
    /// Which document it is.
    pub fn reference(&self) -> &ObjectRef {
        &self.source().reference
    }

    /// Where it was read.
    pub fn source(&self) -> &Arc<Source> {
        match self {
            Self::Gateway(object) => &object.source,
            Self::VirtualService(object) => &object.source,
            Self::DestinationRule(object) => &object.source,
            Self::Service(object) => &object.source,
            Self::EndpointSlice(object) => &object.source,
            Self::Endpoints(object) => &object.source,
            Self::Pod(object) => &object.source,
            Self::Namespace(object) => &object.source,
            Self::Telemetry(object) => &object.source,
            Self::MeshConfig(object) => &object.source,
            Self::ServiceEntry(object) => &object.source,
            Self::WorkloadEntry(object) => &object.source,
            Self::Secret(object) => &object.source,
            Self::ConfigMap(object) => &object.source,
        }
    }
}

/// All sound documents, each kind oldest first.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// networking.istio.io Gateway.
    pub gateways: Vec<Arc<Sourced<Gateway>>>,
    /// networking.istio.io VirtualService.
    pub virtual_services: Vec<Arc<Sourced<VirtualService>>>,
    /// networking.istio.io DestinationRule.
    pub destination_rules: Vec<Arc<Sourced<DestinationRule>>>,
    /// networking.istio.io ServiceEntry.
    pub service_entries: Vec<Arc<Sourced<ServiceEntry>>>,
    /// networking.istio.io WorkloadEntry.
    pub workload_entries: Vec<Arc<Sourced<WorkloadEntry>>>,
    /// v1 Service.
    pub services: Vec<Arc<Sourced<Service>>>,
    /// discovery.k8s.io EndpointSlice.
    pub endpoint_slices: Vec<Arc<Sourced<EndpointSlice>>>,
    /// v1 Endpoints.
    pub endpoints: Vec<Arc<Sourced<Endpoints>>>,
    /// v1 Pod.
    pub pods: Vec<Arc<Sourced<Pod>>>,
    /// v1 Namespace.
    pub namespaces: Vec<Arc<Sourced<Namespace>>>,
    /// telemetry.istio.io Telemetry.
    pub telemetries: Vec<Arc<Sourced<Telemetry>>>,
    /// ConfigMaps named `istio`, of which the root namespace's counts.
    pub mesh_configs: Vec<Arc<Sourced<MeshConfig>>>,
    /// v1 Secret.
    pub secrets: Vec<Arc<Sourced<Secret>>>,
    /// v1 ConfigMaps that hold a CA.
    pub config_maps: Vec<Arc<Sourced<ConfigMap>>>,
}

impl Objects {
    /// The files that the documents name and a gateway must read.
    pub fn files(&self) -> BTreeSet<&str> {
        let servers = self.gateways.iter().flat_map(|gateway| &gateway.spec.servers);
        let of_servers = servers.filter_map(|server| server.tls.as_ref()).flat_map(ServerTlsSettings::files);
        let rules = self.destination_rules.iter().flat_map(|rule| rule.spec.tls_settings());
        of_servers.chain(rules.flat_map(ClientTlsSettings::files)).collect()
    }
}

impl FromIterator<Object> for Objects {
    fn from_iter<I: IntoIterator<Item = Object>>(objects: I) -> Self {
        let mut all = Self::default();
        for object in objects {
            match object {
                Object::Gateway(object) => all.gateways.push(object),
                Object::VirtualService(object) => all.virtual_services.push(object),
                Object::DestinationRule(object) => all.destination_rules.push(object),
                Object::Service(object) => all.services.push(object),
                Object::EndpointSlice(object) => all.endpoint_slices.push(object),
                Object::Endpoints(object) => all.endpoints.push(object),
                Object::Pod(object) => all.pods.push(object),
                Object::Namespace(object) => all.namespaces.push(object),
                Object::Telemetry(object) => all.telemetries.push(object),
                Object::MeshConfig(object) => all.mesh_configs.push(object),
                Object::ServiceEntry(object) => all.service_entries.push(object),
                Object::WorkloadEntry(object) => all.workload_entries.push(object),
                Object::Secret(object) => all.secrets.push(object),
                Object::ConfigMap(object) => all.config_maps.push(object),
            }
        }
        oldest_first(&mut all.gateways);
        oldest_first(&mut all.virtual_services);
        oldest_first(&mut all.destination_rules);
        oldest_first(&mut all.services);
        oldest_first(&mut all.endpoint_slices);
        oldest_first(&mut all.endpoints);
        oldest_first(&mut all.pods);
        oldest_first(&mut all.namespaces);
        oldest_first(&mut all.telemetries);
        oldest_first(&mut all.mesh_configs);
        oldest_first(&mut all.service_entries);
        oldest_first(&mut all.workload_entries);
        oldest_first(&mut all.secrets);
        oldest_first(&mut all.config_maps);
        all
    }
}

fn oldest_first<T>(objects: &mut [Arc<Sourced<T>>]) {
    objects.sort_by(|a, b| a.age().cmp(&b.age()));
}
