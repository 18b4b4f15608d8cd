//! Who has a port: servers of all Gateways meet here, and the oldest one decides what the port speaks.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use crate::api::{Code, FieldPath, Severity};
use crate::model::ListenerKey;

use super::hosts::ServerHost;
use super::report::Report;
use super::select::SelectedServer;

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortKind {
    Http,
    Tcp,
    Tls,
}

impl PortKind {
    fn of(server: &SelectedServer<'_>) -> Self {
        use crate::api::gateway::ProtocolFamily as Family;
        match server.family {
            Family::Http => Self::Http,
            Family::Tcp => Self::Tcp,
            Family::Https | Family::Tls => Self::Tls,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Http => "plaintext HTTP",
            Self::Tcp => "opaque TCP",
            Self::Tls => "TLS",
        }
    }
}

/// A port with the servers that share it, oldest first. Never without one.
#[derive(Debug)]
pub(super) struct Port<'a> {
    pub(super) key: ListenerKey,
    pub(super) kind: PortKind,
    pub(super) servers: Vec<SelectedServer<'a>>,
    /// Which servers have a host, by their places, and where it stands in them: thousands of servers may share a port.
    by_host: HashMap<ServerHost, Vec<(usize, usize)>>,
    /// So many of the servers are found by their hosts.
    indexed: usize,
}

impl<'a> Port<'a> {
    fn new(key: ListenerKey, kind: PortKind, first: SelectedServer<'a>) -> Self {
        Self { key, kind, servers: vec![first], by_host: HashMap::new(), indexed: 0 }
    }

    /// Lets servers be found by their hosts, which nobody asks for on a port of one.
    fn index(&mut self) {
        for (place, server) in self.servers.iter().enumerate().skip(self.indexed) {
            for (at, host) in server.hosts.entries().iter().enumerate() {
                self.by_host.entry(host.clone()).or_default().push((place, at));
            }
        }
        self.indexed = self.servers.len();
    }

    /// The servers that have a host, oldest first, and where it stands in them.
    fn with_host(&self, host: &ServerHost) -> impl Iterator<Item = (usize, &SelectedServer<'a>, usize)> {
        let places = self.by_host.get(host).into_iter().flatten();
        places.map(|(server, at)| (*server, &self.servers[*server], *at))
    }

    /// `<address>_<port>`.
    pub(super) fn listener_name(&self) -> String {
        let address = self.key.bind.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        format!("{address}_{}", self.key.port)
    }

    /// `http.<port>[.<bind>]`.
    pub(super) fn route_name(&self) -> String {
        let mut name = format!("http.{}", self.key.port);
        if let Some(bind) = self.key.bind {
            let _ = write!(name, ".{bind}");
        }
        name
    }
}

/// Puts servers together by port and address, in order of age.
pub(super) fn merge<'a>(
    servers: Vec<(ListenerKey, SelectedServer<'a>)>,
    report: &mut Report,
) -> Vec<Port<'a>> {
    let mut ports: BTreeMap<ListenerKey, Port<'a>> = BTreeMap::new();
    for (key, server) in servers {
        let kind = PortKind::of(&server);
        match ports.get_mut(&key) {
            None => {
                ports.insert(key, Port::new(key, kind, server));
            }
            Some(port) => {
                port.index();
                if join(port, &server, kind, report) {
                    port.servers.push(server);
                }
            }
        }
    }
    ports.into_values().collect()
}

/// Whether a newer server may join a port. Reported when not.
fn join(port: &Port<'_>, server: &SelectedServer<'_>, kind: PortKind, report: &mut Report) -> bool {
    let Some(oldest) = port.servers.first() else { return true };
    if port.kind != kind || kind == PortKind::Tcp {
        protocol_conflict(port, oldest, server, kind, report);
        return false;
    }
    // Istio asks only whether there is a tls block, so that servers with httpsRedirect on a plaintext port fall
    // under this rule too.
    if server.server.tls.is_none() {
        report_shared_hosts(port, server, report);
        return true;
    }
    let claimed = server.hosts.entries().iter().enumerate().filter_map(|(at, host)| {
        let mut with_tls = port.with_host(host).filter(|(_, other, _)| other.server.tls.is_some());
        with_tls.next().map(|(place, other, same)| (place, at, other, same))
    });
    match claimed.min_by_key(|(place, at, ..)| (*place, *at)) {
        Some((_, at, other, same)) => {
            host_conflict((other, same), (server, at), report);
            false
        }
        None => true,
    }
}

/// Plaintext servers may share a host, which `istioctl analyze` calls an error though Istio serves both.
fn report_shared_hosts(port: &Port<'_>, server: &SelectedServer<'_>, report: &mut Report) {
    for (at, host) in server.hosts.entries().iter().enumerate() {
        let mut elsewhere =
            port.with_host(host).filter(|(_, other, _)| !std::ptr::eq(other.gateway, server.gateway));
        let Some((_, other, same)) = elsewhere.next() else { continue };
        let message = format!(
            "host {} of port {} is another Gateway's too: the routes of both are served, the oldest document's first",
            server.server.hosts.get(at).map_or("*", String::as_str),
            server.number
        );
        let hosts = |server: &SelectedServer<'_>, at: usize| server.field().field("hosts").index(at);
        report.add(
            server
                .gateway
                .diagnostic(Severity::Info, Code::ConflictingGateways, &hosts(server, at), message)
                .related(other.gateway.related(&hosts(other, same), "has the host too"))
                .help("leave the host to one of the two if their routes are not meant to mix"),
        );
    }
}

fn protocol_conflict(
    port: &Port<'_>,
    oldest: &SelectedServer<'_>,
    server: &SelectedServer<'_>,
    kind: PortKind,
    report: &mut Report,
) {
    let number = port.key.port;
    let message = if port.kind == kind {
        format!("port {number} is taken: opaque TCP cannot be shared by two servers, and this one is dropped")
    } else {
        let (theirs, ours) = (port.kind.words(), kind.words());
        format!("port {number} speaks {theirs} already: this server, which wants {ours}, is dropped")
    };
    let protocol = |server: &SelectedServer<'_>| server.field().field("port").field("protocol");
    report.add(
        server
            .gateway
            .diagnostic(Severity::Error, Code::ProtocolConflict, &protocol(server), message)
            .related(oldest.gateway.related(&protocol(oldest), "has the port"))
            .help("use another port, or another `bind` address"),
    );
}

fn host_conflict(
    older: (&SelectedServer<'_>, usize),
    newer: (&SelectedServer<'_>, usize),
    report: &mut Report,
) {
    let field =
        |(server, at): (&SelectedServer<'_>, usize)| -> FieldPath { server.field().field("hosts").index(at) };
    let host = newer.0.server.hosts.get(newer.1).map_or("*", String::as_str);
    let whose = if std::ptr::eq(older.0.gateway, newer.0.gateway) { "earlier" } else { "older" };
    let message = format!(
        "host {host} is claimed already by an {whose} server with TLS settings on this port: this server is dropped as \
         a whole, with all its hosts"
    );
    report.add(
        newer
            .0
            .gateway
            .diagnostic(Severity::Error, Code::ConflictingGateways, &field(newer), message)
            .related(older.0.gateway.related(&field(older), "has the host"))
            .help("leave the host to one of the two"),
    );
}
