//! What an expression may ask of a record: Envoy's attributes, as far as a record has them.

use std::borrow::Cow;

use http::Method;

use super::super::operator::{End, Plain, Value as Known};
use super::super::record::{Connection, Request};
use super::super::rule::Wanted;
use super::expression::{Kind, Value};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Simple(Simple),
    /// A header, in lower case.
    Header(Map, String),
}

/// Headers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    RequestHeaders,
    ResponseHeaders,
    ResponseTrailers,
}

/// Attributes with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Simple {
    Path,
    UrlPath,
    Query,
    Host,
    Scheme,
    Method,
    Referer,
    UserAgent,
    Id,
    Protocol,
    Duration,
    RequestSize,
    ResponseCode,
    ResponseCodeDetails,
    ResponseSize,
    GrpcStatus,
    Mutual,
    ServerName,
    TlsVersion,
    Address(End),
    Port(End),
    RouteName,
    ClusterName,
}

const MAPS: &[(&str, Map)] = &[
    ("request.headers", Map::RequestHeaders),
    ("response.headers", Map::ResponseHeaders),
    ("response.trailers", Map::ResponseTrailers),
];

const SIMPLE: &[(&str, Simple, Kind)] = &[
    ("request.path", Simple::Path, Kind::Text),
    ("request.url_path", Simple::UrlPath, Kind::Text),
    ("request.query", Simple::Query, Kind::Text),
    ("request.host", Simple::Host, Kind::Text),
    ("request.scheme", Simple::Scheme, Kind::Text),
    ("request.method", Simple::Method, Kind::Text),
    ("request.referer", Simple::Referer, Kind::Text),
    ("request.useragent", Simple::UserAgent, Kind::Text),
    ("request.id", Simple::Id, Kind::Text),
    ("request.protocol", Simple::Protocol, Kind::Text),
    ("request.duration", Simple::Duration, Kind::Duration),
    ("request.size", Simple::RequestSize, Kind::Number),
    ("response.code", Simple::ResponseCode, Kind::Number),
    ("response.code_details", Simple::ResponseCodeDetails, Kind::Text),
    ("response.size", Simple::ResponseSize, Kind::Number),
    ("response.grpc_status", Simple::GrpcStatus, Kind::Number),
    ("connection.mtls", Simple::Mutual, Kind::Truth),
    ("connection.requested_server_name", Simple::ServerName, Kind::Text),
    ("connection.tls_version", Simple::TlsVersion, Kind::Text),
    ("source.address", Simple::Address(End::DownstreamRemote), Kind::Text),
    ("source.port", Simple::Port(End::DownstreamRemote), Kind::Number),
    ("destination.address", Simple::Address(End::DownstreamLocal), Kind::Text),
    ("destination.port", Simple::Port(End::DownstreamLocal), Kind::Number),
    ("upstream.address", Simple::Address(End::UpstreamRemote), Kind::Text),
    ("upstream.port", Simple::Port(End::UpstreamRemote), Kind::Number),
    ("upstream.local_address", Simple::Address(End::UpstreamLocal), Kind::Text),
    ("xds.route_name", Simple::RouteName, Kind::Text),
    ("xds.cluster_name", Simple::ClusterName, Kind::Text),
];

impl Map {
    pub(super) fn named(name: &str) -> Option<Self> {
        MAPS.iter().find(|(map, _)| *map == name).map(|(_, map)| *map)
    }
}

impl Attribute {
    /// The attribute of a dotted name, and what it is.
    pub(super) fn named(name: &str) -> Option<(Self, Kind)> {
        let (_, simple, kind) = SIMPLE.iter().find(|(attribute, ..)| *attribute == name)?;
        Some((Self::Simple(*simple), *kind))
    }

    pub(super) fn header(map: Map, name: &str) -> Self {
        Self::Header(map, name.to_ascii_lowercase())
    }

    pub(super) fn add_to(&self, wanted: &mut Wanted) {
        match self {
            Self::Header(Map::RequestHeaders, name) => wanted.add_request(name),
            Self::Header(Map::ResponseHeaders, name) => wanted.add_response(name),
            Self::Header(Map::ResponseTrailers, name) => wanted.add_trailer(name),
            Self::Simple(Simple::Referer) => wanted.add_request("referer"),
            Self::Simple(Simple::GrpcStatus) => wanted.add_grpc_status(),
            Self::Simple(_) => {}
        }
    }

    pub(super) fn value<'a>(&self, record: &'a Connection) -> Option<Value<'a>> {
        match self {
            Self::Header(map, name) => {
                let request = record.request.as_deref()?;
                let value = match map {
                    Map::RequestHeaders => request.header(name),
                    Map::ResponseHeaders => request.response_header(name),
                    Map::ResponseTrailers => request.trailer(name),
                };
                value.map(|value| Value::Text(value.into()))
            }
            Self::Simple(simple) => simple.value(record),
        }
    }
}

impl Simple {
    fn value(self, record: &Connection) -> Option<Value<'_>> {
        let text = |field: fn(&Request) -> Option<&str>| {
            record.request.as_deref().and_then(field).map(|text| Value::Text(Cow::Borrowed(text)))
        };
        let number = |number: u64| Some(Value::Number(i64::try_from(number).unwrap_or(i64::MAX)));
        let path =
            || record.request.as_deref()?.sent_path().map(|path| path.split_once('?').unwrap_or((path, "")));
        match self {
            Self::Path => text(Request::sent_path),
            Self::UrlPath => path().map(|(path, _)| Value::Text(path.into())),
            Self::Query => path().map(|(_, query)| Value::Text(query.into())),
            Self::Host => text(|request| request.authority.as_deref()),
            Self::Scheme => text(|request| request.scheme),
            Self::Method => text(|request| request.method.as_ref().map(Method::as_str)),
            Self::Referer => text(|request| request.header("referer")),
            Self::UserAgent => text(|request| request.user_agent.as_deref()),
            Self::Id => text(|request| request.request_id.as_deref()),
            Self::Protocol => text(|request| request.protocol),
            Self::RouteName => text(|request| request.route_name.as_deref()),
            Self::ResponseCodeDetails => known(Plain::ResponseCodeDetails, record),
            Self::Duration => Some(Value::Duration(record.duration)),
            Self::RequestSize => number(record.received),
            Self::ResponseSize => number(record.sent),
            Self::ResponseCode => {
                let status = record.request.as_deref()?.status;
                number(status.into()).filter(|_| status > 0)
            }
            Self::GrpcStatus => number(record.request.as_deref()?.grpc_status()?.into()),
            Self::Mutual => Some(Value::Truth(record.handshake.is_some_and(|it| it.is_mutual))),
            Self::ServerName => known(Plain::RequestedServerName, record),
            Self::TlsVersion => known(Plain::TlsVersion, record),
            Self::ClusterName => known(Plain::UpstreamCluster, record),
            Self::Address(end) => Some(Value::Text(end.of(record)?.to_string().into())),
            Self::Port(end) => number(end.of(record)?.port().into()),
        }
    }
}

/// What an operator says, if it is a text.
fn known(plain: Plain, record: &Connection) -> Option<Value<'_>> {
    match plain.value(record) {
        Known::Text(text) => Some(Value::Text(text)),
        Known::Number(_) | Known::None => None,
    }
}
