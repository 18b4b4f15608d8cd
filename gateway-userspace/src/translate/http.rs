//! Virtual hosts of a plaintext port or of an HTTPS server.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{HostMap, HostPattern, RouteTable, VirtualHost};

use super::Context;
use super::bind::own_name;
use super::memo::Address;
use super::merge::Port;
use super::report::Report;
use super::route::{self, Compiled};
use super::select::SelectedServer;

/// One table for all plaintext servers of a port.
pub(super) fn port_table(context: &Context<'_>, port: &Port<'_>, report: &mut Report) -> RouteTable {
    let mut table = Table { is_shared: port.servers.len() > 1, ..Table::default() };
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
    let mut table = Table::default();
    table.add_server(context, server, report);
    table.finish(&server_name("https", server))
}

/// `https.<number>.<portName>.<gateway>.<namespace>`.
pub(super) fn server_name(prefix: &str, server: &SelectedServer<'_>) -> String {
    let (namespace, name) = own_name(server.gateway);
    format!("{prefix}.{}.{}.{name}.{namespace}", server.number, server.port_name())
}

#[derive(Default)]
struct Table {
    hosts: Vec<Host>,
    by_domain: HostMap<u32>,
    /// Rules are compiled once for a Gateway and a VirtualService, at the first server that uses them, as in
    /// Istio.
    compiled: HashMap<(Address, usize), Arc<Compiled>>,
    /// Whether several servers may use them.
    is_shared: bool,
}

/// A virtual host with all that was written for its domain, oldest first.
struct Host {
    domain: HostPattern,
    written: Vec<Arc<Compiled>>,
    https_redirect: bool,
}

impl Table {
    fn add_server(&mut self, context: &Context<'_>, server: &SelectedServer<'_>, report: &mut Report) {
        for (index, bound) in context.bindings.of(server) {
            let domains = domains(server, bound.document.namespace(), &bound.hosts);
            if domains.is_empty() {
                continue;
            }
            let compiled = self.compiled(context, index, server, report);
            if compiled.routes.is_empty() {
                continue;
            }
            for domain in domains {
                let host = self.host(domain);
                host.written.push(compiled.clone());
                host.https_redirect |= server.redirects_to_https();
            }
        }
        if server.redirects_to_https() {
            // Sticky for each of the server's hosts, and it needs no VirtualService.
            for entry in server.hosts.entries() {
                self.host(entry.pattern.clone()).https_redirect = true;
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
        let compiled = self.compiled.entry((Address::of(server.gateway), index));
        compiled.or_insert_with(|| route::compiled(context, index, server, report)).clone()
    }

    fn host(&mut self, domain: HostPattern) -> &mut Host {
        let next = self.hosts.len();
        let at = *self.by_domain.get_or_insert(&domain, next as u32) as usize;
        if at == next {
            self.hosts.push(Host { domain, written: Vec::new(), https_redirect: false });
        }
        &mut self.hosts[at]
    }

    fn finish(self, name: &str) -> RouteTable {
        let hosts = self.hosts.into_iter().map(Host::finish).collect();
        RouteTable::indexed(name.into(), hosts, self.by_domain)
    }
}

impl Host {
    /// Catch-alls go behind the other routes of their host, else keeping their order.
    fn finish(self) -> VirtualHost {
        let routes = match self.written.as_slice() {
            // Most hosts are one document's; they share its list.
            [only] => only.routes.clone(),
            several => {
                let parts = || several.iter().map(|compiled| compiled.parts());
                let ordinary = parts().flat_map(|(ordinary, _)| ordinary);
                Arc::new(ordinary.chain(parts().flat_map(|(_, last)| last)).cloned().collect())
            }
        };
        VirtualHost { domain: self.domain, routes, https_redirect: self.https_redirect }
    }
}

/// The narrower of each pair of a server's hosts and a VirtualService's, each once.
fn domains(server: &SelectedServer<'_>, namespace: &str, hosts: &[HostPattern]) -> Vec<HostPattern> {
    let mut seen = HashSet::new();
    let common = hosts.iter().flat_map(|host| server.hosts.meet(host, namespace));
    common.filter(|domain| seen.insert(domain.clone())).collect()
}
