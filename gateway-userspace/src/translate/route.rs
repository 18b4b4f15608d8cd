//! `http[]` rules compiled to routes.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;

use crate::api::FieldPath;
use crate::api::validate::{is_authority, literal};
use crate::api::virtual_service::{
    DerivePort, HeaderOperations, HttpDirectResponse, HttpRedirect, HttpRewrite, HttpRoute,
    HttpRouteDestination,
};
use crate::model::{
    DirectResponse, Forward, HeaderOps, Redirect, RedirectPort, Rewrite, Route, RouteAction, RouteMatch,
};

use super::Context;
use super::bind::Bound;
use super::destination;
use super::matching;
use super::report::Report;
use super::select::SelectedServer;

/// The routes of a VirtualService at a server, in document order. The first that takes every request ends the
/// list.
pub(super) fn compile(
    context: &Context<'_>,
    (document, bound): (usize, &Bound<'_>),
    server: &SelectedServer<'_>,
    report: &mut Report,
) -> Vec<Route> {
    let mut routes = Vec::new();
    for (index, rule) in bound.document.spec.http.iter().enumerate() {
        let matchers = matchers(context, bound, server, rule);
        if matchers.is_empty() {
            continue;
        }
        let compiler = Compiler { context, bound, server, rule, index };
        let Some(template) = compiler.template(report) else { continue };
        context.bindings.mark(document, "http", index);
        for (name, matcher) in matchers {
            let ends = matcher.is_catch_all();
            routes.push(Route { name, matcher, ..template.clone() });
            if ends {
                mark_rest(context, document, bound, index);
                return routes;
            }
        }
    }
    routes
}

/// Rules behind a catch-all are reported as unreachable when the document is read; once is enough.
fn mark_rest(context: &Context<'_>, document: usize, bound: &Bound<'_>, index: usize) {
    for later in index + 1..bound.document.spec.http.len() {
        context.bindings.mark(document, "http", later);
    }
}

/// The conditions that can hold at a server, with the name of each route.
fn matchers(
    context: &Context<'_>,
    bound: &Bound<'_>,
    server: &SelectedServer<'_>,
    rule: &HttpRoute,
) -> Vec<(Arc<str>, RouteMatch)> {
    if rule.matches.is_empty() {
        return vec![(rule.name.as_str().into(), RouteMatch::default())];
    }
    rule.matches
        .iter()
        .filter(|condition| matching::applies(condition, bound, server, context.identity))
        .filter_map(|condition| {
            let name = match condition.name.as_str() {
                "" => rule.name.as_str().into(),
                name => format!("{}.{name}", rule.name).into(),
            };
            Some((name, matching::route_match(condition).ok()?))
        })
        .collect()
}

struct Compiler<'a> {
    context: &'a Context<'a>,
    bound: &'a Bound<'a>,
    server: &'a SelectedServer<'a>,
    rule: &'a HttpRoute,
    index: usize,
}

