//! What servers that end TLS show, whom they let in, and what they speak.

use super::*;
use crate::model::{CipherSuite, ClientPolicy, FileProblem, Files, KeyGroup, ServerTls, TlsVersion};

/// A Gateway with one HTTPS server.
fn server(tls: &str) -> String {
    gateway("{name: g}", &[&format!("443 x HTTPS '*' tls: {{{tls}}}")])
}

fn secret(namespace: &str, name: &str, data: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData: {{{data}}}\n"
    )
}

fn translated(text: &str, files: Files) -> Translation {
    let objects = objects(text);
    let mut surroundings = Surroundings { files, ..Surroundings::default() };
    surroundings.learn(&objects);
    translate(&objects, &surroundings, 1)
}

fn server_tls(translation: &Translation) -> &ServerTls {
    let ListenerKind::Tls(tls) = &translation.snapshot.listeners[0].kind else { panic!() };
    let ChainAction::TerminateHttp { tls, .. } = &tls.chains[0].action else { panic!() };
    tls
}

/// `certificate/key` of each certificate, then `CA authority, list`; or the problem.
fn held(translation: &Translation) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let credential = server_tls(translation).credential.as_ref().map_err(ToString::to_string)?;
    let shown = |it: &crate::model::ServerCertificate| {
        let staple = it.ocsp_staple.as_deref().map(|staple| format!("+{}", text(staple)));
        format!("{}/{}{}", text(&it.chain), text(&it.private_key), staple.unwrap_or_default())
    };
    let mut parts: Vec<String> = credential.certificates.iter().map(shown).collect();
    parts.extend(credential.client_authority.as_ref().map(|authority| {
        let revoked = authority.revoked.as_deref().map(|list| format!(", {}", text(list)));
        format!("CA {}{}", text(&authority.bundle), revoked.unwrap_or_default())
    }));
    Ok(parts.join(" "))
}

#[test]
fn credentials_are_looked_up_as_istiod_does() {
    let documents = secret("istio-system", "rsa", "cert: R, key: r")
        + &secret("istio-system", "ecdsa", "tls.crt: E, tls.key: e, tls.ocsp-staple: O")
        + &secret("istio-system", "rsa-cacert", "ca.crt: A, ca.crl: L")
        + &secret("istio-system", "both", "cert: B, key: b, cacert: C")
        + &secret("other", "there", "cert: T, key: t")
        + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: map, namespace: other}\ndata: {ca.crt: M}\n";
    let refused = "cross namespace secret reference requires ReferenceGrant";
    for (tls, want) in [
        ("mode: SIMPLE, credentialNames: [rsa, ecdsa]", Ok("R/r E/e+O")),
        ("mode: SIMPLE, credentialNames: [rsa, none]", Err("secret istio-system/none not found")),
        // The CA of several is the first one's.
        ("mode: MUTUAL, credentialNames: [rsa, both]", Ok("R/r B/b CA A, L")),
        ("mode: MUTUAL, credentialNames: [both, rsa]", Ok("B/b R/r CA C")),
        ("mode: MUTUAL, credentialName: both, caCertCredentialName: rsa-cacert", Ok("B/b CA A, L")),
        // Without the Secret itself, that without the ending.
        ("mode: MUTUAL, credentialName: rsa, caCertCredentialName: both-cacert", Ok("R/r CA C")),
        ("mode: MUTUAL, credentialName: rsa, caCertCredentialName: 'configmap://other/map'", Ok("R/r CA M")),
        (
            "mode: MUTUAL, credentialName: rsa, caCertCredentialName: 'configmap://other/map-cacert'",
            Ok("R/r CA M"),
        ),
        (
            "mode: MUTUAL, credentialName: rsa, caCertCredentialName: 'configmap://default/map'",
            Err("configmap default/map not found"),
        ),
        (
            "mode: MUTUAL, credentialName: rsa, caCertCredentialName: x-cacert",
            Err("secret istio-system/x not found"),
        ),
        ("mode: SIMPLE, credentialName: 'kubernetes://istio-system/rsa'", Ok("R/r")),
        ("mode: SIMPLE, credentialName: 'sds://rsa'", Ok("R/r")),
        ("mode: SIMPLE, credentialName: 'kubernetes://other/there'", Err(refused)),
        ("mode: SIMPLE, credentialName: 'file:///etc/tls.crt'", Err(refused)),
        ("mode: SIMPLE, credentialName: 'invalid://'", Err("invalid:// never leads to a credential")),
        ("mode: SIMPLE, credentialName: 'configmap://other/map'", Err("a ConfigMap holds a CA alone")),
        (
            "mode: SIMPLE, credentialName: rsa-cacert",
            Err("a Secret whose name ends in -cacert holds a CA alone"),
        ),
        // Nobody is asked for a certificate, whatever the Secret holds besides.
        ("mode: SIMPLE, credentialName: both", Ok("B/b")),
    ] {
        let translation = translated(&(server(tls) + &documents), Files::default());
        match (held(&translation), want) {
            (Err(found), Err(want)) => assert!(found.starts_with(want), "{tls}: {found}"),
            (found, want) => assert_eq!(found.as_deref(), want.map_err(str::to_owned).as_deref(), "{tls}"),
        }
        let found = translation.diagnostics.iter().filter(|found| found.is_error()).count();
        assert_eq!(found, usize::from(want.is_err()), "{tls}: {:?}", translation.diagnostics);
    }
}

