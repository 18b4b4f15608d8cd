//! From the text of one document to a sound object, or to what is wrong with it.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::decode::{DecodeError, decode};
use super::diagnostic::{Code, Diagnostic, Severity};
use super::digest::Digest;
use super::kubernetes::{Service, ServiceStatus};
use super::mesh_config;
use super::object::{Metadata, Object, ObjectRef, Source, Sourced, position};
use super::path::FieldPath;
use super::places::Places;
use super::split::Chunk;
use super::validate;
use super::yaml::{self, Content, Node, Span, YamlError};

/// What became of a document.
#[derive(Debug)]
pub struct Reading {
    /// Which document it is, as far as can be told.
    pub reference: Option<ObjectRef>,
    /// Whether the text is YAML, so that `reference` is no guess.
    pub is_yaml: bool,
    /// The object, when the document is sound and of a kind that the gateway reads.
    pub object: Option<Object>,
    /// All findings.
    pub diagnostics: Vec<Diagnostic>,
    /// Line of the file that it begins on.
    pub first_line: u32,
}

impl Reading {
    /// Whether the document was meant for the gateway and is not sound.
    pub fn is_refused(&self) -> bool {
        self.object.is_none() && self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// What a gateway does with a kind of document.
enum KindOf {
    Gateway,
    VirtualService,
    DestinationRule,
    Service,
    ServiceEntry,
    WorkloadEntry,
    EndpointSlice,
    Endpoints,
    Pod,
    Namespace,
    ConfigMap,
    Secret,
    Telemetry,
    List,
    /// Reported, not refused.
    Other(Severity, Code, String),
}

/// Reads one document. `kind: List` gives as many readings as it has items.
pub fn read_document(file: &Arc<str>, chunk: Chunk<'_>, default_namespace: &str) -> Vec<Reading> {
    read_shared(file, (&chunk.text.into(), chunk.first_line), default_namespace)
}

/// The same from a text, and the line that it begins on, which all that is read out of it goes on holding.
pub fn read_shared(
    file: &Arc<str>,
    (text, first_line): (&Arc<str>, u32),
    default_namespace: &str,
) -> Vec<Reading> {
    match yaml::parse(text, first_line) {
        Ok(None) => Vec::new(),
        Ok(Some(root)) => Place { file: Some(file), text, first_line, default_namespace }.read(root),
        Err(error) => vec![unparsable(file, Chunk { text, first_line }, default_namespace, error)],
    }
}

/// Reads a document of the API server's, which stands in no file.
pub fn read_tree(root: Node) -> Reading {
    let place = Place { file: None, text: &Arc::default(), first_line: 1, default_namespace: "" };
    // One document is one reading, whatever it is, but for a list: the API server has none among its objects.
    place.read(root).pop().unwrap_or_else(|| place.nothing())
}

fn unparsable(file: &Arc<str>, chunk: Chunk<'_>, default_namespace: &str, error: YamlError) -> Reading {
    let reference = guess_reference(chunk.text, default_namespace);
    let mut diagnostic = Diagnostic::new(Severity::Error, Code::Yaml, error.message);
    diagnostic.help = error.help.or(diagnostic.help);
    let secret = chunk.text.lines().any(|line| line.contains("kind") && line.contains("Secret"));
    let text = if secret { "" } else { chunk.text };
    diagnostic.position = Some(position(file, text, chunk.first_line, error.span));
    diagnostic.document.clone_from(&reference);
    Reading {
        reference,
        is_yaml: false,
        object: None,
        diagnostics: vec![diagnostic],
        first_line: chunk.first_line,
    }
}

/// Which document a text that is no YAML was meant to be: by the first lines that begin with `kind:`, `name:`
/// and `namespace:`.
fn guess_reference(text: &str, default_namespace: &str) -> Option<ObjectRef> {
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let rest = line.trim_start().strip_prefix(key)?.strip_prefix(':')?;
            let word = rest.split('#').next()?.trim().trim_matches(['"', '\'']);
            (!word.is_empty()).then_some(word)
        })
    };
    Some(ObjectRef::new(value("kind")?, value("namespace").unwrap_or(default_namespace), value("name")?))
}

