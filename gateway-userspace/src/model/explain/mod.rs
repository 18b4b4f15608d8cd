//! Why a request goes where it goes: the proxy's own look-ups, asked one after the other, each with the document that is
//! responsible, and for a miss with what came nearest. Pure; who is ejected comes from outside.

mod described;
mod endpoints;
mod filters;
mod nearest;
mod words;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, WeightedCluster};
use super::listener::{ChainAction, FilterChain, ListenerKey, ListenerKind, TcpRoute};
use super::origin::Origin;
use super::path_form::PathForm;
use super::route::{RequestHead, Route, RouteAction, RouteTable};
use super::snapshot::Snapshot;

pub use described::{Described, header};

/// A request that nobody has sent yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// The port that a client asks for: the listener's own, or the one of a Gateway that leads to it.
    pub port: u16,
    /// The address it asks, where listeners have addresses of their own.
    pub address: Option<IpAddr>,
    /// Whether the client begins with a ClientHello.
    pub tls: bool,
    /// The server name in it.
    pub sni: Option<String>,
    /// Such as `GET`.
    pub method: String,
    /// Host header or `:authority`.
    pub authority: String,
    /// Without query; in normal form once it is asked.
    pub path: String,
    /// Without `?`.
    pub query: Option<String>,
    /// All others, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Who asks.
    pub client: Option<IpAddr>,
}

/// Of a question whose path has no form that rules could see.
pub const UNREADABLE: &str = "the path is answered 400: it cannot be normalised";

impl Question {
    /// The question with its path as rules see it.
    pub fn in_form(self, form: PathForm) -> Option<Self> {
        let path = form.of(&self.path)?.into_owned();
        Some(Self { path, ..self })
    }

    fn head<'a>(&'a self, headers: &'a HeaderMap) -> RequestHead<'a> {
        RequestHead {
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            scheme: if self.tls { "https" } else { "http" },
            authority: &self.authority,
            headers,
        }
    }

    /// As rules see them: a `host` line among them, as HTTP/1 sends it, and the scheme as it is.
    fn header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        let host = Some(("host".to_owned(), self.authority.clone()));
        let scheme = if self.tls { "https" } else { "http" };
        let scheme = Some(("x-forwarded-proto".to_owned(), scheme.to_owned()));
        let ours = ["host", "x-forwarded-proto"];
        let given = self.headers.iter().filter(|(name, _)| !ours.contains(&name.as_str())).cloned();
        for (name, value) in host.into_iter().chain(scheme).chain(given) {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
                map.append(name, value);
            }
        }
        map
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Nothing listens: the connection is refused.
    Refused,
    /// The connection is reset, or closed before any answer.
    Reset,
    /// 404, flag NR.
    NoRoute,
    /// A redirect.
    Redirect,
    /// An answer of the route's own.
    Direct,
    /// Sent to a backend.
    Forward,
    /// Bytes are carried to a backend unread.
    Carried,
    /// 503: a destination, or the only one, does not exist (NC) or has no endpoint (UH). Connections are closed.
    Unavailable,
}

/// A stage of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The port.
    Listener,
    /// What a server name chooses on a TLS port.
    FilterChain,
    /// What a Host header chooses.
    VirtualHost,
    /// What path, headers and the like choose.
    Route,
    /// A service, port and subset.
    Cluster,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Listener => "listener",
            Self::FilterChain => "filter chain",
            Self::VirtualHost => "virtual host",
            Self::Route => "route",
            Self::Cluster => "cluster",
        })
    }
}

/// What was looked up at a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// What was found; `None` is where the way ends.
    pub found: Option<String>,
    /// Documents and lines responsible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What was looked at and did not fit: what stands before the one found, or what came nearest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<Miss>,
}

/// Something that did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Miss {
    /// What.
    pub name: String,
    /// Where it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Why not.
    pub why: String,
}

/// The whole way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What becomes of the request.
    pub outcome: Outcome,
    /// The same in a sentence.
    pub summary: String,
    /// In order.
    pub steps: Vec<Step>,
}

