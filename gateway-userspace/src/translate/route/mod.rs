//! `http[]` rules compiled to routes.

mod action;
mod forward;
mod headers;
mod mirror;
mod retry;

use std::sync::Arc;

use http::HeaderValue;

use crate::api::header_text::Direction;
use crate::api::virtual_service::{HttpRoute, HttpRouteDestination};
use crate::model::{Forward, Origin, PathMatch, Route, RouteAction, RouteMatch};

use super::Context;
use super::bind::Bound;
use super::delegate::Rule;
use super::filters;
use super::matching;
use super::origin::origin;
use super::reach::Reach;
use super::report::Report;
use super::select::SelectedServer;
use super::usage::Place;

/// The routes of a VirtualService at a server, in document order. The first that takes every request ends the
/// list; what comes behind it is looked at for the report only.
pub(super) fn compile(
    context: &Context<'_>,
    document: usize,
    server: &SelectedServer<'_>,
    report: &mut Report,
) -> Vec<Route> {
    let bindings = &context.bindings;
    let (mut routes, mut reach, mut ended) = (Vec::new(), Reach::default(), false);
    for rule in bindings.rules(document) {
        let bound = bindings.document(rule.document);
        let conditions = conditions(context, bound, server, rule);
        if conditions.is_empty() {
            continue;
        }
        let root = bindings.document(document);
        let compiler = Compiler { context, root, bound, server, rule: &rule.written, index: rule.index };
        let template = if ended { None } else { compiler.template(report) };
        if template.is_none() && !ended {
            continue;
        }
        for (places, name, matcher) in conditions {
            let behind = reach.covering(&matcher);
            for place in places {
                bindings.usage.note(*place, behind);
            }
            let Some(template) = template.as_ref().filter(|_| !ended) else { continue };
            ended = matcher.is_catch_all();
            let origin = places.last().map(|place| origin_of(context, *place));
            let operation = compiler.operation(&template.action, &matcher.path);
            routes.push(Route { name, matcher: matcher.clone(), operation, origin, ..template.clone() });
            reach.add(matcher, places[places.len() - 1]);
        }
    }
    routes
}

/// Where a condition, or a rule without any, is written.
fn origin_of(context: &Context<'_>, place: Place) -> Arc<Origin> {
    let document = context.bindings.document(place.document).document;
    let has_conditions = document.spec.http.get(place.rule).is_some_and(|rule| !rule.matches.is_empty());
    origin(document, "http", place.rule, has_conditions.then_some(place.at))
}

/// The conditions of a rule that can hold at a server, with where they are written and the name of each route.
fn conditions<'r>(
    context: &Context<'_>,
    bound: &Bound<'_>,
    server: &SelectedServer<'_>,
    rule: &'r Rule<'_>,
) -> Vec<(&'r [Place], Arc<str>, RouteMatch)> {
    let written = &rule.written;
    if written.matches.is_empty() {
        return vec![(&rule.places[0], written.name.as_str().into(), RouteMatch::default())];
    }
    let conditions = written.matches.iter().zip(&rule.places);
    conditions
        .filter(|(condition, _)| matching::applies(condition, bound, server, context.identity))
        .filter_map(|(condition, places)| {
            let name = match condition.name.as_str() {
                "" => written.name.as_str().into(),
                name => format!("{}.{name}", written.name).into(),
            };
            Some((places.as_slice(), name, matching::route_match(condition).ok()?))
        })
        .collect()
}

struct Compiler<'a> {
    context: &'a Context<'a>,
    /// Whose hosts are served.
    root: &'a Bound<'a>,
    /// Whose rule it is, and whose short names it uses: the root's or a delegate's.
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
        let mut request_headers = written
            .map(|written| headers::operations(&written.request, Direction::Request))
            .unwrap_or_default();
        let mut response_headers = written
            .map(|written| headers::operations(&written.response, Direction::Response))
            .unwrap_or_default();
        let action = if let Some(redirect) = &rule.redirect {
            RouteAction::Redirect(self.redirect(redirect)?)
        } else if let Some(response) = &rule.direct_response {
            RouteAction::Direct(action::direct_response(response)?)
        } else {
            if let [HttpRouteDestination { headers: Some(own), .. }] = rule.route.as_slice() {
                headers::merge(&mut request_headers, headers::operations(&own.request, Direction::Request));
                headers::merge(
                    &mut response_headers,
                    headers::operations(&own.response, Direction::Response),
                );
            }
            RouteAction::Forward(self.forward(report)?)
        };
        Some(Route {
            name: "".into(),
            matcher: RouteMatch::default(),
            filters: filters::filters(rule),
            action,
            request_headers,
            response_headers,
            virtual_service: self.root.label().into(),
            operation: HeaderValue::from_static(""),
            origin: None,
        })
    }

    /// Istio's name for what a route does: its only destination, or else the VirtualService, and the path condition.
    fn operation(&self, action: &RouteAction, path: &PathMatch) -> HeaderValue {
        let (host, port) = match action {
            RouteAction::Forward(Forward { destinations, .. }) if destinations.len() == 1 => {
                (&*destinations[0].name.host, destinations[0].name.port)
            }
            _ => (&**self.root.document.name(), self.server.number),
        };
        let path = match path {
            PathMatch::Any => "/*".to_owned(),
            PathMatch::Prefix { prefix, .. } => format!("{prefix}*"),
            PathMatch::Exact { path, .. } => path.clone(),
            PathMatch::Regex(regex) => regex.pattern().to_owned(),
        };
        // Letters beyond ASCII are bytes that a header may hold; what it may not is no path of any request.
        HeaderValue::from_bytes(format!("{host}:{port}{path}").as_bytes())
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

fn non_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
