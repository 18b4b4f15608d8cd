//! HTTP routing: the tables of virtual hosts and their routes. Matching is pure and lives below here, so that the
//! proxy, `explain` and the tests ask the same code.

mod action;
mod covers;
mod filters;
mod forward;
mod headers;
mod list;
mod made;
mod matching;
mod retry;

use std::ops::Deref;
use std::sync::Arc;

use http::HeaderValue;
use serde::Serialize;

use super::cluster::WeightedCluster;
use super::host::{HostMap, HostPattern};
use super::origin::Origin;
use super::snapshot::DocumentRef;

pub use action::{DirectResponse, Redirect, RedirectPort, RouteAction};
pub use filters::{AbortStatus, Cors, CorsVerdict, Fault, Filters, Fraction};
pub use forward::{Forward, Mirror, Rewrite};
pub use headers::HeaderOps;
pub use list::RouteList;
pub use made::{AddressPart, HeaderPart, HeaderText, Made, Part, TimeForm};
pub use matching::{
    FullRegex, HeaderField, HeaderMatch, PathMatch, QueryMatch, RequestHead, RouteMatch, StringMatch, Unmet,
    ValueMatch,
};
pub use retry::{RetryOn, RetryPolicy};

/// The virtual hosts of one plaintext port or one HTTPS server.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTable {
    /// `http.<port>` or `https.<number>.<portName>.<gateway>.<namespace>`.
    pub name: Arc<str>,
    /// In order of first appearance.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Requests of gRPC-Web become gRPC: a server of the protocol GRPC-WEB, or the Gateway annotation `sluice.dev/grpc-web`.
    pub grpc_web: bool,
    #[serde(skip)]
    by_host: HostMap<u32>,
}

impl RouteTable {
    /// Indexes the virtual hosts by their domains.
    pub fn new(name: Arc<str>, virtual_hosts: Vec<VirtualHost>) -> Self {
        let mut by_host = HostMap::default();
        for (index, host) in (0..).zip(&virtual_hosts) {
            by_host.insert(&host.domain, index);
        }
        Self::indexed(name, virtual_hosts, by_host)
    }

    /// With an index that was made along with the virtual hosts, each of which has a domain of its own.
    pub fn indexed(name: Arc<str>, virtual_hosts: Vec<VirtualHost>, by_host: HostMap<u32>) -> Self {
        Self { name, virtual_hosts, grpc_web: false, by_host }
    }

    /// The same, with requests of gRPC-Web made gRPC or not.
    pub fn with_grpc_web(self, grpc_web: bool) -> Self {
        Self { grpc_web, ..self }
    }

    /// The virtual host of an authority as sent; its port is ignored. There is no fall-through to a wider one.
    pub fn virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        self.virtual_hosts.get(*self.by_host.get(without_port(authority))? as usize)
    }

    /// Every destination that cleartext requests may be sent to.
    pub fn forwards(&self) -> impl Iterator<Item = &WeightedCluster> {
        let served = self.virtual_hosts.iter().filter(|host| !host.https_redirect);
        served.flat_map(|host| host.routes.forwards())
    }
}

/// Cuts `:port` off an authority; IPv6 literals keep their brackets' content only.
pub fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(authority, |(address, _)| address);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// One domain and its routes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualHost {
    /// The intersection of a server's host and a VirtualService's.
    pub domain: HostPattern,
    /// First match wins; those that take every request come last.
    pub routes: RouteList,
    /// `tls.httpsRedirect` of a server on this table: cleartext requests get 301 before any route is looked at.
    pub https_redirect: bool,
}

impl VirtualHost {
    /// The first route that matches.
    pub fn route(&self, head: &RequestHead<'_>) -> Option<&Route> {
        self.routes.find(head)
    }
}

/// A condition and what follows from it. Reads like the rule that it is of.
#[derive(Debug, Clone, Serialize)]
pub struct Route {
    /// `HTTPRoute.name`, with the match's name behind a dot; empty when unnamed.
    pub name: Arc<str>,
    /// Condition.
    pub matcher: RouteMatch,
    /// What follows.
    #[serde(flatten)]
    pub rule: Arc<RouteRule>,
    /// What tracers call it, which backends are told: `<destination>:<port><path condition>`.
    #[serde(skip)]
    pub operation: HeaderValue,
    /// The rule and match it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<Origin>>,
}

impl Deref for Route {
    type Target = RouteRule;

    fn deref(&self) -> &RouteRule {
        &self.rule
    }
}

/// An `HTTPRoute` without its conditions, each of which makes a route: those share it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    /// What comes before the consequence.
    #[serde(skip_serializing_if = "Filters::is_empty")]
    pub filters: Filters,
    /// Consequence.
    pub action: RouteAction,
    /// `headers.request`, the destination's merged in (Istio: a lone destination's come after the route's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<Box<HeaderOps>>,
    /// `headers.response`, merged likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<Box<HeaderOps>>,
    /// The VirtualService, `name.namespace`.
    pub virtual_service: DocumentRef,
}

impl RouteRule {
    /// A rule that does this and no more.
    pub fn new(action: RouteAction, virtual_service: DocumentRef) -> Self {
        Self {
            filters: Filters::default(),
            action,
            request_headers: None,
            response_headers: None,
            virtual_service,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_off_authorities() {
        for (authority, want) in [
            ("a.test", "a.test"),
            ("a.test:80", "a.test"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("[broken", "[broken"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(without_port(authority), want, "{authority}");
        }
    }
}
