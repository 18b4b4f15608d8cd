//! MeshConfig. It is a text within a document, so that all findings are at the text.

use std::collections::BTreeSet;

use crate::api::diagnostic::{Code, Diagnostic, Severity};
use crate::api::mesh_config::{MeshConfig, TlsDefaults};
use crate::api::object::Source;
use crate::api::path::FieldPath;

use super::balance::check_locality;
use super::{Findings, cipher_suite};

/// Checks the text at a field, which was read.
pub fn mesh_config(source: &Source, field: &FieldPath, mesh: &MeshConfig) -> Vec<Diagnostic> {
    let mut found = Findings::new(source);
    if let Some(defaults) = &mesh.tls_defaults {
        check_tls_defaults(&mut found, field, defaults);
    }
    if let Some(setting) = &mesh.locality_lb_setting {
        check_locality(&mut found, field, setting);
    }
    found.list
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
    if !defaults.cipher_suites.is_empty() || !defaults.ecdh_curves.is_empty() {
        let message = "tlsDefaults: cipherSuites and ecdhCurves hold for TLS that ends at the gateway, not for TLS to backends";
        found.add(Severity::Info, Code::NoEffect, field, message).help =
            Some("nothing, if the backends take the TLS library's own choice".to_owned());
    }
    let lacking = cipher_suite::key_groups(&defaults.ecdh_curves).is_some_and(|groups| groups.is_empty());
    if lacking {
        let message = "tlsDefaults.ecdhCurves: none of them is supported: the TLS library's are used";
        found.add(Severity::Warning, Code::NotSupported, field, message).help =
            Some("X25519, P-256, P-384 and X25519MLKEM768 are there".to_owned());
    }
}
