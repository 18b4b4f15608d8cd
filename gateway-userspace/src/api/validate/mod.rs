//! What a single document must fulfil, in Istio's words; an error refuses the document as a whole.

mod balance;
mod cipher_suite;
mod client_tls;
mod cors;
mod delegate;
mod destination_rule;
mod fault;
mod gateway;
mod headers;
mod host;
mod http;
mod l4;
mod mesh_config;
mod mirror;
mod pool;
mod retry;
mod rows;
mod server_tls;
mod service_entry;
mod telemetry;
mod text;
mod unsupported;
mod virtual_service;

pub use cipher_suite::{CipherChoice, key_groups};
pub use destination_rule::destination_rule;
pub use fault::grpc_status;
pub use gateway::gateway;
pub use headers::is_authority;
pub use http::ANY;
pub use mesh_config::mesh_config;
pub use server_tls::{certificate_hash, spki_hash};
pub use service_entry::{service_entry, workload_entry};
pub use telemetry::telemetry;
pub use unsupported::{Unsupported, unsupported_fields};
pub use virtual_service::virtual_service;

use std::time::Duration;

use super::diagnostic::{Code, Diagnostic, Severity};
use super::duration::DurationText;
use super::object::Source;
use super::path::FieldPath;

/// Collects what is found in a document.
struct Findings<'a> {
    source: &'a Source,
    list: Vec<Diagnostic>,
}

impl<'a> Findings<'a> {
    fn new(source: &'a Source) -> Self {
        Self { source, list: Vec::new() }
    }

    fn error(&mut self, field: &FieldPath, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, Code::SchemaValidation, field, message)
    }

    fn warning(&mut self, field: &FieldPath, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Warning, Code::SchemaWarning, field, message)
    }

    fn add(
        &mut self,
        severity: Severity,
        code: Code,
        field: &FieldPath,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let at = self.list.len();
        self.list.push(self.source.diagnostic(severity, code, field, message));
        &mut self.list[at]
    }

    /// An error with what to do about it.
    fn error_with_help(&mut self, field: &FieldPath, message: impl Into<String>, help: &str) {
        self.error(field, message).help = Some(help.to_owned());
    }

    /// Reports what is wrong with a host's name.
    fn check_host(&mut self, field: &FieldPath, outcome: Result<(), String>) {
        if let Err(message) = outcome {
            self.error_with_help(field, message, host::HELP);
        }
    }

    /// Reports what a check found wrong.
    fn check(&mut self, field: &FieldPath, outcome: Result<(), String>) {
        if let Err(message) = outcome {
            self.error(field, message);
        }
    }
}

/// A duration that is given: at least 1 ms and in whole ones.
fn check_duration(found: &mut Findings<'_>, field: &FieldPath, duration: Option<DurationText>) {
    let Some(DurationText(duration)) = duration else { return };
    if duration < Duration::from_millis(1) {
        found.error(field, "duration must be greater than 1ms");
    } else if duration.subsec_nanos() % 1_000_000 != 0 {
        found.error(field, "only durations to ms precision are supported");
    }
}

/// A port number that must be there.
fn check_port(found: &mut Findings<'_>, field: &FieldPath, number: u32) {
    if !(1..=65535).contains(&number) {
        let message = format!("port number {number} must be in the range 1..65535");
        found.error_with_help(field, message, "give the port its number, such as `number: 443`");
    }
}

#[cfg(test)]
mod tests;
