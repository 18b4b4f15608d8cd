//! Documents that many cases need, made of a line each. A name may be followed by its namespace and its year of birth:
//! `name/namespace@2020`.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The documents that a `# +` line asks for.
pub(crate) fn documents(line: &str) -> String {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    match kind {
        "services" => rest.split(' ').map(service).collect(),
        "certificate" => {
            let (name, host) = rest.split_once(' ').expect("a name and a host");
            certificate(name, host)
        }
        "gateway" => gateway(rest),
        "route" | "tcp" | "tls" => virtual_service(kind, rest),
        "rule" => destination_rule(rest),
        other => panic!("{other} cannot be made: {line}"),
    }
}

fn metadata(word: &str) -> String {
    let (name, year) = word.split_once('@').unwrap_or((word, ""));
    let (name, namespace) = name.split_once('/').unwrap_or((name, ""));
    let mut text = format!("{{name: {name}");
    if !namespace.is_empty() {
        let _ = write!(text, ", namespace: {namespace}");
    }
    if !year.is_empty() {
        let _ = write!(text, ", creationTimestamp: '{year}-01-01T00:00:00Z'");
    }
    text + "}"
}

fn list(words: &str) -> String {
    let quoted: Vec<String> = words.split(',').map(|word| format!("'{word}'")).collect();
    format!("[{}]", quoted.join(", "))
}

/// `name number PROTOCOL hosts more: …; number PROTOCOL hosts …`
fn gateway(line: &str) -> String {
    let (name, servers) = line.split_once(' ').expect("a name and servers");
    let mut text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {}\nspec:\n  selector: {{istio: ingressgateway}}\n  \
         servers:\n",
        metadata(name)
    );
    for (at, server) in servers.split("; ").enumerate() {
        let mut words = server.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (number, protocol, hosts, more) = (word(), word(), word(), word());
        let port = format!("{{number: {number}, name: p{at}, protocol: {protocol}}}");
        let _ = writeln!(text, "  - {{port: {port}, hosts: {}, {more}}}", list(hosts));
    }
    text
}

/// `name gateways hosts service /prefix:service …`, where rules of TLS are `name:service`.
fn virtual_service(kind: &str, line: &str) -> String {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("too short: {line}"));
    let (name, gateways, hosts) = (word(), word(), word());
    let to = |service: &str| {
        let (host, port) = service.split_once(':').unwrap_or((service, ""));
        let (host, subset) = host.split_once('/').unwrap_or((host, ""));
        let port = if port.is_empty() { String::new() } else { format!(", port: {{number: {port}}}") };
        let subset = if subset.is_empty() { String::new() } else { format!(", subset: {subset}") };
        format!("route: [{{destination: {{host: {host}{port}{subset}}}}}]")
    };
    let rule = |word: &str| match (kind, word.split_once('=')) {
        ("route", Some((prefix, service))) => {
            format!("{{match: [{{uri: {{prefix: {prefix}}}}}], {}}}", to(service))
        }
        ("tls", Some((names, service))) => {
            format!("{{match: [{{sniHosts: {}}}], {}}}", list(names), to(service))
        }
        ("tcp", Some((port, service))) => format!("{{match: [{{port: {port}}}], {}}}", to(service)),
        _ => format!("{{{}}}", to(word)),
    };
    let rules: Vec<String> = words.map(rule).collect();
    let field = if kind == "route" { "http" } else { kind };
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {}\nspec: {{gateways: {}, hosts: {}, {field}: \
         [{}]}}\n",
        metadata(name),
        list(gateways),
        list(hosts),
        rules.join(", ")
    )
}

/// `name host subsets`, where a subset has the label `version`.
fn destination_rule(line: &str) -> String {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("too short: {line}"));
    let (name, host) = (word(), word());
    let subsets: Vec<String> =
        words.map(|name| format!("{{name: {name}, labels: {{version: {name}}}}}")).collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {}\nspec: {{host: '{host}', subsets: [{}]}}\n",
        metadata(name),
        subsets.join(", ")
    )
}

/// A Service on port 80 with an endpoint of its own.
fn service(word: &str) -> String {
    let (name, namespace) = word.split_once('/').unwrap_or((word, "default"));
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    let [_, a, b, c, ..] = hasher.finish().to_be_bytes();
    let metadata = format!("namespace: {namespace}");
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, {metadata}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, {metadata}, labels: \
         {{kubernetes.io/service-name: {name}, version: v1}}}}\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: \
         [10.{a}.{b}.{c}]}}]\n"
    )
}

/// A Secret with a certificate that its own key has signed.
fn certificate(name: &str, host: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).expect("a certificate");
    let indented = |pem: &str| pem.lines().fold(String::new(), |text, line| format!("{text}    {line}\n"));
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indented(&made.cert.pem()),
        indented(&made.signing_key.serialize_pem())
    )
}
