//! The snapshot as rows for people, in the manner of `istioctl proxy-config`, each with the object it stands for.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::view::View;
use crate::model::{
    ChainAction, Credential, CredentialProblem, CredentialSource, FilterChain, Health, Listener,
    ListenerKind, PathMatch, Route, RouteTable, ServerTls, StringMatch, TcpRoute, Tier, UpstreamProtocol,
    VirtualHost,
};
use crate::tls::certificate;

/// What can be dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ports, what is done on each, and which plane does it.
    Listeners,
    /// HTTP routes.
    Routes,
    /// Services.
    Clusters,
    /// Their addresses.
    Endpoints,
    /// Certificates.
    Secrets,
}

impl Kind {
    /// Reads the last part of the admin path.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "listeners" => Self::Listeners,
            "routes" => Self::Routes,
            "clusters" => Self::Clusters,
            "endpoints" => Self::Endpoints,
            "secrets" => Self::Secrets,
            _ => return None,
        })
    }

    /// The last part of the admin path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listeners => "listeners",
            Self::Routes => "routes",
            Self::Clusters => "clusters",
            Self::Endpoints => "endpoints",
            Self::Secrets => "secrets",
        }
    }

    /// Column headings.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Listeners => &["ADDRESSES", "PORT", "MATCH", "DESTINATION", "PATH"],
            Self::Routes => &["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"],
            Self::Clusters => &["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"],
            Self::Endpoints => &["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"],
            Self::Secrets => {
                &["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"]
            }
        }
    }
}

/// One row.
#[derive(Debug, Serialize, Deserialize)]
pub struct Item {
    /// What `--name` is compared with.
    pub name: String,
    /// What `--port` is compared with.
    pub port: Option<u16>,
    /// As many as [`Kind::columns`].
    pub cells: Vec<String>,
    /// The whole object; `None` is that of the row before, as a table of ten thousand hosts must not go with each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Value>,
}

/// The rows of a kind.
pub fn items(view: &View, kind: Kind) -> Vec<Item> {
    match kind {
        Kind::Listeners => {
            view.snapshot.listeners.iter().flat_map(|listener| listener_items(view, listener)).collect()
        }
        Kind::Routes => view.snapshot.listeners.iter().flat_map(|listener| route_items(listener)).collect(),
        Kind::Clusters => cluster_items(view),
        Kind::Endpoints => endpoint_items(view),
        Kind::Secrets => secret_items(view),
    }
}

/// The snapshot, and what has become of its endpoints.
pub fn config(view: &View) -> Value {
    let mut whole = object(&*view.snapshot);
    let now = Instant::now();
    let ejected = view.counts.fitness.outliers.ejected(now).into_iter().map(|ejection| {
        let seconds = (ejection.until - now).as_secs_f64();
        serde_json::json!({
            "cluster": ejection.cluster, "endpoint": ejection.endpoint, "ejected_for_seconds": seconds,
        })
    });
    if let Value::Object(fields) = &mut whole {
        fields.insert("ejected".to_owned(), ejected.collect());
        fields.insert("unhealthy".to_owned(), object(&view.counts.fitness.checks.unhealthy()));
    }
    whole
}

