//! CustomResourceDefinitions (apiextensions.k8s.io/v1) of the kinds that are read: their names, versions and columns are
//! Istio's, so that `kubectl` shows the same, and either project's definitions serve the other.

use std::collections::BTreeMap;

use gateway_userspace::api::{
    DestinationRule, Gateway, ServiceEntry, Telemetry, VirtualService, WorkloadEntry,
};
use serde::Serialize;

use crate::shape::{Schema, Shapeless};

/// Those of the group networking.istio.io; the first one is stored.
const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const TELEMETRY: &[&str] = &["v1", "v1alpha1"];

const AGE: Column =
    Column { name: "Age", kind: "date", json_path: ".metadata.creationTimestamp", description: None };

/// A kind of document, as the API server is to know it.
#[derive(Debug)]
struct Known {
    kind: &'static str,
    group: &'static str,
    plural: &'static str,
    short: &'static str,
    versions: &'static [&'static str],
    columns: Vec<Column>,
    spec: Schema,
}

/// One of `additionalPrinterColumns`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Column {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    json_path: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'static str>,
}

const fn column(name: &'static str, json_path: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", json_path, description: Some(description) }
}

/// What the API server is given.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: String,
    annotations: BTreeMap<&'static str, &'static str>,
    labels: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, Serialize)]
