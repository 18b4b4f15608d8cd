//! `tls` of DestinationRules: what clusters make of it.

use super::*;
use crate::model::{Cluster, CredentialSource, Pem, TlsMaterial, Trust, UpstreamTls};

const ENTRY: &str = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [a.test], \
                     location: MESH_EXTERNAL, resolution: STATIC, endpoints: [{address: 192.0.2.1}], ports: [{number: 80, name: \
                     http, protocol: HTTP}, {number: 81, name: grpc, protocol: GRPC}]NAMES}\n";

fn rule(policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: a.test, \
         trafficPolicy: {policy}}}\n"
    )
}

fn secret(name: &str, entries: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\nstringData: {{{entries}}}\n"
    )
}

fn clusters(translation: &Translation) -> Vec<&Cluster> {
    translation.snapshot.clusters.values().map(AsRef::as_ref).collect()
}

fn of(translation: &Translation) -> &UpstreamTls {
    clusters(translation)[0].tls.as_deref().expect("TLS")
}

/// `authorities[ but revoked][ as certificate with key]`.
fn shown(material: &TlsMaterial) -> String {
    let pem = |Pem { source, text }: &Pem| match source {
        CredentialSource::Secret(name) | CredentialSource::ConfigMap(name) => {
            format!("{name}={}", String::from_utf8_lossy(text))
        }
        CredentialSource::File(path) => {
            assert_eq!(&**text, format!("content of {path}").as_bytes());
            path.to_string()
        }
    };
    let trust = match &material.trust {
        Trust::System => "system".to_owned(),
        Trust::Anyone => "anyone".to_owned(),
        Trust::Bundle { authorities, revoked: None } => pem(authorities),
        Trust::Bundle { authorities, revoked: Some(revoked) } => {
            format!("{} but {}", pem(authorities), pem(revoked))
        }
    };
    let identity = material.identity.as_ref();
    let identity =
        identity.map(|it| format!(" as {} with {}", pem(&it.certificate_chain), pem(&it.private_key)));
    trust + &identity.unwrap_or_default()
}

#[test]
fn certificates_come_from_files_secrets_or_the_system() {
    let secrets = secret("c", "cert: chain, key: key, ca.crt: ca")
        + &secret("apart", "tls.crt: chain, tls.key: key")
        + &secret("apart-cacert", "cacert: other")
        + &secret("bare", "x: y")
        + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: istio-system}\ndata: {ca.crt: mapped}\n";
    for (tls, want, found) in [
        ("mode: SIMPLE", Ok("system"), &[][..]),
        ("mode: SIMPLE, caCertificates: /ca.pem", Ok("/ca.pem"), &[]),
        ("mode: SIMPLE, caCertificates: /ca.pem, caCrl: /crl.pem", Ok("/ca.pem but /crl.pem"), &[]),
        ("mode: SIMPLE, insecureSkipVerify: true", Ok("anyone"), &[]),
        // What is shown to nobody is not read either.
        ("mode: SIMPLE, clientCertificate: /c.pem, privateKey: /k.pem", Ok("system"), &[]),
        (
            "mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem",
            Ok("/ca.pem as /c.pem with /k.pem"),
            &[],
        ),
        ("mode: SIMPLE, credentialName: c", Ok("istio-system/c=ca"), &[]),
        ("mode: SIMPLE, credentialName: 'kubernetes://c'", Ok("istio-system/c=ca"), &[]),
        (
            "mode: MUTUAL, credentialName: c",
            Ok("istio-system/c=ca as istio-system/c=chain with istio-system/c=key"),
            &[],
        ),
        (
            "mode: MUTUAL, credentialName: apart",
            Ok("istio-system/apart-cacert=other as istio-system/apart=chain with istio-system/apart=key"),
            &[],
        ),
        (
            "mode: MUTUAL, credentialName: c, insecureSkipVerify: true",
            Ok("anyone as istio-system/c=chain with istio-system/c=key"),
            &[],
        ),
        ("mode: SIMPLE, caCertificates: /gone.pem", Err("file /gone.pem not found"), &["IST0101"]),
        (
            "mode: SIMPLE, caCertificates: /ca.pem, caCrl: /gone.pem",
            Err("file /gone.pem not found"),
            &["IST0101"],
        ),
        ("mode: SIMPLE, credentialName: 'configmap://istio-system/m'", Ok("istio-system/m=mapped"), &[]),
        ("mode: SIMPLE, credentialName: gone", Err("secret istio-system/gone not found"), &["IST0101"]),
        (
            "mode: SIMPLE, credentialName: bare",
            Err("found secret, but didn't have expected keys cacert or ca.crt; found: x"),
            &["SLU0016"],
        ),
        (
            "mode: MUTUAL, credentialName: bare",
            Err(
                "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: x",
            ),
            &["SLU0016"],
        ),
    ] {
        let text = ENTRY.replace("NAMES", "") + &rule(&format!("{{tls: {{{tls}}}}}")) + &secrets;
        let objects = objects(&text);
        let content = |path: &str| (path.to_owned(), Ok(format!("content of {path}").into_bytes().into()));
        let there = |path: &&str| !path.starts_with("/gone");
        let files = objects.files().into_iter().filter(there).map(content).collect();
        let translation = translate(&objects, &Surroundings { files, ..Surroundings::default() }, 1);
        let got = of(&translation).material.as_ref().map(shown).map_err(ToString::to_string);
        assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned), "{tls}");
        assert_eq!(codes(&translation), found, "{tls}");
    }
}

