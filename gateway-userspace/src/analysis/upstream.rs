//! TLS towards backends that cannot begin: files that are not there, certificates and keys that cannot be used.

use std::sync::Arc;

use crate::api::{Code, DestinationRule, Diagnostic, FieldPath, Objects, Severity, Sourced};
use crate::model::UpstreamTls;
use crate::tls::ClientFault;

/// What is wrong, at the policies that ask for it. What is wrong with Secrets themselves has been said by `translate`.
pub(super) fn report(objects: &Objects, faults: &[(Arc<UpstreamTls>, ClientFault)]) -> Vec<Diagnostic> {
    let faults = faults.iter().filter(|(_, fault)| !matches!(fault, ClientFault::Credential(_)));
    let mut found = Vec::new();
    for (policy, fault) in faults {
        let diagnostic = diagnostic(objects, policy, fault);
        // Ports and subsets of a service share a policy.
        if !found.contains(&diagnostic) {
            found.push(diagnostic);
        }
    }
    found
}

fn diagnostic(objects: &Objects, policy: &UpstreamTls, fault: &ClientFault) -> Diagnostic {
    let (severity, code, message) = (Severity::Error, Code::UpstreamTlsUnusable, fault.to_string());
    let found = match rule(objects, policy) {
        Some((rule, field)) => rule.diagnostic(severity, code, &field, message),
        None => Diagnostic::new(severity, code, message),
    };
    found.help(
        "requests to the host are answered with 503 until it is mended and the documents are read again (SIGHUP); a \
         running gateway goes on with what it had; nothing is sent in the clear meanwhile",
    )
}

/// The document with a policy's place in it.
fn rule<'a>(objects: &'a Objects, policy: &UpstreamTls) -> Option<(&'a Sourced<DestinationRule>, FieldPath)> {
    let is_its = |rule: &&Sourced<DestinationRule>| {
        *policy.destination_rule == format!("{}.{}", rule.name(), rule.namespace())
    };
    let rule = objects.destination_rules.iter().map(AsRef::as_ref).find(is_its)?;
    let mut field = FieldPath::root();
    for step in policy.field.split('.') {
        let (name, index) = step.split_once('[').unwrap_or((step, ""));
        field = field.field(name);
        if let Ok(index) = index.trim_end_matches(']').parse() {
            field = field.index(index);
        }
    }
    Some((rule, field))
}