#[derive(Clone, Copy)]
struct Place<'a> {
    file: Option<&'a Arc<str>>,
    text: &'a Arc<str>,
    first_line: u32,
    default_namespace: &'a str,
}

impl Place<'_> {
    fn read(self, root: Node) -> Vec<Reading> {
        let word = |key: &str| root.get(key).and_then(|entry| entry.value.text());
        let (Some(version), Some(kind)) = (word("apiVersion"), word("kind")) else {
            return vec![self.no_document(&root)];
        };
        match kind_of(version, kind) {
            KindOf::List => self.items(root),
            what => {
                let kind = kind.to_owned();
                vec![self.named(root, &kind, &what)]
            }
        }
    }

    fn no_document(self, root: &Node) -> Reading {
        let missing: Vec<&str> = ["apiVersion", "kind"]
            .into_iter()
            .filter(|key| root.get(key).is_none_or(|e| e.value.text().is_none()))
            .collect();
        let message = format!("not a document: it has no {}", missing.join(" and no "));
        let mut diagnostic = Diagnostic::new(Severity::Error, Code::NotADocument, message).help(
            "a document begins with `apiVersion:` and `kind:`; a fragment belongs into the document that it is a part of",
        );
        let span = match &root.content {
            Content::Mapping(entries) => entries.first().map_or(root.span, |entry| entry.key_span),
            _ => root.span,
        };
        diagnostic.position = self.file.map(|file| position(file, self.text, self.first_line, span));
        Reading {
            reference: None,
            is_yaml: true,
            object: None,
            diagnostics: vec![diagnostic],
            first_line: self.first_line,
        }
    }

    fn items(self, root: Node) -> Vec<Reading> {
        let Content::Mapping(entries) = root.content else { return Vec::new() };
        let items = entries.into_iter().find(|entry| entry.key == "items").map(|entry| entry.value.content);
        let Some(Content::Sequence(items)) = items else { return Vec::new() };
        // A list within a list is no document: one level is all that kubectl writes.
        items
            .into_iter()
            .map(|item| match item.get("kind").and_then(|entry| entry.value.text()) {
                Some("List") => self.no_document(&item),
                _ => self.read(item).pop().unwrap_or_else(|| self.nothing()),
            })
            .collect()
    }

    fn nothing(self) -> Reading {
        Reading {
            reference: None,
            is_yaml: true,
            object: None,
            diagnostics: Vec::new(),
            first_line: self.first_line,
        }
    }

    fn named(self, root: Node, kind: &str, what: &KindOf) -> Reading {
        let is_secret = matches!(what, KindOf::Secret);
        let metadata = root.get("metadata").map(|entry| decode::<Metadata>(&entry.value));
        let mut metadata = match metadata {
            Some(Ok(metadata)) => metadata,
            Some(Err(error)) => return self.bad_metadata(root, kind, error),
            None => Metadata::default(),
        };
        if metadata.namespace.is_empty() {
            self.default_namespace.clone_into(&mut metadata.namespace);
        }
        let reference = ObjectRef::new(kind, &metadata.namespace, &metadata.name);
        let source = Arc::new(Source {
            reference: reference.clone(),
            file: self.file.cloned(),
            text: if is_secret { Arc::default() } else { self.text.clone() },
            first_line: self.first_line,
            places: Arc::new(Places::new(&root)),
            digest: Digest::of(&reference, &root),
            tree: Some(root),
        });
        if metadata.name.is_empty() && !matches!(what, KindOf::Other(..)) {
            let field = FieldPath::metadata().field("name");
            let found = source
                .diagnostic(Severity::Error, Code::NotADocument, &field, "the document has no metadata.name")
                .help("give it a name");
            return Reading {
                reference: None,
                is_yaml: true,
                object: None,
                diagnostics: vec![found],
                first_line: self.first_line,
            };
        }
        let (object, diagnostics) = build(what, metadata, &source);
        Reading {
            reference: Some(reference),
            is_yaml: true,
            object,
            diagnostics,
            first_line: self.first_line,
        }
    }

    fn bad_metadata(self, root: Node, kind: &str, error: DecodeError) -> Reading {
        let name = root.get("metadata").and_then(|entry| entry.value.get("name"));
        let name = name.and_then(|entry| entry.value.text()).unwrap_or("");
        let reference = ObjectRef::new(kind, self.default_namespace, name);
        let source = Source {
            reference: reference.clone(),
            file: self.file.cloned(),
            text: if kind == "Secret" { Arc::default() } else { self.text.clone() },
            first_line: self.first_line,
            places: Arc::new(Places::new(&root)),
            digest: Digest::of(&reference, &root),
            tree: None,
        };
        let texts = ["metadata.labels", "metadata.annotations"];
        let mut found = misfit(&source, "metadata", error);
        if found.field.as_ref().is_some_and(|field| texts.iter().any(|map| field.starts_with(map))) {
            found.help = Some("the values of labels and annotations are texts: put it in quotes".to_owned());
        }
        Reading {
            reference: Some(reference).filter(|reference| !reference.name.is_empty()),
            is_yaml: true,
            object: None,
            diagnostics: vec![found],
            first_line: self.first_line,
        }
    }
}

