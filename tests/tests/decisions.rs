//! The real gateway answers as `explain` says: for random Gateways of HTTP, TLS and TCP that meet on the same ports, whose hosts
//! and VirtualServices meet by chance, and for every way of asking for them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::SystemTime;

use fastrand::Rng;
use gateway_userspace::analysis::{Analysis, analyse};
use gateway_userspace::model::explain::{Explanation, Outcome, Question, Stage, State, decide};
use gateway_userspace::source::FileSource;
use gateway_userspace::translate::Surroundings;
use harness::authority::{Authority, Identity};
use harness::backend::Backend;
use harness::client;
use harness::documents::{http_service, secret};
use harness::gateway::Gateway;
use harness::port;
use harness::serve::Place;
use harness::tls::{TlsClient, exchange, server_config};

/// Names that clients ask for; each fits some of the patterns, or none.
const NAMES: [&str; 6] = ["a.test", "x.b.test", "y.x.b.test", "b.test", "else.org", "A.Test"];
const PATTERNS: [&str; 6] = ["a.test", "*.b.test", "*.test", "*", "x.b.test", "else.org"];

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

fn some(rng: &mut Rng, of: &[&str], prefixes: &[&str]) -> String {
    let count = rng.usize(1..3);
    let words: Vec<String> =
        (0..count).map(|_| format!("'{}{}'", one(rng, prefixes), one(rng, of))).collect();
    format!("[{}]", words.join(", "))
}

fn metadata(rng: &mut Rng, name: &str) -> String {
    let namespace = one(rng, &["one", "two"]);
    format!(
        "{{name: {name}, namespace: {namespace}, creationTimestamp: '{}-01-01T00:00:00Z'}}",
        rng.u16(2000..2004)
    )
}

/// Where a test listens, and what its backends show.
struct Estate {
    ports: [u16; 3],
    identity: Identity,
    backends: [Backend; 2],
}

impl Estate {
    fn documents(&self, rng: &mut Rng) -> String {
        let [plain, sealed] = &self.backends;
        let mut text = http_service("plain", &[plain.server.address])
            + &http_service("sealed", &[sealed.server.address]);
        text += &secret("web", &self.identity, None);
        for gateway in 0..5 {
            let metadata = metadata(rng, &format!("g{gateway}"));
            let _ = writeln!(
                text,
                "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {metadata}\nspec:\n  servers:"
            );
            for server in 0..rng.usize(1..3) {
                self.server(rng, server, &mut text);
            }
        }
        for service in 0..8 {
            virtual_service(rng, service, &mut text);
        }
        text
    }

    fn server(&self, rng: &mut Rng, index: usize, text: &mut String) {
        let (protocol, tls) = [
            ("HTTP", ""),
            ("HTTP", ", tls: {httpsRedirect: true}"),
            ("HTTPS", ", tls: {mode: SIMPLE, credentialName: web}"),
            ("HTTPS", ", tls: {mode: SIMPLE, credentialName: web}"),
            ("HTTPS", ", tls: {mode: SIMPLE, credentialName: none}"),
            ("TLS", ", tls: {mode: PASSTHROUGH}"),
            ("TLS", ", tls: {mode: SIMPLE, credentialName: web}"),
            ("TCP", ""),
        ][rng.usize(..8)];
        let port = self.ports[rng.usize(..self.ports.len())];
        let hosts = some(rng, &PATTERNS, &["", "", "one/", "./", "*/"]);
        let _ = writeln!(
            text,
            "  - {{port: {{number: {port}, name: p{index}, protocol: {protocol}}}, hosts: {hosts}{tls}}}"
        );
    }
}

/// Answers by name, as every rule has its own.
fn virtual_service(rng: &mut Rng, index: usize, text: &mut String) {
    let metadata = metadata(rng, &format!("v{index}"));
    let gateways: Vec<String> =
        (0..5).filter(|_| rng.u8(..3) > 0).map(|at| format!("one/g{at}, two/g{at}")).collect();
    // Hosts of one document must not overlap.
    let host = one(rng, &PATTERNS);
    let condition = one(rng, &["", "match: [{uri: {prefix: /a}}], ", "match: [{scheme: {exact: https}}], "]);
    let name = format!("r{index}");
    let to = |service: &str| {
        format!("route: [{{destination: {{host: {service}.istioinaction.svc.cluster.local}}}}]")
    };
    let _ = writeln!(
        text,
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {metadata}\nspec:\n  gateways: [{}]\n  hosts: \
         ['{host}']\n  http: [{{name: {name}, {condition}directResponse: {{status: 200, body: {{string: {name}}}}}}}]\n  tls: \
         [{{match: [{{sniHosts: ['{host}']}}], {}}}]\n  tcp: [{{{}}}]",
        gateways.join(", "),
        to("sealed"),
        to("plain")
    );
}

