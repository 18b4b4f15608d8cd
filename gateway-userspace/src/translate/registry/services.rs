//! Kubernetes' Services, with the endpoints that slices and WorkloadEntries give them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::api::kubernetes::{Service, ServicePort, TargetPort};
use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced};
use crate::model::{Discovery, Endpoint, Health, UpstreamProtocol};

use super::distribution::Distribution;
use super::endpoints::{self, Group, is_tcp};
use super::visibility::{self, EXPORT_TO, Visibility};
use super::workload::{Workload, Workloads};
use super::{Listed, ListedIn, ListedPort, Memo, Settled};
use crate::translate::memo::{Address, same};
use crate::translate::report::Report;

/// `type` of a Service that is another name for something else.
const ALIAS: &str = "ExternalName";

/// What a Service's document says, with its endpoints.
#[derive(Debug)]
pub(super) struct ListedService {
    /// The documents of its endpoints.
    groups: Vec<Arc<Vec<Group>>>,
    /// `None`: the gateway does not see it.
    listed: Option<Arc<Listed>>,
    findings: Vec<Diagnostic>,
}

/// The Services that the gateway sees.
pub(super) fn list(
    objects: &Objects,
    workloads: &Workloads<'_>,
    visibility: Visibility<'_>,
    (memo, settled): (&mut Memo, Settled),
    report: &mut Report,
) -> Vec<Arc<Listed>> {
    let mut groups = endpoints::by_service(objects, workloads, (memo, settled), report);
    let mut all = Vec::with_capacity(objects.services.len());
    for service in &objects.services {
        let groups = groups.remove(&(&**service.namespace(), &**service.name())).unwrap_or_default();
        let holds = |known: &Arc<ListedService>| settled.workloads && same(&known.groups, &groups);
        let make = |before: Option<&Arc<ListedService>>| {
            let made = ListedService::new(service, groups.clone(), workloads, visibility);
            Arc::new(made.unless_same(before))
        };
        let service = memo.services.get(Address::of(service), holds, make);
        report.extend(&service.findings);
        all.extend(service.listed.clone());
    }
    all
}

impl ListedService {
    fn new(
        service: &Arc<Sourced<Service>>,
        groups: Vec<Arc<Vec<Group>>>,
        workloads: &Workloads<'_>,
        visibility: Visibility<'_>,
    ) -> Self {
        let mut report = Report::default();
        let exports = service.metadata.annotations.get(EXPORT_TO).map_or("", String::as_str);
        let field = FieldPath::metadata().field("annotations").field(EXPORT_TO);
        let is_seen = visibility.shows(&service.source, &visibility::entries(exports), &field, &mut report);
        let listed = is_seen.then(|| {
            let all: Vec<&Group> = groups.iter().flat_map(|groups| groups.iter()).collect();
            Arc::new(of_document(service, &visibility.identity.domain, &all, workloads, &mut report))
        });
        Self { groups, listed, findings: report.finish() }
    }

    /// `None`: the gateway does not see it.
    pub(super) fn listed(&self) -> Option<&Arc<Listed>> {
        self.listed.as_ref()
    }

    /// The documents of its endpoints where some of them, by their addresses, are replaced; `None` if none is.
    pub(super) fn groups_with(
        &self,
        replaced: &HashMap<usize, Arc<Vec<Group>>>,
    ) -> Option<Vec<Arc<Vec<Group>>>> {
        let by = |group: &Arc<Vec<Group>>| replaced.get(&Arc::as_ptr(group).addr());
        let any = self.groups.iter().any(|group| by(group).is_some());
        any.then(|| self.groups.iter().map(|group| by(group).unwrap_or(group).clone()).collect())
    }

    /// The same Service with other endpoints; `None` if something else is to be reported of it then.
    pub(super) fn with_groups(
        self: &Arc<Self>,
        groups: Vec<Arc<Vec<Group>>>,
        workloads: &Workloads<'_>,
        visibility: Visibility<'_>,
    ) -> Option<Self> {
        let Some(listed) = &self.listed else {
            return Some(Self { groups, listed: None, findings: self.findings.clone() });
        };
        let service = listed.document.service.as_ref()?;
        let made = Self::new(service, groups, workloads, visibility).unless_same(Some(self));
        (self.findings == made.findings).then_some(made)
    }

