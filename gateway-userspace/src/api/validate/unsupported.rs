//! What Istio has and this version does not do yet, in tables. Nothing is passed over in silence: where
//! ignoring a field would change who gets in or where traffic goes, the document is refused; everywhere else the
//! field is reported and has no effect.

use crate::api::diagnostic::{Code, Severity};
use crate::api::path::FieldPath;
use crate::api::yaml::{Content, Node};

use super::Findings;

/// What happens to a document that sets the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is refused.
    Refused,
    /// It is taken, without the field.
    Ignored,
}
use Outcome::{Ignored, Refused};

/// Field (`[]`: every element; `=WORD`: only this value), outcome, why or what to do.
pub(super) struct Row(&'static str, Outcome, &'static str);

/// Gateway.
pub(super) const GATEWAY: &[Row] = &[
    Row("spec.servers[].tls.mode=ISTIO_MUTUAL", Refused, "it needs the mesh's certificates; use MUTUAL"),
    Row(
        "spec.servers[].tls.mode=AUTO_PASSTHROUGH",
        Refused,
        "it is for traffic between clusters; use PASSTHROUGH",
    ),
    Row(
        "spec.servers[].tls.serverCertificate",
        Refused,
        "put certificate and key in a Secret: `credentialName`",
    ),
    Row("spec.servers[].tls.privateKey", Refused, "put certificate and key in a Secret: `credentialName`"),
    Row("spec.servers[].tls.caCertificates", Refused, "put the CA in the Secret: key `ca.crt`"),
    Row(
        "spec.servers[].tls.tlsCertificates",
        Refused,
        "put certificate and key in a Secret: `credentialName`",
    ),
    Row("spec.servers[].tls.caCrl", Refused, "revoked clients would get in"),
    Row("spec.servers[].tls.subjectAltNames", Refused, "every client of the CA would get in"),
    Row("spec.servers[].tls.verifyCertificateSpki", Refused, "every client of the CA would get in"),
    Row("spec.servers[].tls.verifyCertificateHash", Refused, "every client of the CA would get in"),
    Row(
        "spec.servers[].tls.insecureSkipVerify",
        Refused,
        "clients are always verified where they are asked to be",
    ),
    Row("spec.servers[].tls.cipherSuites", Ignored, "the TLS library's own safe choice is used"),
    Row("spec.servers[].tls.ecdhCurves", Ignored, "the TLS library's own safe choice is used"),
    Row("spec.servers[].tls.credentialNames[1]", Ignored, "only the first credential is offered"),
    Row("spec.servers[].defaultEndpoint", Ignored, "gateways ignore it, in Istio too"),
];

/// VirtualService.
pub(super) const VIRTUAL_SERVICE: &[Row] = &[
    Row("spec.http[].delegate", Refused, "write the delegate's rules into this document"),
    Row("spec.http[].fault.abort", Refused, "requests that it turns away would get through"),
    Row("spec.http[].fault.delay", Ignored, ""),
    Row("spec.http[].redirect.prefixRewrite", Refused, "redirects would lead elsewhere; use `uri`"),
    Row("spec.http[].mirror", Ignored, ""),
    Row("spec.http[].mirrors", Ignored, ""),
    Row("spec.http[].mirrorPercent", Ignored, ""),
    Row("spec.http[].mirrorPercentage", Ignored, ""),
    Row("spec.http[].retries", Ignored, ""),
    Row("spec.http[].corsPolicy", Ignored, ""),
    Row("spec.http[].match[].statPrefix", Ignored, ""),
];