fn analysed(documents: &str) -> Analysis {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("estate.yaml"), documents).expect("writing");
    let loaded = FileSource::new(vec![directory.path().to_owned()], "default").load();
    analyse(loaded, &Surroundings::default(), SystemTime::now())
}

/// What a client will see, by the explanation.
fn foretold(explanation: &Explanation) -> String {
    let found =
        |stage| explanation.steps.iter().find(|step| step.stage == stage).and_then(|step| step.found.clone());
    match explanation.outcome {
        Outcome::Refused => "refused".to_owned(),
        Outcome::Reset => "closed".to_owned(),
        Outcome::NoRoute => "404".to_owned(),
        Outcome::Redirect => "301".to_owned(),
        Outcome::Direct => {
            let route = found(Stage::Route).unwrap_or_default();
            format!("200 {}", route.split(' ').next().unwrap_or_default())
        }
        Outcome::Carried | Outcome::Forward | Outcome::Unavailable => {
            let cluster = found(Stage::Cluster).unwrap_or_default();
            let host = cluster.rsplit('|').next().unwrap_or_default();
            format!("200 {}", host.split('.').next().unwrap_or_default())
        }
    }
}

/// What a client sees.
fn seen(client: Option<&TlsClient>, address: SocketAddr, question: &Question) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else { return "refused".to_owned() };
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        question.path, question.authority
    );
    let answer = if let Some(client) = client {
        client.connect(address).and_then(|mut stream| exchange(&mut stream, &request)).unwrap_or_default()
    } else {
        stream.set_read_timeout(Some(client::LIMIT)).expect("a limit");
        let _ = stream.write_all(request.as_bytes());
        String::from_utf8_lossy(&client::read_to_end(&mut stream).0).into_owned()
    };
    let status = answer.split(' ').nth(1).unwrap_or("closed").to_owned();
    if status != "200" {
        return status;
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let name = ["plain", "sealed"].into_iter().find(|name| body.contains(&format!("\"backend\":\"{name}\"")));
    format!("200 {}", name.unwrap_or(body))
}

#[test]
fn the_gateway_answers_as_explain_says_whatever_meets_on_its_ports() {
    let authority = Authority::new("the gateway's");
    let identity = authority.issue(&NAMES);
    let backends =
        [Backend::http("plain"), Backend::tls("sealed", server_config(&identity), Place::loopback())];
    let estate = Estate { ports: [port::free(), port::free(), port::free()], identity, backends };
    let mut ends = std::collections::BTreeMap::<u8, usize>::new();
    for seed in 0..24 {
        let mut rng = Rng::with_seed(seed);
        let documents = estate.documents(&mut rng);
        let analysis = analysed(&documents);
        let gateway = Gateway::arrange().document("estate", &documents).start();
        for _ in 0..40 {
            let (tls, name, host) = (rng.u8(..3) > 0, one(&mut rng, &NAMES), one(&mut rng, &NAMES));
            let host = if rng.bool() { name } else { host };
            let named = rng.u8(..8) > 0;
            let question = Question {
                port: estate.ports[rng.usize(..estate.ports.len())],
                tls,
                sni: Some(name.to_owned()).filter(|_| tls && named),
                method: "GET".to_owned(),
                authority: host.to_owned(),
                path: one(&mut rng, &["/", "/a"]).to_owned(),
                ..Question::default()
            };
            let explanation = decide(
                &analysis.snapshot,
                &question,
                State {
                    available: &|cluster| cluster.endpoints.iter().map(|endpoint| endpoint.address).collect(),
                    terminates: &|listener, chain| analysis.tls.get(listener, &chain.name).is_some(),
                },
            );
            let of_cleartext = explanation
                .steps
                .iter()
                .any(|step| step.found.as_deref().is_some_and(|it| it.contains("plain")));
            // TLS within an opaque connection is the backend's business, and this one speaks none.
            if tls && of_cleartext && explanation.steps.iter().all(|step| step.stage != Stage::FilterChain) {
                continue;
            }
            let client = TlsClient::new(authority.roots(), name);
            let client = if named { client } else { client.without_name() };
            let have = seen(tls.then_some(&client), gateway.at(question.port), &question);
            assert_eq!(
                have,
                foretold(&explanation),
                "seed {seed}: {question:?}\n{explanation:#?}\n{documents}"
            );
            *ends.entry(explanation.outcome as u8).or_default() += 1;
        }
    }
    let every = [
        Outcome::Refused,
        Outcome::Reset,
        Outcome::NoRoute,
        Outcome::Redirect,
        Outcome::Direct,
        Outcome::Carried,
    ];
    for end in every {
        assert!(ends.get(&(end as u8)).is_some_and(|count| *count > 10), "{end:?} was hardly met: {ends:?}");
    }
}
