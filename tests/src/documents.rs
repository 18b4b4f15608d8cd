//! Istio's and Kubernetes' documents as text, with only the fields that a test is about left to say.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::authority::Identity;

/// Namespace of everything but secrets.
pub const NAMESPACE: &str = "istioinaction";
/// Namespace of the gateway, where secrets lie.
pub const GATEWAY_NAMESPACE: &str = "istio-system";

/// One of a Gateway's `servers`.
#[derive(Debug, Clone)]
pub struct Server {
    port: u16,
    protocol: &'static str,
    hosts: Vec<String>,
    tls: Option<String>,
}

impl Server {
    /// `protocol: HTTP`.
    pub fn http(port: u16, hosts: &[&str]) -> Self {
        Self::new(port, "HTTP", hosts)
    }

    /// `protocol: GRPC-WEB`.
    pub fn grpc_web(port: u16, hosts: &[&str]) -> Self {
        Self::new(port, "GRPC-WEB", hosts)
    }

    /// `protocol: HTTP` that redirects to HTTPS.
    pub fn redirecting(port: u16, hosts: &[&str]) -> Self {
        Self::new(port, "HTTP", hosts).tls("{httpsRedirect: true}")
    }

    /// `protocol: HTTPS`; `mode` is SIMPLE, MUTUAL or OPTIONAL_MUTUAL.
    pub fn https(port: u16, mode: &str, credential: &str, hosts: &[&str]) -> Self {
        Self::new(port, "HTTPS", hosts).tls(&format!("{{mode: {mode}, credentialName: {credential}}}"))
    }

    /// `protocol: HTTPS`; `tls` is what stands between the braces.
    pub fn https_with(port: u16, tls: &str, hosts: &[&str]) -> Self {
        Self::new(port, "HTTPS", hosts).tls(&format!("{{{tls}}}"))
    }

    /// `protocol: TCP` for every host.
    pub fn tcp(port: u16) -> Self {
        Self::new(port, "TCP", &["*"])
    }

    /// `protocol: TLS` that ends at the gateway; what is within is routed as TCP.
    pub fn terminated(port: u16, credential: &str, hosts: &[&str]) -> Self {
        Self::new(port, "TLS", hosts).tls(&format!("{{mode: SIMPLE, credentialName: {credential}}}"))
    }

    /// `protocol: TLS` in PASSTHROUGH mode.
    pub fn passthrough(port: u16, hosts: &[&str]) -> Self {
        Self::new(port, "TLS", hosts).tls("{mode: PASSTHROUGH}")
    }

    fn new(port: u16, protocol: &'static str, hosts: &[&str]) -> Self {
        Self { port, protocol, hosts: owned(hosts), tls: None }
    }

    fn tls(mut self, tls: &str) -> Self {
        self.tls = Some(tls.to_owned());
        self
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn list(words: &[impl AsRef<str>]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.as_ref())).collect();
    format!("[{}]", words.join(", "))
}

/// A Gateway.
pub fn gateway(name: &str, servers: &[Server]) -> String {
    let mut text = format!(
        "---\napiVersion: networking.istio.io/v1alpha3\nkind: Gateway\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec:\n  selector: {{istio: ingressgateway}}\n  servers:\n"
    );
    for (index, server) in servers.iter().enumerate() {
        let (port, protocol) = (server.port, server.protocol);
        let word = protocol.to_ascii_lowercase();
        let _ = writeln!(
            text,
            "  - port: {{number: {port}, name: {word}-{index}, protocol: {protocol}}}\n    hosts: {}",
            list(&server.hosts)
        );
        if let Some(tls) = &server.tls {
            let _ = writeln!(text, "    tls: {tls}");
        }
    }
    text
}

/// A Gateway with annotations, one a word of the form `name: value`.
pub fn annotated_gateway(name: &str, annotations: &[&str], servers: &[Server]) -> String {
    let metadata = format!("namespace: {NAMESPACE}}}");
    let annotated = format!("namespace: {NAMESPACE}, annotations: {{{}}}}}", annotations.join(", "));
    gateway(name, servers).replacen(&metadata, &annotated, 1)
}

/// A DestinationRule; `policy` is the content of its `trafficPolicy`, as a flow mapping.
pub fn destination_rule(host: &str, policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {host}, namespace: {NAMESPACE}}}\n\
         spec:\n  host: {host}\n  trafficPolicy: {policy}\n"
    )
}

/// A DestinationRule with annotations, one a word of the form `name: value`.
pub fn annotated_rule(host: &str, annotations: &[&str], policy: &str) -> String {
    let metadata = format!("namespace: {NAMESPACE}}}");
    let annotated = format!("namespace: {NAMESPACE}, annotations: {{{}}}}}", annotations.join(", "));
    destination_rule(host, policy).replacen(&metadata, &annotated, 1)
}

/// A VirtualService; `rules` is what stands below `spec`, indented by two, e.g. `  http: […]`.
pub fn virtual_service(name: &str, hosts: &[&str], gateway: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}}}\nspec:\n  hosts: {}\n  gateways: [{gateway}]\n{rules}\n",
        list(hosts)
    )
}

