//! A Gateway's own TLS through the real gateway, with the certificates, tools and clients that people have: openssl and
//! curl.

use std::net::SocketAddr;
use std::process::Command;

use harness::backend::Backend;
use harness::documents::{self, Server, config_map, http_route, http_service, opaque_secret};
use harness::gateway::Gateway;
use harness::program::{Said, curl, run};
use harness::workshop::{Extensions, Key, Workshop};
use harness::{port, wait};

/// A gateway with one HTTPS server for each host, below `test`, on one port.
struct Site {
    gateway: Gateway,
    address: SocketAddr,
    _backend: Backend,
}

impl Site {
    /// `servers` are hosts, each with what stands in its `tls`; `documents` the rest.
    fn new(servers: &[(&str, &str)], documents: &str) -> Self {
        let backend = Backend::http("web");
        let port = port::free();
        let rest = http_route("web", "*.test", "edge", "web")
            + &http_service("web", &[backend.server.address])
            + documents;
        let gateway =
            Gateway::arrange().document("edge", &edge(port, servers)).document("rest", &rest).start();
        Self { address: gateway.at(port), gateway, _backend: backend }
    }

    /// A request by curl, trusting `root.crt`, with more arguments. Files are those of the workshop.
    fn curl(&self, shop: &Workshop, host: &str, arguments: &str) -> Said {
        let port = self.address.port();
        let mut command = curl();
        command.current_dir(shop.directory()).args(["--cacert", "root.crt"]);
        command.args(["--resolve", &format!("{host}:{port}:127.0.0.1")]);
        run(command.args(arguments.split_whitespace()).arg(format!("https://{host}:{port}/")))
    }

    #[track_caller]
    fn serves(&self, shop: &Workshop, host: &str, arguments: &str) {
        let said = self.curl(shop, host, arguments);
        assert!(said.out.contains(" 200"), "{host} {arguments}: {}\n{}", said.all(), self.status());
    }

    #[track_caller]
    fn refuses(&self, shop: &Workshop, host: &str, arguments: &str) {
        let said = self.curl(shop, host, arguments);
        assert_ne!(said.code, Some(0), "{host} {arguments}: {}", said.all());
        assert!(!said.out.contains(" 200"), "{host} {arguments}: {}", said.all());
    }

    /// A handshake by `openssl s_client`.
    fn handshake(&self, shop: &Workshop, host: &str, arguments: &str) -> Said {
        let mut command = Command::new("openssl");
        command.current_dir(shop.directory()).args(["s_client", "-CAfile", "root.crt", "-connect"]);
        command.arg(self.address.to_string());
        command.args(if host.is_empty() { vec!["-noservername"] } else { vec!["-servername", host] });
        run(command.args(arguments.split_whitespace()))
    }

    fn status(&self) -> String {
        self.gateway.sluice(&["status"]).all()
    }
}

fn edge(port: u16, servers: &[(&str, &str)]) -> String {
    let servers: Vec<Server> =
        servers.iter().map(|(host, tls)| Server::https_with(port, tls, &[host])).collect();
    documents::gateway("edge", &servers)
}

fn pair(shop: &Workshop, secret: &str, name: &str) -> String {
    pair_and(shop, secret, name, &[])
}

/// A Secret of a certificate and its key, and more.
fn pair_and(shop: &Workshop, secret: &str, name: &str, more: &[(&str, &str)]) -> String {
    let (certificate, key) = (shop.read(&format!("{name}.crt")), shop.read(&format!("{name}.key")));
    let own = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
    opaque_secret(secret, &[&own, more].concat())
}

