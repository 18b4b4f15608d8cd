//! `http[]` rules compiled to routes.

mod action;
mod forward;
mod headers;
mod mirror;
mod retry;

use std::sync::Arc;

use crate::api::virtual_service::{HttpRoute, HttpRouteDestination};
use crate::model::{Route, RouteAction, RouteMatch};

use super::Context;
use super::bind::Bound;
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
        let written = rule.headers.as_ref();
        let mut request_headers =
            written.map(|written| headers::operations(&written.request)).unwrap_or_default();
        let mut response_headers =
            written.map(|written| headers::operations(&written.response)).unwrap_or_default();
        let action = if let Some(redirect) = &rule.redirect {
            RouteAction::Redirect(self.redirect(redirect)?)
        } else if let Some(response) = &rule.direct_response {
            RouteAction::Direct(action::direct_response(response)?)
        } else {
            if let [HttpRouteDestination { headers: Some(own), .. }] = rule.route.as_slice() {
                headers::merge(&mut request_headers, headers::operations(&own.request));
                headers::merge(&mut response_headers, headers::operations(&own.response));
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
}

fn non_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
