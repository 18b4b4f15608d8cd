//! MeshConfig. It is a text within a document, so that all findings are at the text.

use std::collections::BTreeSet;

use crate::api::diagnostic::{Code, Diagnostic, Severity};
use crate::api::mesh_config::{
    ELSEWHERE, FileAccessLog, MeshConfig, NOT_OBEYED, PROXY_NOT_OBEYED, SERVED, TlsDefaults,
};
use crate::api::object::Source;
use crate::api::path::FieldPath;
use crate::api::yaml::{Content, Node};

use super::balance::check_locality;
use super::{Findings, cipher_suite, retry};

/// Checks the text at a field, which was read as a tree and as what is obeyed of it.
pub fn mesh_config(
    source: &Source,
    field: &FieldPath,
    (root, mesh): (&Node, &MeshConfig),
) -> Vec<Diagnostic> {
    let mut found = Findings::new(source);
    check_names(&mut found, field, root);
    check_proxy_config(&mut found, field, root);
    check_access_logs(&mut found, field, mesh);
    if let Some(retries) = &mesh.default_http_retry_policy {
        let field = field.field("defaultHttpRetryPolicy");
        retry::check_retries(&mut found, &field, retries);
    }
    if let Some(defaults) = &mesh.tls_defaults {
        check_tls_defaults(&mut found, field, defaults);
    }
    if let Some(setting) = &mesh.locality_lb_setting {
        check_locality(&mut found, field, setting);
    }
    found.list
}

/// Says of each field that has no effect why.
fn check_names(found: &mut Findings<'_>, field: &FieldPath, root: &Node) {
    let Content::Mapping(entries) = &root.content else { return };
    for name in entries.iter().map(|entry| entry.key.as_str()) {
        let elsewhere = ELSEWHERE.iter().find(|(field, _)| *field == name);
        if let Some((_, why)) = elsewhere {
            let message = format!("{name} has no effect here");
            found.add(Severity::Info, Code::NoEffect, field, message).help = Some((*why).to_owned());
        } else if NOT_OBEYED.contains(&name) {
            not_supported(found, field, name);
        } else if !SERVED.contains(&name) {
            // istiod reads on too.
            found.warning(field, format!("unknown field \"{name}\""));
        }
    }
}

fn not_supported(found: &mut Findings<'_>, field: &FieldPath, name: &str) {
    let message = format!("{name} is not yet supported: it has no effect here");
    found.add(Severity::Warning, Code::NotSupported, field, message);
}

/// The same for `defaultConfig`, of which gateways obey one field.
fn check_proxy_config(found: &mut Findings<'_>, field: &FieldPath, root: &Node) {
    let Some(config) = root.get("defaultConfig").map(|entry| &entry.value) else { return };
    let Content::Mapping(entries) = &config.content else { return };
    for name in entries.iter().map(|entry| entry.key.as_str()).filter(|name| *name != "gatewayTopology") {
        let name = format!("defaultConfig.{name}");
        if PROXY_NOT_OBEYED.iter().any(|field| name.ends_with(field)) {
            not_supported(found, field, &name);
            continue;
        }
        let message = format!("{name} has no effect here");
        found.add(Severity::Info, Code::NoEffect, field, message).help =
            Some("it is about Envoy and its agent".to_owned());
    }
    let topology = config.get("gatewayTopology").map(|entry| &entry.value.content);
    let Some(Content::Mapping(entries)) = topology else { return };
    for name in entries.iter().map(|entry| entry.key.as_str()) {
        match name {
            "numTrustedProxies" | "forwardClientCertDetails" | "proxyProtocol" => {}
            other => {
                found.warning(field, format!("unknown field \"defaultConfig.gatewayTopology.{other}\""));
            }
        }
    }
}

fn check_access_logs(found: &mut Findings<'_>, field: &FieldPath, mesh: &MeshConfig) {
    let help = "which operators there are is in docs/telemetry.md";
    if let Err(error) = mesh.log_format() {
        found.error_with_help(field, format!("accessLogFormat: {error}"), help);
    }
    for (at, provider) in mesh.extension_providers.iter().enumerate() {
        if let Some(Err(error)) = provider.envoy_file_access_log.as_ref().map(FileAccessLog::format) {
            let place = format!("extensionProviders[{at}].envoyFileAccessLog.logFormat");
            found.error_with_help(field, format!("{place}: {error}"), help);
        }
    }
}

fn check_tls_defaults(found: &mut Findings<'_>, field: &FieldPath, defaults: &TlsDefaults) {
    cipher_suite::check(found, field, &defaults.cipher_suites);
    let (mut seen, mut duplicate) = (BTreeSet::new(), BTreeSet::new());
    for name in &defaults.ecdh_curves {
        if !seen.insert(name.as_str()) {
            duplicate.insert(name.as_str());
        }
    }
    let unknown: Vec<&str> = seen.into_iter().filter(|name| !cipher_suite::is_group(name)).collect();
    let duplicate: Vec<&str> = duplicate.into_iter().collect();
    for (what, names) in [("unrecognized", unknown), ("duplicate", duplicate)] {
        if !names.is_empty() {
            found.warning(field, format!("detected {what} ECDH curves: [{}]", names.join(" ")));
        }
    }
    let lacking = cipher_suite::key_groups(&defaults.ecdh_curves).is_some_and(|groups| groups.is_empty());
    if lacking {
        let message = "tlsDefaults.ecdhCurves: none of them is supported: the TLS library's are used";
        found.add(Severity::Warning, Code::NotSupported, field, message).help =
            Some("X25519, P-256, P-384 and X25519MLKEM768 are there".to_owned());
    }
}