/// Endpoints of a cluster that may be chosen at the moment.
pub type Available<'a> = &'a dyn Fn(&Cluster) -> Vec<SocketAddr>;

/// Whether a chain that ends TLS has a certificate to show at the moment: a Secret may be there and no good, or be gone and
/// its certificate still in force.
pub type Terminates<'a> = &'a dyn Fn(ListenerKey, &FilterChain) -> bool;

/// What a snapshot does not say.
#[derive(Clone, Copy)]
pub struct State<'a> {
    /// Who may be chosen.
    pub available: Available<'a>,
    /// Who can end TLS.
    pub terminates: Terminates<'a>,
}

impl<'a> State<'a> {
    /// Where nothing runs, and whatever is named as a certificate is taken for one.
    pub fn of_documents(available: Available<'a>) -> Self {
        Self {
            available,
            terminates: &|_, chain| chain.action.server_tls().is_none_or(|tls| tls.credential.is_ok()),
        }
    }
}

/// Follows a request through a snapshot.
pub fn decide(snapshot: &Snapshot, question: &Question, state: State<'_>) -> Explanation {
    let headers = question.header_map();
    let mut way = Way { snapshot, question, headers: &headers, state, steps: Vec::new() };
    let (outcome, summary) = way.listener();
    Explanation { outcome, summary, steps: way.steps }
}

type End = (Outcome, String);

struct Way<'a> {
    snapshot: &'a Snapshot,
    question: &'a Question,
    headers: &'a HeaderMap,
    state: State<'a>,
    steps: Vec<Step>,
}

impl<'a> Way<'a> {
    fn listener(&mut self) -> End {
        let port = self.question.port;
        let Some(listener) = nearest::listener(self.snapshot, self.question) else {
            let passed_over = nearest::ports(self.snapshot);
            self.missed(Stage::Listener, passed_over);
            return (Outcome::Refused, format!("nothing listens on port {port}: the connection is refused"));
        };
        let mut step = found(Stage::Listener, &listener.name);
        step.origins = listener.servers.iter().map(|server| server.origin.to_string()).collect();
        step.notes = words::listener(listener, port);
        self.steps.push(step);
        match (&listener.kind, self.question.tls) {
            (ListenerKind::Http(table), false) => self.virtual_host(table),
            (ListenerKind::Http(_), true) => {
                (Outcome::Reset, format!("port {port} speaks HTTP in clear: a TLS handshake fails here"))
            }
            (ListenerKind::Tcp(route), _) => self.bytes(route),
            (ListenerKind::Tls(tls), true) => {
                let sni = self.question.sni.as_deref();
                match tls.select(sni) {
                    Some(chain) => self.chain(listener.key, chain),
                    None => self.no_chain(&tls.chains),
                }
            }
            (ListenerKind::Tls(_), false) => {
                (Outcome::Reset, format!("port {port} speaks TLS: cleartext HTTP is reset here"))
            }
        }
    }

    fn no_chain(&mut self, chains: &[Arc<FilterChain>]) -> End {
        let sni = self.question.sni.as_deref();
        self.missed(Stage::FilterChain, nearest::chains(chains, sni));
        let name = sni.map_or_else(|| "a ClientHello without a name".to_owned(), |sni| format!("`{sni}`"));
        (Outcome::Reset, format!("no server of the port has {name}: the connection is reset"))
    }

    fn chain(&mut self, listener: ListenerKey, chain: &'a FilterChain) -> End {
        let mut step = found(Stage::FilterChain, &chain.name);
        step.origins = place(chain.origin.as_ref());
        let terminates = (self.state.terminates)(listener, chain);
        step.notes = words::chain(chain, terminates);
        self.steps.push(step);
        match &chain.action {
            ChainAction::TerminateHttp { .. } | ChainAction::TerminateTcp { .. } if !terminates => {
                (Outcome::Reset, "the chain has no usable certificate: the connection is reset".to_owned())
            }
            ChainAction::TerminateHttp { routes, .. } => self.virtual_host(routes),
            ChainAction::TerminateTcp { route, .. } | ChainAction::Passthrough(route) => self.bytes(route),
        }
    }

