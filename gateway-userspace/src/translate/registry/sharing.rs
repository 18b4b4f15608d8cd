//! Several documents for one host: a Service and a ServiceEntry of the same name, or two ServiceEntries. Within a namespace
//! they share their endpoints; the first one, and Services come first, says what a port speaks.

use std::collections::HashMap;

use crate::api::{Code, Severity};

use super::{Listed, ListedPort};
use crate::translate::report::Report;

/// One service for each host.
pub(super) fn joined<'a>(listed: Vec<Listed<'a>>, report: &mut Report) -> Vec<Listed<'a>> {
    let mut all: Vec<Listed<'a>> = Vec::with_capacity(listed.len());
    let mut by_host: HashMap<String, usize> = HashMap::new();
    for service in listed {
        if let Some(at) = by_host.get(&service.host) {
            join(&mut all[*at], service, report);
        } else {
            by_host.insert(service.host.clone(), all.len());
            all.push(service);
        }
    }
    all
}

fn join<'a>(first: &mut Listed<'a>, other: Listed<'a>, report: &mut Report) {
    for port in other.ports {
        match first.ports.iter().position(|known| known.number == port.number) {
            None => first.ports.push(port),
            Some(at) if first.namespace == other.namespace => {
                if first.ports[at].protocol != port.protocol {
                    let message = format!(
                        "port {} of {} speaks something else in an older document, which counts",
                        port.number, other.host
                    );
                    report_second((first, at), (&other.source, &port), message, report);
                }
                first.ports[at].endpoints.extend(port.endpoints);
            }
            Some(at) => {
                let message = format!(
                    "port {} of {} is another namespace's already: this one takes no effect",
                    port.number, other.host
                );
                report_second((first, at), (&other.source, &port), message, report);
            }
        }
    }
}

fn report_second(
    (first, at): (&Listed<'_>, usize),
    (source, port): (&&crate::api::Source, &ListedPort),
    message: String,
    report: &mut Report,
) {
    report.add(
        source
            .diagnostic(Severity::Warning, Code::NoEffect, &port.field, message)
            .related(first.source.related(&first.ports[at].field, "is in force")),
    );
}