fn kind_of(version: &str, kind: &str) -> KindOf {
    let (group, number) = version.split_once('/').unwrap_or(("", version));
    let istio_version = matches!(number, "v1" | "v1beta1" | "v1alpha3");
    let other = |severity, code, message: String| KindOf::Other(severity, code, message);
    match (group, kind) {
        (
            "networking.istio.io",
            "Gateway" | "VirtualService" | "DestinationRule" | "ServiceEntry" | "WorkloadEntry",
        ) if !istio_version => other(
            Severity::Error,
            Code::NotADocument,
            format!("unknown version \"{number}\" of {kind}; known are v1, v1beta1 and v1alpha3"),
        ),
        ("networking.istio.io", "Gateway") => KindOf::Gateway,
        ("networking.istio.io", "VirtualService") => KindOf::VirtualService,
        ("networking.istio.io", "DestinationRule") => KindOf::DestinationRule,
        ("networking.istio.io", "ServiceEntry") => KindOf::ServiceEntry,
        ("networking.istio.io", "WorkloadEntry") => KindOf::WorkloadEntry,
        ("telemetry.istio.io", "Telemetry") if !matches!(number, "v1" | "v1alpha1") => other(
            Severity::Error,
            Code::NotADocument,
            format!("unknown version \"{number}\" of {kind}; known are v1 and v1alpha1"),
        ),
        ("telemetry.istio.io", "Telemetry") => KindOf::Telemetry,
        ("", "Service") => KindOf::Service,
        ("", "Endpoints") => KindOf::Endpoints,
        ("", "Pod") => KindOf::Pod,
        ("", "Namespace") => KindOf::Namespace,
        ("", "ConfigMap") => KindOf::ConfigMap,
        ("discovery.k8s.io", "EndpointSlice") => KindOf::EndpointSlice,
        ("", "Secret") => KindOf::Secret,
        ("", "List") => KindOf::List,
        // Its settings are this program's flags; who brings one must hear that it does nothing.
        ("install.istio.io", _) => other(
            Severity::Warning,
            Code::NotSupported,
            format!("{kind} is not read: what it sets is set by the flags of `sluice run`"),
        ),
        ("security.istio.io", _) => other(
            Severity::Error,
            Code::NotEnforced,
            format!("{kind} is not yet supported: nothing here enforces it"),
        ),
        ("gateway.networking.k8s.io", _) => other(
            Severity::Error,
            Code::NotEnforced,
            format!("{kind} of the Kubernetes Gateway API is not yet supported: nothing here serves it"),
        ),
        ("networking.istio.io" | "telemetry.istio.io" | "extensions.istio.io", _)
        | ("networking.k8s.io", "Ingress") => other(
            Severity::Warning,
            Code::NotSupported,
            format!("{kind} is not yet supported: it has no effect here"),
        ),
        (_, "Gateway" | "VirtualService" | "DestinationRule") => other(
            Severity::Warning,
            Code::KindNotRead,
            format!("a {kind} of `{version}` is not read; Istio's is `networking.istio.io/v1`"),
        ),
        _ => other(Severity::Info, Code::KindNotRead, format!("a gateway does not read {kind}")),
    }
}

