//! Which way requests and connections can take: a row for each route, from its listener to its clusters. All of it is decided by
//! documents and by what the kernel plane can do, so it stays the same between two views; what moves is `traffic`'s.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde::Serialize;

use super::super::dump;
use super::super::view::View;
use super::paging::Page;
use super::query::Query;
use crate::model::{
    ChainAction, Cluster, ClusterName, FilterChain, Fitness, Health, Listener, ListenerKind, Origin, Route,
    RouteAction, RouteTable, TcpRoute, Tier, UpstreamProtocol, VirtualHost, WeightedCluster,
};

/// Destinations of a row that are told of.
const MOST_DESTINATIONS: usize = 8;
/// Listeners that are listed.
const MOST_LISTENERS: usize = 500;
/// Characters of a name.
const LONGEST: usize = 400;

/// A way, as it is walked over; what is shown of it is only made for those on the page.
#[derive(Clone, Copy)]
struct Way<'a> {
    listener: &'a Listener,
    chain: Option<&'a FilterChain>,
    host: Option<&'a VirtualHost>,
    end: End<'a>,
}

#[derive(Clone, Copy)]
enum End<'a> {
    Route(&'a Route),
    HttpsRedirect,
    Bytes(&'a TcpRoute),
    /// No virtual host: every request is answered 404.
    Nothing,
}

/// A way, shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// Address of the listener.
    listener: String,
    /// Server names of the filter chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<String>,
    /// Best tier of the chain or listener, of those for opaque connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<Tier>,
    /// Domain of the virtual host.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// What requests must be like, in short.
    condition: String,
    /// Name of the route, if it has one.
    name: String,
    /// `forward`, `redirect`, `answer`, `carried` or `nothing`.
    action: &'static str,
    /// Of a redirect or answer.
    what: String,
    destinations: Vec<Destination>,
    more_destinations: usize,
    /// Documents and lines responsible.
    origin: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Destination {
    /// Place in `clusters`, and among all in the order of their names; none where no service answers to the name.
    cluster: Option<usize>,
    name: String,
    /// Of 100.
    share: f64,
}

/// A listener, shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListenerRow {
    key: String,
    /// `HTTP`, `TCP` or `TLS`.
    protocol: &'static str,
    /// Whether the kernel carries its new flows.
    steered: bool,
    open: bool,
    /// Which plane, and why, as `sluice proxy-config listeners` says it.
    path: String,
    tier: Option<Tier>,
    /// Ways of it.
    ways: usize,
    origins: Vec<String>,
    limits: Vec<String>,
}

/// A cluster, shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterRow {
    host: String,
    port: u16,
    subset: Option<String>,
    protocol: &'static str,
    tls: bool,
    endpoints: usize,
    rule: Option<String>,
}

/// What is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Topology {
    generation: u64,
    listeners: Vec<ListenerRow>,
    listeners_left_out: usize,
    /// Of the rows, by their places.
    clusters: BTreeMap<usize, ClusterRow>,
    #[serde(flatten)]
    page: Page<Row>,
}

/// With `trouble`, only ways with a destination that is missing or has an endpoint that is not well.
pub(super) fn answer(view: &View, query: &Query) -> Topology {
    let snapshot = &view.snapshot;
    let now = Instant::now();
    let of_listener = |way: &Way<'_>| {
        query.listener.as_ref().is_none_or(|listener| *listener == way.listener.key.to_string())
    };
    let is_wanted = |way: &Way<'_>| {
        of_listener(way)
            && (!query.trouble || way.is_in_trouble(&view.counts.fitness, now))
            && (query.filter.is_empty() || way.fits(query))
    };
    let ways = snapshot.listeners.iter().flat_map(|listener| ways(listener));
    let page = Page::of(query, ways.filter(is_wanted), |way| way);
    let places = places(view, page.rows.iter().flat_map(|way| way.destinations().iter().map(|it| &it.name)));
    let clusters = places.iter().filter_map(|(name, at)| Some((*at, cluster(snapshot.clusters.get(*name)?))));
    Topology {
        generation: snapshot.generation,
        listeners: snapshot.listeners.iter().take(MOST_LISTENERS).map(|it| listener(view, it)).collect(),
        listeners_left_out: snapshot.listeners.len().saturating_sub(MOST_LISTENERS),
        clusters: clusters.collect(),
        page: Page {
            total: page.total,
            offset: page.offset,
            rows: page.rows.into_iter().map(|way| way.row(view, &places)).collect(),
        },
    }
}

