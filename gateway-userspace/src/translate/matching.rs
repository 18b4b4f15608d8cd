//! `http[].match[]`: what can be judged now (port, gateways, the gateway's own labels and namespace), and what a
//! request is held against.

use crate::api::ByName;
use crate::api::validate::ANY;
use crate::api::virtual_service::{HttpMatchRequest, StringMatch as Written};
use crate::model::route::FullRegex;
use crate::model::{
    GatewayIdentity, HeaderField, HeaderMatch, PathMatch, QueryMatch, RouteMatch, StringMatch, ValueMatch,
};
use crate::notation::re2;

use super::bind::{Bound, own_name};
use super::select::SelectedServer;

/// Whether a match can hold for requests that come by this server.
pub(super) fn applies(
    condition: &HttpMatchRequest,
    bound: &Bound,
    server: &SelectedServer<'_>,
    identity: &GatewayIdentity,
) -> bool {
    if !names_port(condition.port, server) {
        return false;
    }
    if !condition.gateways.is_empty() {
        // Istio looks at labels and namespace only where no gateways are named.
        return names_gateway(&condition.gateways, bound, server);
    }
    let mut labels = condition.source_labels.iter();
    labels.all(|(key, value)| identity.labels.get(key) == Some(value))
        && (condition.source_namespace.is_empty() || condition.source_namespace == identity.namespace)
}

/// `match.port`: the number in the Gateway document; 0 is any.
pub(super) fn names_port(port: u32, server: &SelectedServer<'_>) -> bool {
    port == 0 || port == u32::from(server.number)
}

/// `match.gateways`: empty is any.
pub(super) fn names_gateway(gateways: &[String], bound: &Bound, server: &SelectedServer<'_>) -> bool {
    gateways.is_empty() || gateways.iter().any(|name| bound.gateway_name(name) == own_name(server.gateway))
}

/// A pattern that cannot be compiled, or a name that no header has; validation refuses such documents.
#[derive(Debug)]
pub(super) struct Uncompilable;

/// What a request is held against.
pub(super) fn route_match(condition: &HttpMatchRequest) -> Result<RouteMatch, Uncompilable> {
    let ignore_case = condition.ignore_uri_case;
    let path = match optional(condition.uri.as_ref())? {
        None => PathMatch::Any,
        Some(StringMatch::Exact(path)) => PathMatch::Exact { path, ignore_case },
        Some(StringMatch::Prefix(prefix)) => PathMatch::Prefix { prefix, ignore_case },
        Some(StringMatch::Regex(regex)) => PathMatch::Regex(regex),
    };
    Ok(RouteMatch {
        path,
        scheme: optional(condition.scheme.as_deref())?,
        method: optional(condition.method.as_deref())?,
        authority: optional(condition.authority.as_deref())?,
        headers: headers(&condition.headers)?,
        without_headers: headers(&condition.without_headers)?,
        query_params: query_params(&condition.query_params)?,
    })
}

fn value_match(written: &Written) -> Result<ValueMatch, Uncompilable> {
    let value = match (&written.exact, &written.prefix, &written.regex) {
        (Some(exact), ..) => StringMatch::Exact(exact.clone()),
        (_, Some(prefix), _) => StringMatch::Prefix(prefix.clone()),
        // No expression, but what Istio takes for `{}`.
        (.., Some(regex)) if **regex == *ANY => return Ok(ValueMatch::Present),
        (.., Some(regex)) => {
            let compiled = FullRegex::written(regex, &re2::translated(regex));
            StringMatch::Regex(compiled.map_err(|_| Uncompilable)?)
        }
        _ => return Ok(ValueMatch::Present),
    };
    Ok(ValueMatch::Value(value))
}

/// A condition on a value that is there; `None` for one that asks nothing.
pub(super) fn string_match(written: &Written) -> Option<StringMatch> {
    optional(Some(written)).ok().flatten()
}

/// Path, scheme, method and authority are always there: `{}` asks nothing.
fn optional(written: Option<&Written>) -> Result<Option<StringMatch>, Uncompilable> {
    Ok(match written.map(value_match).transpose()? {
        None | Some(ValueMatch::Present) => None,
        Some(ValueMatch::Value(value)) => Some(value),
    })
}

/// The keys `uri`, `scheme`, `method` and `authority` are ignored, as the API says.
fn headers(written: &ByName<Written>) -> Result<Box<[HeaderMatch]>, Uncompilable> {
    let ignored = ["uri", "scheme", "method", "authority"];
    let pairs = written.iter().filter(|(name, _)| !ignored.contains(name));
    pairs
        .map(|(name, value)| {
            let name = HeaderField::new(name).ok_or(Uncompilable)?;
            Ok(HeaderMatch { name, value: value_match(value)? })
        })
        .collect()
}

fn query_params(written: &ByName<Written>) -> Result<Box<[QueryMatch]>, Uncompilable> {
    let pair =
        |(name, value): (&str, &Written)| Ok(QueryMatch { name: name.into(), value: value_match(value)? });
    written.iter().map(pair).collect()
}
