//! `tls` of servers, in Istio's words.

use super::found;

/// What is found of an HTTPS server's `tls`, without what all lines begin with.
fn https(tls: &str) -> Vec<String> {
    let port = "port: {number: 443, name: x, protocol: HTTPS}";
    let found = found("Gateway", &format!("{{servers: [{{{port}, hosts: [a.test], tls: {{{tls}}}}}]}}"));
    found.into_iter().map(|line| line.replacen(" spec.servers[0].tls", " tls", 1)).collect()
}

const PAIR: &str = "serverCertificate: /c, privateKey: /k";
const ONE_SOURCE: &str = "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should be specified";

#[test]
fn certificates_come_from_one_place() {
    for (tls, want) in [
        ("mode: SIMPLE, credentialName: c".to_owned(), vec![]),
        ("mode: SIMPLE, credentialNames: [c, d]".to_owned(), vec![]),
        (format!("mode: SIMPLE, {PAIR}"), vec![]),
        ("mode: SIMPLE, tlsCertificates: [{serverCertificate: /c, privateKey: /k}]".to_owned(), vec![]),
        (format!("mode: MUTUAL, {PAIR}, caCertificates: /ca, caCrl: /crl"), vec![]),
        (
            format!("mode: SIMPLE, credentialName: c, {PAIR}"),
            vec![format!("error tls.serverCertificate: {ONE_SOURCE}")],
        ),
        (
            "mode: SIMPLE, credentialName: c, credentialNames: [d]".to_owned(),
            vec![format!("error tls.credentialNames: {ONE_SOURCE}")],
        ),
        (
            "mode: SIMPLE".to_owned(),
            vec![
                "error tls: SIMPLE TLS requires a server certificate".to_owned(),
                "error tls: SIMPLE TLS requires a private key".to_owned(),
            ],
        ),
        (
            "mode: SIMPLE, serverCertificate: /c".to_owned(),
            vec!["error tls: SIMPLE TLS requires a private key".to_owned()],
        ),
        (
            "mode: SIMPLE, tlsCertificates: [{serverCertificate: /c, privateKey: /k}, {privateKey: /k}]".to_owned(),
            vec!["error tls.tlsCertificates[1]: SIMPLE TLS requires a server certificate".to_owned()],
        ),
        (
            format!("mode: OPTIONAL_MUTUAL, {PAIR}"),
            vec!["error tls: MUTUAL TLS requires a client CA bundle".to_owned()],
        ),
        (
            "mode: SIMPLE, credentialNames: [a, b, c]".to_owned(),
            vec!["warning tls.credentialNames: SIMPLE TLS can support up to 2 server certificates".to_owned()],
        ),
        (
            format!("mode: SIMPLE, {PAIR}, caCrl: /crl"),
            vec!["error tls.caCrl: CRL is not supported with SIMPLE TLS".to_owned()],
        ),
        (
            "mode: MUTUAL, credentialName: c, caCrl: /crl".to_owned(),
            vec!["error tls.caCrl: CRL is not supported with credentialName. CRL has to be specified in the credential"
                .to_owned()],
        ),
        (
            "mode: MUTUAL, credentialName: c, caCertificates: /ca".to_owned(),
            vec!["warning tls.caCertificates: caCertificates has no effect: certificates, keys and CA are the credential's"
                .to_owned()],
        ),
        (
            format!("mode: SIMPLE, {PAIR}, caCertificates: /ca"),
            vec!["warning tls.caCertificates: caCertificates has no effect: SIMPLE mode asks clients for no certificate"
                .to_owned()],
        ),
        (
            format!("mode: MUTUAL, {PAIR}, caCertificates: /ca, caCertCredentialName: ca"),
            vec!["warning tls.caCertCredentialName: caCertCredentialName has no effect: where certificates are files, the CA \
                  is that of caCertificates"
                .to_owned()],
        ),
        (
            format!("mode: PASSTHROUGH, {PAIR}"),
            ["serverCertificate", "privateKey"]
                .map(|name| {
                    format!("warning tls.{name}: PASSTHROUGH mode does not use certificates, they will be ignored")
                })
                .to_vec(),
        ),
    ] {
        assert_eq!(https(&tls), want, "{tls}");
    }
}

#[test]
fn modes_of_the_mesh_are_refused_in_istios_words_first() {
    let refused = |mode: &str| {
        format!(
            "error tls.mode: {mode} is not yet supported and must not be ignored: the document is refused"
        )
    };
    let cannot = |field: &str, words: &str| {
        format!("error tls.{field}: ISTIO_MUTUAL TLS cannot have associated {words}")
    };
    for (tls, want) in [
        ("mode: ISTIO_MUTUAL", vec![refused("ISTIO_MUTUAL")]),
        (
            "mode: ISTIO_MUTUAL, credentialName: c, credentialNames: [c], caCertificates: /ca, tlsCertificates: [{}], \
             serverCertificate: /c, privateKey: /k",
            vec![
                cannot("serverCertificate", "server certificate"),
                cannot("privateKey", "private key"),
                cannot("caCertificates", "CA bundle"),
                cannot("tlsCertificates", "tlsCertificates"),
                cannot("credentialName", "credentialName"),
                cannot("credentialNames", "credentialNames"),
                refused("ISTIO_MUTUAL"),
            ],
        ),
        (
            "mode: AUTO_PASSTHROUGH, credentialName: c",
            vec![
                "warning tls.credentialName: AUTO_PASSTHROUGH mode does not use certificates, they will be ignored".to_owned(),
                refused("AUTO_PASSTHROUGH"),
            ],
        ),
    ] {
        assert_eq!(https(tls), want, "{tls}");
    }
}

