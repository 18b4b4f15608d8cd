//! `tls` of a Gateway's server, in Istio's order and words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::diagnostic::{Code, Severity};
use crate::api::gateway::{Mode, Protocol, ProtocolFamily, ServerTlsSettings};
use crate::api::path::FieldPath;

use super::Findings;
use super::cipher_suite::{self, CipherChoice};

/// Where certificate and key can come from, all at a time.
const ONE_SOURCE: &str = "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should be \
                          specified";

/// Certificates that one server can show, by Istio's words.
const MAX_CERTIFICATES: usize = 2;

/// Checks `servers[].tls`, which is there.
pub(super) fn check(
    found: &mut Findings<'_>,
    field: &FieldPath,
    tls: &ServerTlsSettings,
    family: ProtocolFamily,
) {
    cipher_suite::check(found, &field.field("cipherSuites"), &tls.cipher_suites);
    cipher_suite::check_groups(found, &field.field("ecdhCurves"), &tls.ecdh_curves);
    match family {
        ProtocolFamily::Http => check_plaintext(found, field, tls),
        ProtocolFamily::Tcp => {
            found.error_with_help(
                field,
                "server cannot have TLS settings for non HTTPS/TLS ports",
                "for TLS set `protocol: TLS`",
            );
        }
        ProtocolFamily::Https | ProtocolFamily::Tls => check_ending(found, field, tls),
    }
}

/// Only the redirect to HTTPS belongs on a plaintext port.
fn check_plaintext(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    let files = [&tls.server_certificate, &tls.private_key, &tls.ca_certificates];
    if tls.mode.terminates() || tls.mode == Mode::IstioMutual || files.iter().any(|file| !file.is_empty()) {
        found.error_with_help(
            field,
            "server cannot have TLS settings for plain text HTTP ports",
            "only `httpsRedirect: true` is allowed here; for TLS set `protocol: HTTPS`",
        );
        return;
    }
    check_unused_certificates(found, field, tls);
    check_idle_settings(found, field, tls, "a plaintext server ends no TLS");
}

fn check_ending(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    if tls.https_redirect {
        let message = "tls.httpsRedirect should only be used with http servers";
        found.warning(&field.field("httpsRedirect"), message);
    }
    match tls.mode {
        Mode::IstioMutual => check_mesh_mutual(found, field, tls),
        Mode::Passthrough | Mode::AutoPassthrough => {
            check_unused_certificates(found, field, tls);
            let why = format!("in {} mode TLS does not end here", tls.mode.as_str());
            check_idle_settings(found, field, tls, &why);
        }
        Mode::Simple | Mode::Mutual | Mode::OptionalMutual => {
            check_certificates(found, field, tls);
            check_clients(found, field, tls);
            check_versions(found, field, tls);
        }
    }
    if tls.mode != Mode::IstioMutual {
        check_one_source(found, field, tls);
    }
}

/// The mesh's certificates leave no room for others.
fn check_mesh_mutual(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    for (name, words, is_set) in [
        ("serverCertificate", "server certificate", !tls.server_certificate.is_empty()),
        ("privateKey", "private key", !tls.private_key.is_empty()),
        ("caCertificates", "CA bundle", !tls.ca_certificates.is_empty()),
        ("tlsCertificates", "tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialName", "credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", "credentialNames", !tls.credential_names.is_empty()),
    ] {
        if is_set {
            let message = format!("ISTIO_MUTUAL TLS cannot have associated {words}");
            found.error_with_help(&field.field(name), message, "leave it out, or set `mode: MUTUAL`");
        }
    }
}