/// A VirtualService that sends every request for a host to port 80 of a service.
pub fn http_route(name: &str, host: &str, gateway: &str, service: &str) -> String {
    let rules = format!("  http:\n  - route:\n    - destination: {{host: {service}, port: {{number: 80}}}}");
    virtual_service(name, &[host], gateway, &rules)
}

/// A VirtualService that sends every connection of a TCP port to port 80 of a service.
pub fn tcp_route(name: &str, port: u16, gateway: &str, service: &str) -> String {
    let rules = format!(
        "  tcp:\n  - match:\n    - port: {port}\n    route:\n    - destination: {{host: {service}, port: {{number: 80}}}}"
    );
    virtual_service(name, &["*"], gateway, &rules)
}

/// A VirtualService that sends connections for an SNI to port 80 of a service.
pub fn sni_route(name: &str, port: u16, sni: &str, gateway: &str, service: &str) -> String {
    let rules = format!(
        "  tls:\n  - match:\n    - {{port: {port}, sniHosts: [\"{sni}\"]}}\n    route:\n    \
         - destination: {{host: {service}, port: {{number: 80}}}}"
    );
    virtual_service(name, &[sni], gateway, &rules)
}

/// A Service with port 80, whose name says the protocol, and its endpoints.
pub fn service(name: &str, port_name: &str, endpoints: &[SocketAddr]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec:\n  ports:\n  - {{name: {port_name}, port: 80}}\n"
    );
    for (index, endpoint) in endpoints.iter().enumerate() {
        let slice = Slice { namespace: NAMESPACE, service: name, index, port_name, endpoint: *endpoint };
        text.push_str(&endpoint_slice(&slice));
    }
    text
}

/// A Service of HTTP/1.1 backends.
pub fn http_service(name: &str, endpoints: &[SocketAddr]) -> String {
    service(name, "http", endpoints)
}

/// A Service of TCP backends.
pub fn tcp_service(name: &str, endpoints: &[SocketAddr]) -> String {
    service(name, "tcp", endpoints)
}

/// An EndpointSlice of one address; ports are the slice's, not the endpoint's, so each gets a slice.
#[derive(Debug, Clone, Copy)]
pub struct Slice<'a> {
    /// Namespace of slice and Service.
    pub namespace: &'a str,
    /// The Service.
    pub service: &'a str,
    /// Tells the slices of a Service apart.
    pub index: usize,
    /// Name of the Service's port.
    pub port_name: &'a str,
    /// The address.
    pub endpoint: SocketAddr,
}

/// The slice as text.
pub fn endpoint_slice(slice: &Slice<'_>) -> String {
    let Slice { namespace, service, index, port_name, endpoint } = slice;
    let family = if endpoint.is_ipv4() { "IPv4" } else { "IPv6" };
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{index}\n  \
         namespace: {namespace}\n  labels: {{kubernetes.io/service-name: {service}}}\naddressType: {family}\n\
         endpoints:\n- addresses: [\"{}\"]\n  conditions: {{ready: true}}\nports:\n- {{name: {port_name}, port: {}}}\n",
        endpoint.ip(),
        endpoint.port()
    )
}

/// A Secret of the gateway's namespace with texts by key.
pub fn opaque_secret(name: &str, texts: &[(&str, &str)]) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {GATEWAY_NAMESPACE}}}\nstringData:\n{}",
        blocks(texts)
    )
}

/// A ConfigMap.
pub fn config_map(namespace: &str, name: &str, texts: &[(&str, &str)]) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n{}",
        blocks(texts)
    )
}

/// Texts of several lines by key, indented by two.
fn blocks(texts: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (key, text) in texts {
        let _ = writeln!(out, "  {key}: |");
        for line in text.lines() {
            let _ = writeln!(out, "    {line}");
        }
    }
    out
}

/// A Secret of type kubernetes.io/tls; with an authority's certificate, clients are verified by it.
pub fn secret(name: &str, identity: &Identity, client_authority: Option<&str>) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {GATEWAY_NAMESPACE}}}\n\
         type: kubernetes.io/tls\nstringData:\n"
    );
    let entries = [
        ("tls.crt", Some(identity.certificate.as_str())),
        ("tls.key", Some(identity.key.as_str())),
        ("ca.crt", client_authority),
    ];
    let there: Vec<(&str, &str)> = entries.iter().filter_map(|(key, pem)| Some((*key, (*pem)?))).collect();
    text.push_str(&blocks(&there));
    text
}

/// The gateway's own Service: which of its ports stand behind the ports that Gateways name.
pub fn gateway_service(ports: &[(u16, u16)]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\n\
         metadata: {{name: istio-ingressgateway, namespace: {GATEWAY_NAMESPACE}}}\n\
         spec:\n  selector: {{istio: ingressgateway}}\n  ports:\n"
    );
    for (port, target) in ports {
        let _ = writeln!(text, "  - {{name: port-{port}, port: {port}, targetPort: {target}}}");
    }
    text
}
