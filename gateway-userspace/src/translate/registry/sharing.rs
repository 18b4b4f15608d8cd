//! Several documents for one host: a Service and a ServiceEntry of the same name, or two ServiceEntries. Within a namespace
//! they share their endpoints; the first one, and Services come first, says what a port speaks.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::api::{Code, Severity};

use super::{Listed, ListedPort};
use crate::translate::report::Report;

/// The documents of each host, hosts in the order of their first ones.
pub(super) fn by_host(listed: Vec<Arc<Listed>>) -> Vec<Vec<Arc<Listed>>> {
    let mut all: Vec<Vec<Arc<Listed>>> = Vec::with_capacity(listed.len());
    let mut by_host: HashMap<Arc<str>, usize> = HashMap::with_capacity(listed.len());
    for service in listed {
        let at = *by_host.entry(service.host.clone()).or_insert(all.len());
        match all.get_mut(at) {
            Some(parts) => parts.push(service),
            None => all.push(vec![service]),
        }
    }
    all
}

/// The ports of one host.
pub(super) fn joined<'p>(parts: &'p [Arc<Listed>], report: &mut Report) -> Cow<'p, [ListedPort]> {
    let Some((first, others)) = parts.split_first() else { return Cow::default() };
    let mut ports: Cow<'_, [ListedPort]> = first.ports.as_slice().into();
    // Whose each port is.
    let mut owners: Vec<&Listed> = vec![first; ports.len()];
    for other in others {
        for port in &other.ports {
            match ports.iter().position(|known| known.number == port.number) {
                None => {
                    ports.to_mut().push(port.clone());
                    owners.push(other);
                }
                Some(at) => join((&mut ports.to_mut()[at], owners[at]), first, (port, other), report),
            }
        }
    }
    ports
}

fn join(
    (known, owner): (&mut ListedPort, &Listed),
    first: &Listed,
    (port, other): (&ListedPort, &Listed),
    report: &mut Report,
) {
    let (number, host) = (port.number, &other.host);
    let mut say = |message: String| {
        let finding = other.source().diagnostic(Severity::Warning, Code::NoEffect, &port.field, message);
        report.add(finding.related(owner.source().related(&known.field, "is in force")));
    };
    if first.namespace() != other.namespace() {
        say(format!("port {number} of {host} is another namespace's already: this one takes no effect"));
        return;
    }
    if known.protocol != port.protocol {
        say(format!("port {number} of {host} speaks something else in an older document, which counts"));
    }
    known.endpoints.extend(port.endpoints.iter().cloned());
}