    fn virtual_host(&mut self, table: &'a RouteTable) -> End {
        let authority = &self.question.authority;
        let Some(host) = table.virtual_host(authority) else {
            let passed_over = nearest::hosts(self.snapshot, table, authority);
            self.missed(Stage::VirtualHost, passed_over);
            return (Outcome::NoRoute, format!("no virtual host of {} has `{authority}`: 404", table.name));
        };
        let mut step = found(Stage::VirtualHost, &host.domain.to_string());
        step.notes.push(format!("of route table {}", table.name));
        self.steps.push(step);
        let head = self.question.head(self.headers);
        if host.https_redirect && head.scheme == "http" {
            let summary = "httpsRedirect of the server: 301 to the same URL with https, before any route";
            return (Outcome::Redirect, summary.to_owned());
        }
        let Some(route) = host.route(&head) else {
            self.missed(Stage::Route, nearest::routes(&host.routes, &head));
            return (Outcome::NoRoute, format!("no route of {} fits: 404", host.domain));
        };
        let before = host.routes.iter().map(Arc::as_ref).take_while(|other| !std::ptr::eq(*other, route));
        let mut step = found(Stage::Route, &words::route_name(route));
        step.origins = place(route.origin.as_ref());
        step.notes = words::route(route);
        step.notes.extend(filters::notes(&route.filters));
        step.passed_over = before.filter_map(|other| nearest::miss(other, &head)).collect();
        self.steps.push(step);
        self.action(route)
    }

    fn action(&mut self, route: &Route) -> End {
        match &route.action {
            RouteAction::Redirect(redirect) => {
                (Outcome::Redirect, format!("the route redirects with {}", redirect.code.as_u16()))
            }
            RouteAction::Direct(direct) => {
                (Outcome::Direct, format!("the route itself answers {}", direct.status.as_u16()))
            }
            RouteAction::Forward(forward) => {
                match filters::answer(&route.filters, &self.question.method, self.headers) {
                    Some(answer) => (Outcome::Direct, answer),
                    None => self.destinations(&forward.destinations, Outcome::Forward),
                }
            }
        }
    }

    fn bytes(&mut self, route: &TcpRoute) -> End {
        let mut step = found(Stage::Route, &route.virtual_service);
        step.origins = place(route.origin.as_ref());
        step.notes.push("bytes are carried unread".to_owned());
        self.steps.push(step);
        self.destinations(&route.destinations, Outcome::Carried)
    }

    fn destinations(&mut self, destinations: &[WeightedCluster], outcome: Outcome) -> End {
        let sum: u64 = destinations.iter().map(|destination| u64::from(destination.weight)).sum();
        let mut serving = 0;
        for destination in destinations {
            let (step, serves) = endpoints::step(destination, sum, self.question, self.state.available);
            serving += usize::from(serves);
            self.steps.push(step);
        }
        let verb = if outcome == Outcome::Carried { "connection" } else { "request" };
        match (serving, destinations) {
            (0, _) => (Outcome::Unavailable, words::unavailable(destinations, outcome)),
            (1, [only]) => (outcome, format!("the {verb} goes to {}", only.name)),
            (some, all) if some < all.len() => (
                outcome,
                format!("the {verb} goes to one of {} clusters, of which {some} can serve", all.len()),
            ),
            (_, all) => (outcome, format!("the {verb} goes to one of {} clusters by weight", all.len())),
        }
    }

    fn missed(&mut self, stage: Stage, passed_over: Vec<Miss>) {
        self.steps.push(Step { stage, found: None, origins: Vec::new(), notes: Vec::new(), passed_over });
    }
}

fn found(stage: Stage, name: &str) -> Step {
    Step {
        stage,
        found: Some(name.to_owned()),
        origins: Vec::new(),
        notes: Vec::new(),
        passed_over: Vec::new(),
    }
}

fn place(origin: Option<&Arc<Origin>>) -> Vec<String> {
    origin.map(ToString::to_string).into_iter().collect()
}