fn object(value: &impl Serialize) -> Value {
    // Every type of the model serialises; should one ever fail, the row is still shown.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Which plane carries a listener's connections, and why; and what has been refused there.
pub(super) fn path(view: &View, listener: &Listener) -> String {
    let failure = view.bind_failures.iter().find(|(name, _)| *name == *listener.name);
    let planned = || view.kernel.path(listener.key, &listener.steering);
    let mut path = failure.map_or_else(planned, |(_, reason)| format!("not open ({reason})"));
    if let Some(source) = view.kernel.preserves(listener) {
        let _ = write!(path, ", {source}");
    }
    let refused = view.counts.listeners.refused(&listener.key);
    if refused > 0 {
        let _ = write!(path, ", {refused} over the limit");
    }
    let strangers = view.counts.proxy_headers.of(listener.key);
    if strangers > 0 {
        let _ = write!(path, ", {strangers} without a PROXY header");
    }
    path
}

fn listener_items(view: &View, listener: &Listener) -> Vec<Item> {
    let address = listener.key.bind.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
    let failure = view.bind_failures.iter().find(|(name, _)| *name == *listener.name);
    let path = path(view, listener);
    let refused = view.counts.listeners.refused(&listener.key);
    let strangers = view.counts.proxy_headers.of(listener.key);
    let limit = view.tier.highest();
    let highest = view.kernel.highest_tier(listener, limit);
    let mut whole = object(listener);
    if let Value::Object(fields) = &mut whole {
        fields.insert("path".to_owned(), Value::String(path.clone()));
        fields.insert("refused".to_owned(), refused.into());
        fields.insert("withoutProxyHeader".to_owned(), strangers.into());
        fields.insert("highestTier".to_owned(), object(&highest));
    }
    let mut whole = Some(whole);
    let mut item = |condition: String, destination: String, tier: Option<Tier>| Item {
        name: listener.name.to_string(),
        port: Some(listener.key.port),
        cells: vec![
            address.clone(),
            listener.key.port.to_string(),
            condition,
            destination,
            match tier {
                Some(tier) if tier < Tier::Kernel && failure.is_none() => format!("{path}, up to {tier}"),
                _ => path.clone(),
            },
        ],
        object: whole.take(),
    };
    match &listener.kind {
        ListenerKind::Http(table) => vec![item("ALL".into(), format!("Route: {}", table.name), None)],
        ListenerKind::Tcp(route) => vec![item("ALL".into(), destinations(route), highest)],
        ListenerKind::Tls(tls) => tls
            .chains
            .iter()
            .map(|chain| {
                let names: Vec<_> = chain.sni.iter().map(ToString::to_string).collect();
                let destination = match &chain.action {
                    ChainAction::TerminateHttp { routes, .. } => format!("Route: {}", routes.name),
                    ChainAction::TerminateTcp { route, .. } | ChainAction::Passthrough(route) => {
                        destinations(route)
                    }
                };
                let tier = view.kernel.tier_of(listener, &chain.action, limit);
                item(format!("SNI: {}", names.join(",")), destination, tier)
            })
            .collect(),
    }
}

fn destinations(route: &TcpRoute) -> String {
    let total: u64 = route.destinations.iter().map(|destination| u64::from(destination.weight)).sum();
    let name = |destination: &crate::model::WeightedCluster| match route.destinations.len() {
        1 => format!("Cluster: {}", destination.name),
        _ => {
            format!("Cluster: {} ({}%)", destination.name, u64::from(destination.weight) * 100 / total.max(1))
        }
    };
    route.destinations.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn route_items(listener: &Listener) -> Vec<Item> {
    let mut items = Vec::new();
    for (table, number) in tables(listener) {
        let mut whole = Some(object(table));
        let mut row = |name: &str, domains: &str, condition: &str, from: &str| {
            let name = format!("{name}:{number}");
            let cells = [&*table.name, &name, domains, condition, from];
            items.push(Item {
                name: table.name.to_string(),
                port: Some(listener.key.port),
                cells: cells.map(str::to_owned).into(),
                object: whole.take(),
            });
        };
        for (host, domains) in collapsed(&table.virtual_hosts) {
            let (name, domains) = (&domains[0], shown(&domains));
            if host.https_redirect && host.routes.is_empty() {
                row(name, &domains, "/*", "httpsRedirect");
            }
            for route in host.routes.iter() {
                row(name, &domains, &condition(route), &route.virtual_service);
            }
        }
        if table.virtual_hosts.is_empty() {
            row("blackhole", "*", "/*", "404");
        }
    }
    items
}

/// The tables of a listener, each with the port that the document of its server names.
fn tables(listener: &Listener) -> Vec<(&RouteTable, u16)> {
    let first = listener.servers.first().map_or(listener.key.port, |server| server.number);
    let ListenerKind::Tls(tls) = &listener.kind else {
        return listener.route_tables().map(|table| (table, first)).collect();
    };
    let of_chain = |chain: &FilterChain| {
        let own = listener.servers.iter().find(|server| Some(&server.origin) == chain.origin.as_ref());
        own.map_or(first, |server| server.number)
    };
    let terminating = tls.chains.iter().filter_map(|chain| match &chain.action {
        ChainAction::TerminateHttp { routes, .. } => Some((&**routes, of_chain(chain))),
        ChainAction::TerminateTcp { .. } | ChainAction::Passthrough(_) => None,
    });
    terminating.collect()
}

/// Virtual hosts that share their routes as one, as Istio shows them: a document with a hundred hosts is one.
fn collapsed(hosts: &[VirtualHost]) -> Vec<(&VirtualHost, Vec<String>)> {
    let mut all: Vec<(&VirtualHost, Vec<String>)> = Vec::new();
    let mut known: HashMap<(Vec<*const Route>, bool), usize> = HashMap::new();
    for host in hosts {
        let key = (host.routes.iter().map(Arc::as_ptr).collect(), host.https_redirect);
        let at = *known.entry(key).or_insert(all.len());
        if at == all.len() {
            all.push((host, Vec::new()));
        }
        all[at].1.push(host.domain.to_string());
    }
    all
}

/// At most two domains.
fn shown(domains: &[String]) -> String {
    match domains {
        [first, second, more @ ..] if !more.is_empty() => {
            format!("{first}, {second} + {} more...", more.len())
        }
        domains => domains.join(", "),
    }
}

/// A route's condition in short; `...` where there is more than the path.
pub(super) fn condition(route: &Route) -> String {
    let matcher = &route.matcher;
    let path = match &matcher.path {
        PathMatch::Any => "/*".to_owned(),
        PathMatch::Exact { path, .. } => path.to_string(),
        PathMatch::Prefix { prefix, .. } => format!("{prefix}*"),
        PathMatch::Regex(regex) => format!("regex {}", regex.pattern()),
    };
    let method = match &matcher.method {
        Some(StringMatch::Exact(method)) => format!("{method} "),
        _ => String::new(),
    };
    let more = matcher.scheme.is_some()
        || matcher.authority.is_some()
        || !matcher.headers.is_empty()
        || !matcher.without_headers.is_empty()
        || !matcher.query_params.is_empty();
    format!("{method}{path}{}", if more { " ..." } else { "" })
}

fn cluster_items(view: &View) -> Vec<Item> {
    let clusters = view.snapshot.clusters.values();
    clusters
        .map(|cluster| Item {
            name: cluster.name.host.to_string(),
            port: Some(cluster.name.port),
            cells: vec![
                cluster.name.host.to_string(),
                cluster.name.port.to_string(),
                cluster.name.subset.as_deref().unwrap_or("-").to_owned(),
                "outbound".to_owned(),
                cluster.discovery.as_str().to_owned()
                    + match cluster.protocol {
                        _ if cluster.follows_client => " (as the client)",
                        UpstreamProtocol::Http1 => "",
                        UpstreamProtocol::Http2 => " (HTTP/2)",
                        UpstreamProtocol::Tcp => " (TCP)",
                    },
                cluster.destination_rule.as_deref().unwrap_or_default().to_owned(),
            ],
            object: Some(object(cluster)),
        })
        .collect()
}

fn endpoint_items(view: &View) -> Vec<Item> {
    let (mut items, now) = (Vec::new(), Instant::now());
    let ejected = view.counts.fitness.outliers.ejected(now);
    for cluster in view.snapshot.clusters.values() {
        let failing = view.counts.fitness.checks.failing_of(cluster);
        for endpoint in &cluster.endpoints {
            let failure = failing.as_ref().and_then(|failing| failing.reason(endpoint.address));
            let is_unhealthy = endpoint.health == Health::Healthy && failure.is_some();
            let shown = if is_unhealthy { Health::Unhealthy } else { endpoint.health };
            let mut health = object(&shown).as_str().unwrap_or_default().to_owned();
            if let Some(reason) = failure {
                let _ = write!(health, " ({reason})");
            }
            let ejection = ejected
                .iter()
                .find(|ejection| ejection.endpoint == endpoint.address && ejection.cluster == cluster.name);
            let seconds = ejection.map(|ejection| (ejection.until - now).as_secs_f64());
            let check = seconds.map_or_else(|| "OK".to_owned(), |left| format!("FAILED ({left:.0} s)"));
            items.push(Item {
                name: cluster.name.to_string(),
                port: Some(endpoint.address.port()),
                cells: vec![endpoint.address.to_string(), health, check, cluster.name.to_string()],
                object: Some(serde_json::json!({
                    "address": endpoint.address, "health": shown, "cluster": cluster.name,
                    "ejected_for_seconds": seconds, "failed_check": failure,
                })),
            });
        }
    }
    items
}

fn secret_items(view: &View) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for tls in view.snapshot.listeners.iter().flat_map(|listener| server_tls(listener)) {
        let found = match &tls.credential {
            Ok(credential) => present_secrets(view, credential),
            Err(problem) => vec![missing_secret(problem)],
        };
        for item in found {
            if !items.iter().any(|known| known.name == item.name && known.cells[1] == item.cells[1]) {
                items.push(item);
            }
        }
    }
    items.sort_by(|a, b| a.name.cmp(&b.name));
    items
}

/// Its chains' certificates and whom they trust.
pub(super) fn server_tls(listener: &Listener) -> Vec<&ServerTls> {
    let ListenerKind::Tls(tls) = &listener.kind else { return vec![] };
    tls.chains.iter().filter_map(|chain| Some(&**chain.action.server_tls()?)).collect()
}

fn present_secrets(view: &View, credential: &Credential) -> Vec<Item> {
    let shown = credential.certificates.iter().map(|shown| {
        let object = serde_json::json!(shown);
        present_secret(view, &shown.source, "Cert Chain", &shown.chain, object)
    });
    let authority = credential.client_authority.iter().map(|authority| {
        let object = serde_json::json!(authority);
        present_secret(view, &authority.source, "CA", &authority.bundle, object)
    });
    shown.chain(authority).collect()
}

fn present_secret(
    view: &View,
    source: &CredentialSource,
    kind: &str,
    pem: &[u8],
    credential: serde_json::Value,
) -> Item {
    let words = source.to_string();
    let fault = view.credential_faults.iter().find(|(of, _)| *of == words);
    let facts = certificate::facts(pem, SystemTime::now());
    let status = fault.map_or_else(|| "ACTIVE".to_owned(), |(_, reason)| format!("ERROR: {reason}"));
    let mut cells = vec![source.resource(), kind.to_owned(), status];
    match &facts {
        Some(facts) => cells.extend([
            facts.in_force.to_string(),
            facts.serial.clone(),
            facts.not_after.clone(),
            facts.not_before.clone(),
        ]),
        None => cells.extend(["false".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()]),
    }
    Item {
        name: name(source),
        port: None,
        cells,
        object: Some(serde_json::json!({ "credential": credential, "facts": facts })),
    }
}

/// `namespace/name`, or a path.
fn name(source: &CredentialSource) -> String {
    let (CredentialSource::Secret(name) | CredentialSource::ConfigMap(name) | CredentialSource::File(name)) =
        source;
    name.to_string()
}

fn missing_secret(problem: &CredentialProblem) -> Item {
    let (name, resource) = match problem {
        CredentialProblem::NotFound { credential }
        | CredentialProblem::Unread { credential, .. }
        | CredentialProblem::Unusable { credential, .. } => (name(credential), credential.resource()),
        CredentialProblem::Refused { name, .. } => (name.to_string(), name.to_string()),
    };
    let status = match problem {
        CredentialProblem::NotFound { .. } => "NOT FOUND".to_owned(),
        CredentialProblem::Unread { reason, .. }
        | CredentialProblem::Unusable { reason, .. }
        | CredentialProblem::Refused { reason, .. } => format!("ERROR: {reason}"),
    };
    let dash = || "-".to_owned();
    let cells = vec![resource, "Cert Chain".to_owned(), status, "false".to_owned(), dash(), dash(), dash()];
    Item { name, port: None, cells, object: Some(object(problem)) }
}