/// Where clusters stand among all, in the order of their names.
fn places<'a>(view: &View, wanted: impl Iterator<Item = &'a ClusterName>) -> HashMap<&'a ClusterName, usize> {
    let mut places: HashMap<&ClusterName, usize> = wanted.map(|name| (name, usize::MAX)).collect();
    for (at, name) in view.snapshot.clusters.keys().enumerate() {
        if let Some(place) = places.get_mut(name) {
            *place = at;
        }
    }
    places.retain(|_, place| *place != usize::MAX);
    places
}

fn ways(listener: &Listener) -> Box<dyn Iterator<Item = Way<'_>> + '_> {
    let way = move |chain, end| Way { listener, chain, host: None, end };
    match &listener.kind {
        ListenerKind::Http(table) => Box::new(of_table(listener, None, table)),
        ListenerKind::Tcp(route) => Box::new(std::iter::once(way(None, End::Bytes(route)))),
        ListenerKind::Tls(tls) => Box::new(tls.chains.iter().flat_map(move |chain| {
            let ways: Box<dyn Iterator<Item = Way<'_>>> = match &chain.action {
                ChainAction::TerminateHttp { routes, .. } => {
                    Box::new(of_table(listener, Some(chain), routes))
                }
                ChainAction::TerminateTcp { route, .. } | ChainAction::Passthrough(route) => {
                    Box::new(std::iter::once(way(Some(chain), End::Bytes(route))))
                }
            };
            ways
        })),
    }
}

fn of_table<'a>(
    listener: &'a Listener,
    chain: Option<&'a FilterChain>,
    table: &'a RouteTable,
) -> impl Iterator<Item = Way<'a>> {
    let nothing = table.virtual_hosts.is_empty();
    let nothing = nothing.then_some(Way { listener, chain, host: None, end: End::Nothing });
    let of_host = move |host: &'a VirtualHost| {
        let way = move |end| Way { listener, chain, host: Some(host), end };
        let redirect = host.https_redirect.then(|| way(End::HttpsRedirect));
        // Before a redirect no route is looked at.
        let routes = host.routes.iter().filter(|_| !host.https_redirect);
        redirect.into_iter().chain(routes.map(move |route| way(End::Route(route))))
    };
    nothing.into_iter().chain(table.virtual_hosts.iter().flat_map(of_host))
}