#[test]
fn istios_tutorial_works_with_the_certificates_that_it_makes() {
    let shop = Workshop::new();
    for authority in ["root", "stranger"] {
        shop.authority(authority);
    }
    shop.issue("root", "httpbin.test", Key::Rsa, Extensions::None);
    shop.issue("root", "client.test", Key::Rsa, Extensions::None);
    shop.issue("stranger", "mallory.test", Key::Rsa, Extensions::None);
    // Signed by somebody else, but with the authority's name on it.
    shop.openssl(
        "req -x509 -sha256 -nodes -days 30 -newkey rsa:2048 -subj /O=Example/CN=root -keyout forger.key -out forger.crt",
    );
    shop.issue("forger", "forged.test", Key::Rsa, Extensions::None);
    assert!(shop.openssl("x509 -in client.test.crt -noout -text").contains("Version: 1 "));
    // Of somebody who may not sign, though the bundle has the certificate.
    shop.issue("root", "leaf", Key::Rsa, Extensions::Names("DNS:leaf.test"));
    shop.issue("leaf", "usurper.test", Key::Rsa, Extensions::None);
    shop.issue("root", "fired.test", Key::Rsa, Extensions::None);
    shop.revoke("root", &["fired.test"]);
    let authority = shop.read("root.crt") + &shop.read("leaf.crt");
    let documents = pair(&shop, "httpbin-credential", "httpbin.test")
        + &pair_and(&shop, "mutual", "httpbin.test", &[("ca.crt", &authority)])
        + &opaque_secret("revoking-cacert", &[("ca.crt", &authority), ("ca.crl", &shop.read("root.crl"))]);
    // curl wants the certificate's name.
    let simple =
        Site::new(&[("httpbin.test", "mode: SIMPLE, credentialName: httpbin-credential")], &documents);
    simple.serves(&shop, "httpbin.test", "");
    let mutual = Site::new(&[("httpbin.test", "mode: MUTUAL, credentialName: mutual")], &documents);
    mutual.refuses(&shop, "httpbin.test", "");
    for version in ["--tlsv1.3", "--tls-max 1.2"] {
        let shown = |name: &str| format!("{version} --cert {name}.test.crt --key {name}.test.key");
        mutual.serves(&shop, "httpbin.test", &shown("client"));
        mutual.refuses(&shop, "httpbin.test", &shown("mallory"));
        mutual.refuses(&shop, "httpbin.test", &shown("forged"));
        mutual.refuses(&shop, "httpbin.test", &shown("usurper"));
        // Somebody else's certificate, without its key.
        let stolen = format!("{version} --cert client.test.crt --key mallory.test.key");
        mutual.refuses(&shop, "httpbin.test", &stolen);
        mutual.serves(&shop, "httpbin.test", &shown("fired"));
    }
    let revoking = "mode: MUTUAL, credentialName: mutual, caCertCredentialName: revoking-cacert";
    let revoking = Site::new(&[("httpbin.test", revoking)], &documents);
    revoking.serves(&shop, "httpbin.test", "--cert client.test.crt --key client.test.key");
    revoking.refuses(&shop, "httpbin.test", "--cert fired.test.crt --key fired.test.key");
}

#[test]
fn two_certificates_are_chosen_between_by_name_and_by_what_the_client_verifies() {
    let shop = Workshop::new();
    shop.authority("root");
    shop.issue("root", "rsa", Key::Rsa, Extensions::Names("DNS:web.test"));
    shop.issue("root", "ecdsa", Key::Ecdsa, Extensions::Names("DNS:web.test"));
    let documents = pair(&shop, "rsa", "rsa") + &pair(&shop, "ecdsa", "ecdsa");
    let site = Site::new(
        &[
            ("web.test", "mode: SIMPLE, credentialNames: [rsa, ecdsa]"),
            // A name that neither certificate has.
            ("other.test", "mode: SIMPLE, credentialNames: [rsa, ecdsa]"),
            (
                "files.test",
                &format!(
                    "mode: SIMPLE, tlsCertificates: [{}, {}]",
                    files(&shop, "rsa"),
                    files(&shop, "ecdsa")
                ),
            ),
        ],
        &documents,
    );
    let only_rsa = "-sigalgs RSA-PSS+SHA256:RSA+SHA256";
    let only_ecdsa = "-sigalgs ECDSA+SHA256";
    for (host, arguments, want) in [
        ("web.test", "-tls1_3", "ECDSA"),
        ("web.test", &format!("-tls1_3 {only_rsa}"), "RSA-PSS"),
        ("web.test", &format!("-tls1_2 {only_ecdsa}"), "ECDSA"),
        ("web.test", &format!("-tls1_2 {only_rsa}"), "RSA"),
        ("web.test", "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", "RSA"),
        ("other.test", "-tls1_3", "RSA-PSS"),
        ("files.test", "-tls1_3", "RSA-PSS"),
    ] {
        let said = site.handshake(&shop, host, arguments).all();
        let line = said.lines().find(|line| line.starts_with("Peer signature type:")).unwrap_or("none");
        assert!(line.contains(want), "{host} {arguments}: {line}\n{said}");
    }
    site.serves(&shop, "web.test", "");
}

/// An element of `tlsCertificates`.
fn files(shop: &Workshop, name: &str) -> String {
    let path = |ending: &str| shop.path(&format!("{name}.{ending}")).display().to_string();
    format!("{{serverCertificate: {}, privateKey: {}}}", path("crt"), path("key"))
}