fn build(what: &KindOf, metadata: Metadata, source: &Arc<Source>) -> (Option<Object>, Vec<Diagnostic>) {
    match what {
        KindOf::Gateway => checked(istio(metadata, source), validate::gateway).map_object(Object::Gateway),
        KindOf::VirtualService => {
            checked(istio(metadata, source), validate::virtual_service).map_object(Object::VirtualService)
        }
        KindOf::DestinationRule => {
            checked(istio(metadata, source), validate::destination_rule).map_object(Object::DestinationRule)
        }
        KindOf::Service => plain(service(metadata, source)).map_object(Object::Service),
        KindOf::ServiceEntry => {
            checked(istio(metadata, source), validate::service_entry).map_object(Object::ServiceEntry)
        }
        KindOf::WorkloadEntry => {
            checked(istio(metadata, source), validate::workload_entry).map_object(Object::WorkloadEntry)
        }
        KindOf::Telemetry => {
            checked(istio(metadata, source), validate::telemetry).map_object(Object::Telemetry)
        }
        KindOf::Endpoints => plain(whole(metadata, source)).map_object(Object::Endpoints),
        KindOf::Pod => plain(whole(metadata, source)).map_object(Object::Pod),
        KindOf::Namespace => plain(whole(metadata, source)).map_object(Object::Namespace),
        KindOf::ConfigMap => config_map(metadata, source),
        KindOf::EndpointSlice => plain(whole(metadata, source)).map_object(Object::EndpointSlice),
        KindOf::Secret => plain(whole(metadata, source)).map_object(Object::Secret),
        KindOf::List => (None, Vec::new()),
        KindOf::Other(severity, code, message) => {
            let field = FieldPath::root().field("kind");
            (None, vec![source.diagnostic(*severity, *code, &field, message.clone())])
        }
    }
}

/// Of ConfigMaps, those that hold a CA, and the one that holds the MeshConfig.
fn config_map(metadata: Metadata, source: &Arc<Source>) -> (Option<Object>, Vec<Diagnostic>) {
    let data = FieldPath::root().field("data");
    if ["cacert", "ca.crt"].iter().any(|key| source.places.has(&data.field(key))) {
        return plain(whole(metadata, source)).map_object(Object::ConfigMap);
    }
    let field = data.field("mesh");
    let text = tree(source).and_then(|root| root.find(&field)).and_then(Node::text);
    let Some(text) = text.filter(|_| metadata.name == mesh_config::CONFIG_MAP) else {
        let message =
            "a gateway reads no ConfigMap but those with a CA (`ca.crt`), and of `istio` the key `mesh`";
        return (
            None,
            vec![source.diagnostic(
                Severity::Info,
                Code::KindNotRead,
                &FieldPath::root().field("kind"),
                message,
            )],
        );
    };
    let bad = |message: String| {
        let field = field.clone();
        vec![source.diagnostic(Severity::Error, Code::SchemaValidation, &field, message)]
    };
    let root = match yaml::parse(text, 1) {
        Ok(root) => root.unwrap_or_else(|| nothing(source)),
        Err(error) => return (None, bad(format!("not YAML: line {}: {}", error.span.line, error.message))),
    };
    match decode::<mesh_config::MeshConfig>(&root) {
        Ok(spec) => {
            let found = validate::mesh_config(source, &field, (&root, &spec));
            let object = Sourced { metadata, spec, source: source.clone() };
            let is_sound = !found.iter().any(Diagnostic::is_error);
            (is_sound.then(|| Object::MeshConfig(object.settled())), found)
        }
        Err(error) => (None, bad(format!("{}: {}", error.path, error.message))),
    }
}

fn tree(source: &Source) -> Option<&Node> {
    source.tree.as_ref()
}

/// What a part that is not there says.
fn nothing(source: &Source) -> Node {
    let span = tree(source).map_or_else(Span::default, |root| root.span);
    Node { content: Content::Mapping(Vec::new()), span }
}