#[test]
fn names_are_the_rules_or_the_entrys_and_the_host_where_the_rule_has_none() {
    let entrys = ", subjectAltNames: [entry.test]";
    for (tls, names, want) in [
        ("", "", (None, &[][..], true)),
        ("sni: x.test", "", (Some("x.test"), &[], false)),
        ("subjectAltNames: [y.test, z.test]", "", (None, &["y.test", "z.test"], false)),
        ("sni: x.test, subjectAltNames: [y.test]", "", (Some("x.test"), &["y.test"], false)),
        ("", entrys, (None, &["entry.test"], true)),
        ("sni: x.test", entrys, (Some("x.test"), &["entry.test"], false)),
        ("subjectAltNames: [y.test]", entrys, (None, &["y.test"], false)),
    ] {
        let policy = format!("{{tls: {{mode: SIMPLE, {tls}}}}}");
        let translation = world(&[ENTRY.replace("NAMES", names), rule(&policy)]);
        let tls = of(&translation);
        let sans: Vec<&str> = tls.subject_alt_names.iter().map(AsRef::as_ref).collect();
        assert_eq!((tls.sni.as_deref(), sans.as_slice(), tls.verifies_host), want, "{policy}");
    }
}

#[test]
fn http2_is_offered_to_its_ports_alone_and_a_port_may_be_in_the_clear() {
    let policy = "{tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 80}, connectionPool: {}}]}";
    for (policy, want) in [
        ("{tls: {mode: SIMPLE}}", [Some(false), Some(true)]),
        (policy, [None, Some(true)]),
        ("{tls: {mode: DISABLE}}", [None, None]),
        ("{portLevelSettings: [{port: {number: 81}, tls: {mode: SIMPLE}}]}", [None, Some(true)]),
    ] {
        let policy = policy.replace("connectionPool: {}", "connectionPool: {tcp: {}}");
        let translation = world(&[ENTRY.replace("NAMES", ""), rule(&policy)]);
        let offers = clusters(&translation).into_iter().map(|it| it.tls.as_ref().map(|tls| tls.offers_http2));
        assert_eq!(offers.collect::<Vec<_>>(), want, "{policy}");
    }
}

#[test]
fn a_policy_knows_where_it_is_written() {
    let subset = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec: {host: a.test, subsets: \
                  [{name: v, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}]}\n";
    let translation = world(&[ENTRY.replace("NAMES", ""), subset.to_owned()]);
    let sealed = clusters(&translation).into_iter().find_map(|cluster| cluster.tls.as_ref()).expect("TLS");
    assert_eq!(&*sealed.field, "spec.subsets[0].trafficPolicy.portLevelSettings[0].tls");
    assert_eq!(&*sealed.destination_rule, "r.default");
}

#[test]
fn names_of_an_entry_are_of_no_use_without_tls_which_is_told() {
    let entry = ENTRY.replace("NAMES", ", subjectAltNames: [entry.test]");
    for (rules, want) in
        [(String::new(), 1), (rule("{tls: {mode: SIMPLE}}"), 0), (rule("{tls: {mode: DISABLE}}"), 1)]
    {
        let translation = world(&[entry.clone(), rules.clone()]);
        let told =
            translation.diagnostics.iter().filter(|found| found.message.contains("nobody's certificate"));
        assert_eq!(told.count(), want, "{rules}");
    }
}
