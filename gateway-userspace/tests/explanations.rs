//! What `explain` says of requests: each stage with its document, and for a miss what came nearest and why it is none.

use std::net::SocketAddr;

use gateway_userspace::api::{self, Objects};
use gateway_userspace::model::explain::{Explanation, Outcome, Question, Stage, State, decide};
use gateway_userspace::model::{Cluster, Snapshot};
use gateway_userspace::translate::{Surroundings, translate};

const DOCUMENTS: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [a.test, '*.wild.test']
  - port: {number: 81, name: moved, protocol: HTTP}
    hosts: [a.test]
    tls: {httpsRedirect: true}
  - port: {number: 443, name: pass, protocol: TLS}
    hosts: [vault.test]
    tls: {mode: PASSTHROUGH}
  - port: {number: 31400, name: tcp, protocol: TCP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a.test, '*.wild.test']
  gateways: [edge]
  http:
  - name: blue
    match:
    - uri: {prefix: /api}
      headers: {x-colour: {exact: blue}}
    route: [{destination: {host: web}}]
  - name: posted
    match:
    - uri: {prefix: /api}
      method: {exact: POST}
      withoutHeaders: {x-test: {}}
      queryParams: {v: {prefix: '2'}}
    route: [{destination: {host: web, subset: none}}]
  - match: [{uri: {exact: /old}}]
    redirect: {uri: /new}
  - match: [{uri: {regex: '/d[0-9]+'}}]
    directResponse: {status: 418}
  - match: [{uri: {prefix: /EMPTY}, ignoreUriCase: true}]
    route: [{destination: {host: empty}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vault}
spec:
  hosts: [vault.test]
  gateways: [edge]
  tls:
  - match: [{sniHosts: [vault.test]}]
    route: [{destination: {host: web}}]
  tcp:
  - match: [{port: 31400}]
    route:
    - {destination: {host: web}, weight: 3}
    - {destination: {host: empty}, weight: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1]}