#[test]
fn files_are_shown_swapped_and_served_on_when_they_are_gone() {
    let shop = Workshop::new();
    shop.authority("root");
    for name in ["first", "second", "client"] {
        shop.issue("root", name, Key::Ecdsa, Extensions::Names("DNS:web.test"));
    }
    let served = |name: &str| {
        shop.write("served.key", &shop.read(&format!("{name}.key")));
        shop.write("served.crt", &shop.read(&format!("{name}.crt")));
    };
    served("first");
    let path = |name: &str| shop.path(name).display().to_string();
    let own = format!("serverCertificate: {}, privateKey: {}", path("served.crt"), path("served.key"));
    let site = Site::new(
        &[
            ("web.test", &format!("mode: SIMPLE, {own}")),
            ("mutual.test", &format!("mode: MUTUAL, {own}, caCertificates: {}", path("root.crt"))),
            (
                "late.test",
                &format!(
                    "mode: SIMPLE, serverCertificate: {}, privateKey: {}",
                    path("late"),
                    path("served.key")
                ),
            ),
        ],
        "",
    );
    let common_name = || {
        let said = site.handshake(&shop, "web.test", "").all();
        said.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or("").to_owned()
    };
    assert!(common_name().contains("first"), "{}", common_name());
    let secrets = site.gateway.sluice(&["proxy-config", "secrets"]).expect_success().out;
    for (resource, kind) in [("served.crt", "Cert Chain"), ("root.crt", "CA")] {
        let line = secrets.lines().find(|line| line.contains(&format!("file-cert:{}", path(resource))));
        assert!(line.is_some_and(|line| line.contains(kind) && line.contains("ACTIVE")), "{secrets}");
    }
    let skip_name = "--insecure --cert client.crt --key client.key";
    site.serves(&shop, "mutual.test", skip_name);
    site.refuses(&shop, "mutual.test", "--insecure");
    // One that comes later.
    site.refuses(&shop, "late.test", "--insecure");
    assert!(site.status().contains("late not found"), "{}", site.status());
    shop.write("late", &shop.read("first.crt"));
    wait::until("the late file", || {
        site.curl(&shop, "late.test", "--insecure").out.contains(" 200").then_some(())
    });
    // A key that does not fit yet changes nothing; then both are new.
    shop.write("served.key", &shop.read("second.key"));
    wait::until("the key's report", || site.status().contains("does not match").then_some(()));
    assert!(common_name().contains("first"));
    shop.write("served.crt", &shop.read("second.crt"));
    wait::until("the new certificate", || common_name().contains("second").then_some(()));
    std::fs::remove_file(shop.path("served.crt")).expect("a file");
    wait::until("the file's end", || site.status().contains("served.crt not found").then_some(()));
    assert!(common_name().contains("second"));
}