#[test]
fn a_problem_is_reported_at_the_field_that_led_to_it() {
    let documents = secret("istio-system", "c", "cert: C, key: k");
    for (tls, field) in [
        ("mode: SIMPLE, credentialName: x", "credentialName"),
        ("mode: SIMPLE, credentialNames: [c, x]", "credentialNames[1]"),
        ("mode: MUTUAL, credentialName: c", "credentialName"),
        ("mode: MUTUAL, credentialName: c, caCertCredentialName: x", "caCertCredentialName"),
        ("mode: SIMPLE, serverCertificate: /x, privateKey: /key", "serverCertificate"),
        ("mode: SIMPLE, serverCertificate: /certificate, privateKey: /x", "privateKey"),
        (
            "mode: SIMPLE, tlsCertificates: [{serverCertificate: /certificate, privateKey: /key}, {serverCertificate: /x, \
             privateKey: /key}]",
            "tlsCertificates[1].serverCertificate",
        ),
        (
            "mode: MUTUAL, serverCertificate: /certificate, privateKey: /key, caCertificates: /x",
            "caCertificates",
        ),
        (
            "mode: MUTUAL, serverCertificate: /certificate, privateKey: /key, caCertificates: /certificate, caCrl: /x",
            "caCrl",
        ),
    ] {
        let file = |path: &str| (path.to_owned(), Ok(path.as_bytes().into()));
        let files = ["/certificate", "/key"].into_iter().map(file).collect();
        let translation = translated(&(server(tls) + &documents), files);
        let found: Vec<_> = translation.diagnostics.iter().filter_map(|it| it.field.as_deref()).collect();
        assert_eq!(found, [format!("spec.servers[0].tls.{field}")], "{tls}");
    }
}

#[test]
fn files_hold_what_secrets_hold() {
    let contents = [("/c", "C"), ("/k", "k"), ("/d", "D"), ("/l", "l"), ("/ca", "A"), ("/crl", "L")];
    let found = contents.map(|(path, text)| (path.to_owned(), Ok(text.as_bytes().into())));
    let denied = ("/denied".to_owned(), Err(FileProblem::Unreadable("Permission denied".to_owned())));
    let files: Files = found.into_iter().chain([denied]).collect();
    let one = "serverCertificate: /c, privateKey: /k";
    for (tls, want, asked) in [
        (format!("mode: SIMPLE, {one}"), Ok("C/k"), vec!["/c", "/k"]),
        (
            "mode: SIMPLE, tlsCertificates: [{serverCertificate: /c, privateKey: /k}, {serverCertificate: /d, privateKey: \
             /l}]"
                .to_owned(),
            Ok("C/k D/l"),
            vec!["/c", "/k", "/d", "/l"],
        ),
        (
            format!("mode: MUTUAL, {one}, caCertificates: /ca, caCrl: /crl"),
            Ok("C/k CA A, L"),
            vec!["/c", "/k", "/ca", "/crl"],
        ),
        (
            format!("mode: OPTIONAL_MUTUAL, {one}, caCertificates: /ca"),
            Ok("C/k CA A"),
            vec!["/c", "/k", "/ca"],
        ),
        ("mode: SIMPLE, serverCertificate: /x, privateKey: /k".to_owned(), Err("file /x not found"), vec!["/x", "/k"]),
        (
            "mode: SIMPLE, serverCertificate: /c, privateKey: /denied".to_owned(),
            Err("cannot be read: Permission denied"),
            vec!["/c", "/denied"],
        ),
    ] {
        let text = server(&tls);
        let wanted = objects(&text);
        let translation = translated(&text, files.clone());
        assert_eq!(held(&translation).as_deref(), want.map_err(str::to_owned).as_deref(), "{tls}");
        assert_eq!(wanted.files(), asked.into_iter().collect(), "{tls}");
    }
    // Where there is a credential, or TLS does not end, no file is opened.
    for tls in
        ["mode: SIMPLE, credentialName: c, caCertificates: /ca", "mode: PASSTHROUGH, serverCertificate: /c"]
    {
        assert!(objects(&server(tls)).files().is_empty(), "{tls}");
    }
}

