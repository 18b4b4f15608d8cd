//! ServiceEntries: services that documents describe whole, with their endpoints.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::api::service_entry::{EntryPort, Resolution, ServiceEntry};
use crate::api::{Code, Diagnostic, FieldPath, Objects, Severity, Sourced};
use crate::model::{Discovery, Endpoint, Health, Resolved, UpstreamProtocol};

use super::distribution::Distribution;
use super::visibility::Visibility;
use super::workload::{self, Workload, Workloads};
use super::{Listed, ListedIn, ListedPort, Memo, Settled};
use crate::translate::memo::Address;
use crate::translate::report::Report;

/// What a ServiceEntry's document says.
#[derive(Debug)]
pub(super) struct ListedEntry {
    /// A service for each host; none if the gateway does not see it.
    listed: Vec<Arc<Listed>>,
    /// Names that have to be resolved.
    names: BTreeSet<String>,
    findings: Vec<Diagnostic>,
}

/// The services of the ServiceEntries that the gateway sees, and names that have to be resolved.
pub(super) fn list(
    objects: &Objects,
    workloads: &Workloads<'_>,
    from: (Visibility<'_>, &Resolved),
    (memo, settled): (&mut Memo, Settled),
    report: &mut Report,
) -> (Vec<Arc<Listed>>, BTreeSet<String>) {
    let (mut listed, mut names) = (Vec::new(), BTreeSet::new());
    for document in &objects.service_entries {
        let make = |before: Option<&Arc<ListedEntry>>| {
            Arc::new(ListedEntry::new(document, workloads, from).unless_same(before))
        };
        let holds = settled.workloads && settled.names;
        let entry = memo.entries.get(Address::of(document), |_| holds, make);
        report.extend(&entry.findings);
        listed.extend(entry.listed.iter().cloned());
        names.extend(entry.names.iter().cloned());
    }
    (listed, names)
}

impl ListedEntry {
    fn new(
        document: &Sourced<ServiceEntry>,
        workloads: &Workloads<'_>,
        (visibility, resolved): (Visibility<'_>, &Resolved),
    ) -> Self {
        let (mut report, mut listed, mut names) = (Report::default(), Vec::new(), BTreeSet::new());
        let entry = &document.spec;
        let exports: Vec<&str> = entry.export_to.iter().map(String::as_str).collect();
        let field = FieldPath::spec().field("exportTo");
        if visibility.shows(&document.source, &exports, &field, &mut report) {
            report_addressless(document, &mut report);
            let endpoints = workloads_of(document, workloads, &mut report);
            let said = ("", &document.metadata.annotations);
            let distribution = Distribution::of(said, &document.source, &mut report);
            for host in &entry.hosts {
                let host = host.to_ascii_lowercase();
                let ports = entry.ports.iter().enumerate().filter(|(_, port)| is_tcp(port));
                let names = &mut names;
                let mut source = AddressSource { entry, host: &host, endpoints: &endpoints, resolved, names };
                let ports = ports.filter_map(|(at, port)| source.port(at, port)).collect();
                let document = ListedIn { source: document.source.clone(), service: None };
                let subject_alt_names = entry.subject_alt_names.clone();
                let host = host.into();
                let alias = None;
                listed.push(Arc::new(Listed {
                    host,
                    alias,
                    ports,
                    subject_alt_names,
                    distribution,
                    document,
                }));
            }
        }
        Self { listed, names, findings: report.finish() }
    }

    /// Goes on with what was listed before where it is the same.
    fn unless_same(mut self, before: Option<&Arc<Self>>) -> Self {
        let before = before.map_or(&[][..], |before| &before.listed);
        for (now, before) in self.listed.iter_mut().zip(before).filter(|(now, before)| now == before) {
            now.clone_from(before);
        }
        self
    }
}

fn is_tcp(port: &EntryPort) -> bool {
    !port.protocol.eq_ignore_ascii_case("UDP")
}

fn is_by_name(entry: &ServiceEntry) -> bool {
    matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
}

/// Without a `resolution`, connections go where the client wanted to go, which is the gateway itself.
fn report_addressless(document: &Sourced<ServiceEntry>, report: &mut Report) {
    if document.spec.resolution == Resolution::None {
        let field = FieldPath::spec().field("resolution");
        let message = "NONE is of use to sidecars alone: a gateway knows no address of such a service";
        report.add(
            document
                .diagnostic(Severity::Info, Code::NoEffect, &field, message)
                .help("requests that a gateway routes here are answered with 503; say `resolution: DNS`"),
        );
    }
}

/// The endpoints as written, or those that the selector means.
fn workloads_of<'a>(
    document: &'a Sourced<ServiceEntry>,
    workloads: &Workloads<'a>,
    report: &mut Report,
) -> Vec<Workload<'a>> {
    let entry = &document.spec;
    let Some(selector) = &entry.workload_selector else {
        return entry.endpoints.iter().map(|it| workload::of_entry(it, &document.source)).collect();
    };
    if entry.resolution == Resolution::None {
        return Vec::new();
    }
    let mut selected = workloads.selected(document.namespace(), &selector.labels);
    selected.retain(|workload| {
        let is_usable = is_by_name(entry) || workload.address.parse::<IpAddr>().is_ok();
        if !is_usable {
            report_name(workload, document, report);
        }
        is_usable
    });
    selected
}