#[test]
fn clients_are_never_let_in_by_a_slip_of_the_pen() {
    let sha = "a".repeat(64);
    let spki = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (tls, want) in [
        (format!("mode: MUTUAL, credentialName: c, verifyCertificateHash: ['{sha}'], subjectAltNames: [a]"), vec![]),
        (format!("mode: MUTUAL, credentialName: c, verifyCertificateSpki: ['{spki}']"), vec![]),
        ("mode: MUTUAL, credentialName: c, insecureSkipVerify: true".to_owned(), vec![]),
        (
            "mode: MUTUAL, credentialName: c, verifyCertificateHash: [abc]".to_owned(),
            vec!["error tls.verifyCertificateHash[0]: Invalid hex-encoded SHA-256 abc".to_owned()],
        ),
        (
            format!("mode: MUTUAL, credentialName: c, verifyCertificateSpki: ['{sha}']"),
            vec![format!("error tls.verifyCertificateSpki[0]: Invalid base64-encoded SHA-256 {sha}")],
        ),
        (
            format!("mode: MUTUAL, {PAIR}, caCertificates: /ca, verifyCertificateHash: ['{sha}']"),
            vec!["warning tls.verifyCertificateHash: verifyCertificateHash has no effect, in Istio neither, where certificates \
                  are files: every client of the CA gets in"
                .to_owned()],
        ),
        (
            "mode: SIMPLE, credentialName: c, subjectAltNames: [a]".to_owned(),
            vec!["error tls.subjectAltNames: SAN-based verification of peer certificates without trusted CA is insecure and \
                  not allowed"
                .to_owned()],
        ),
        (
            "mode: SIMPLE, credentialName: c, insecureSkipVerify: true".to_owned(),
            vec!["warning tls.insecureSkipVerify: insecureSkipVerify has no effect: SIMPLE mode asks clients for no certificate"
                .to_owned()],
        ),
    ] {
        assert_eq!(https(&tls), want, "{tls}");
    }
}

#[test]
fn the_meshs_defaults_are_checked_too() {
    for (defaults, want) in [
        (
            "minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256], ecdhCurves: [P-256]",
            vec![],
        ),
        ("cipherSuites: [FOO]", vec!["ignoring invalid cipher suites: [FOO]"]),
        (
            "ecdhCurves: [X448, P-256, P-256]",
            vec!["detected unrecognized ECDH curves: [X448]", "detected duplicate ECDH curves: [P-256]"],
        ),
        (
            "ecdhCurves: [P-521]",
            vec!["tlsDefaults.ecdhCurves: none of them is supported: the TLS library's are used"],
        ),
        ("minProtocolVersion: TLSV2", vec!["tlsDefaults.minProtocolVersion: unknown value \"TLSV2\""]),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio}}\ndata: {{mesh: 'tlsDefaults: {{{defaults}}}'}}\n"
        );
        let chunk = crate::api::split(&text)[0];
        let reading = crate::api::read_document(&"t.yaml".into(), chunk, "default").remove(0);
        let found: Vec<&str> = reading.diagnostics.iter().map(|found| found.message.as_str()).collect();
        assert_eq!(found, want, "{defaults}");
    }
}

#[test]
fn suites_and_versions_that_are_left_out_are_told() {
    let simple = "mode: SIMPLE, credentialName: c";
    let old = "TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer include compatible \
               ciphers.";
    for (tls, want) in [
        ("cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, ALL]", vec![]),
        (
            "cipherSuites: [FOO, ECDHE-RSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-GCM-SHA256, BAR]",
            vec![
                "warning tls.cipherSuites: ignoring invalid cipher suites: [BAR FOO]".to_owned(),
                "warning tls.cipherSuites: ignoring duplicate cipher suites: [ECDHE-RSA-AES128-GCM-SHA256]"
                    .to_owned(),
            ],
        ),
        (
            "cipherSuites: [AES128-SHA]",
            vec![
                "warning tls.cipherSuites: cipher suites that are not supported are left out: [AES128-SHA]"
                    .to_owned(),
            ],
        ),
        (
            "cipherSuites: [AES128-SHA], maxProtocolVersion: TLSV1_2",
            vec![
                "warning tls.cipherSuites: cipher suites that are not supported are left out: [AES128-SHA]"
                    .to_owned(),
                "error tls.cipherSuites: no cipher suite is left: this gateway has none of those".to_owned(),
            ],
        ),
        ("minProtocolVersion: TLSV1_1", vec![format!("warning tls.minProtocolVersion: {old}")]),
        (
            "minProtocolVersion: TLSV1_1, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]",
            vec![
                "warning tls.minProtocolVersion: TLS below 1.2 is not supported: 1.2 is the least here"
                    .to_owned(),
            ],
        ),
        (
            "minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2",
            vec!["error tls.minProtocolVersion: minProtocolVersion is above maxProtocolVersion".to_owned()],
        ),
        (
            "ecdhCurves: [P-256, P-521]",
            vec![
                "warning tls.ecdhCurves: ECDH curves that are not supported are left out: [P-521]".to_owned(),
            ],
        ),
        (
            "ecdhCurves: [P-521]",
            vec!["error tls.ecdhCurves: no ECDH curve is left: [P-521] are not supported".to_owned()],
        ),
        (
            "ecdhCurves: [P-256, X448]",
            vec!["error tls.ecdhCurves[1]: unrecognized ECDH curve: X448".to_owned()],
        ),
    ] {
        assert_eq!(https(&format!("{simple}, {tls}")), want, "{tls}");
    }
}