    /// Goes on with what was listed before if it is the same.
    fn unless_same(self, before: Option<&Arc<Self>>) -> Self {
        let listed =
            before.and_then(|before| before.listed.clone()).filter(|it| self.listed.as_ref() == Some(it));
        Self { listed: listed.or(self.listed), ..self }
    }
}

fn of_document(
    service: &Arc<Sourced<Service>>,
    domain: &str,
    groups: &[&Group],
    workloads: &Workloads<'_>,
    report: &mut Report,
) -> Listed {
    let selector = &service.spec.selector;
    let selected: Vec<Workload<'_>> = if selector.is_empty() {
        Vec::new()
    } else {
        workloads.selected_entries(service.namespace(), selector).collect()
    };
    let tcp = |port: &ServicePort| is_tcp(port.protocol.as_deref());
    let mut ports = Vec::new();
    for (at, port) in service.spec.ports.iter().enumerate().filter(|(_, port)| tcp(port)) {
        report_unserved(service, at, port, groups, report);
        let mut endpoints = endpoints::endpoints(port, groups);
        endpoints.extend(selected.iter().filter_map(|workload| of_workload(port, workload)));
        ports.push(ListedPort {
            number: port.port,
            protocol: protocol(port),
            discovery: Discovery::Eds,
            endpoints,
            field: FieldPath::spec().field("ports").index(at),
        });
    }
    let is_alias = service.spec.service_type == ALIAS;
    Listed {
        host: format!("{}.{}.svc.{domain}", service.name(), service.namespace()).into(),
        alias: is_alias.then(|| service.spec.external_name.trim_end_matches('.').to_ascii_lowercase()),
        ports,
        subject_alt_names: Vec::new(),
        distribution: Distribution::of(
            (&service.spec.traffic_distribution, &service.metadata.annotations),
            &service.source,
            report,
        ),
        document: ListedIn { source: service.source.clone(), service: Some(service.clone()) },
    }
}

/// A WorkloadEntry with a name for an address serves ServiceEntries alone.
fn of_workload(port: &ServicePort, workload: &Workload<'_>) -> Option<Endpoint> {
    let address: IpAddr = workload.address.parse().ok()?;
    let own = |name: &str| workload.ports.and_then(|ports| ports.get(name)).copied();
    let number = own(&port.name).or_else(|| match &port.target_port {
        Some(TargetPort::Name(name)) => own(name),
        Some(TargetPort::Number(number)) if *number != 0 => Some(u32::from(*number)),
        _ => None,
    });
    let number = number.map_or(Some(port.port), |number| u16::try_from(number).ok())?;
    Some(workload.endpoint(SocketAddr::new(address, number), Health::Healthy))
}

/// appProtocol, else the part of the port's name before the first dash.
fn protocol(port: &ServicePort) -> UpstreamProtocol {
    let word = match port.app_protocol.as_deref() {
        Some(protocol) if !protocol.is_empty() => protocol,
        _ if port.name.starts_with("grpc-web") => "grpc-web",
        _ => port.name.split('-').next().unwrap_or(""),
    };
    match word.to_ascii_lowercase().as_str() {
        "http2" | "h2c" | "grpc" | "kubernetes.io/h2c" => UpstreamProtocol::Http2,
        // grpc-web is HTTP/1.1 towards its clients and HTTP/2 towards its backends.
        "grpc-web" => UpstreamProtocol::Http2,
        "http" | "kubernetes.io/ws" => UpstreamProtocol::Http1,
        _ => UpstreamProtocol::Tcp,
    }
}

/// Slices tie to a port by its name alone; a slip in it leaves the port without endpoints.
fn report_unserved(
    service: &Sourced<Service>,
    at: usize,
    port: &ServicePort,
    groups: &[&Group],
    report: &mut Report,
) {
    let mut with_ports = groups.iter().filter(|group| !group.is_empty() && !group.ports.is_empty());
    let Some(first) = with_ports.clone().next() else { return };
    if with_ports.any(|group| group.ports.iter().any(|other| other.name == port.name)) {
        return;
    }
    let field = FieldPath::spec().field("ports").index(at).field("name");
    let kind = &first.source.0.reference.kind;
    let message =
        format!("no {kind} of the Service has a port named \"{}\": the port has no endpoints", port.name);
    report.add(
        service
            .diagnostic(Severity::Warning, Code::NoEffect, &field, message)
            .related(first.source.0.related(&first.field, "has other ports"))
            .help(format!("the port in the {kind} must have the name of the Service's port")),
    );
}
