//! What Istio's labels say, and their text. Whatever a gateway does not know of a peer is `unknown`, as Istio writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::flags::Flags;

/// What is not known.
pub const UNKNOWN: &str = "unknown";
/// What a series beyond the limit says in place of what is its own.
pub(super) const OVERFLOW: &str = "overflow";

/// How a client speaks, as `request_protocol` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Any HTTP that is not gRPC.
    Http,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
}

impl Protocol {
    fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

/// What a pod's labels tell of who it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    app: String,
    version: String,
    service: String,
    revision: String,
}

impl Peer {
    /// By the labels that Istio looks at, in its order.
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
        let known = |names: &[&str]| first(names).unwrap_or_else(|| UNKNOWN.to_owned());
        let revision = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
        Self {
            app: known(&["app"]),
            version: known(&["version"]),
            service: known(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]),
            // Istio's word for a workload that names none.
            revision: first(&revision).unwrap_or_else(|| "latest".to_owned()),
        }
    }

    fn unknown() -> Self {
        Self { revision: UNKNOWN.to_owned(), ..Self::of(&BTreeMap::new()) }
    }
}

/// The gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its workload; Istio's is the Deployment.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// By its labels.
    pub peer: Peer,
    /// Its cluster.
    pub cluster: String,
}

/// Where a request or connection goes; the default is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Fully qualified host.
    service: String,
    name: String,
    namespace: String,
    peer: Peer,
}

impl Default for Destination {
    fn default() -> Self {
        let [service, name, namespace] = [UNKNOWN; 3].map(str::to_owned);
        Self { service, name, namespace, peer: Peer::unknown() }
    }
}

impl Destination {
    /// A service by its host, in the cluster's domain `name.namespace.svc.…`, and the labels of the endpoint that was chosen.
    pub fn of(host: &str, endpoint: Option<&BTreeMap<String, String>>) -> Self {
        let peer = endpoint.filter(|labels| !labels.is_empty()).map_or_else(Peer::unknown, Peer::of);
        let mut parts = host.splitn(4, '.');
        let (name, namespace) = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(namespace), Some("svc")) => (name, namespace),
            // Istio names services of other domains by their host.
            _ => (host, UNKNOWN),
        };
        let [service, name, namespace] = [host, name, namespace].map(str::to_owned);
        Self { service, name, namespace, peer }
    }

    /// Its host.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    fn overflow() -> Self {
        let [service, name, namespace] = [OVERFLOW; 3].map(str::to_owned);
        Self { service, name, namespace, peer: Peer::unknown() }
    }
}

/// What became of a request or connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// How the client spoke.
    pub protocol: Protocol,
    /// Of the response; 0 without one, and for TCP.
    pub status: u16,
    /// gRPC alone: `grpc-status`.
    pub grpc: Option<u8>,
    /// What went wrong.
    pub flags: Flags,
}

impl Outcome {
    /// A TCP connection with these flags.
    pub fn tcp(flags: Flags) -> Self {
        Self { protocol: Protocol::Tcp, status: 0, grpc: None, flags }
    }

    /// A number that no other outcome has.
    pub fn key(self) -> u64 {
        let grpc = self.grpc.map_or(0, |status| u64::from(status) + 1);
        u64::from(self.flags.bits()) << 28 | u64::from(self.status) << 12 | grpc << 2 | self.protocol as u64
    }

    /// Protocol and statuses of such a number, without flags.
    pub(super) fn of_key(key: u64) -> Self {
        let protocol = match key & 0b11 {
            0 => Protocol::Http,
            1 => Protocol::Grpc,
            _ => Protocol::Tcp,
        };
        let grpc = (key >> 2 & 0x3ff).checked_sub(1).and_then(|status| u8::try_from(status).ok());
        Self { protocol, status: (key >> 12) as u16, grpc, flags: Flags::default() }
    }
}

/// The labels of a series as they stand between braces; `None` is the series of all that is beyond the limit.
pub(super) fn text(source: &Source, found: Option<(&Destination, Outcome)>, protocol: Protocol) -> String {
    let overflow = (Destination::overflow(), Outcome { protocol, ..Outcome::tcp(Flags::default()) });
    let (destination, outcome) = found.unwrap_or((&overflow.0, overflow.1));
    let mut text = String::with_capacity(1024);
    let mut label = |name: &str, value: &str| {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing into a String does not fail.
        let _ = write!(text, "{comma}{name}=\"{}\"", escaped(value));
    };
    label("reporter", "source");
    label("source_workload", &source.workload);
    label("source_canonical_service", &source.peer.service);
    label("source_canonical_revision", &source.peer.revision);
    label("source_workload_namespace", &source.namespace);
    label("source_principal", UNKNOWN);
    label("source_app", &source.peer.app);
    label("source_version", &source.peer.version);
    label("source_cluster", &source.cluster);
    label("destination_workload", UNKNOWN);
    label("destination_workload_namespace", &destination.namespace);
    label("destination_principal", UNKNOWN);
    label("destination_app", &destination.peer.app);
    label("destination_version", &destination.peer.version);
    label("destination_service", &destination.service);
    label("destination_canonical_service", &destination.peer.service);
    label("destination_canonical_revision", &destination.peer.revision);
    label("destination_service_name", &destination.name);
    label("destination_service_namespace", &destination.namespace);
    label("destination_cluster", UNKNOWN);
    label("request_protocol", outcome.protocol.word());
    if protocol != Protocol::Tcp {
        let overflown = found.is_none().then(|| OVERFLOW.to_owned());
        label("response_code", &overflown.unwrap_or_else(|| outcome.status.to_string()));
        label("grpc_response_status", &outcome.grpc.map(|status| status.to_string()).unwrap_or_default());
    }
    label("response_flags", &if found.is_none() { OVERFLOW.to_owned() } else { outcome.flags.to_string() });
    label("connection_security_policy", UNKNOWN);
    text
}

