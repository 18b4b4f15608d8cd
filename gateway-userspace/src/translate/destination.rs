//! From `destination` to clusters and their shares.

use crate::api::virtual_service::{Destination, RouteDestination};
use crate::api::{Code, Diagnostic, FieldPath, Severity};
use crate::model::{ClusterName, WeightedCluster};

use super::Context;
use super::bind::{Bound, full_name};
use super::report::Report;

/// Destinations with their weights, in document order.
pub(super) type Weighted<'a> = Vec<(Option<&'a Destination>, i32)>;

/// Those of a `tcp` or `tls` rule.
pub(super) fn of_l4(route: &[RouteDestination]) -> Weighted<'_> {
    route.iter().map(|destination| (destination.destination.as_ref(), destination.weight)).collect()
}

/// The clusters with the index of each in the document. A lone destination counts whatever its weight; of
/// several, those of weight 0 are left out.
pub(super) fn resolve(
    context: &Context<'_>,
    bound: &Bound,
    field: &FieldPath,
    destinations: &Weighted<'_>,
    server_port: u16,
    report: &mut Report,
) -> Vec<(usize, WeightedCluster)> {
    let alone = destinations.len() == 1;
    let mut clusters = Vec::with_capacity(destinations.len());
    for (at, (destination, weight)) in destinations.iter().enumerate() {
        let weight = if alone { 1 } else { u32::try_from(*weight).unwrap_or(0) };
        let Some(destination) = destination else { continue };
        let field = field.index(at).field("destination");
        // One of weight 0 is looked up too: a slip in it should be known before it gets its share.
        let cluster = cluster(context, bound, &field, destination, (weight, server_port), report);
        if weight > 0 {
            clusters.push((at, cluster));
        }
    }
    clusters
}

fn cluster(
    context: &Context<'_>,
    bound: &Bound,
    field: &FieldPath,
    destination: &Destination,
    (weight, server_port): (u32, u16),
    report: &mut Report,
) -> WeightedCluster {
    let (name, ports) = look_up(context, bound, destination, server_port);
    let cluster = context.registry.cluster(&name).cloned();
    if cluster.is_none() {
        let help = match weight {
            0 => {
                "nothing comes here while the weight is 0; with a weight, requests would be answered with 503 (flag NC)"
            }
            _ => "requests that come here are answered with 503 (flag NC), connections are closed",
        };
        let found = missing(bound, field, destination, &name, ports, Role::Destination);
        report.add(found.help(help));
    }
    WeightedCluster { name, cluster, weight }
}

/// The cluster that gets copies of a rule's requests.
pub(super) fn of_mirror(
    context: &Context<'_>,
    bound: &Bound,
    field: &FieldPath,
    (destination, server_port): (&Destination, u16),
    report: &mut Report,
) -> WeightedCluster {
    let (name, ports) = look_up(context, bound, destination, server_port);
    let cluster = context.registry.cluster(&name).cloned();
    if cluster.is_none() {
        let found = missing(bound, field, destination, &name, ports, Role::Mirror);
        report.add(found.help("requests are served as if the mirror were not there: nobody gets copies"));
    }
    WeightedCluster { name, cluster, weight: 1 }
}

/// What a destination is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Destination,
    Mirror,
}

/// The name of a destination's cluster, and the ports of its service.
fn look_up<'a>(
    context: &'a Context<'_>,
    bound: &Bound,
    destination: &Destination,
    server_port: u16,
) -> (ClusterName, Option<&'a [u16]>) {
    let host = full_name(&destination.host, bound.document.namespace(), &context.identity.domain);
    let host = host.to_ascii_lowercase();
    let ports = context.registry.ports(&host);
    let written = destination.port.as_ref().and_then(|port| u16::try_from(port.number).ok());
    let port = written.unwrap_or(match ports {
        Some([only]) => *only,
        _ => server_port,
    });
    let subset = Some(destination.subset.as_str()).filter(|subset| !subset.is_empty());
    // Clusters are the aliased service's, whatever name it is called by.
    let behind = context.registry.behind(&host);
    let name = ClusterName { host: behind.into(), port, subset: subset.map(Into::into) };
    (name, context.registry.ports(behind))
}

fn missing(
    bound: &Bound,
    field: &FieldPath,
    destination: &Destination,
    name: &ClusterName,
    ports: Option<&[u16]>,
    role: Role,
) -> Diagnostic {
    let (the_host, the_subset) = match role {
        Role::Destination => ("host", "host+subset"),
        Role::Mirror => ("mirror host", "mirror+subset"),
    };
    let error = |code, field: &FieldPath, message: String| {
        bound.document.diagnostic(Severity::Error, code, field, message)
    };
    let host = &destination.host;
    match ports {
        None => {
            let shown = if *host == *name.host { host.clone() } else { format!("{host} ({})", name.host) };
            error(
                Code::ReferencedResourceNotFound,
                &field.field("host"),
                format!("Referenced {the_host} not found: \"{shown}\""),
            )
        }
        // A subset is one of a port.
        Some(ports) if !destination.subset.is_empty() && ports.contains(&name.port) => error(
            Code::ReferencedResourceNotFound,
            &field.field("subset"),
            format!(
                "Referenced {the_subset} in destinationrule not found: \"{host}+{}\"",
                destination.subset
            ),
        ),
        Some(ports) if destination.port.is_none() && ports.len() > 1 => {
            let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            error(
                Code::DestinationNeedsPort,
                field,
                format!(
                    "This VirtualService routes to a service \"{host}\" that exposes multiple ports. Specifying a port \
                     in the destination is required to disambiguate: {list}"
                ),
            )
        }
        Some(_) => error(
            Code::ReferencedResourceNotFound,
            &field.field("port").field("number"),
            format!("Referenced host:port not found: \"{host}:{}\"", name.port),
        ),
    }
}
