//! Virtual hosts of a plaintext port or of an HTTPS server.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::api::{Code, Severity};
use crate::model::{HostMap, HostPattern, RouteList, RouteTable, VirtualHost};

use super::Context;
use super::bind::own_name;
use super::memo::Address;
use super::merge::Port;
use super::report::Report;
use super::route::{self, Compiled};
use super::select::SelectedServer;

/// One table for all plaintext servers of a port.
pub(super) fn port_table(context: &Context<'_>, port: &Port<'_>, report: &mut Report) -> RouteTable {
    let mut table = Table::of(port.servers.len());
    for server in &port.servers {
        table.add_server(context, server, report);
    }
    table.finish(&port.route_name())
}

/// Each HTTPS server has its own: a Host of another server is not found here.
pub(super) fn server_table(
    context: &Context<'_>,
    server: &SelectedServer<'_>,
    report: &mut Report,
) -> RouteTable {
    let mut table = Table::of(1);
    table.add_server(context, server, report);
    table.finish(&server_name("https", server))
}

/// `https.<number>.<portName>.<gateway>.<namespace>[.<bind>]`.
pub(super) fn server_name(prefix: &str, server: &SelectedServer<'_>) -> String {
    let (namespace, name) = own_name(server.gateway);
    let bind = server.bind.map(|ip| format!(".{ip}")).unwrap_or_default();
    format!("{prefix}.{}.{}.{name}.{namespace}{bind}", server.number, server.port_name())
}

#[derive(Default)]
struct Table {
    hosts: Vec<VirtualHost>,
    by_domain: HostMap<u32>,
    /// What was written for hosts of several documents or servers, oldest first.
    several: BTreeMap<usize, Vec<RouteList>>,
    /// Rules are compiled once for a Gateway and a VirtualService, at the first server that uses them, as in
    /// Istio.
    compiled: HashMap<(Address, usize), Arc<Compiled>>,
    /// Whether several servers may use them.
    is_shared: bool,
}

impl Table {
    fn of(servers: usize) -> Self {
        Self { is_shared: servers > 1, ..Self::default() }
    }

    fn add_server(&mut self, context: &Context<'_>, server: &SelectedServer<'_>, report: &mut Report) {
        let bound = context.bindings.of(server);
        self.hosts.reserve(bound.len());
        self.by_domain.reserve(bound.len());
        let mut any_domain = false;
        for (index, bound) in bound {
            let domains = domains(server, bound.document.namespace(), &bound.hosts);
            if domains.is_empty() {
                continue;
            }
            let compiled = self.compiled(context, index, server, report);
            if compiled.routes.is_empty() {
                continue;
            }
            any_domain = true;
            for domain in domains {
                let at = self.host(domain);
                self.write(at, &compiled.routes);
                self.hosts[at].https_redirect |= server.redirects_to_https();
            }
        }
        if server.redirects_to_https() {
            // Sticky for each of the server's hosts, and it needs no VirtualService; those that are one namespace's need one of
            // it, as at Istio's gateway.
            for entry in server.hosts.entries().iter().filter(|entry| entry.namespace.is_none()) {
                let at = self.host(entry.pattern.clone());
                self.hosts[at].https_redirect = true;
            }
            if !any_domain {
                report_unredirected(server, report);
            }
        }
    }

    fn compiled(
        &mut self,
        context: &Context<'_>,
        index: usize,
        server: &SelectedServer<'_>,
        report: &mut Report,
    ) -> Arc<Compiled> {
        if !self.is_shared {
            return route::compiled(context, index, server, report);
        }
        let key = (Address::of(server.gateway), index);
        if let Some(compiled) = self.compiled.get(&key) {
            return compiled.clone();
        }
        let compiled = route::compiled(context, index, server, report);
        // One with no rule for this server's port may have some for another's.
        if !compiled.routes.is_empty() {
            self.compiled.insert(key, compiled.clone());
        }
        compiled
    }

    fn host(&mut self, domain: HostPattern) -> usize {
        let next = self.hosts.len();
        let at = *self.by_domain.get_or_insert(&domain, next as u32) as usize;
        if at == next {
            self.hosts.push(VirtualHost { domain, routes: RouteList::default(), https_redirect: false });
        }
        at
    }

    /// Most hosts are one document's; they share its list.
    fn write(&mut self, at: usize, routes: &RouteList) {
        let host = &mut self.hosts[at];
        if host.routes.is_empty() {
            host.routes = routes.clone();
        } else {
            let all = self.several.entry(at).or_insert_with(|| vec![host.routes.clone()]);
            all.push(routes.clone());
        }
    }

    /// Catch-alls go behind the other routes of their host, else keeping their order.
    fn finish(mut self, name: &str) -> RouteTable {
        for (at, written) in self.several {
            let ordinary = written.iter().flat_map(RouteList::ordinary);
            let catch_alls = written.iter().flat_map(RouteList::catch_alls);
            self.hosts[at].routes = ordinary.chain(catch_alls).cloned().collect();
        }
        RouteTable::indexed(name.into(), self.hosts, self.by_domain)
    }
}

/// Hosts of a namespace are redirected by what its VirtualServices say of them.
fn report_unredirected(server: &SelectedServer<'_>, report: &mut Report) {
    let mut entries = server.hosts.entries().iter().enumerate();
    let Some((at, entry)) = entries.find(|(_, entry)| entry.namespace.is_some()) else { return };
    let namespace = entry.namespace.as_deref().unwrap_or_default();
    let message =
        format!("no VirtualService of namespace {namespace} has {}: it is not redirected", entry.pattern);
    let field = server.field().field("hosts").index(at);
    let finding = server.gateway.diagnostic(Severity::Warning, Code::NoEffect, &field, message);
    report.add(finding.help("leave the namespace out to redirect the host whoever has it"));
}

/// The narrower of each pair of a server's hosts and a VirtualService's, each once.
fn domains(server: &SelectedServer<'_>, namespace: &str, hosts: &[HostPattern]) -> Vec<HostPattern> {
    let mut common: Vec<HostPattern> =
        hosts.iter().flat_map(|host| server.hosts.meet(host, namespace)).collect();
    if common.len() > 1 {
        let mut seen = HashSet::new();
        common.retain(|domain| seen.insert(domain.clone()));
    }
    common
}
