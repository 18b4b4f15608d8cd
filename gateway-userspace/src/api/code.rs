//! The codes of findings, a row each: stable, Istio's where Istio has one. `docs/codes.md` is this table for people.

use std::fmt;

use serde::{Serialize, Serializer};

use super::diagnostic::Severity::{self, Error, Info, Warning};

/// Makes the codes and all that is said of them from one table, so that none can be without a remedy.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, [$($severity:ident),+], istio: $istio:expr, $remedy:literal;)+) => {
        /// A stable code for each kind of finding. Istio's where Istio has one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)+
        }

        impl Code {
            /// All of them, as listed in `docs/codes.md`.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// How grave it is here; the first is the usual one.
            pub fn severities(self) -> &'static [Severity] {
                match self { $(Self::$name => &[$($severity),+],)+ }
            }

            /// How grave `istioctl analyze` or Istio's validation finds it; `None` where Istio has no such code.
            pub fn istios_severity(self) -> Option<Severity> {
                match self { $(Self::$name => $istio,)+ }
            }

            /// What to do about any of its kind; most findings know better.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

codes! {
    /// A gateway, secret, host or port that a document names does not exist.
    ReferencedResourceNotFound = "IST0101", [Error], istio: Some(Error),
        "write the document that is named, or correct the name; another namespace's is named in full";
    /// The document breaks the rules of its kind.
    SchemaValidation = "IST0106", [Error], istio: Some(Error),
        "correct the field: until then the document is refused, and its last sound state stays in force";
    /// A destination names no port and its service has several.
    DestinationNeedsPort = "IST0112", [Error], istio: Some(Error),
        "name one of the service's ports in `destination.port.number`";
    /// A port's name does not begin with a protocol.
    PortNameWithoutProtocol = "IST0118", [Info], istio: Some(Info),
        "name the port `<protocol>[-suffix]`, such as `http` or `grpc-web`, or set its `appProtocol`";
    /// TLS to a service's backends without a CA.
    NoCaOfService = "IST0128", [Warning], istio: Some(Error),
        "name the CA in `caCertificates` or a Secret in `credentialName`; without, the system's authorities are believed";
    /// TLS to a port of a service's backends without a CA.
    NoCaOfPort = "IST0129", [Warning], istio: Some(Warning),
        "name the CA in `caCertificates` or a Secret in `credentialName`; without, the system's authorities are believed";
    /// A rule can never be reached.
    UnreachableRule = "IST0130", [Warning], istio: Some(Warning),
        "move the rule before the one that takes every request, or remove it";
    /// A match can never be reached.
    IneffectiveMatch = "IST0131", [Info], istio: Some(Info),
        "move the narrower match before the wider one, or remove it";
    /// A host of a VirtualService is in none of its gateways' servers.
    HostNotFoundInGateway = "IST0132", [Warning], istio: Some(Warning),
        "add the host to a server of the Gateway, or take it out of the VirtualService";
    /// The document breaks no rule but surely is not meant so.
    SchemaWarning = "IST0133", [Warning], istio: Some(Warning),
        "take the field out, or set what it needs to have an effect";
    /// A ServiceEntry without addresses has a port of TCP, which sidecars know by its address.
    EntryWithoutAddresses = "IST0134", [Info], istio: Some(Warning),
        "nothing, if only gateways are to reach it; else give it an address in `addresses`";
    /// Two servers show the same certificate for different hosts.
    DuplicateCertificate = "IST0138", [Info], istio: Some(Warning),
        "put the hosts into one server, or give each server its own certificate";
    /// Rules for sidecars choose a subset of a service, which requests through a gateway pass by.
    SubsetOfMeshRule = "IST0140", [Warning], istio: Some(Warning),
        "name the subset in the gateway's rule too, if it is meant there: it does not ask rules of the mesh";
    /// Two servers claim the same host on the same port.
    ConflictingGateways = "IST0145", [Error, Warning, Info], istio: Some(Error),
        "leave the host to one of the two, or give them different ports";
    /// A Telemetry names no provider, and none is named before it.
    TelemetryWithoutProvider = "IST0157", [Warning], istio: Some(Warning),
        "name a provider, such as `envoy`, in `providers`, or in MeshConfig's `defaultProviders.accessLogging`";
    /// Several Telemetries of a namespace select the gateway.
    TelemetriesSelectSame = "IST0159", [Warning], istio: Some(Error),
        "join them into one, or let their selectors choose different workloads";
    /// Several Telemetries of a namespace have no selector.
    TelemetriesWithoutSelector = "IST0160", [Error], istio: Some(Error),
        "join them into one, or give all but one a selector";
    /// A Secret or file lacks a usable certificate, key or CA.
    InvalidGatewayCredential = "IST0161", [Error], istio: Some(Error),
        "put a certificate and the key that belongs to it into the Secret, both in PEM form";
    /// The gateway's own Service does not have a Gateway's port.
    GatewayPortNotDefinedOnService = "IST0162", [Warning], istio: Some(Warning),
        "add the port to the Service, or clients must come to the gateway itself";
    /// No endpoint has the labels of a subset.
    SubsetWithoutEndpoints = "IST0173", [Error], istio: Some(Error),
        "correct the subset's labels, or give the endpoints such labels";
    /// A DestinationRule's host is no service.
    DestinationRuleWithoutHost = "IST0174", [Warning], istio: Some(Warning),
        "write the Service, or correct `host`; another namespace's service is named in full";
    /// ServiceEntries give one port of one host different protocols.
    EntriesDisagree = "IST0177", [Warning], istio: Some(Warning),
        "give the port the same protocol in all of them";
    /// Not YAML.
    Yaml = "SLU0001", [Error], istio: None,
        "mend the text so that it is YAML; the place is where reading broke off, and the slip may be just above it";
    /// No apiVersion, kind or metadata.name.
    NotADocument = "SLU0002", [Error], istio: None,
        "begin the document with `apiVersion`, `kind` and `metadata.name` of a kind that is known";
    /// A kind that a gateway does not read.
    KindNotRead = "SLU0003", [Info, Warning], istio: None,
        "nothing, unless the gateway was meant to act on it: then use a kind that it reads";
    /// A kind or field that is not supported yet and has no effect.
    NotSupported = "SLU0004", [Warning], istio: None,
        "take it out, or live without its effect";
    /// A kind or field that is not supported yet and must not be ignored.
    NotEnforced = "SLU0005", [Error], istio: None,
        "take it out once what it asks for is ensured elsewhere: ignored, it would let in what it keeps out";
    /// The same kind, namespace and name twice.
    DuplicateDocument = "SLU0006", [Error], istio: None,
        "remove one of them, or give it another name or namespace";
    /// A file cannot be read.
    Unreadable = "SLU0007", [Error], istio: None,
        "check that the path is right and that this user may read it";
    /// A refused document's predecessor stays in force.
    LastGoodInForce = "SLU0008", [Warning], istio: None,
        "mend the document, or remove it to take it out of force";
    /// A server leads nowhere: its port is not opened.
    NoRoute = "SLU0009", [Warning], istio: None,
        "add a VirtualService with this gateway in `gateways` and a rule for the port";
    /// A server's protocol does not go with an older server's on the port.
    ProtocolConflict = "SLU0010", [Error], istio: None,
        "use another port, or another `bind` address";
    /// A document selects another gateway.
    NotSelected = "SLU0011", [Info], istio: None,
        "nothing, if another gateway is meant; else correct the selector, or this gateway's `--labels`";
    /// A part of a document can never take effect here.
    NoEffect = "SLU0012", [Warning, Info], istio: None,
        "remove the part, or change what keeps it from taking effect";
    /// A certificate that is served is not valid yet or any more.
    CertificateNotInForce = "SLU0013", [Warning], istio: None,
        "put a certificate that is in force into the Secret: clients refuse this one";
    /// TLS towards backends lacks a usable certificate, key or CA.
    UpstreamTlsUnusable = "SLU0016", [Error], istio: None,
        "put what is named where it is looked for, in PEM form: until then requests are answered with 503";
    /// A list is so long that a check looked at its beginning only.
    NotFullyChecked = "SLU0014", [Info], istio: None,
        "split the document into several: what lies behind is served as it is, but nobody looked for slips in it";
    /// A document of the cluster's could not be read by whoever looked, so that what depends on it was not looked at.
    NotRead = "SLU0017", [Warning], istio: None,
        "look as somebody who may read it, as a gateway's own service account may";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn words(severities: &[Severity]) -> String {
        severities.iter().map(|severity| severity.as_str()).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn every_code_stands_once_in_the_list_for_people() {
        let list = include_str!("../../../docs/codes.md");
        for code in Code::ALL {
            let istio = code.istios_severity().map_or("–", Severity::as_str);
            let (here, remedy) = (words(code.severities()), code.remedy());
            let begin = format!("| {code} | {here} | {istio} | ");
            let rows: Vec<&str> =
                list.lines().filter(|line| line.starts_with(&format!("| {code} "))).collect();
            let [row] = rows.as_slice() else { panic!("{code} has {} rows", rows.len()) };
            assert!(row.starts_with(&begin), "{row}\nshould begin with\n{begin}");
            assert!(row.ends_with(&format!(" | {remedy} |")), "{row}\nshould end with\n{remedy}");
        }
        let rows = list.lines().filter(|line| line.starts_with("| IST") || line.starts_with("| SLU")).count();
        assert_eq!(rows, Code::ALL.len());
    }

    #[test]
    fn no_two_codes_share_a_number() {
        let texts: HashSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
