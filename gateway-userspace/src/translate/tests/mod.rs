//! The rules of translation, a table each. Documents are written as their users write them.

mod backends;
mod delegates;
mod filters;
mod http;
mod localities;
mod logging;
mod mesh;
mod metrics;
mod policies;
mod ports;
mod registry;
mod requests;
mod rules;
mod server_tls;
mod upstream_tls;

use std::fmt::Write as _;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue};

use crate::api::{self, Object, Objects};
use crate::model::{
    ChainAction, Forward, Health, ListenerKind, RequestHead, Route, RouteAction, RouteTable, Snapshot,
    Steering, UserSpaceReason,
};

use super::{Surroundings, Translation, translate};

/// A Service with its pod, for every name that the tables route to.
fn services(names: &[&str]) -> String {
    let one = |(at, name): (usize, &&str)| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, labels: \
             {{kubernetes.io/service-name: {name}}}}}\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: \
             [10.0.0.{at}]}}]\n"
        )
    };
    names.iter().enumerate().map(one).collect::<Vec<_>>().concat()
}

/// A Gateway of name and servers, one server a line: `port name protocol hosts [more]`.
fn gateway(name: &str, servers: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name}\nspec:\n  selector: {{istio: \
         ingressgateway}}\n  servers:\n"
    );
    for server in servers {
        let mut words = server.splitn(5, ' ');
        let mut word = || words.next().unwrap_or("");
        let (port, name, protocol, hosts, more) = (word(), word(), word(), word(), word());
        let _ = write!(
            text,
            "  - port: {{number: {port}, name: {name}, protocol: {protocol}}}\n    hosts: [{hosts}]\n"
        );
        if !more.is_empty() {
            let _ = writeln!(text, "    {more}");
        }
    }
    text
}

/// A VirtualService of metadata and spec.
fn virtual_service(metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {metadata}\nspec: {spec}\n"
    )
}

fn to(name: &str) -> String {
    format!("[{{destination: {{host: {name}}}}}]")
}

pub(in crate::translate) fn objects(text: &str) -> Objects {
    let file: Arc<str> = "t.yaml".into();
    let read = |chunk| api::read_document(&file, chunk, "default");
    let readings: Vec<api::Reading> = api::split(text).into_iter().flat_map(read).collect();
    let found: Vec<String> = readings
        .iter()
        .flat_map(|r| &r.diagnostics)
        .filter(|d| d.is_error())
        .map(ToString::to_string)
        .collect();
    assert!(found.is_empty(), "{found:#?} in\n{text}");
    readings.into_iter().filter_map(|reading| reading.object).collect::<Vec<Object>>().into_iter().collect()
}

fn world(parts: &[String]) -> Translation {
    let objects = objects(&parts.concat());
    let mut surroundings = Surroundings::default();
    surroundings.learn(&objects);
    translate(&objects, &surroundings, 1)
}

fn codes(translation: &Translation) -> Vec<&'static str> {
    translation.diagnostics.iter().map(|found| found.code.as_str()).collect()
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot.listeners.iter().map(|listener| listener.name.to_string()).collect()
}

/// The table of a plaintext port, or of the chain that an SNI chooses.
fn table<'a>(snapshot: &'a Snapshot, name: &str, sni: Option<&str>) -> &'a RouteTable {
    let listener = snapshot.listeners.iter().find(|listener| &*listener.name == name).expect(name);
    match &listener.kind {
        ListenerKind::Http(table) => table,
        ListenerKind::Tls(tls) => match &tls.select(sni).expect("a chain").action {
            ChainAction::TerminateHttp { routes, .. } => routes,
            other => panic!("{other:?}"),
        },
        ListenerKind::Tcp(route) => panic!("{route:?}"),
    }
}

fn route<'a>(table: &'a RouteTable, host: &str, path: &str) -> Option<&'a Route> {
    let headers = HeaderMap::new();
    let head =
        RequestHead { path, query: None, method: "GET", scheme: "http", authority: host, headers: &headers };
    table.virtual_host(host)?.route(&head)
}

/// Where a request on port 80 goes: first label of the cluster's host, `redirect`, `direct`, or `404`.
fn answer(table: &RouteTable, host: &str, path: &str) -> String {
    match route(table, host, path).map(|route| &route.action) {
        None => "404".to_owned(),
        Some(RouteAction::Redirect(_)) => "redirect".to_owned(),
        Some(RouteAction::Direct(_)) => "direct".to_owned(),
        Some(RouteAction::Forward(forward)) => first(forward),
    }
}

fn first(forward: &Forward) -> String {
    forward.destinations[0].name.host.split('.').next().unwrap_or("").to_owned()
}

/// Asks one port-80 world for many answers.
fn ask(parts: &[String], questions: &[(&str, &str, &str)]) {
    let translation = world(parts);
    let table = table(&translation.snapshot, "0.0.0.0_80", None);
    for (host, path, want) in questions {
        assert_eq!(answer(table, host, path), *want, "{host}{path} in {}", parts.concat());
    }
}
