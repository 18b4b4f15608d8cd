//! Settings that have no effect where they stand, and what is too long to be looked at in full.

use super::{check, found, read};
use crate::api::{Diagnostic, read_document, split};

#[test]
fn settings_of_a_handshake_that_is_not_ours_are_told() {
    let server = |protocol: &str, tls: &str| {
        format!(
            "{{servers: [{{port: {{number: 443, name: x, protocol: {protocol}}}, hosts: [a.test], tls: {{{tls}}}}}]}}"
        )
    };
    let field = "warning spec.servers[0].tls";
    for (protocol, tls, want) in [
        ("HTTP", "httpsRedirect: true", vec![]),
        (
            "HTTP",
            "httpsRedirect: true, minProtocolVersion: TLSV1_2",
            vec![".minProtocolVersion: minProtocolVersion has no effect: a plaintext server ends no TLS"],
        ),
        (
            "TLS",
            "mode: PASSTHROUGH, maxProtocolVersion: TLSV1_3, caCertCredentialName: ca",
            vec![
                ".maxProtocolVersion: maxProtocolVersion has no effect: in PASSTHROUGH mode TLS does not end here",
                ".caCertCredentialName: caCertCredentialName has no effect: in PASSTHROUGH mode TLS does not end here",
            ],
        ),
        (
            "HTTPS",
            "mode: SIMPLE, credentialName: c, caCertCredentialName: ca",
            vec![
                ".caCertCredentialName: caCertCredentialName has no effect: SIMPLE mode asks clients for no certificate",
            ],
        ),
        ("HTTPS", "mode: MUTUAL, credentialName: c, caCertCredentialName: ca", vec![]),
    ] {
        let want: Vec<String> = want.iter().map(|rest| format!("{field}{rest}")).collect();
        assert_eq!(found("Gateway", &server(protocol, tls)), want, "{protocol} {tls}");
    }
}

#[test]
fn what_is_too_long_to_be_compared_in_full_is_told() {
    let hosts = |count: usize| (0..count).map(|at| format!("h{at}.test")).collect::<Vec<_>>().join(", ");
    let rules = "http: [{route: [{destination: {host: a}}]}]";
    let spec = |count| format!("{{hosts: [{}], gateways: [g], {rules}}}", hosts(count));
    let told = "info spec.hosts: hosts are compared with the first 500 only: others may be there twice";
    check("VirtualService", &[(&spec(501), &[]), (&spec(502), &[told])]);
}

#[test]
fn every_error_says_what_to_do() {
    for (kind, spec) in [
        ("Gateway", "{servers: [{}]}"),
        ("Gateway", "{servers: 1}"),
        ("Gateway", "{unknown: 1}"),
        ("VirtualService", "{}"),
        ("VirtualService", "{hosts: [a.test], gateways: ['a/'], http: [{match: [{uri: {regex: '('}}]}]}"),
        ("DestinationRule", "{}"),
        ("DestinationRule", "{host: a, trafficPolicy: {}}"),
    ] {
        let found = read(kind, "x", spec).diagnostics;
        assert!(found.iter().any(Diagnostic::is_error), "{kind} {spec}");
        for found in found.iter().filter(|found| found.is_error()) {
            let help = found.help.as_deref().unwrap_or_default();
            assert!(help.len() > 10, "{kind} {spec}: {found}");
        }
    }
}

#[test]
fn operators_documents_are_told_to_be_flags_here() {
    let text = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: x}\n";
    let file = "t.yaml".into();
    let readings: Vec<_> =
        split(text).into_iter().flat_map(|chunk| read_document(&file, chunk, "default")).collect();
    let found = &readings[0].diagnostics[0];
    assert_eq!((found.severity.as_str(), found.code.as_str()), ("warning", "SLU0004"));
    assert!(found.message.contains("flags of `sluice run`"), "{found}");
}