struct Spec {
    group: &'static str,
    names: Names,
    scope: &'static str,
    versions: Vec<Version>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Names {
    kind: &'static str,
    list_kind: String,
    plural: &'static str,
    singular: String,
    #[serde(rename = "shortNames")]
    short: [&'static str; 1],
    categories: [String; 2],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    name: &'static str,
    served: bool,
    storage: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    additional_printer_columns: Vec<Column>,
    subresources: Subresources,
    schema: BTreeMap<&'static str, Schema>,
}

#[derive(Debug, Serialize)]
struct Subresources {
    status: Nothing,
}

/// `{}`.
#[derive(Debug, Serialize)]
struct Nothing {}

impl Definition {
    /// `<plural>.yaml`.
    pub fn file_name(&self) -> String {
        format!("{}.yaml", self.spec.names.plural)
    }

    fn of(known: Known) -> Self {
        let Known { kind, group, plural, short, versions, columns, spec } = known;
        let version = |name: &'static str| Version {
            name,
            served: true,
            storage: name == versions[0],
            additional_printer_columns: columns.clone(),
            subresources: Subresources { status: Nothing {} },
            // Of the status no more is said: whoever else writes it, as istiod does, writes more.
            schema: [(
                "openAPIV3Schema",
                Schema::object([("spec", spec.clone()), ("status", Schema::open())]),
            )]
            .into(),
        };
        Self {
            api_version: "apiextensions.k8s.io/v1",
            kind: "CustomResourceDefinition",
            metadata: Metadata {
                name: format!("{plural}.{group}"),
                // Helm, when it takes the rest away: everybody's documents would go with a definition.
                annotations: [("helm.sh/resource-policy", "keep")].into(),
                labels: [("app.kubernetes.io/name", "sluice"), ("app.kubernetes.io/part-of", "sluice")]
                    .into(),
            },
            spec: Spec {
                group,
                names: Names {
                    kind,
                    list_kind: format!("{kind}List"),
                    plural,
                    singular: kind.to_lowercase(),
                    short: [short],
                    categories: ["istio-io".to_owned(), group.replace('.', "-")],
                },
                scope: "Namespaced",
                versions: versions.iter().copied().map(version).collect(),
            },
        }
    }
}

/// All of them.
pub fn all() -> Result<Vec<Definition>, Shapeless> {
    let networking = |kind, plural, short, columns: &[Column], spec| Known {
        kind,
        group: "networking.istio.io",
        plural,
        short,
        versions: NETWORKING,
        columns: columns.to_vec(),
        spec,
    };
    let virtual_services = [
        column("Gateways", ".spec.gateways", "The gateways that the rules are for"),
        column("Hosts", ".spec.hosts", "The hosts that the rules are for"),
        AGE,
    ];
    let destination_rules = [column("Host", ".spec.host", "The service that the rule is for"), AGE];
    let service_entries = [
        column("Hosts", ".spec.hosts", "The services"),
        column("Location", ".spec.location", "Whether they are in the mesh"),
        column("Resolution", ".spec.resolution", "How their endpoints are found"),
        AGE,
    ];
    let workload_entries = [AGE, column("Address", ".spec.address", "The endpoint's address")];
    let kinds = [
        networking("Gateway", "gateways", "gw", &[], Schema::of::<Gateway>()?),
        networking(
            "VirtualService",
            "virtualservices",
            "vs",
            &virtual_services,
            Schema::of::<VirtualService>()?,
        ),
        networking(
            "DestinationRule",
            "destinationrules",
            "dr",
            &destination_rules,
            Schema::of::<DestinationRule>()?,
        ),
        networking("ServiceEntry", "serviceentries", "se", &service_entries, Schema::of::<ServiceEntry>()?),
        networking(
            "WorkloadEntry",
            "workloadentries",
            "we",
            &workload_entries,
            Schema::of::<WorkloadEntry>()?,
        ),
        Known {
            kind: "Telemetry",
            group: "telemetry.istio.io",
            plural: "telemetries",
            short: "telemetry",
            versions: TELEMETRY,
            columns: vec![AGE],
            spec: Schema::of::<Telemetry>()?,
        },
    ];
    Ok(kinds.map(Definition::of).into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn definition(plural: &str) -> Value {
        let all = all().unwrap();
        let found = all.iter().find(|it| it.spec.names.plural == plural).unwrap();
        serde_json::to_value(found).unwrap()
    }

    #[test]
    fn names_and_columns_are_istios() {
        let services = definition("virtualservices");
        assert_eq!(services["metadata"]["name"], "virtualservices.networking.istio.io");
        let names = json!({
            "kind": "VirtualService", "listKind": "VirtualServiceList", "plural": "virtualservices",
            "singular": "virtualservice", "shortNames": ["vs"], "categories": ["istio-io", "networking-istio-io"],
        });
        assert_eq!(services["spec"]["names"], names);
        let columns = |definition: &Value| -> Vec<String> {
            let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array();
            columns.into_iter().flatten().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(columns(&services), ["Gateways", "Hosts", "Age"]);
        // kubectl's own are a name and an age.
        assert_eq!(columns(&definition("gateways")), [""; 0]);
        assert_eq!(columns(&definition("workloadentries")), ["Age", "Address"]);
    }

    #[test]
    fn one_version_is_stored_and_all_are_served() {
        for definition in all().unwrap() {
            let versions = &definition.spec.versions;
            assert!(versions.iter().all(|version| version.served));
            let stored: Vec<_> = versions.iter().filter(|it| it.storage).map(|it| it.name).collect();
            assert_eq!(stored, ["v1"]);
        }
    }

    #[test]
    fn schemas_are_structural() {
        fn hold(schema: &Value, path: &str) {
            let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true;
            assert!(schema["type"].is_string() || keeps, "{path} has no type");
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                hold(property, &format!("{path}.{name}"));
            }
            for key in ["items", "additionalProperties"] {
                if !schema[key].is_null() {
                    hold(&schema[key], &format!("{path}.{key}"));
                }
            }
            let is_list = schema["type"] == "array";
            assert_eq!(is_list, !schema["items"].is_null(), "{path}");
        }
        for definition in all().unwrap() {
            let value = serde_json::to_value(&definition).unwrap();
            for version in value["spec"]["versions"].as_array().unwrap() {
                hold(&version["schema"]["openAPIV3Schema"], &definition.file_name());
            }
        }
        let gateways = definition("gateways");
        let spec = &gateways["spec"]["versions"][2]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let tls = &spec["properties"]["servers"]["items"]["properties"]["tls"]["properties"];
        assert_eq!(tls["mode"]["enum"][1], "SIMPLE");
        assert_eq!(tls["httpsRedirect"], json!({"type": "boolean"}));
    }
}