#[test]
fn clients_get_in_by_authority_revocation_name_and_hash() {
    let shop = Workshop::new();
    for authority in ["root", "clients", "strangers"] {
        shop.authority(authority);
    }
    shop.issue("root", "server", Key::Rsa, Extensions::Names("DNS:*.test"));
    for (name, names) in [
        ("alice", "DNS:alice.corp,URI:spiffe://corp/alice"),
        ("bob", "DNS:bob.corp"),
        ("carol", "DNS:*.corp,IP:192.0.2.7,email:carol@corp"),
    ] {
        shop.issue("clients", name, Key::Ecdsa, Extensions::Names(names));
    }
    shop.issue("strangers", "mallory", Key::Ecdsa, Extensions::Names("DNS:alice.corp"));
    shop.revoke("clients", &["bob"]);
    shop.revoke("strangers", &[]);
    let (authority, list) = (shop.read("clients.crt"), shop.read("clients.crl"));
    let documents = pair_and(&shop, "own", "server", &[("ca.crt", &authority)])
        + &opaque_secret("revoking-cacert", &[("ca.crt", &authority), ("ca.crl", &list)])
        + &opaque_secret(
            "elsewhere-cacert",
            &[("ca.crt", &authority), ("ca.crl", &shop.read("strangers.crl"))],
        )
        + &config_map("corp", "map", &[("ca.crt", &authority)]);
    let hash = shop.openssl("x509 -in alice.crt -noout -fingerprint -sha256");
    let hash = hash.trim().rsplit('=').next().expect("a hash");
    shop.openssl("x509 -in bob.crt -noout -pubkey -out bob.pub");
    shop.openssl("pkey -pubin -in bob.pub -outform DER -out bob.spki");
    shop.openssl("dgst -sha256 -binary -out bob.digest bob.spki");
    let spki = shop.openssl("base64 -A -in bob.digest");
    let path = |name: &str| shop.path(name).display().to_string();
    let in_files = format!(
        "serverCertificate: {}, privateKey: {}, caCertificates: {}, caCrl: {}",
        path("server.crt"),
        path("server.key"),
        path("clients.crt"),
        path("clients.crl")
    );
    let own = "credentialName: own";
    let rows = [
        ("plain.test", format!("mode: MUTUAL, {own}"), "alice bob carol"),
        ("optional.test", format!("mode: OPTIONAL_MUTUAL, {own}"), "alice bob carol nobody"),
        (
            "revoking.test",
            format!("mode: MUTUAL, {own}, caCertCredentialName: revoking-cacert"),
            "alice carol",
        ),
        // No list of the authority that signed them: nobody can be told from the revoked.
        ("elsewhere.test", format!("mode: MUTUAL, {own}, caCertCredentialName: elsewhere-cacert"), ""),
        (
            "map.test",
            format!("mode: MUTUAL, {own}, caCertCredentialName: 'configmap://corp/map'"),
            "alice bob carol",
        ),
        ("files.test", format!("mode: MUTUAL, {in_files}"), "alice carol"),
        ("name.test", format!("mode: MUTUAL, {own}, subjectAltNames: [ALICE.corp, x]"), "alice carol"),
        ("uri.test", format!("mode: MUTUAL, {own}, subjectAltNames: ['spiffe://corp/alice']"), "alice"),
        ("ip.test", format!("mode: OPTIONAL_MUTUAL, {own}, subjectAltNames: [192.0.2.7]"), "carol nobody"),
        ("email.test", format!("mode: MUTUAL, {own}, subjectAltNames: [carol@corp]"), "carol"),
        ("hash.test", format!("mode: MUTUAL, {own}, verifyCertificateHash: ['{hash}']"), "alice"),
        ("spki.test", format!("mode: MUTUAL, {own}, verifyCertificateSpki: ['{spki}']"), "bob"),
        (
            "either.test",
            format!(
                "mode: MUTUAL, {own}, verifyCertificateSpki: ['{spki}'], verifyCertificateHash: ['{hash}']"
            ),
            "alice bob",
        ),
        (
            "both.test",
            format!("mode: MUTUAL, {own}, subjectAltNames: [bob.corp], verifyCertificateHash: ['{hash}']"),
            "",
        ),
        ("any.test", format!("mode: MUTUAL, {own}, insecureSkipVerify: true"), "alice bob carol mallory"),
    ];
    let servers: Vec<(&str, &str)> = rows.iter().map(|(host, tls, _)| (*host, tls.as_str())).collect();
    let site = Site::new(&servers, &documents);
    for (host, tls, welcome) in &rows {
        for client in ["alice", "bob", "carol", "mallory", "nobody"] {
            let shown = match client {
                "nobody" => "--insecure".to_owned(),
                // curl takes no wildcard right below a top level domain.
                name => format!("--insecure --cert {name}.crt --key {name}.key"),
            };
            let said = site.curl(&shop, host, &shown);
            let is_in = said.out.contains(" 200");
            let wanted = welcome.split(' ').any(|name| name == client);
            assert_eq!(is_in, wanted, "{client} at {host} ({tls}): {}", said.all());
        }
    }
}

#[test]
fn a_list_of_revoked_certificates_that_is_replaced_holds_at_once() {
    let shop = Workshop::new();
    shop.authority("root");
    for name in ["server", "client"] {
        shop.issue("root", name, Key::Ecdsa, Extensions::Names("DNS:web.test"));
    }
    shop.revoke("root", &[]);
    let path = |name: &str| shop.path(name).display().to_string();
    let tls = format!(
        "mode: MUTUAL, serverCertificate: {}, privateKey: {}, caCertificates: {}, caCrl: {}",
        path("server.crt"),
        path("server.key"),
        path("root.crt"),
        path("root.crl")
    );
    let site = Site::new(&[("web.test", &tls)], "");
    let shown = "--cert client.crt --key client.key";
    site.serves(&shop, "web.test", shown);
    shop.revoke("root", &["client"]);
    wait::until("the revocation", || {
        let said = site.curl(&shop, "web.test", shown);
        (!said.out.contains(" 200")).then_some(())
    });
}