/// A value as [`escaped`] wrote it, and how much text that and the quote behind it are; `None` without one.
pub(super) fn unescaped(text: &str) -> Option<(String, usize)> {
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, character) in text.char_indices() {
        match (is_escaped, character) {
            (false, '\\') => is_escaped = true,
            (false, '"') => return Some((value, at + 1)),
            (was_escaped, character) => {
                value.push(if was_escaped && character == 'n' { '\n' } else { character });
                is_escaped = false;
            }
        }
    }
    None
}

/// A label's value as both formats write it.
pub(super) fn escaped(value: &str) -> String {
    let mut written = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' => written.push_str("\\\\"),
            '"' => written.push_str("\\\""),
            '\n' => written.push_str("\\n"),
            other => written.push(other),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::super::super::ResponseFlag;
    use super::*;

    fn source() -> Source {
        let labels = BTreeMap::from([("app".to_owned(), "gate\"way".to_owned())]);
        Source {
            workload: "gw".to_owned(),
            namespace: "edge".to_owned(),
            peer: Peer::of(&labels),
            cluster: "Kubernetes".to_owned(),
        }
    }

    #[test]
    fn a_service_is_named_by_its_host() {
        for (host, name, namespace) in [
            ("web.shop.svc.cluster.local", "web", "shop"),
            ("web.shop.svc", "web", "shop"),
            ("api.example.com", "api.example.com", "unknown"),
            ("db", "db", "unknown"),
        ] {
            let found = Destination::of(host, None);
            assert_eq!((&*found.service, &*found.name, &*found.namespace), (host, name, namespace));
        }
    }

    #[test]
    fn labels_say_what_a_gateway_knows() {
        let outcome = Outcome {
            protocol: Protocol::Grpc,
            status: 200,
            grpc: Some(14),
            flags: Flags::default().with(&[ResponseFlag::NoHealthyUpstream]),
        };
        let labels =
            BTreeMap::from([("app".to_owned(), "web".to_owned()), ("version".to_owned(), "v2".to_owned())]);
        let destination = Destination::of("web.shop.svc.cluster.local", Some(&labels));
        let text = text(&source(), Some((&destination, outcome)), Protocol::Grpc);
        for label in [
            "reporter=\"source\"",
            "source_app=\"gate\\\"way\"",
            "source_workload_namespace=\"edge\"",
            "source_canonical_revision=\"latest\"",
            "destination_service=\"web.shop.svc.cluster.local\"",
            "destination_service_namespace=\"shop\"",
            "destination_version=\"v2\"",
            "destination_canonical_revision=\"v2\"",
            "request_protocol=\"grpc\"",
            "response_code=\"200\"",
            "grpc_response_status=\"14\"",
            "response_flags=\"UH\"",
            "connection_security_policy=\"unknown\"",
        ] {
            assert!(text.split(',').any(|found| found == label), "{label} in {text}");
        }
    }

    #[test]
    fn tcp_has_no_response_code() {
        let tcp =
            text(&source(), Some((&Destination::default(), Outcome::tcp(Flags::default()))), Protocol::Tcp);
        assert!(!tcp.contains("response_code") && tcp.contains("destination_service=\"unknown\""), "{tcp}");
        let overflow = text(&source(), None, Protocol::Http);
        assert!(overflow.contains("response_code=\"overflow\""), "{overflow}");
    }

    #[test]
    fn outcomes_have_numbers_of_their_own() {
        let flagged = Flags::default().with(&[ResponseFlag::OverloadManager]);
        let mut keys = std::collections::HashSet::new();
        for protocol in [Protocol::Http, Protocol::Grpc, Protocol::Tcp] {
            for status in [0, 200, 999, u16::MAX] {
                for grpc in [None, Some(0), Some(u8::MAX)] {
                    for flags in [Flags::default(), flagged] {
                        assert!(keys.insert(Outcome { protocol, status, grpc, flags }.key()));
                    }
                }
            }
        }
    }
}
