//! `http[]` rules compiled to routes.

mod action;
mod forward;
mod headers;
mod mirror;
mod retry;

use std::sync::Arc;

use http::HeaderValue;

use crate::api::Diagnostic;
use crate::api::header_text::Direction;
use crate::api::virtual_service::{HttpRoute, HttpRouteDestination};
use crate::model::{Forward, Origin, PathMatch, Route, RouteAction, RouteList, RouteMatch, RouteRule};

use super::Context;
use super::bind::Bound;
use super::delegate::{Expansion, Rule, delegates_some};
use super::filters;
use super::matching;
use super::memo::Address;
use super::origin::named_origin;
use super::reach::Reach;
use super::registry::Asked;
use super::report::Report;
use super::select::SelectedServer;
use super::usage::Place;

/// The routes of a VirtualService at a server, in document order. The first that takes every request ends the
/// list; what comes behind it is looked at for the report only.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) routes: RouteList,
    findings: Vec<Diagnostic>,
    /// What became of each match that can hold here: the earlier one that it is always behind.
    notes: Vec<(Place, Option<Place>)>,
    is_whole: bool,
    /// Hosts whose services were looked up.
    asked: Asked,
    /// Whose rules they are, unless they are all of one document; held for its address.
    _expansion: Option<Arc<Expansion>>,
}

/// What a list of routes is made from, besides the services that it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Recipe {
    document: Address,
    expansion: Option<usize>,
    gateway: Address,
    /// Port number of the server.
    number: u16,
}

impl Compiled {
    /// Every match of every rule is taken.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Places are those of the expansion.
    pub(super) fn notes(&self) -> &[(Place, Option<Place>)] {
        &self.notes
    }
}

/// The routes of a VirtualService at a server, those of the translation before if nothing they are made from has changed.
pub(super) fn compiled(
    context: &Context<'_>,
    root: usize,
    server: &SelectedServer<'_>,
    report: &mut Report,
) -> Arc<Compiled> {
    let (document, expansion) = context.bindings.identity(root);
    let recipe = Recipe {
        document,
        expansion: expansion.as_ref().map(|expansion| Arc::as_ptr(expansion).addr()),
        gateway: Address::of(server.gateway),
        number: server.number,
    };
    let holds = |compiled: &Arc<Compiled>| !context.registry.any_changed(&compiled.asked);
    let make = |_: Option<&_>| {
        let rules = context.bindings.expansion(root);
        Arc::new(Compiled { _expansion: expansion, ..compile(context, &rules, server) })
    };
    let compiled = context.compiled.borrow_mut().get(recipe, holds, make);
    report.extend(&compiled.findings);
    context.bindings.note(root, &compiled);
    compiled
}

fn compile(context: &Context<'_>, expansion: &Expansion, server: &SelectedServer<'_>) -> Compiled {
    let mut report = Report::default();
    let (mut routes, mut notes, mut reach, mut ended) = (Vec::new(), Vec::new(), Reach::default(), false);
    context.registry.forget_asked();
    for rule in &expansion.rules {
        let (bound, written) = (expansion.document(rule), expansion.written(rule));
        let conditions = conditions(context, bound, server, (rule, written));
        if conditions.is_empty() {
            continue;
        }
        let root = &expansion.documents[0];
        let compiler = Compiler { context, root, bound, server, rule: written, index: rule.index };
        let made = if ended { None } else { compiler.rule(&mut report).map(Arc::new) };
        if made.is_none() && !ended {
            continue;
        }
        for (places, name, matcher) in conditions {
            let behind = reach.covering(&matcher);
            notes.extend(places.iter().map(|place| (*place, behind)));
            let Some(rule) = made.as_ref().filter(|_| !ended) else { continue };
            ended = matcher.is_catch_all();
            let origin = places.last().map(|place| origin_of(expansion, *place));
            let operation = compiler.operation(&rule.action, &matcher.path);
            let route = Route { name, matcher: matcher.clone(), rule: rule.clone(), operation, origin };
            routes.push(Arc::new(route));
            reach.add(matcher, places[places.len() - 1]);
        }
    }
    let is_whole = is_whole(expansion, &notes);
    Compiled {
        routes: routes.into_iter().collect(),
        findings: report.finish(),
        notes: if is_whole { Vec::new() } else { notes },
        is_whole,
        asked: context.registry.asked(),
        _expansion: None,
    }
}

/// Whether every match of a document's rules is taken. Of one that delegates that is never said: its delegates' matches
/// have other places too.
fn is_whole(expansion: &Expansion, notes: &[(Place, Option<Place>)]) -> bool {
    if delegates_some(&expansion.documents[0].document.spec) {
        return false;
    }
    let places = expansion.rules.iter().flat_map(|rule| &rule.places).count();
    notes.len() == places && notes.iter().all(|(_, behind)| behind.is_none())
}

/// Where a condition, or a rule without any, is written.
fn origin_of(expansion: &Expansion, place: Place) -> Arc<Origin> {
    let bound = &expansion.documents[place.document];
    let document = &bound.document;
    let has_conditions = document.spec.http.get(place.rule).is_some_and(|rule| !rule.matches.is_empty());
    let rule = ("http", place.rule, has_conditions.then_some(place.at));
    named_origin(document, bound.reference().clone(), rule)
}

/// The conditions of a rule that can hold at a server, with where they are written and the name of each route.
fn conditions<'r>(
    context: &Context<'_>,
    bound: &Bound,
    server: &SelectedServer<'_>,
    (rule, written): (&'r Rule, &HttpRoute),
) -> Vec<(&'r [Place], Arc<str>, RouteMatch)> {
    let own_name: Arc<str> = written.name.as_str().into();
    if written.matches.is_empty() {
        return vec![(&rule.places[0], own_name, RouteMatch::default())];
    }
    let conditions = written.matches.iter().zip(&rule.places);
    conditions
        .filter(|(condition, _)| matching::applies(condition, bound, server, context.identity))
        .filter_map(|(condition, places)| {
            let name = match condition.name.as_str() {
                "" => own_name.clone(),
                name => format!("{}.{name}", written.name).into(),
            };
            Some((places.as_slice(), name, matching::route_match(condition).ok()?))
        })
        .collect()
}

struct Compiler<'a> {
    context: &'a Context<'a>,
    /// Whose hosts are served.
    root: &'a Bound,
    /// Whose rule it is, and whose short names it uses: the root's or a delegate's.
    bound: &'a Bound,
    server: &'a SelectedServer<'a>,
    rule: &'a HttpRoute,
    index: usize,
}

impl Compiler<'_> {
    /// What follows from the rule's conditions.
    fn rule(&self, report: &mut Report) -> Option<RouteRule> {
        let rule = self.rule;
        let written = rule.headers.as_deref();
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
        Some(RouteRule {
            filters: filters::filters(rule),
            action,
            request_headers: request_headers.boxed(),
            response_headers: response_headers.boxed(),
            virtual_service: self.root.label().clone(),
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
            PathMatch::Exact { path, .. } => path.to_string(),
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