- {addresses: [10.0.0.2], conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  ports: [{port: 80, targetPort: 8080}, {port: 81}, {port: 443}, {port: 31400}]
";

fn translated(documents: &str) -> Snapshot {
    let file = "t.yaml".into();
    let readings =
        api::split(documents).into_iter().flat_map(|chunk| api::read_document(&file, chunk, "default"));
    let objects: Objects = readings.filter_map(|reading| reading.object).collect();
    translate(&objects, &Surroundings::default(), 1).snapshot
}

fn explain(question: &Question) -> Explanation {
    let available = |cluster: &Cluster| {
        let nobody = None::<fn(SocketAddr) -> bool>;
        cluster.eligible(nobody).map(|candidate| candidate.endpoint.address).collect()
    };
    decide(&translated(DOCUMENTS), question, State::of_documents(&available))
}

/// `METHOD http://host:port/path?query header=value…`, or `tls://name:port`.
fn question(text: &str) -> Question {
    let mut words = text.split(' ');
    let (method, url) = (words.next().expect("a method"), words.next().expect("a URL"));
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').expect("a port");
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let header = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Question {
        port: port.parse().expect("a port"),
        tls: scheme == "tls",
        sni: (scheme == "tls" && !host.is_empty()).then(|| host.to_owned()),
        method: method.to_owned(),
        authority: host.to_owned(),
        path: format!("/{path}"),
        query: query.map(str::to_owned),
        headers: words.filter_map(header).collect(),
        ..Question::default()
    }
}

#[test]
fn every_end_of_the_way_is_named() {
    for (asked, outcome, stages) in [
        ("GET http://a.test:80/api x-colour=blue", Outcome::Forward, 4),
        ("GET http://x.wild.test:80/api x-colour=blue", Outcome::Forward, 4),
        ("POST http://a.test:80/api?v=2.1", Outcome::Unavailable, 4),
        ("GET http://a.test:80/old", Outcome::Redirect, 3),
        ("GET http://a.test:80/d7", Outcome::Direct, 3),
        ("GET http://a.test:80/empty/x", Outcome::Unavailable, 4),
        ("GET http://a.test:80/api", Outcome::NoRoute, 3),
        ("GET http://b.test:80/", Outcome::NoRoute, 2),
        ("GET http://a.test:81/", Outcome::Redirect, 2),
        ("GET http://a.test:9/", Outcome::Refused, 1),
        ("GET http://vault.test:443/", Outcome::Reset, 1),
        ("GET tls://a.test:80", Outcome::Reset, 1),
        ("GET tls://vault.test:443", Outcome::Carried, 4),
        ("GET tls://other.test:443", Outcome::Reset, 2),
        ("GET tls://:443", Outcome::Reset, 2),
        ("GET http://any:31400/", Outcome::Carried, 4),
    ] {
        let explanation = explain(&question(asked));
        assert_eq!(explanation.outcome, outcome, "{asked}: {explanation:#?}");
        assert_eq!(explanation.steps.len(), stages, "{asked}: {explanation:#?}");
    }
}

#[test]
fn each_stage_names_its_document_and_line() {
    let explanation = explain(&question("GET http://a.test:80/api x-colour=blue"));
    let origins: Vec<(Stage, &str)> = explanation
        .steps
        .iter()
        .flat_map(|step| step.origins.iter().map(|origin| (step.stage, origin.as_str())))
        .collect();
    let want = [
        (Stage::Listener, "Gateway default/edge, spec.servers[0] (t.yaml:6)"),
        (Stage::Route, "VirtualService default/a, spec.http[0].match[0] (t.yaml:26)"),
        (Stage::Cluster, "Service default/web, spec.ports[0] (t.yaml:61)"),
    ];
    assert_eq!(origins, want);
    let listener = &explanation.steps[0];
    assert!(listener.notes.iter().any(|note| note.contains("leads port 80 to 8080")), "{listener:?}");
    let cluster = &explanation.steps[3];
    assert!(cluster.notes.contains(&"1 of 2 endpoints may be chosen".to_owned()), "{cluster:?}");
    assert!(cluster.notes.contains(&"10.0.0.2:8080 not ready".to_owned()), "{cluster:?}");
}

#[test]
fn a_miss_names_what_came_nearest_and_the_condition_that_failed() {
    for (asked, nearest, why) in [
        ("GET http://a.test:80/api", "blue of a.default", "no header `x-colour`: it must be `blue`"),
        (
            "GET http://a.test:80/api x-colour=red",
            "blue of a.default",
            "header `x-colour` is `red`: it must be `blue`",
        ),
        (
            "POST http://a.test:80/api x-test=1 x-colour=no",
            "blue of a.default",
            "header `x-colour` is `no`: it must be `blue`",
        ),
        (
            "GET http://a.test:80/none",
            "blue of a.default",
            "path `/none`: it takes paths that begin with `/api`",
        ),
        (
            "GET http://wild.test:80/",
            "*.wild.test",
            "a wildcard takes names below `wild.test`, not the name itself",
        ),
        ("GET http://b.test:80/", "a.test", "is another name"),
        (
            "GET tls://vaulx.test:443",
            "vault.default/tls[0].match[0]/tls.443.pass.edge.default",
            "takes `vault.test`",
        ),
    ] {
        let explanation = explain(&question(asked));
        let last = explanation.steps.last().expect("a step");
        assert_eq!(last.found, None, "{explanation:#?}");
        let first = &last.passed_over[0];
        assert_eq!((first.name.as_str(), first.why.as_str()), (nearest, why), "{asked}: {explanation:#?}");
    }
    let posted = explain(&question("POST http://a.test:80/api x-test=1"));
    let misses = &posted.steps.last().expect("a step").passed_over;
    assert!(misses.iter().any(|miss| miss.why == "header `x-test` is there, and must not be"), "{misses:#?}");
}

#[test]
fn what_stands_before_the_route_is_told_too() {
    let explanation = explain(&question("GET http://a.test:80/old"));
    let whys: Vec<&str> = explanation.steps[2].passed_over.iter().map(|miss| miss.why.as_str()).collect();
    assert_eq!(whys, ["path `/old`: it takes paths that begin with `/api`"; 2]);
}

#[test]
fn faults_and_cors_are_told_and_decide_where_they_hit_every_request() {
    let documents = DOCUMENTS.to_owned()
        + "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: f}\nspec: {servers: [{port: {number: 81, name: \
           http, protocol: HTTP}, hosts: [f.test]}]}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: \
           {name: f}\nspec:\n  gateways: [f]\n  hosts: [f.test]\n  http:\n  - match: [{uri: {prefix: /whole}}]\n    fault: {abort: \
           {httpStatus: 418, percentage: {value: 100}}}\n    route: [{destination: {host: web}}]\n  - match: [{uri: {prefix: \
           /part}}]\n    fault: {delay: {fixedDelay: 2s, percentage: {value: 0.5}}, abort: {grpcStatus: UNAVAILABLE, percentage: \
           {value: 25}}}\n    route: [{destination: {host: web}}]\n  - corsPolicy: {allowOrigins: [{exact: 'https://ok.test'}]}\n    \
           route: [{destination: {host: web}}]\n";
    let snapshot = translated(&documents);
    let preflight = "access-control-request-method=PUT";
    for (asked, outcome, summary, note) in [
        ("GET http://f.test:81/whole".to_owned(), Outcome::Direct, "418", "100 % of requests with 418"),
        ("GET http://f.test:81/part".to_owned(), Outcome::Forward, "web", "delays 0.5 % of requests by 2s"),
        (
            "GET http://f.test:81/part".to_owned(),
            Outcome::Forward,
            "web",
            "25 % of requests with gRPC status 14",
        ),
        (
            format!("OPTIONS http://f.test:81/ origin=https://ok.test {preflight}"),
            Outcome::Direct,
            "preflight with 200",
            "CORS",
        ),
        (
            format!("OPTIONS http://f.test:81/ origin=https://no.test {preflight}"),
            Outcome::Forward,
            "web",
            "CORS",
        ),
        ("GET http://f.test:81/ origin=https://ok.test".to_owned(), Outcome::Forward, "web", "CORS"),
    ] {
        let all = |cluster: &Cluster| cluster.endpoints.iter().map(|endpoint| endpoint.address).collect();
        let found = decide(&snapshot, &question(&asked), State::of_documents(&all));
        assert_eq!(found.outcome, outcome, "{asked}: {found:?}");
        assert!(found.summary.contains(summary), "{asked}: {found:?}");
        let notes: Vec<&String> = found.steps.iter().flat_map(|step| &step.notes).collect();
        assert!(notes.iter().any(|told| told.contains(note)), "{asked}: {notes:?}");
    }
}

#[test]
fn shares_of_a_split_are_told_and_who_can_serve() {
    let explanation = explain(&question("GET http://any:31400/"));
    assert_eq!(explanation.summary, "the connection goes to one of 2 clusters, of which 1 can serve");
    let weights: Vec<&str> = explanation.steps[2..].iter().map(|step| step.notes[0].as_str()).collect();
    assert_eq!(weights, ["weight 3 of 4", "weight 1 of 4"]);
}

#[test]
fn a_listener_with_the_address_comes_before_one_for_all() {
    let documents = DOCUMENTS.replace(
        "  - port: {number: 31400",
        "  - port: {number: 82, name: bound, protocol: HTTP}\n    bind: 10.9.9.9\n    hosts: [a.test]\n  - port: {number: 82, \
         name: all, protocol: HTTP}\n    hosts: [a.test]\n  - port: {number: 31400",
    );
    let snapshot = translated(&documents);
    for (address, want) in
        [(None, "0.0.0.0_82"), (Some("10.9.9.9"), "10.9.9.9_82"), (Some("10.1.1.1"), "0.0.0.0_82")]
    {
        let address = address.map(|ip| ip.parse().expect("an address"));
        let question = Question { address, ..question("GET http://a.test:82/") };
        let explanation = decide(&snapshot, &question, State::of_documents(&|_| Vec::new()));
        assert_eq!(explanation.steps[0].found.as_deref(), Some(want), "{address:?}");
    }
}
