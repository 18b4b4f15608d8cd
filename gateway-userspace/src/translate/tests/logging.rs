//! Which access logs are in force: Telemetry over MeshConfig over the process' flags, merged as istiod does it.

use std::path::Path;

use crate::telemetry::access::{Encoding, Format};

use super::super::{LogSettings, Surroundings, Translation, translate};
use super::{codes, objects};

/// Providers that write into files of their names.
const PROVIDERS: &str = "extensionProviders: [{name: a, envoyFileAccessLog: {path: /a}}, {name: b, envoyFileAccessLog: \
    {path: /b}}, {name: spans, zipkin: {service: z, port: 1}}]";

fn mesh(text: &str) -> String {
    let head = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n";
    format!("{head}    {}\n", text.replace('\n', "\n    "))
}

/// A Telemetry of metadata and `accessLogging`.
fn telemetry(metadata: &str, more: &str, logging: &str) -> String {
    format!(
        "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{{metadata}}}\nspec: {{{more}accessLogging: \
         [{logging}]}}\n"
    )
}

const ROOT: &str = "name: root, namespace: istio-system";
const OWN: &str = "name: own, namespace: edge";
const SELECTS: &str = "selector: {matchLabels: {app: istio-ingressgateway}}, ";

/// In a gateway of the namespace `edge`.
fn translated(text: &str, logs: LogSettings) -> Translation {
    let objects = objects(text);
    let mut surroundings = Surroundings { logs, ..Surroundings::default() };
    surroundings.identity.namespace = "edge".to_owned();
    surroundings.learn(&objects);
    translate(&objects, &surroundings, 1)
}

/// `path`, or `path if filter`, of each rule.
fn rules(translation: &Translation) -> Vec<String> {
    let logging = &translation.snapshot.logging;
    let rule = |rule: &crate::telemetry::access::Rule| {
        let filter = rule.filter.as_ref().map(|filter| format!(" if {filter}"));
        format!("{}{}", rule.path.display(), filter.unwrap_or_default())
    };
    logging.rules().iter().map(rule).collect()
}

#[test]
fn telemetry_decides_from_the_mesh_to_the_gateway() {
    let named = |name: &str| format!("{{providers: [{{name: {name}}}]}}");
    let off = |name: &str| format!("{{providers: [{{name: {name}}}], disabled: true}}");
    let filtered = |name: &str, filter: &str| {
        format!("{{providers: [{{name: {name}}}], filter: {{expression: '{filter}'}}}}")
    };
    let root = |logging: &str| telemetry(ROOT, "", logging);
    let own = |logging: &str| telemetry(OWN, "", logging);
    let selecting = |logging: &str| telemetry("name: sel, namespace: edge", SELECTS, logging);
    for (documents, want, found) in [
        (root(&named("envoy")), vec!["/dev/stdout"], vec![]),
        (root(&named("ENVOY")), vec!["/dev/stdout"], vec![]),
        (root(&named("a")) + &own(&named("b")), vec!["/b"], vec![]),
        (root(&named("a")) + &own(&off("a")), vec![], vec![]),
        (root(&named("a")) + &own("{disabled: true}"), vec![], vec![]),
        (root(&named("a")) + &own(&off("b")), vec![], vec![]),
        (root(&named("a")) + &own(&named("b")) + &selecting(&named("envoy")), vec!["/dev/stdout"], vec![]),
        (root(&[named("a"), named("b")].join(", ")), vec!["/a", "/b"], vec![]),
        (root(&[named("a"), off("a")].join(", ")), vec![], vec![]),
        (root(&[off("a"), named("a")].join(", ")), vec!["/a"], vec![]),
        (root(&filtered("a", "response.code >= 500")), vec!["/a if response.code >= 500"], vec![]),
        (
            root(&filtered("a", "response.code >= 500")) + &own(&filtered("a", "connection.mtls")),
            vec!["/a if connection.mtls"],
            vec![],
        ),
        // What is for servers, for other namespaces and for other workloads is not for this gateway.
        (root("{providers: [{name: a}], match: {mode: SERVER}}"), vec!["/legacy"], vec!["SLU0012"]),
        (telemetry("name: x, namespace: shop", "", &named("a")), vec!["/legacy"], vec!["SLU0011"]),
        (telemetry(ROOT, SELECTS, &named("a")), vec!["/legacy"], vec!["SLU0011"]),
        (
            telemetry(OWN, "selector: {matchLabels: {app: other}}, ", &named("a")),
            vec!["/legacy"],
            vec!["SLU0011"],
        ),
        (
            telemetry(OWN, "targetRefs: [{kind: Service, name: a}], ", &named("a")),
            vec!["/legacy"],
            vec!["SLU0011"],
        ),
        // Names that stand for no log leave the older setting in force.
        (root(&named("nobody")), vec!["/legacy"], vec!["IST0101"]),
        (root(&named("spans")), vec!["/legacy"], vec!["SLU0004"]),
        (root(&named("stackdriver")), vec!["/legacy"], vec!["SLU0004"]),
        (root("{disabled: true}"), vec!["/legacy"], vec!["IST0157"]),
        (root("{filter: {expression: 'response.code > 1'}}"), vec!["/legacy"], vec!["IST0157", "SLU0012"]),
        (
            root(&named("a")) + &telemetry("name: z, namespace: istio-system", "", &named("b")),
            vec!["/a"],
            vec!["IST0160", "IST0160"],
        ),
        (
            selecting(&named("a")) + &telemetry("name: tel, namespace: edge", SELECTS, &named("b")),
            vec!["/b"],
            vec!["IST0159", "IST0159"],
        ),
    ] {
        let text = mesh(&format!("accessLogFile: /legacy\n{PROVIDERS}")) + &documents;
        let translation = translated(&text, LogSettings::default());
        assert_eq!(
            (rules(&translation), codes(&translation)),
            (want.iter().map(ToString::to_string).collect(), found),
            "{documents}"
        );
    }
}