impl<'a> Way<'a> {
    fn destinations(self) -> &'a [WeightedCluster] {
        match self.end {
            End::Route(route) => match &route.action {
                RouteAction::Forward(forward) => &forward.destinations,
                RouteAction::Redirect(_) | RouteAction::Direct(_) => &[],
            },
            End::Bytes(route) => &route.destinations,
            End::HttpsRedirect | End::Nothing => &[],
        }
    }

    fn is_in_trouble(self, fitness: &Fitness, now: Instant) -> bool {
        let is_well = |cluster: &Cluster| {
            let unfit = fitness.unfit(cluster, now);
            let is_unfit = |address| unfit.as_ref().is_some_and(|unfit| unfit.contains(address));
            !cluster.endpoints.is_empty()
                && cluster.endpoints.iter().all(|it| it.health == Health::Healthy && !is_unfit(it.address))
        };
        let destinations = self.destinations().iter();
        destinations.map(|it| it.cluster.as_deref()).any(|cluster| !cluster.is_some_and(is_well))
    }

    fn fits(self, query: &Query) -> bool {
        let mut texts: Vec<Cow<'_, str>> = vec![self.listener.key.to_string().into()];
        texts.extend(self.host.map(|host| host.domain.to_string().into()));
        texts.extend(self.chain.iter().flat_map(|chain| &chain.sni).map(|name| name.to_string().into()));
        if let End::Route(route) = self.end {
            texts.extend([(&*route.name).into(), (&*route.virtual_service).into()]);
            texts.push(dump::condition(route).into());
        }
        texts.extend(self.destinations().iter().map(|destination| (&*destination.name.host).into()));
        query.fits(texts.iter().map(AsRef::as_ref))
    }

    fn row(self, view: &View, places: &HashMap<&ClusterName, usize>) -> Row {
        let destinations = self.destinations();
        let sum: f64 = destinations.iter().map(|it| f64::from(it.weight)).sum();
        let destination = |it: &WeightedCluster| Destination {
            cluster: places.get(&it.name).copied(),
            name: short(&words(&it.name)),
            share: 100.0 * f64::from(it.weight) / sum.max(1.0),
        };
        let (action, what) = self.action();
        let (condition, name) = match self.end {
            End::Route(route) => (dump::condition(route), &*route.name),
            End::HttpsRedirect | End::Nothing => ("/*".to_owned(), ""),
            End::Bytes(_) => ("every connection".to_owned(), ""),
        };
        let limit = view.tier.highest();
        let tier = match self.chain {
            Some(chain) => view.kernel.tier_of(self.listener, &chain.action, limit),
            None => view.kernel.highest_tier(self.listener, limit),
        };
        Row {
            listener: self.listener.key.to_string(),
            sni: self.chain.map(|chain| {
                let names: Vec<_> = chain.sni.iter().map(ToString::to_string).collect();
                short(&names.join(", "))
            }),
            tier,
            host: self.host.map(|host| short(&host.domain.to_string())),
            condition: short(&condition),
            name: short(name),
            action,
            what: short(&what),
            destinations: destinations.iter().take(MOST_DESTINATIONS).map(destination).collect(),
            more_destinations: destinations.len().saturating_sub(MOST_DESTINATIONS),
            origin: self.origin().map(|origin| short(&origin.to_string())),
        }
    }

    fn action(self) -> (&'static str, String) {
        match self.end {
            End::Route(route) => match &route.action {
                RouteAction::Forward(_) => ("forward", String::new()),
                RouteAction::Redirect(redirect) => {
                    let to = [&redirect.scheme, &redirect.authority, &redirect.uri, &redirect.prefix_rewrite];
                    let to: Vec<_> = to.into_iter().flatten().map(String::as_str).collect();
                    ("redirect", format!("{} to {}", redirect.code.as_u16(), to.join(" ")))
                }
                RouteAction::Direct(answer) => ("answer", answer.status.as_u16().to_string()),
            },
            End::HttpsRedirect => ("redirect", "301 to https".to_owned()),
            End::Bytes(_) => ("carried", String::new()),
            End::Nothing => ("nothing", "404: no host is served here".to_owned()),
        }
    }

    fn origin(self) -> Option<&'a Origin> {
        let of_chain = || self.chain.and_then(|chain| chain.origin.as_deref());
        match self.end {
            End::Route(route) => route.origin.as_deref(),
            End::Bytes(route) => route.origin.as_deref().or_else(of_chain),
            End::HttpsRedirect | End::Nothing => {
                of_chain().or_else(|| self.listener.servers.first().map(|server| &*server.origin))
            }
        }
    }
}

fn listener(view: &View, listener: &Listener) -> ListenerRow {
    let limits = [
        (listener.limits.connections, "connections at once"),
        (listener.limits.new_per_second, "new connections a second"),
    ];
    ListenerRow {
        key: listener.key.to_string(),
        protocol: match &listener.kind {
            ListenerKind::Http(_) => "HTTP",
            ListenerKind::Tcp(_) => "TCP",
            ListenerKind::Tls(_) => "TLS",
        },
        steered: view.kernel.steers(listener),
        open: !view.bind_failures.iter().any(|(name, _)| *name == *listener.name),
        path: dump::path(view, listener),
        tier: view.kernel.highest_tier(listener, view.tier.highest()),
        ways: ways(listener).count(),
        origins: listener.servers.iter().take(8).map(|server| short(&server.origin.to_string())).collect(),
        limits: limits.iter().filter_map(|(limit, of)| Some(format!("{} {of}", (*limit)?))).collect(),
    }
}

fn cluster(cluster: &Cluster) -> ClusterRow {
    ClusterRow {
        host: short(&cluster.name.host),
        port: cluster.name.port,
        subset: cluster.name.subset.as_deref().map(short),
        protocol: match cluster.protocol {
            UpstreamProtocol::Http1 => "HTTP/1.1",
            UpstreamProtocol::Http2 => "HTTP/2",
            UpstreamProtocol::Tcp => "TCP",
        },
        tls: cluster.tls.is_some(),
        endpoints: cluster.endpoints.len(),
        rule: cluster.destination_rule.as_deref().map(short),
    }
}

fn words(name: &ClusterName) -> String {
    let subset = name.subset.as_ref().map(|subset| format!(" {subset}")).unwrap_or_default();
    format!("{}:{}{subset}", name.host, name.port)
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}