fn mesh(defaults: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
         tlsDefaults: {{{defaults}}}\n"
    )
}

#[test]
fn a_server_speaks_what_it_says_then_what_the_mesh_says() {
    let suites = [CipherSuite::RsaAes256, CipherSuite::EcdsaChacha20];
    let named = "cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384, ECDHE-ECDSA-CHACHA20-POLY1305]";
    let (v2, v3) = (TlsVersion::V1_2, TlsVersion::V1_3);
    for (tls, defaults, min, max, want, groups) in [
        ("", "", v2, v3, None, None),
        ("minProtocolVersion: TLSV1_0", "", v2, v3, None, None),
        ("minProtocolVersion: TLSV1_3", "", v3, v3, None, None),
        ("maxProtocolVersion: TLSV1_2", "", v2, v2, None, None),
        ("", "minProtocolVersion: TLSV1_3", v3, v3, None, None),
        ("minProtocolVersion: TLSV1_2", "minProtocolVersion: TLSV1_3", v2, v3, None, None),
        (named, "cipherSuites: [ALL]", v2, v3, Some(&suites[..]), None),
        ("cipherSuites: [FOO]", named, v2, v3, Some(&suites), None),
        ("", named, v2, v3, Some(&suites), None),
        (
            "ecdhCurves: [P-384, X25519]",
            "ecdhCurves: [P-256]",
            v2,
            v3,
            None,
            Some(&[KeyGroup::P384, KeyGroup::X25519][..]),
        ),
        ("", "ecdhCurves: [P-256]", v2, v3, None, Some(&[KeyGroup::P256])),
    ] {
        let text = server(&format!("mode: SIMPLE, credentialName: c, {tls}")) + &mesh(defaults);
        let translation = translated(&text, Files::default());
        let found = &server_tls(&translation).protocol;
        assert_eq!((found.min_version, found.max_version), (min, max), "{tls} {defaults}");
        assert_eq!(found.cipher_suites.as_deref(), want, "{tls} {defaults}");
        assert_eq!(found.key_groups.as_deref(), groups, "{tls} {defaults}");
    }
}

#[test]
fn what_clients_must_be_is_heeded_where_istio_heeds_it() {
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let colons = ["ff"; 32].join(":");
    let pins = format!("verifyCertificateSpki: ['{zeros}'], verifyCertificateHash: ['{colons}']");
    let names = "subjectAltNames: [a.test, 'spiffe://x/y']";
    let named = vec!["a.test".into(), "spiffe://x/y".into()];
    let files = "serverCertificate: /c, privateKey: /k, caCertificates: /ca";
    let pinned = ClientPolicy {
        names: named.clone(),
        public_keys: vec![[0; 32]],
        certificates: vec![[0xff; 32]],
        accept_any: false,
    };
    for (tls, want) in [
        (format!("mode: MUTUAL, credentialName: c, {names}, {pins}"), pinned.clone()),
        (format!("mode: OPTIONAL_MUTUAL, credentialName: c, {names}, {pins}"), pinned),
        (
            format!("mode: MUTUAL, {files}, {names}, {pins}"),
            ClientPolicy { names: named, ..ClientPolicy::default() },
        ),
        (format!("mode: SIMPLE, credentialName: c, {pins}"), ClientPolicy::default()),
        (
            format!("mode: MUTUAL, {files}, insecureSkipVerify: true"),
            ClientPolicy { accept_any: true, ..ClientPolicy::default() },
        ),
    ] {
        let translation = translated(&server(&tls), Files::default());
        assert_eq!(server_tls(&translation).clients, want, "{tls}");
        let shown = serde_json::to_string(&want).expect("JSON");
        assert_eq!(shown.contains(&"ff".repeat(32)), !want.certificates.is_empty(), "{shown}");
    }
}