#[test]
fn providers_of_the_mesh_hold_where_telemetry_names_none() {
    let defaults =
        format!("accessLogFile: /legacy\n{PROVIDERS}\ndefaultProviders: {{accessLogging: [a, envoy]}}");
    for (documents, want) in [
        (String::new(), vec!["/a", "/dev/stdout"]),
        (telemetry(ROOT, "", "{disabled: true}"), vec![]),
        (telemetry(ROOT, "", "{providers: [{name: a}], disabled: true}"), vec![]),
        (telemetry(ROOT, "", "{providers: [{name: b}]}"), vec!["/b"]),
    ] {
        let translation = translated(&(mesh(&defaults) + &documents), LogSettings::default());
        assert_eq!(rules(&translation), want, "{documents}");
    }
}

#[test]
fn flags_stand_for_the_meshs_file_and_encoding() {
    let flags =
        |file: Option<&str>, encoding| LogSettings { file: file.map(|it| Path::new(it).into()), encoding };
    let text = Format::text("%DURATION%").unwrap();
    let of_mesh = "accessLogFile: /legacy\naccessLogFormat: '%DURATION%'";
    let envoy = telemetry(ROOT, "", "{providers: [{name: envoy}]}");
    let own_envoy =
        format!("{of_mesh}\nextensionProviders: [{{name: envoy, envoyFileAccessLog: {{path: /own}}}}]");
    for (text_of_mesh, documents, logs, path, format) in [
        (of_mesh, "", flags(None, None), "/legacy", &text),
        (of_mesh, "", flags(Some("/flag"), None), "/flag", &text),
        (of_mesh, "", flags(None, Some(Encoding::Json)), "/legacy", &Format::default_json()),
        (of_mesh, &*envoy, flags(None, None), "/dev/stdout", &text),
        (of_mesh, &*envoy, flags(Some("/flag"), None), "/flag", &text),
        (&*own_envoy, &*envoy, flags(Some("/flag"), None), "/own", &text),
        ("accessLogEncoding: JSON", "", flags(Some("/flag"), None), "/flag", &Format::default_json()),
    ] {
        let translation = translated(&(mesh(text_of_mesh) + documents), logs);
        let rules = translation.snapshot.logging.rules();
        assert_eq!(
            (rules.len(), &*rules[0].path, &*rules[0].format),
            (1, Path::new(path), format),
            "{text_of_mesh}"
        );
    }
    let silent = translated(&mesh("connectTimeout: 1s"), LogSettings::default());
    assert!(silent.snapshot.logging.is_off() && silent.snapshot.logging.tells_unserved());
    let quiet = translated(&mesh("disableEnvoyListenerLog: true"), LogSettings::default());
    assert!(!quiet.snapshot.logging.tells_unserved());
}
