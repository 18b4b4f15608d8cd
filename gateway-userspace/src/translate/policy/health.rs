//! What the annotations of a service's DestinationRules make of its clusters: active health checks.

use crate::api::annotation;
use crate::api::destination_rule::DestinationRule;
use crate::api::health_check::{HEALTH_CHECK, HealthCheckAnnotations, PORTS, Probe as Written};
use crate::api::{Code, Severity, Sourced};
use crate::model::{HealthCheck, Probe};

use crate::translate::report::Report;

/// The check of a port: of several documents that are one, the oldest that asks for any decides.
pub(super) fn check(documents: &[&Sourced<DestinationRule>], port: u16) -> Option<HealthCheck> {
    let (written, probe) = documents.iter().find_map(|document| {
        let mut written = read(document);
        let probe = written.probe.take()?;
        Some((written, probe))
    })?;
    if written.ports.as_ref().is_some_and(|ports| !ports.contains(&port)) {
        return None;
    }
    let default = HealthCheck::new(match probe {
        Written::Tcp => Probe::Tcp,
        Written::Grpc { service } => Probe::Grpc { service: service.into() },
        Written::Http { host, path } => Probe::Http {
            host: host.map(Into::into),
            path: path.into(),
            // Envoy's default.
            expected: written.statuses.unwrap_or_else(|| vec![200..=200]),
        },
    });
    Some(HealthCheck {
        interval: written.interval.unwrap_or(default.interval),
        timeout: written.timeout.unwrap_or(default.timeout),
        healthy_threshold: written.healthy_threshold.unwrap_or(default.healthy_threshold),
        unhealthy_threshold: written.unhealthy_threshold.unwrap_or(default.unhealthy_threshold),
        ..default
    })
}

fn read(document: &Sourced<DestinationRule>) -> HealthCheckAnnotations {
    // What is wrong with them has had the document refused.
    HealthCheckAnnotations::read(&document.metadata.annotations).0
}

/// Of several documents for a host, the first check counts.
pub(super) fn report_doubles(documents: &[&Sourced<DestinationRule>], report: &mut Report) {
    let with_check = documents.iter().filter(|document| read(document).probe.is_some());
    super::first_counts(with_check, (&annotation::field(HEALTH_CHECK), "a health check"), report);
}

/// Ports that are to be checked and that the service does not have.
pub(super) fn report_ports(
    document: &Sourced<DestinationRule>,
    (host, ports): (&str, &[u16]),
    report: &mut Report,
) {
    for asked in read(document).ports.into_iter().flatten().filter(|asked| !ports.contains(asked)) {
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("{host} has no port {asked}, but {list}: there is nothing to be checked");
        let field = annotation::field(PORTS);
        report.add(document.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
    }
}