#[test]
fn versions_suites_and_curves_are_those_that_the_document_names_or_the_mesh() {
    let shop = Workshop::new();
    shop.authority("root");
    shop.issue("root", "server", Key::Rsa, Extensions::Names("DNS:*.test"));
    let mesh = "tlsDefaults: {minProtocolVersion: TLSV1_3}\n";
    let documents = pair(&shop, "own", "server") + &config_map("istio-system", "istio", &[("mesh", mesh)]);
    let own = "mode: SIMPLE, credentialName: own";
    let twelve = format!("{own}, minProtocolVersion: TLSV1_2");
    let suites = "cipherSuites: [ECDHE-RSA-CHACHA20-POLY1305, ECDHE-RSA-AES256-GCM-SHA384, FOO]";
    let rows = [
        ("mesh.test", own.to_owned(), "-tls1_3", Some("TLSv1.3")),
        ("mesh.test", own.to_owned(), "-tls1_2", None),
        ("twelve.test", twelve.clone(), "-tls1_2", Some("TLSv1.2")),
        ("old.test", format!("{own}, minProtocolVersion: TLSV1_0"), "-tls1_1 -cipher ALL:@SECLEVEL=0", None),
        ("most.test", format!("{twelve}, maxProtocolVersion: TLSV1_2"), "-tls1_3", None),
        ("most.test", format!("{twelve}, maxProtocolVersion: TLSV1_2"), "", Some("TLSv1.2")),
        // The server's order, whatever the client's.
        (
            "suites.test",
            format!("{twelve}, {suites}"),
            "-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305",
            Some("ECDHE-RSA-CHACHA20-POLY1305"),
        ),
        ("suites.test", format!("{twelve}, {suites}"), "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", None),
        ("suites.test", format!("{twelve}, {suites}"), "-tls1_3", Some("TLSv1.3")),
        // None of those is there: TLS 1.3 alone.
        ("lost.test", format!("{twelve}, cipherSuites: [AES128-SHA]"), "-tls1_2", None),
        ("lost.test", format!("{twelve}, cipherSuites: [AES128-SHA]"), "-tls1_3", Some("TLSv1.3")),
        (
            "curve.test",
            format!("{own}, ecdhCurves: [P-384]"),
            "-groups P-384:X25519",
            Some("ECDH, secp384r1"),
        ),
        ("curve.test", format!("{own}, ecdhCurves: [P-384]"), "-groups X25519", None),
    ];
    let mut servers: Vec<(&str, &str)> = rows.iter().map(|(host, tls, ..)| (*host, tls.as_str())).collect();
    servers.dedup();
    let site = Site::new(&servers, &documents);
    for (host, tls, arguments, want) in &rows {
        let said = site.handshake(&shop, host, arguments).all();
        // What openssl says of a handshake that came to its end.
        let is_done = said.contains("Verify return code: 0 (ok)") && !said.contains("Cipher is (NONE)");
        assert_eq!(is_done, want.is_some(), "{host} ({tls}) {arguments}: {said}");
        assert!(want.is_none_or(|want| said.contains(want)), "{host} ({tls}) {arguments}: {said}");
    }
}

#[test]
fn an_ocsp_response_is_shown_with_its_own_certificate_alone() {
    let shop = Workshop::new();
    shop.authority("root");
    for name in ["web", "other"] {
        shop.issue("root", name, Key::Rsa, Extensions::Names("DNS:web.test"));
    }
    let (good, others) = (shop.staple("root", "web"), shop.staple("root", "other"));
    let with = |staple: &str| pair(&shop, "own", "web") + &format!("data: {{tls.ocsp-staple: {staple}}}\n");
    let site = Site::new(&[("web.test", "mode: SIMPLE, credentialName: own")], "");
    site.gateway.apply("secret", &with(&good));
    let stapled = || site.handshake(&shop, "web.test", "-status").all();
    let said = stapled();
    assert!(said.contains("OCSP Response Status: successful"), "{said}");
    assert!(said.contains("Cert Status: good"), "{said}");
    // One that is wrong is told, and the one before goes on.
    site.gateway.apply("secret", &with(&others));
    wait::until("the report", || site.status().contains("it is about another certificate").then_some(()));
    assert!(stapled().contains("Cert Status: good"));
    site.gateway.apply("secret", &pair(&shop, "own", "web"));
    wait::until("the plain certificate", || stapled().contains("no response sent").then_some(()));
}
