//! Whether the gateway sees a service: `exportTo`, judged against the gateway's own namespace.

use crate::api::{Code, FieldPath, Severity, Source};
use crate::model::GatewayIdentity;

use crate::translate::report::Report;

/// Annotation of a Service that says what `exportTo` says elsewhere, separated by commas.
pub(super) const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Whom services are shown to.
#[derive(Clone, Copy)]
pub(super) struct Visibility<'a> {
    pub(super) identity: &'a GatewayIdentity,
    /// Where a service says nothing; empty: to all.
    pub(super) default: &'a [String],
}

impl Visibility<'_> {
    /// Whether a service of a document is shown to the gateway; reports one that hides itself.
    pub(super) fn shows(
        &self,
        source: &Source,
        export_to: &[&str],
        field: &FieldPath,
        report: &mut Report,
    ) -> bool {
        let own = *source.reference.namespace == *self.identity.namespace;
        let sees = |entry: &str| match entry {
            "*" => true,
            "." => own,
            namespace => namespace == self.identity.namespace,
        };
        if export_to.is_empty() {
            return self.default.is_empty() || self.default.iter().any(|entry| sees(entry));
        }
        let is_seen = export_to.iter().any(|entry| sees(entry));
        if !is_seen {
            let message = format!(
                "not exported to {}, the gateway's namespace: no route finds it here",
                self.identity.namespace
            );
            report.add(source.diagnostic(Severity::Warning, Code::NoEffect, field, message));
        }
        is_seen
    }
}

/// The entries of the annotation.
pub(super) fn entries(annotation: &str) -> Vec<&str> {
    annotation.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect()
}