fn report_name(workload: &Workload<'_>, document: &Sourced<ServiceEntry>, report: &mut Report) {
    let message = format!(
        "\"{}\" is not an IP address: {}, which selects it, does not get it as an endpoint",
        workload.address,
        document.reference()
    );
    let resolution = FieldPath::spec().field("resolution");
    report.add(
        workload
            .source
            .diagnostic(Severity::Warning, Code::NoEffect, &FieldPath::spec().field("address"), message)
            .related(document.related(&resolution, "resolves no names"))
            .help("the ServiceEntry needs `resolution: DNS`"),
    );
}

/// Makes endpoints of one host.
struct AddressSource<'s, 'a> {
    entry: &'s ServiceEntry,
    host: &'s str,
    endpoints: &'s [Workload<'a>],
    resolved: &'s Resolved,
    names: &'s mut BTreeSet<String>,
}

impl AddressSource<'_, '_> {
    fn port(&mut self, at: usize, port: &EntryPort) -> Option<ListedPort> {
        Some(ListedPort {
            number: u16::try_from(port.number).ok()?,
            protocol: protocol(port),
            discovery: match self.entry.resolution {
                Resolution::Dns => Discovery::StrictDns,
                Resolution::DnsRoundRobin => Discovery::LogicalDns,
                _ => Discovery::Eds,
            },
            endpoints: self.endpoints(port),
            field: FieldPath::spec().field("ports").index(at),
        })
    }

    fn endpoints(&mut self, port: &EntryPort) -> Vec<Endpoint> {
        let by_name = is_by_name(self.entry);
        if by_name && self.endpoints.is_empty() && self.entry.workload_selector.is_none() {
            let number = if port.target_port == 0 { port.number } else { port.target_port };
            let host = self.host;
            let addresses = self.addresses(host);
            let address = |ip| Some(SocketAddr::new(ip, u16::try_from(number).ok()?));
            let endpoint = |address| Endpoint::new(address, Health::Healthy);
            return addresses.into_iter().filter_map(address).map(endpoint).collect();
        }
        let mut found = Vec::new();
        for workload in self.endpoints {
            let Some(number) = number(port, workload) else { continue };
            let address = |ip| workload.endpoint(SocketAddr::new(ip, number), Health::Healthy);
            found.extend(self.addresses(workload.address).into_iter().map(address));
        }
        found
    }

    /// What an address or a name stands for. Of a name that is resolved in turns, one address, and the same one as long
    /// as the name stands for it.
    fn addresses(&mut self, name: &str) -> Vec<IpAddr> {
        if let Ok(address) = name.parse() {
            return vec![address];
        }
        self.names.insert(Resolved::folded(name));
        let all = self.resolved.addresses(name);
        let one = self.entry.resolution == Resolution::DnsRoundRobin;
        all.iter().copied().take(if one { 1 } else { usize::MAX }).collect()
    }
}

/// The endpoint's own port of that name, else `targetPort`, else the port's number.
fn number(port: &EntryPort, workload: &Workload<'_>) -> Option<u16> {
    let own = workload.ports.and_then(|ports| ports.get(&port.name)).copied();
    let number = own.filter(|number| *number != 0).unwrap_or(match port.target_port {
        0 => port.number,
        target => target,
    });
    u16::try_from(number).ok()
}

fn protocol(port: &EntryPort) -> UpstreamProtocol {
    match port.protocol.to_ascii_uppercase().as_str() {
        "HTTP2" | "GRPC" | "GRPC-WEB" => UpstreamProtocol::Http2,
        "HTTP" | "HTTP_PROXY" => UpstreamProtocol::Http1,
        _ => UpstreamProtocol::Tcp,
    }
}