/// DestinationRule: `trafficPolicy`, and each of `portLevelSettings`.
pub(super) const TRAFFIC_POLICY: &[Row] = &[
    Row("tls.mode=SIMPLE", Refused, "requests would go to the backends in the clear"),
    Row("tls.mode=MUTUAL", Refused, "requests would go to the backends in the clear"),
    Row("tls.mode=ISTIO_MUTUAL", Refused, "it needs the mesh's certificates"),
    Row("tunnel", Refused, "connections would go past the tunnel"),
    Row("retryBudget", Ignored, ""),
    Row("loadBalancer.simple=ROUND_ROBIN", Ignored, "the less busy of two random endpoints is chosen"),
    Row("loadBalancer.simple=RANDOM", Ignored, "the less busy of two random endpoints is chosen"),
    Row("loadBalancer.simple=PASSTHROUGH", Ignored, "the less busy of two random endpoints is chosen"),
    Row(
        "loadBalancer.consistentHash.httpHeaderName",
        Ignored,
        "requests are balanced one by one; TCP knows no headers, in Istio too: `useSourceIp` works for both",
    ),
    Row(
        "loadBalancer.consistentHash.httpCookie",
        Ignored,
        "requests are balanced one by one; TCP knows no cookies, in Istio too: `useSourceIp` works for both",
    ),
    Row(
        "loadBalancer.consistentHash.httpQueryParameterName",
        Ignored,
        "requests are balanced one by one; TCP knows no queries, in Istio too: `useSourceIp` works for both",
    ),
    Row("loadBalancer.consistentHash.ringHash", Ignored, "the gateway's own consistent hash is used"),
    Row("loadBalancer.consistentHash.maglev", Ignored, "the gateway's own consistent hash is used"),
    Row("loadBalancer.consistentHash.minimumRingSize", Ignored, "the gateway's own consistent hash is used"),
    Row("loadBalancer.localityLbSetting", Ignored, "endpoints of all localities are used alike"),
    Row("loadBalancer.zoneAwareLbSetting", Ignored, "endpoints of all zones are used alike"),
    Row("loadBalancer.warmupDurationSecs", Ignored, "new endpoints get their share at once"),
    Row("loadBalancer.warmup", Ignored, "new endpoints get their share at once"),
    Row("connectionPool.tcp.tcpKeepalive", Ignored, "a vanished peer is noticed within minutes"),
    Row("connectionPool.tcp.maxConnectionDuration", Ignored, ""),
    Row("connectionPool.http", Ignored, ""),
];

/// Reports every field of a table that the document sets.
pub(super) fn report(found: &mut Findings<'_>, table: &[Row]) {
    report_below(found, &FieldPath::root(), table);
}

/// The same for a table whose fields are below a place.
pub(super) fn report_below(found: &mut Findings<'_>, place: &FieldPath, table: &[Row]) {
    let source = found.source;
    let Some(node) = source.root.find(place) else { return };
    for Row(pattern, outcome, why) in table {
        let (pattern, value) = pattern.split_once('=').map_or((*pattern, None), |(p, v)| (p, Some(v)));
        let mut places = Vec::new();
        collect(node, pattern, value, place, &mut places);
        for field in places {
            let name = value.or_else(|| pattern.rsplit('.').next()).unwrap_or(pattern);
            add(found, &field, name, *outcome, why);
        }
    }
}

fn add(found: &mut Findings<'_>, field: &FieldPath, name: &str, outcome: Outcome, why: &str) {
    let (severity, code, effect) = match outcome {
        Refused => (Severity::Error, Code::NotEnforced, "and must not be ignored: the document is refused"),
        Ignored => (Severity::Warning, Code::NotSupported, "it has no effect here"),
    };
    let separator = if outcome == Refused { " " } else { ": " };
    let diagnostic =
        found.add(severity, code, field, format!("{name} is not yet supported{separator}{effect}"));
    diagnostic.help = Some(why.to_owned()).filter(|why| !why.is_empty());
}

/// Walks down a pattern; `at` grows on the way.
fn collect(node: &Node, pattern: &str, value: Option<&str>, at: &FieldPath, places: &mut Vec<FieldPath>) {
    let Some(step) = pattern.split('.').next().filter(|step| !step.is_empty()) else {
        if !node.is_empty()
            && value.is_none_or(|value| node.text() == Some(value))
            && node.text() != Some("false")
        {
            places.push(at.clone());
        }
        return;
    };
    let rest = pattern[step.len()..].trim_start_matches('.');
    let (name, index) =
        step.split_once('[').map_or((step, None), |(n, i)| (n, Some(i.trim_end_matches(']'))));
    let Some(entry) = node.get(name) else { return };
    let at = at.field(name);
    match (index, &entry.value.content) {
        (None, _) => collect(&entry.value, rest, value, &at, places),
        (Some(index), Content::Sequence(items)) => {
            let only = index.parse::<usize>().ok();
            for (i, item) in items.iter().enumerate().filter(|(i, _)| only.is_none_or(|only| only == *i)) {
                collect(item, rest, value, &at.index(i), places);
            }
        }
        (Some(_), _) => {}
    }
}