struct Checked<T>(Option<Arc<Sourced<T>>>, Vec<Diagnostic>);

impl<T> Checked<T> {
    fn map_object(self, wrap: fn(Arc<Sourced<T>>) -> Object) -> (Option<Object>, Vec<Diagnostic>) {
        (self.0.map(wrap), self.1)
    }
}

fn plain<T>(decoded: Result<Sourced<T>, Box<Diagnostic>>) -> Checked<T> {
    match decoded {
        Ok(object) => Checked(Some(object.settled()), Vec::new()),
        Err(found) => Checked(None, vec![*found]),
    }
}

fn checked<T>(
    decoded: Result<Sourced<T>, Box<Diagnostic>>,
    check: fn(&Sourced<T>) -> Vec<Diagnostic>,
) -> Checked<T> {
    match decoded {
        Ok(object) => {
            let found = check(&object);
            let sound = !found.iter().any(Diagnostic::is_error);
            Checked(sound.then(|| object.settled()), found)
        }
        Err(found) => Checked(None, vec![*found]),
    }
}

/// Istio's kinds take no field that their schema does not know.
fn istio<T: DeserializeOwned>(
    metadata: Metadata,
    source: &Arc<Source>,
) -> Result<Sourced<T>, Box<Diagnostic>> {
    if let Some(Content::Mapping(entries)) = tree(source).map(|root| &root.content) {
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        if let Some(entry) = entries.iter().find(|entry| !known.contains(&entry.key.as_str())) {
            let field = FieldPath::root().field(&entry.key);
            let message = format!("unknown field \"{}\"", entry.key);
            let help = "beside apiVersion, kind and metadata, everything belongs below `spec`: is the indentation right?";
            let found = source.diagnostic_at(
                Severity::Error,
                Code::SchemaValidation,
                &field,
                entry.key_span,
                message,
            );
            return Err(Box::new(found.help(help)));
        }
    }
    under(metadata, source, "spec")
}

fn under<T: DeserializeOwned>(
    metadata: Metadata,
    source: &Arc<Source>,
    field: &str,
) -> Result<Sourced<T>, Box<Diagnostic>> {
    let nothing = nothing(source);
    let node = tree(source).and_then(|root| root.get(field)).map_or(&nothing, |entry| &entry.value);
    let spec = decode(node).map_err(|error| Box::new(misfit(source, field, error)))?;
    Ok(Sourced { metadata, spec, source: source.clone() })
}

/// Of its status, which somebody else has written, only what can be read.
fn service(metadata: Metadata, source: &Arc<Source>) -> Result<Sourced<Service>, Box<Diagnostic>> {
    let mut service: Sourced<Service> = under(metadata, source, "spec")?;
    let status = tree(source).and_then(|root| root.get("status"));
    let status: Option<ServiceStatus> = status.and_then(|entry| decode(&entry.value).ok());
    service.spec.ingress = status.unwrap_or_default().load_balancer.ingress;
    Ok(service)
}

fn whole<T: DeserializeOwned>(
    metadata: Metadata,
    source: &Arc<Source>,
) -> Result<Sourced<T>, Box<Diagnostic>> {
    let nothing = nothing(source);
    let spec =
        decode(tree(source).unwrap_or(&nothing)).map_err(|error| Box::new(misfit(source, "", error)))?;
    Ok(Sourced { metadata, spec, source: source.clone() })
}

fn misfit(source: &Source, top: &str, error: DecodeError) -> Diagnostic {
    let path = match top {
        "" => error.path,
        top => error.path.under(super::path::Step::Field(top.to_owned())),
    };
    let span = error.span.unwrap_or_else(|| source.places.locate(&path));
    // What does not fit in a Secret may be a part of a key.
    let message = match &*source.reference.kind {
        "Secret" if error.message.contains('`') => "a value of the wrong type".to_owned(),
        _ => error.message,
    };
    let mut found = source.diagnostic_at(Severity::Error, Code::SchemaValidation, &path, span, message);
    found.help = error.help.filter(|_| &*source.reference.kind != "Secret").or(found.help);
    found
}
