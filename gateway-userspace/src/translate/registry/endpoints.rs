//! The endpoints that EndpointSlices name.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::api::kubernetes::{Conditions, EndpointSlice, ServicePort};
use crate::api::{Code, FieldPath, Objects, Severity, Sourced};
use crate::model::{Endpoint, Health};

use crate::translate::report::Report;

/// Ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The slices of each Service, by its namespace and name.
pub(super) fn by_service<'a>(
    objects: &'a Objects,
    report: &mut Report,
) -> HashMap<(&'a str, &'a str), Vec<&'a Sourced<EndpointSlice>>> {
    let mut slices: HashMap<(&str, &str), Vec<&Sourced<EndpointSlice>>> = HashMap::new();
    for slice in &objects.endpoint_slices {
        if let Some(service) = slice.metadata.labels.get(SERVICE_NAME) {
            slices.entry((slice.namespace(), service)).or_default().push(slice);
        } else {
            report_orphan(slice, report);
        }
    }
    slices
}

fn report_orphan(slice: &Sourced<EndpointSlice>, report: &mut Report) {
    let field = FieldPath::metadata().field("labels");
    let message = format!("the EndpointSlice has no label {SERVICE_NAME}: it belongs to no Service");
    report.add(slice.diagnostic(Severity::Warning, Code::NoEffect, &field, message));
}

pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP"))
}

pub(super) fn endpoints(
    port: &ServicePort,
    slices: &[&Sourced<EndpointSlice>],
    report: &mut Report,
) -> Vec<Endpoint> {
    let mut found: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for slice in slices {
        let labels = Arc::new(slice.metadata.labels.clone());
        let ports = slice.spec.ports.iter().filter(|p| p.name == port.name && is_tcp(p.protocol.as_deref()));
        let numbers: Vec<u16> = ports.filter_map(|port| port.port).filter(|port| *port != 0).collect();
        for (at, endpoint) in slice.spec.endpoints.iter().enumerate() {
            let Some(written) = endpoint.addresses.first() else { continue };
            let Ok(address) = written.parse::<IpAddr>() else {
                report_address(slice, at, written, report);
                continue;
            };
            for number in &numbers {
                let address = SocketAddr::new(address, *number);
                let endpoint = Endpoint {
                    labels: labels.clone(),
                    ..Endpoint::new(address, health(&endpoint.conditions))
                };
                // The same address in two slices, as while one replaces another: the better state counts.
                let slot = found.entry(address).or_insert_with(|| endpoint.clone());
                if endpoint.health == Health::Healthy {
                    *slot = endpoint;
                }
            }
        }
    }
    found.into_values().collect()
}

fn report_address(slice: &Sourced<EndpointSlice>, at: usize, written: &str, report: &mut Report) {
    let field = FieldPath::root().field("endpoints").index(at).field("addresses").index(0);
    let message = format!("\"{written}\" is not an IP address: the endpoint is left out");
    report.add(slice.diagnostic(Severity::Warning, Code::NotSupported, &field, message));
}

/// An absent `ready` is ready; an absent `serving` is what `ready` is.
fn health(conditions: &Conditions) -> Health {
    let ready = conditions.ready.unwrap_or(true);
    if conditions.terminating == Some(true) {
        return if conditions.serving.unwrap_or(ready) { Health::Draining } else { Health::Unhealthy };
    }
    if ready { Health::Healthy } else { Health::Unhealthy }
}
