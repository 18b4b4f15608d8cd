//! Every field of every document that is read: type and words out of the schema, what it is out of the sources, what becomes of it
//! out of the tables that findings are made from.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Result, ensure};
use gateway_userspace::api::mesh_config::{ELSEWHERE, NOT_OBEYED, PROXY_NOT_OBEYED, SERVED};
use gateway_userspace::api::validate::{Unsupported, unsupported_fields};
use gateway_userspace::api::{
    DestinationRule, Gateway, ServiceEntry, Severity, Telemetry, VirtualService, WorkloadEntry,
    read_document, split,
};

use super::cell;
use super::comments::Comments;
use super::notes::NOTES;
use crate::shape::{Kind, Schema};

const INTRODUCTION: &str = "\
# Fields of documents

What each document may say, and what becomes of it. A field that is not listed is unknown: the document is refused, as by Istio, but for those
of Kubernetes' own kinds, where everything else is passed over.

| status | |
|---|---|
| served | it does what Istio's reference says; [http.md](../http.md), [tls.md](../tls.md) and [backends.md](../backends.md) have the details |
| reported | the document is taken, the field has no effect, and a warning says so (SLU0004, SLU0012) |
| no effect | in Istio neither: it is old, or for people |
| refused | ignoring it would change who gets in or where traffic goes: the document is refused (SLU0005) |
| kernel, user space, handed over | [which plane](../concepts.md#which-plane-serves-what) serves connections of documents that have it |

A value that is absent is empty, 0 or false, unless its line says otherwise. Durations are texts such as `1.5s`, `300ms`, `1h`.
";

/// Kinds that people bring along, and a version of each.
const KINDS: &[(&str, &str)] = &[
    ("networking.istio.io/v1", "Sidecar"),
    ("networking.istio.io/v1", "WorkloadGroup"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("networking.istio.io/v1beta1", "ProxyConfig"),
    ("extensions.istio.io/v1alpha1", "WasmPlugin"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("security.istio.io/v1", "RequestAuthentication"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("install.istio.io/v1alpha1", "IstioOperator"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("networking.k8s.io/v1", "Ingress"),
    ("apps/v1", "Deployment"),
];

/// Kubernetes' kinds with the types that their fields are read into, the first being the whole or its `spec`.
const KUBERNETES: &[(&str, &str, &[&str])] = &[
    ("Service", "`spec`, and the addresses of `status.loadBalancer`", &["Service", "ServicePort"]),
    ("EndpointSlice", "", &["EndpointSlice", "SliceEndpoint", "Conditions", "SlicePort"]),
    (
        "Endpoints",
        "where a Service has no EndpointSlice",
        &["Endpoints", "EndpointSubset", "EndpointAddress"],
    ),
    (
        "Pod",
        "labels, names of ports, readiness: where subsets, a `workloadSelector` or a named port ask for it",
        &["Pod", "PodSpec", "Container", "ContainerPort", "PodStatus", "PodCondition"],
    ),
    ("Namespace", "its labels, where the mesh has `discoverySelectors`", &[]),
    (
        "Secret",
        "of the gateway's namespace: certificates, keys, authorities ([keys](../tls.md#where-certificates-come-from))",
        &["Secret"],
    ),
    ("ConfigMap", "authorities, and `istio` of the root namespace: the MeshConfig", &["ConfigMap"]),
];

/// The types of MeshConfig below its own.
const MESH: &[&str] = &[
    "ProxyConfig",
    "GatewayTopology",
    "PathNormalization",
    "TlsDefaults",
    "ExtensionProvider",
    "FileAccessLog",
    "LogFormat",
    "DefaultProviders",
];

/// The page.
pub(super) fn page() -> Result<String> {
    let comments = Comments::read()?;
    let mut out = INTRODUCTION.to_owned();
    kinds(&mut out);
    let described = [
        ("Gateway", Schema::of::<Gateway>()?),
        ("VirtualService", Schema::of::<VirtualService>()?),
        ("DestinationRule", Schema::of::<DestinationRule>()?),
        ("ServiceEntry", Schema::of::<ServiceEntry>()?),
        ("WorkloadEntry", Schema::of::<WorkloadEntry>()?),
        ("Telemetry", Schema::of::<Telemetry>()?),
    ];
    for (kind, schema) in &described {
        let _ = write!(out, "\n## {kind}\n\nBelow `spec`.\n\n{TABLE}");
        let mut table = Table { kind, comments: &comments, rows: Vec::new(), homes: homes(schema) };
        table.below("", schema);
        table.expect_notes()?;
        out.extend(table.rows.iter().map(|row| row.line.as_str()));
    }
    mesh(&mut out, &comments);
    kubernetes(&mut out, &comments)?;
    Ok(out)
}

const TABLE: &str = "| field | type | what it is | status |\n|---|---|---|---|\n";

/// What findings say of documents of other kinds.
fn kinds(out: &mut String) {
    out.push_str("\n## Other kinds\n\n| kind | what is said of it |\n|---|---|\n");
    for (version, kind) in KINDS {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n");
        let file: Arc<str> = "x".into();
        for chunk in split(&text) {
            for found in read_document(&file, chunk, "default").into_iter().flat_map(|it| it.diagnostics) {
                let severity = match found.severity {
                    Severity::Error => "refused",
                    Severity::Warning => "reported",
                    Severity::Info => "passed over",
                };
                let (code, message) = (found.code, cell(&found.message));
                let _ = writeln!(out, "| `{kind}` ({version}) | {severity}, {code}: {message} |");
            }
        }
    }
}

struct Row {
    path: String,
    line: String,
}

/// A kind's table.
struct Table<'a> {
    kind: &'a str,
    comments: &'a Comments,
    rows: Vec<Row>,
    /// Where each type of several fields is described.
    homes: BTreeMap<&'static str, String>,
}

/// The shortest path to each type.
fn homes(schema: &Schema) -> BTreeMap<&'static str, String> {
    let mut homes = BTreeMap::new();
    let mut waiting = VecDeque::from([(String::new(), schema)]);
    while let Some((path, schema)) = waiting.pop_front() {
        for (field, inner) in &schema.properties {
            let path = joined(&path, field);
            let (inner, suffix) = innermost(inner);
            let is_new = inner.name.is_none_or(|name| !homes.contains_key(name));
            if is_new && !inner.properties.is_empty() {
                homes.extend(inner.name.map(|name| (name, path.clone())));
                waiting.push_back((format!("{path}{suffix}"), inner));
            }
        }
    }
    homes
}

fn joined(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

impl Table<'_> {
    fn below(&mut self, path: &str, schema: &Schema) {
        let owner = schema.name.unwrap_or_default();
        for (field, inner) in &schema.properties {
            let path = joined(path, field);
            let said = self.comments.of(owner, field).to_owned();
            self.row(&path, inner, &said);
        }
    }

    fn row(&mut self, path: &str, schema: &Schema, said: &str) {
        let (inner, suffix) = innermost(schema);
        let home = inner.name.filter(|_| !inner.properties.is_empty()).and_then(|name| self.homes.get(name));
        let elsewhere = home.filter(|home| *home != path);
        let what = match elsewhere {
            Some(first) => format!("{said} Fields as of `{first}`."),
            None => said.to_owned(),
        };
        let describes = elsewhere.is_none() && !inner.properties.is_empty();
        let status = if elsewhere.is_some() { "as there".to_owned() } else { self.status(path, said) };
        let line = format!("| `{path}` | {} | {} | {} |\n", type_of(schema), cell(&what), cell(&status));
        self.rows.push(Row { path: path.to_owned(), line });
        if describes {
            self.below(&format!("{path}{suffix}"), inner);
        }
    }

    /// What is below a field that is not served is not either.
    fn status(&self, path: &str, comment: &str) -> String {
        let is_above =
            |field: &str| path.strip_prefix(field).is_some_and(|rest| rest.starts_with(['.', '[']));
        if let Some(above) = unsupported_fields(self.kind).into_iter().find(|it| is_above(&it.field)) {
            return format!("{}, with `{}`", outcome(above.refused), above.field);
        }
        let of_field = |field: &str| field.split_once('=').map_or(field, |(field, _)| field) == path;
        let own: Vec<Unsupported> =
            unsupported_fields(self.kind).into_iter().filter(|it| of_field(&it.field)).collect();
        let said = own.iter().map(|it| {
            let outcome = outcome(it.refused);
            let value = it.field.split_once('=').map(|(_, value)| format!("`{value}` ")).unwrap_or_default();
            let why = if it.why.is_empty() { String::new() } else { format!(": {}", it.why) };
            format!("{value}{outcome}{why}")
        });
        let whole = own.iter().any(|it| !it.field.contains('='));
        let noted = NOTES.iter().filter(|(kind, field, _)| *kind == self.kind && *field == path);
        let noted = noted.map(|(_, _, note)| (*note).to_owned());
        let served = if comment.to_lowercase().contains("without effect") { "no effect" } else { "served" };
        let served = (!whole).then(|| served.to_owned());
        served.into_iter().chain(said).chain(noted).collect::<Vec<_>>().join("; ")
    }

    /// Notes, and rows of what is not served, that are about no field would stand nowhere.
    fn expect_notes(&self) -> Result<()> {
        let is_there = |field: &str| self.rows.iter().any(|row| row.path == field);
        for (_, field, _) in NOTES.iter().filter(|(kind, ..)| *kind == self.kind) {
            ensure!(is_there(field), "a note of {}.{field}, which is not there", self.kind);
        }
        for row in unsupported_fields(self.kind) {
            let field = row.field.split('=').next().unwrap_or_default();
            ensure!(is_there(field), "{}.{field} is not served and not there", self.kind);
        }
        Ok(())
    }
}

fn outcome(is_refused: bool) -> &'static str {
    if is_refused { "refused" } else { "reported" }
}

/// The schema within lists and mappings, and what stands behind a path for them.
fn innermost(schema: &Schema) -> (&Schema, String) {
    match (&schema.items, &schema.additional_properties) {
        (Some(items), _) => {
            let (inner, suffix) = innermost(items);
            (inner, format!("[]{suffix}"))
        }
        (_, Some(value)) => {
            let (inner, suffix) = innermost(value);
            (inner, format!(".NAME{suffix}"))
        }
        _ => (schema, String::new()),
    }
}

fn type_of(schema: &Schema) -> String {
    if let Some(items) = &schema.items {
        return format!("list of {}", type_of(items));
    }
    if let Some(value) = &schema.additional_properties {
        return format!("mapping to {}", type_of(value));
    }
    if !schema.words.is_empty() {
        return schema.words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    let word = match schema.kind {
        Some(Kind::Boolean) => "boolean",
        Some(Kind::Integer) => "integer",
        Some(Kind::Number) => "number",
        Some(Kind::Object) => "object",
        Some(Kind::String) => "text",
        Some(Kind::Array) | None => "anything",
    };
    word.to_owned()
}

fn mesh(out: &mut String, comments: &Comments) {
    out.push_str(
        "\n## MeshConfig\n\n`mesh` of the ConfigMap `istio` in the root namespace.\n\n| field | what it is | status |\n|---|---|---|\n",
    );
    for field in SERVED {
        let said = cell(comments.of("MeshConfig", field));
        let _ = writeln!(out, "| `{field}` | {said} | served |");
    }
    for field in NOT_OBEYED {
        let _ = writeln!(out, "| `{field}` | | reported |");
    }
    for field in PROXY_NOT_OBEYED {
        let _ = writeln!(out, "| `defaultConfig.{field}` | | reported |");
    }
    for (field, why) in ELSEWHERE {
        let _ = writeln!(out, "| `{field}` | {} | no effect, which is said |", cell(why));
    }
    for name in MESH {
        for field in comments.fields(name) {
            let _ = writeln!(out, "| `{field}` of {name} | {} | served |", cell(comments.of(name, field)));
        }
    }
}

fn kubernetes(out: &mut String, comments: &Comments) -> Result<()> {
    out.push_str("\n## Kubernetes' own kinds\n\nWhat is read of them; all else is passed over.\n");
    for (kind, what, types) in KUBERNETES {
        let _ = write!(out, "\n### {kind}\n\n");
        if !what.is_empty() {
            let _ = write!(out, "{}.\n\n", capital(what));
        }
        if types.is_empty() {
            continue;
        }
        out.push_str("| field | what it is |\n|---|---|\n");
        for (index, name) in types.iter().enumerate() {
            ensure!(!comments.fields(name).is_empty(), "{kind}: the sources have no type {name}");
            for field in comments.fields(name) {
                let owner = if index == 0 { String::new() } else { format!(" of {name}") };
                let _ = writeln!(out, "| `{field}`{owner} | {} |", cell(comments.of(name, field)));
            }
        }
    }
    Ok(())
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}
