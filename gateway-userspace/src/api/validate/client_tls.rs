//! `tls` of a DestinationRule's policy.

use crate::api::destination_rule::{ClientTlsMode, ClientTlsSettings, DestinationRule, TrafficPolicy};
use crate::api::diagnostic::{Code, Severity};
use crate::api::path::FieldPath;

use super::Findings;

pub(super) fn check_client_tls(found: &mut Findings<'_>, field: &FieldPath, tls: &ClientTlsSettings) {
    match tls.mode {
        None => check_without_mode(found, field, tls),
        Some(ClientTlsMode::Disable | ClientTlsMode::IstioMutual) => {}
        Some(ClientTlsMode::Simple) => {
            check_unverified(found, field, tls);
            check_credential(found, field, tls);
        }
        Some(ClientTlsMode::Mutual) => {
            check_unverified(found, field, tls);
            check_credential(found, field, tls);
            check_own_certificate(found, field, tls);
        }
    }
}

/// Says of a document's policies with TLS where no CA is named that the system's are believed.
pub(super) fn check_authorities(found: &mut Findings<'_>, spec: &DestinationRule) {
    let field = FieldPath::spec().field("trafficPolicy");
    check_policys_authorities(found, &spec.host, &field, spec.traffic_policy.as_ref());
    for (at, subset) in spec.subsets.iter().enumerate() {
        let field = FieldPath::spec().field("subsets").index(at).field("trafficPolicy");
        check_policys_authorities(found, &spec.host, &field, subset.traffic_policy.as_ref());
    }
}

fn check_policys_authorities(
    found: &mut Findings<'_>,
    host: &str,
    field: &FieldPath,
    policy: Option<&TrafficPolicy>,
) {
    let Some(policy) = policy else { return };
    check_ca(found, &field.field("tls"), policy.tls.as_ref(), (Code::NoCaOfService, host.to_owned()));
    for (at, port) in policy.port_level_settings.iter().enumerate() {
        let number = port.port.as_ref().map_or(0, |port| port.number);
        let field = field.field("portLevelSettings").index(at).field("tls");
        let to = format!("{host} at port number:{number}");
        check_ca(found, &field, port.tls.as_ref(), (Code::NoCaOfPort, to));
    }
}

fn check_ca(
    found: &mut Findings<'_>,
    field: &FieldPath,
    tls: Option<&ClientTlsSettings>,
    (code, to): (Code, String),
) {
    let Some(tls) = tls else { return };
    let mode = match tls.mode {
        Some(ClientTlsMode::Simple) => "SIMPLE",
        Some(ClientTlsMode::Mutual) => "MUTUAL",
        None | Some(ClientTlsMode::Disable | ClientTlsMode::IstioMutual) => return,
    };
    let is_named = !tls.ca_certificates.is_empty() || !tls.credential_name.is_empty();
    if is_named || tls.insecure_skip_verify == Some(true) {
        return;
    }
    let reference = &found.source.reference;
    let message = format!(
        "DestinationRule {}/{} in namespace {} has TLS mode set to {mode} but no caCertificates are set to validate \
         server identity for host: {to}",
        reference.namespace, reference.name, reference.namespace
    );
    found.add(Severity::Warning, code, field, message).help = Some(code.remedy().to_owned());
}

/// `DISABLE` is what Istio takes it for; nobody who names a CA means that.
fn check_without_mode(found: &mut Findings<'_>, field: &FieldPath, tls: &ClientTlsSettings) {
    let texts = [
        &tls.client_certificate,
        &tls.private_key,
        &tls.ca_certificates,
        &tls.credential_name,
        &tls.sni,
        &tls.ca_crl,
    ];
    if texts.iter().any(|text| !text.is_empty())
        || !tls.subject_alt_names.is_empty()
        || tls.insecure_skip_verify.is_some()
    {
        let message = "tls without a mode is DISABLE: requests go to the backends in the clear";
        found.add(Severity::Warning, Code::NoEffect, field, message).help = Some(
            "say which `mode` is meant: `SIMPLE`, or `MUTUAL` with a certificate of the client".to_owned(),
        );
    }
}

fn check_unverified(found: &mut Findings<'_>, field: &FieldPath, tls: &ClientTlsSettings) {
    if tls.insecure_skip_verify != Some(true) {
        return;
    }
    let names_credential = !tls.credential_name.is_empty() || !tls.subject_alt_names.is_empty();
    if tls.mode == Some(ClientTlsMode::Simple) && (!tls.ca_certificates.is_empty() || names_credential) {
        found.error(
            field,
            "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true",
        );
    } else if !tls.ca_certificates.is_empty() {
        found.error(field, "cannot specify CaCertificates when InsecureSkipVerify is set true");
    }
}

fn check_credential(found: &mut Findings<'_>, field: &FieldPath, tls: &ClientTlsSettings) {
    let files = [&tls.client_certificate, &tls.private_key, &tls.ca_certificates, &tls.ca_crl];
    if !tls.credential_name.is_empty() && files.iter().any(|file| !file.is_empty()) {
        let message =
            "cannot specify client certificates or CA certificate or CA CRL If credentialName is set";
        found.error(field, message);
    }
}

fn check_own_certificate(found: &mut Findings<'_>, field: &FieldPath, tls: &ClientTlsSettings) {
    if !tls.credential_name.is_empty() {
        return;
    }
    if tls.client_certificate.is_empty() {
        found.error(field, "client certificate required for mutual tls");
    }
    if tls.private_key.is_empty() {
        found.error(field, "private key required for mutual tls");
    }
}
