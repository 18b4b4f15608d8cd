//! From documents to the snapshot: pure and never failing as a whole. What Istio does in silence (a server
//! dropped, a rule that can never match) has the same effect here and is reported with both documents' lines.
//!
//! The order of the steps, each in its file: `select` (which Gateways are for us), `ports` (where they listen
//! really), `merge` (who has a port), `bind` (which VirtualServices they carry, with the rules that `delegate` finds for them), then per port `http`, `tcp` and
//! `tls`, which look clusters up in `registry` (made with the DestinationRules that `policy` finds) and secrets in
//! `credential`.

mod annotations;
mod bind;
mod credential;
mod delegate;
mod destination;
mod discovery;
mod filters;
mod hosts;
mod http;
mod http_settings;
mod levels;
mod logging;
mod matching;
mod memo;
mod merge;
mod metrics;
mod origin;
mod policy;
mod ports;
mod reach;
mod registry;
mod report;
mod route;
mod select;
mod steering;
mod surroundings;
mod tcp;
mod tls;
mod usage;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::{Diagnostic, MeshConfig, Objects};
use crate::model::{Files, GatewayIdentity, Listener, ListenerKind, Resolved, Snapshot, SourceAddress};

use annotations::ListenerSettings;
use bind::Bindings;
pub(crate) use bind::full_name;
use credential::Credentials;
pub use discovery::discovered;
use memo::{Kept, same};
use merge::{Port, PortKind};
use registry::{Registry, Settled, Workloads};
use report::Report;
use route::{Compiled, Recipe};
pub use surroundings::{LogSettings, Surroundings};

/// What documents mean.
#[derive(Debug, Default)]
pub struct Translation {
    /// What the gateway does.
    pub snapshot: Snapshot,
    /// Names outside the cluster whose addresses the snapshot wants; those in the surroundings are in it already.
    pub names: BTreeSet<String>,
    /// What is odd about the documents together, in a stable order and each thing once.
    pub diagnostics: Vec<Diagnostic>,
}

/// Translates sound documents for one gateway. The same objects in the same surroundings give the same result.
pub fn translate(objects: &Objects, surroundings: &Surroundings, generation: u64) -> Translation {
    Translator::default().translate(&Arc::new(objects.clone()), surroundings, generation)
}

/// Translates one set of documents after the other. What it keeps in between saves work and changes no result: whatever is
/// made from the same documents as the last time is the same object.
#[derive(Debug, Default)]
pub struct Translator {
    /// Holds the documents that the memos know by their addresses.
    objects: Arc<Objects>,
    resolved: Resolved,
    files: Files,
    /// What holds for all documents.
    everywhere: (GatewayIdentity, MeshConfig),
    registry: registry::Memo,
    bindings: bind::Memo,
    compiled: Kept<Recipe, Arc<Compiled>>,
}

impl Translator {
    /// See [`translate`].
    pub fn translate(
        &mut self,
        objects: &Arc<Objects>,
        surroundings: &Surroundings,
        generation: u64,
    ) -> Translation {
        let Surroundings { identity, mesh, .. } = surroundings;
        if self.everywhere.0 != *identity || self.everywhere.1 != *mesh {
            *self = Self { everywhere: (identity.clone(), mesh.clone()), ..Self::default() };
        }
        let mut report = Report::default();
        let workloads = Workloads::new(objects);
        let known = (self.resolved == surroundings.resolved, self.files == surroundings.files);
        let settled = Settled::between(&self.objects, objects, known);
        let memo = (&mut self.registry, settled);
        let registry = Registry::new((&self.objects, objects), &workloads, surroundings, memo, &mut report);
        let gateways = select::gateways(objects, identity, &mut report);
        let servers = ports::resolve(&gateways, (objects, &workloads), identity, &mut report);
        let ports = merge::merge(servers, &mut report);
        let memo = (&mut self.bindings, same(&self.objects.gateways, &objects.gateways));
        let context = Context {
            identity,
            mesh,
            registry,
            credentials: Credentials::new(objects, surroundings),
            bindings: Bindings::new(objects, identity, &gateways, memo, &mut report),
            compiled: RefCell::new(std::mem::take(&mut self.compiled)),
        };
        let listeners =
            ports.iter().filter_map(|port| listener(&context, port, &mut report)).map(Arc::new).collect();
        context.bindings.report_unused(&mut report);
        let http = http_settings::settings(mesh);
        let levels = levels::applicable(objects, &surroundings.identity, &mut report);
        let logging = Arc::new(logging::logging(&levels, surroundings, &mut report));
        let metrics = Arc::new(metrics::rules(&levels, &mut report));
        let clusters = context.registry.clusters().clone();
        let exposures = ports::exposures(objects, identity);
        let snapshot = Snapshot { generation, listeners, clusters, http, logging, metrics, exposures };
        let names = context.registry.names().clone();
        self.compiled = context.compiled.into_inner();
        self.bindings.end_round();
        self.compiled.end_round();
        self.objects = objects.clone();
        self.resolved.clone_from(&surroundings.resolved);
        self.files.clone_from(&surroundings.files);
        Translation { snapshot, names, diagnostics: report.finish() }
    }
}

/// What every step after merging looks things up in.
struct Context<'a> {
    identity: &'a GatewayIdentity,
    mesh: &'a MeshConfig,
    registry: Registry,
    credentials: Credentials<'a>,
    bindings: Bindings<'a>,
    /// Routes of earlier translations, and of this one.
    compiled: RefCell<Kept<Recipe, Arc<Compiled>>>,
}

fn listener(context: &Context<'_>, port: &Port<'_>, report: &mut Report) -> Option<Listener> {
    let settings = annotations::of_port(port, report);
    let kind = match port.kind {
        PortKind::Http => {
            let table = http::port_table(context, port, report).with_grpc_web(settings.grpc_web);
            ListenerKind::Http(Arc::new(table))
        }
        PortKind::Tcp => ListenerKind::Tcp(Arc::new(tcp::port_route(context, port, report)?)),
        PortKind::Tls => ListenerKind::Tls(tls::port_chains(context, (port, settings.grpc_web), report)?),
    };
    let topology = context.mesh.default_config.gateway_topology;
    let behind_proxy = topology.is_some_and(|topology| topology.proxy_protocol.is_some());
    let steering = steering::steering(port.key, &kind, (behind_proxy, settings.proxy_protocol));
    annotations::report_unfulfilled(port, settings, (&steering, behind_proxy), report);
    let ListenerSettings { source_address, proxy_protocol, limits, .. } = settings;
    // The client that connects is the proxy.
    let source_address = if behind_proxy { SourceAddress::Snat } else { source_address };
    Some(Listener {
        name: port.listener_name().into(),
        key: port.key,
        kind,
        steering,
        source_address,
        proxy_protocol,
        behind_proxy,
        limits,
        servers: port.servers.iter().map(origin::of_server).collect(),
    })
}

#[cfg(test)]
mod tests;