impl Compiler<'_> {
    /// The rule as a route without its condition.
    fn template(&self, report: &mut Report) -> Option<Route> {
        let rule = self.rule;
        let headers = rule.headers.as_ref();
        let mut request_headers = headers.map(|headers| operations(&headers.request)).unwrap_or_default();
        let mut response_headers = headers.map(|headers| operations(&headers.response)).unwrap_or_default();
        let action = if let Some(redirect) = &rule.redirect {
            RouteAction::Redirect(self.redirect(redirect)?)
        } else if let Some(response) = &rule.direct_response {
            RouteAction::Direct(direct_response(response)?)
        } else {
            if let [HttpRouteDestination { headers: Some(own), .. }] = rule.route.as_slice() {
                merge(&mut request_headers, operations(&own.request));
                merge(&mut response_headers, operations(&own.response));
            }
            RouteAction::Forward(self.forward(report)?)
        };
        Some(Route {
            name: "".into(),
            matcher: RouteMatch::default(),
            action,
            request_headers,
            response_headers,
            virtual_service: self.bound.label().into(),
        })
    }

    fn forward(&self, report: &mut Report) -> Option<Forward> {
        let route = &self.rule.route;
        let field = FieldPath::spec().field("http").index(self.index).field("route");
        let weighted = route.iter().map(|to| (to.destination.as_ref(), to.weight)).collect();
        let resolved =
            destination::resolve(self.context, self.bound, &field, &weighted, self.server.number, report);
        let own_headers = |at: usize| match route.get(at).and_then(|to| to.headers.as_ref()) {
            Some(headers) => (operations(&headers.request), operations(&headers.response)),
            None => (HeaderOps::default(), HeaderOps::default()),
        };
        let several = route.len() > 1;
        let destination_headers: Vec<_> = resolved.iter().map(|(at, _)| own_headers(*at)).collect();
        let destinations: Vec<_> = resolved.into_iter().map(|(_, cluster)| cluster).collect();
        if destinations.is_empty() {
            return None;
        }
        Some(Forward {
            destinations,
            destination_headers: if several { destination_headers } else { Vec::new() },
            rewrite: self.rule.rewrite.as_ref().and_then(rewrite),
            timeout: self.rule.timeout.map(|timeout| timeout.0),
        })
    }

    fn redirect(&self, redirect: &HttpRedirect) -> Option<Redirect> {
        let port = match (redirect.port, redirect.derive_port) {
            (Some(port), _) => Some(RedirectPort::Number(u16::try_from(port).ok()?)),
            (None, Some(DerivePort::FromProtocolDefault)) => Some(RedirectPort::ProtocolDefault),
            (None, Some(DerivePort::FromRequestPort)) => Some(RedirectPort::Request(self.server.number)),
            (None, None) => None,
        };
        let code = match redirect.redirect_code {
            0 => StatusCode::MOVED_PERMANENTLY,
            code => StatusCode::from_u16(u16::try_from(code).ok()?).ok()?,
        };
        Some(Redirect {
            uri: non_empty(&redirect.uri),
            authority: non_empty(&redirect.authority),
            scheme: non_empty(&redirect.scheme),
            port,
            code,
        })
    }
}

fn non_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn direct_response(response: &HttpDirectResponse) -> Option<DirectResponse> {
    let status = StatusCode::from_u16(u16::try_from(response.status).ok()?).ok()?;
    let body = response.body.as_ref();
    let text = body.and_then(|body| body.string.clone()).map(Bytes::from);
    let bytes = || {
        let encoded = body.and_then(|body| body.bytes.as_ref())?;
        base64::engine::general_purpose::STANDARD.decode(encoded).ok().map(Bytes::from)
    };
    Some(DirectResponse { status, body: text.or_else(bytes).unwrap_or_default() })
}

fn rewrite(rewrite: &HttpRewrite) -> Option<Rewrite> {
    let regex = match &rewrite.uri_regex_rewrite {
        Some(regex) => Some((Regex::new(&regex.pattern).ok()?, substitution(&regex.rewrite))),
        None => None,
    };
    Some(Rewrite { uri: non_empty(&rewrite.uri), regex, authority: non_empty(&rewrite.authority) })
}

/// RE2's `\1` in the regex crate's notation, in which `$` means something.
fn substitution(rewrite: &str) -> String {
    let mut out = String::with_capacity(rewrite.len());
    let mut characters = rewrite.chars();
    while let Some(c) = characters.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match characters.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                Some(other) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    out
}

/// `headers.request` or `.response`; `host` among set and add becomes the authority.
fn operations(written: &HeaderOperations) -> HeaderOps {
    let mut operations = HeaderOps::default();
    for (pairs, is_set) in [(&written.set, true), (&written.add, false)] {
        for (name, value) in pairs {
            let Ok(value) = literal(value) else { continue };
            if is_authority(name) {
                operations.authority = Some(value);
                continue;
            }
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&value).ok());
            if let Some(pair) = parsed {
                if is_set { operations.set.push(pair) } else { operations.add.push(pair) }
            }
        }
    }
    operations.remove =
        written.remove.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
    operations
}

/// A lone destination's operations come after the route's, so that its `set` wins; but the route's Host wins.
fn merge(route: &mut HeaderOps, destination: HeaderOps) {
    route.remove.extend(destination.remove);
    route.set.extend(destination.set);
    route.add.extend(destination.add);
    route.authority = route.authority.take().or(destination.authority);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_are_in_the_regex_crates_notation() {
        let regex = Regex::new("^/([^/]*)/(.*)$").unwrap();
        for (written, path, want) in
            [(r"/\2/\1", "/a/b", "/b/a"), (r"/$1-\1", "/a/b", "/$1-a"), (r"/\1x\\", "/a/b", r"/ax\")]
        {
            assert_eq!(regex.replace_all(path, substitution(written).as_str()), want, "{written}");
        }
    }
}