fn check_unused_certificates(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    for (name, is_set) in [
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("caCrl", !tls.ca_crl.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ] {
        if is_set {
            let mode = tls.mode.as_str();
            let message = format!("{mode} mode does not use certificates, they will be ignored");
            found.warning(&field.field(name), message);
        }
    }
}

fn check_one_source(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    let sources = [
        ("credentialName", !tls.credential_name.is_empty()),
        ("serverCertificate", !tls.server_certificate.is_empty() && !tls.private_key.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
    ];
    let set: Vec<&str> = sources.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    if let [_, .., last] = set.as_slice() {
        found.error_with_help(&field.field(last), ONE_SOURCE, "keep the one that is meant");
    }
}

fn check_certificates(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    let prefix = if tls.mode == Mode::Simple { "SIMPLE TLS" } else { "MUTUAL TLS" };
    for (name, number) in
        [("credentialNames", tls.credential_names.len()), ("tlsCertificates", tls.tls_certificates.len())]
    {
        if number > MAX_CERTIFICATES {
            let message = format!("{prefix} can support up to 2 server certificates");
            found.warning(&field.field(name), message);
        }
    }
    if tls.credentials().next().is_some() {
        check_files_beside_credential(found, field, tls);
        return;
    }
    if tls.mode.verifies_clients() && tls.ca_certificates.is_empty() {
        let help = "name the CA's file in `caCertificates`, or everything by a Secret in `credentialName`";
        found.error_with_help(field, format!("{prefix} requires a client CA bundle"), help);
    }
    let files = tls.certificate_files();
    let pairs = if files.is_empty() { vec![("", "")] } else { files };
    for (at, (certificate, key)) in pairs.into_iter().enumerate() {
        let is_listed = !tls.tls_certificates.is_empty();
        let place = if is_listed { field.field("tlsCertificates").index(at) } else { field.clone() };
        if certificate.is_empty() {
            let help = "name a Secret of the gateway's namespace in `credentialName`, or a file in `serverCertificate`";
            found.error_with_help(&place, format!("{prefix} requires a server certificate"), help);
        }
        if key.is_empty() {
            let help =
                "name a Secret of the gateway's namespace in `credentialName`, or a file in `privateKey`";
            found.error_with_help(&place, format!("{prefix} requires a private key"), help);
        }
    }
    check_idle_authorities(found, field, tls);
    if !tls.ca_crl.is_empty() && tls.mode == Mode::Simple {
        let help = "clients are asked for no certificate: leave it out, or set `mode: MUTUAL`";
        found.error_with_help(&field.field("caCrl"), "CRL is not supported with SIMPLE TLS", help);
    }
}

/// Istio takes all from the credential, and passes over the files without a word; its error about the CRL is written, but
/// never reached.
fn check_files_beside_credential(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    if !tls.ca_crl.is_empty() {
        found.error_with_help(
            &field.field("caCrl"),
            "CRL is not supported with credentialName. CRL has to be specified in the credential",
            "put it into the CA's Secret, beside `ca.crt` as `ca.crl`",
        );
    }
    let is_pair = !tls.server_certificate.is_empty() && !tls.private_key.is_empty();
    for (name, is_set) in [
        ("serverCertificate", !tls.server_certificate.is_empty() && !is_pair),
        ("privateKey", !tls.private_key.is_empty() && !is_pair),
        ("caCertificates", !tls.ca_certificates.is_empty()),
    ] {
        if is_set {
            let message = format!("{name} has no effect: certificates, keys and CA are the credential's");
            found.warning(&field.field(name), message);
        }
    }
}

/// CAs that Istio does not look at where certificates are files.
fn check_idle_authorities(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    for (at, _) in tls.tls_certificates.iter().enumerate().filter(|(_, it)| !it.ca_certificates.is_empty()) {
        let field = field.field("tlsCertificates").index(at).field("caCertificates");
        let message = "caCertificates has no effect here: clients are verified against tls.caCertificates";
        found.warning(&field, message);
    }
    if tls.mode == Mode::Simple && !tls.ca_certificates.is_empty() {
        let message = "caCertificates has no effect: SIMPLE mode asks clients for no certificate";
        found.warning(&field.field("caCertificates"), message);
    }
    if tls.mode.verifies_clients() && !tls.ca_cert_credential_name.is_empty() {
        let message = "caCertCredentialName has no effect: where certificates are files, the CA is that of caCertificates";
        found.warning(&field.field("caCertCredentialName"), message);
    }
}

/// What clients' certificates must be.
fn check_clients(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    check_hashes(found, field, tls);
    let has_credential = tls.credentials().next().is_some();
    let pins = [
        ("verifyCertificateSpki", !tls.verify_certificate_spki.is_empty()),
        ("verifyCertificateHash", !tls.verify_certificate_hash.is_empty()),
    ];
    if tls.mode.verifies_clients() {
        for (name, _) in pins.iter().filter(|(_, is_set)| *is_set && !has_credential) {
            let message = format!(
                "{name} has no effect, in Istio neither, where certificates are files: every client of the CA gets in"
            );
            let help = "put certificate, key and CA into a Secret: `credentialName`";
            found.add(Severity::Warning, Code::NoEffect, &field.field(name), message).help =
                Some(help.to_owned());
        }
        return;
    }
    // Envoy takes no such listener: whoever the name is shown by, nothing vouches for it.
    if has_credential && !tls.subject_alt_names.is_empty() {
        found.error_with_help(
            &field.field("subjectAltNames"),
            "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
            "set `mode: MUTUAL` to ask every client for a certificate",
        );
    }
    let idle = [
        ("caCertCredentialName", !tls.ca_cert_credential_name.is_empty()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty() && !has_credential),
        ("insecureSkipVerify", tls.insecure_skip_verify),
    ];
    for (name, _) in idle.into_iter().chain(pins).filter(|(_, is_set)| *is_set) {
        let message = format!("{name} has no effect: SIMPLE mode asks clients for no certificate");
        let help = "set `mode: MUTUAL` to ask every client for a certificate";
        found.warning(&field.field(name), message).help = Some(help.to_owned());
    }
}

/// Envoy takes no listener with a hash that is none.
fn check_hashes(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    for (at, hash) in tls.verify_certificate_spki.iter().enumerate() {
        if spki_hash(hash).is_none() {
            let field = field.field("verifyCertificateSpki").index(at);
            let help = "the SHA-256 of the public key's DER in base64: 44 characters that end in `=`";
            found.error_with_help(&field, format!("Invalid base64-encoded SHA-256 {hash}"), help);
        }
    }
    for (at, hash) in tls.verify_certificate_hash.iter().enumerate() {
        if certificate_hash(hash).is_none() {
            let field = field.field("verifyCertificateHash").index(at);
            let help = "the SHA-256 of the certificate's DER: 64 hexadecimal digits, with colons or without";
            found.error_with_help(&field, format!("Invalid hex-encoded SHA-256 {hash}"), help);
        }
    }
}

/// Reads an element of `verifyCertificateSpki`.
pub fn spki_hash(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Reads an element of `verifyCertificateHash`: 64 hexadecimal digits, or 32 pairs with colons between.
pub fn certificate_hash(text: &str) -> Option<[u8; 32]> {
    let digits: String = match text.len() {
        64 => text.to_owned(),
        95 if text.split(':').all(|pair| pair.len() == 2) => text.split(':').collect(),
        _ => return None,
    };
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair =
            std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|it| it.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(hash)
}

/// Settings of a handshake that somebody else makes.
fn check_idle_settings(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings, why: &str) {
    for (name, is_set) in [
        ("minProtocolVersion", tls.min_protocol_version != Protocol::Auto),
        ("maxProtocolVersion", tls.max_protocol_version != Protocol::Auto),
        ("cipherSuites", !tls.cipher_suites.is_empty()),
        ("ecdhCurves", !tls.ecdh_curves.is_empty()),
        ("caCertCredentialName", !tls.ca_cert_credential_name.is_empty()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("verifyCertificateSpki", !tls.verify_certificate_spki.is_empty()),
        ("verifyCertificateHash", !tls.verify_certificate_hash.is_empty()),
        ("insecureSkipVerify", tls.insecure_skip_verify),
    ] {
        if is_set {
            found.warning(&field.field(name), format!("{name} has no effect: {why}"));
        }
    }
}

fn check_versions(found: &mut Findings<'_>, field: &FieldPath, tls: &ServerTlsSettings) {
    let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
    if min.is_old() && tls.cipher_suites.is_empty() {
        found.warning(
            &field.field("minProtocolVersion"),
            "TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer include compatible \
             ciphers.",
        );
    } else if min.is_old() {
        let message = "TLS below 1.2 is not supported: 1.2 is the least here";
        found.add(Severity::Warning, Code::NotSupported, &field.field("minProtocolVersion"), message).help =
            Some("clients that speak nothing newer are refused; set TLSV1_2".to_owned());
    }
    if max.is_old() {
        found.error_with_help(
            &field.field("maxProtocolVersion"),
            "no TLS version is left: TLS below 1.2 is not served",
            "set TLSV1_2 or TLSV1_3, or leave it out",
        );
    }
    if min != Protocol::Auto && max != Protocol::Auto && min > max {
        found.error(&field.field("minProtocolVersion"), "minProtocolVersion is above maxProtocolVersion");
    }
    let choice = CipherChoice::new(&tls.cipher_suites);
    if max == Protocol::V1_2 && choice.suites.is_some_and(|suites| suites.is_empty()) {
        found.error_with_help(
            &field.field("cipherSuites"),
            "no cipher suite is left: this gateway has none of those",
            "add suites with ECDHE and GCM or CHACHA20, such as ECDHE-RSA-AES128-GCM-SHA256",
        );
    }
}
