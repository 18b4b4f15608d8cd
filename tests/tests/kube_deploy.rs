//! What `deploy` has, before a real API server: definitions are taken and show what Istio's show, every object is one that it
//! would make, documents pass that the gateway reads and no others, and rights are those that the gateway needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::deploy::{NAMESPACE, chart, kustomized, kustomized_with, objects, path, texts, the};
use harness::documents::{self, Server, http_route, http_service, secret};
use harness::gateway::Gateway;
use harness::kube::{ControlPlane, User};
use harness::program::{Said, run, tool};
use harness::serve::Place;
use harness::tls::{TlsClient, exchange};
use harness::{port, wait};
use serde_json::Value;

const KINDS: [&str; 6] =
    ["gateways", "virtualservices", "destinationrules", "serviceentries", "workloadentries", "telemetries"];

const COMPONENTS: [&str; 3] = ["admission", "istio-root", "network-policy"];

/// One that knows the kinds by our definitions.
fn plane() -> ControlPlane {
    let plane = ControlPlane::bare();
    let definitions = path("deploy/crds");
    plane.kubectl(&["create", "-f", definitions.to_str().expect("a path")]).expect_success();
    for kind in KINDS {
        let group = if kind == "telemetries" { "telemetry.istio.io" } else { "networking.istio.io" };
        let name = format!("crd/{kind}.{group}");
        plane.kubectl(&["wait", "--for=condition=Established", "--timeout=20s", &name]).expect_success();
        // Without what an API server finds wrong with schemas.
        let unsound = "-o=jsonpath={.status.conditions[?(@.type==\"NonStructuralSchema\")].message}";
        assert_eq!(plane.kubectl(&["get", &name, unsound]).expect_success().out, "", "{kind}");
        let is_served =
            || (plane.kubectl(&["get", &format!("{kind}.{group}"), "-A"]).code == Some(0)).then_some(());
        wait::until(kind, is_served);
    }
    plane
}

/// The words of a table's first line, and of the lines behind it.
fn table(said: Said) -> Vec<Vec<String>> {
    let out = said.expect_success().out;
    out.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn kubectl_shows_what_it_shows_of_istios() {
    let plane = plane();
    plane.apply(
        &(documents::gateway("edge", &[Server::http(80, &["*"])])
            .replace("istioinaction", "default")
            + &http_route("web", "web.test", "edge", "web").replace("istioinaction", "default")
            + "---\napiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\nmetadata: {name: web}\nspec: {host: web}\n"
            + "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: out}\n\
               spec: {hosts: [out.test], location: MESH_EXTERNAL, resolution: DNS}\n"
            + "---\napiVersion: networking.istio.io/v1beta1\nkind: WorkloadEntry\nmetadata: {name: vm}\nspec: {address: 192.0.2.1}\n"
            + "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: logs}\nspec: {}\n"),
    );
    for (kind, columns, first) in [
        ("gw", "NAME AGE", "edge"),
        ("vs", "NAME GATEWAYS HOSTS AGE", "web [\"edge\"] [\"web.test\"]"),
        ("dr", "NAME HOST AGE", "web web"),
        ("se", "NAME HOSTS LOCATION RESOLUTION AGE", "out [\"out.test\"] MESH_EXTERNAL DNS"),
        ("we", "NAME AGE ADDRESS", "vm"),
        ("telemetry", "NAME AGE", "logs"),
    ] {
        let table = table(plane.kubectl(&["get", kind]));
        assert_eq!(table[0].join(" "), columns);
        let row = table[1].join(" ");
        assert!(row.starts_with(first), "{kind}: {row}");
    }
    let both = table(plane.kubectl(&["get", "virtualservice,gateway"]));
    let words: Vec<_> = both.iter().flatten().map(String::as_str).collect();
    assert!(
        words.contains(&"virtualservice.networking.istio.io/web")
            && words.contains(&"gateway.networking.istio.io/edge"),
        "{words:?}"
    );
    let all = plane.kubectl(&["get", "istio-io", "-o", "name"]).expect_success().out;
    assert_eq!(all.lines().count(), 6, "by category: {all}");
}

#[test]
fn definitions_of_others_stay_as_they_are() {
    let plane = ControlPlane::start();
    let before =
        plane.kubectl(&["get", "crd", "gateways.networking.istio.io", "-o", "yaml"]).expect_success().out;
    let definitions = path("deploy/crds");
    let said = plane.kubectl(&["create", "-f", definitions.to_str().expect("a path")]);
    assert!(said.code != Some(0) && said.all().contains("already exists"), "{}", said.all());
    let after =
        plane.kubectl(&["get", "crd", "gateways.networking.istio.io", "-o", "yaml"]).expect_success().out;
    assert_eq!(before, after);
}

#[test]
fn every_object_is_one_that_the_api_server_would_make() {
    let plane = plane();
    plane.create_namespaces(&[NAMESPACE, "istio-system", "shop"]);
    for (what, text) in [
        ("base", kustomized("base")),
        ("privileged", kustomized("overlays/privileged")),
        ("components", kustomized_with(&COMPONENTS)),
        ("chart", chart(&["crds.install=false"])),
        (
            "namespaces",
            chart(&["crds.install=false", "watchNamespaces={shop}", "rootNamespace=istio-system"]),
        ),
        (
            "privileged chart",
            chart(&[
                "crds.install=false",
                "privileged=true",
                "networkPolicy.enabled=true",
                "admission.enabled=true",
            ]),
        ),
        (
            "older runtimes",
            chart(&["crds.install=false", "capabilities={SYS_ADMIN,NET_ADMIN}", "service.type=ClusterIP"]),
        ),
    ] {
        let said = plane.kubectl_with(&["apply", "--validate=strict", "--dry-run=server", "-f", "-"], &text);
        assert!(said.code == Some(0), "{what}: {}", said.all());
        assert_eq!(said.out.lines().count(), objects(&text).len(), "{what}: {}", said.all());
        // Such as fields that are deprecated, or labels against the namespace's level of security.
        assert!(!said.err.contains("Warning: ") || said.err.contains("last-applied"), "{what}: {}", said.err);
    }
}

fn documents_below(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path(directory)).expect(directory) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(documents_below(path.to_str().expect("a path")));
        } else if path.extension().is_some_and(|it| it == "yaml") {
            found.push(path);
        }
    }
    found
}

/// What `--validate=strict` says of a file's documents of Istio's kinds: nothing if it takes them, or there are none.
fn strictly(plane: &ControlPlane, file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("text");
    let theirs = text.split("\n---").filter(|document| document.contains(".istio.io/"));
    let each = |document: &str| format!("---\n{}\n", document.trim_start_matches("---"));
    let theirs = theirs.map(each).collect::<Vec<_>>().concat();
    if theirs.is_empty() {
        return String::new();
    }
    let words = ["apply", "--validate=strict", "--dry-run=server", "-f", "-"];
    let said = plane.kubectl_with(&words, &theirs);
    if said.code == Some(0) { String::new() } else { said.all() }
}

#[test]
fn documents_that_the_gateway_reads_pass_strict_validation_and_broken_ones_do_not() {
    let plane = plane();
    plane.create_namespaces(&["edge", "istioinaction", "istio-system", "shop"]);
    let mut files = documents_below("config");
    files.extend(documents_below("deploy/examples"));
    files.extend(documents_below("tests/data/tutorials"));
    files.push(path("tests/data/documents/everything.yaml"));
    assert!(files.len() > 30, "{files:?}");
    let mut refused: Vec<(String, String)> = Vec::new();
    for file in &files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let said = strictly(&plane, file);
        if !said.is_empty() {
            refused.push((name, said));
        }
    }
    for (name, words) in BROKEN {
        let found = refused.iter().position(|(file, said)| file == name && said.contains(words));
        let at = found.unwrap_or_else(|| panic!("{name} is to be refused for {words}: {refused:#?}"));
        refused.remove(at);
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Tutorials that are broken as they stand, and what tells.
const BROKEN: &[(&str, &str)] = &[
    ("edge-notes-01-gateway", "mapping values are not allowed"),
    ("gateway-resource-02-route", "cannot start any token"),
    ("traffic-ingress-01-http-gateway", "cannot start any token"),
    ("traffic-ingress-02-https-gateway", "cannot start any token"),
    ("traffic-ingress-03-tcp-gateway", "cannot start any token"),
    ("traffic-ingress-04-tcp-route", "cannot start any token"),
    ("traffic-ingress-05-sni-gateway", "cannot start any token"),
];

#[test]
fn misspelt_fields_and_words_are_refused() {
    let plane = plane();
    let gateway = |server: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\n\
             spec: {{servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ['*'], {server}}}]}}\n"
        )
    };
    for (server, words) in [
        ("tsl: {mode: SIMPLE}", "unknown field \"spec.servers[0].tsl\""),
        ("tls: {mode: SIMPEL}", "Unsupported value: \"SIMPEL\""),
        ("tls: {mode: SIMPLE, credentialName: 7}", "must be of type string"),
        ("tls: {httpsRedirect: 'yes'}", "must be of type boolean"),
    ] {
        let said = plane
            .kubectl_with(&["apply", "--validate=strict", "--dry-run=server", "-f", "-"], &gateway(server));
        assert!(said.code != Some(0) && said.all().contains(words), "{server}: {}", said.all());
    }
    let sound = gateway("tls: {mode: SIMPLE, credentialName: web}");
    plane
        .kubectl_with(&["apply", "--validate=strict", "--dry-run=server", "-f", "-"], &sound)
        .expect_success();
}

/// Whether the gateway's account may do something, by what kubectl asks the API server for it.
fn may(plane: &ControlPlane, words: &[&str]) -> bool {
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:sluice");
    let said = plane.kubectl(&[&["auth", "can-i", &account], words].concat());
    match said.out.trim() {
        "yes" => true,
        "no" => false,
        _ => panic!("{words:?}: {}", said.all()),
    }
}

/// Everything of a rendering but what runs pods.
fn without_pods(text: &str) -> String {
    let kept = objects(text).into_iter().filter(|it| it["kind"] != "DaemonSet");
    kept.map(|it| format!("---\n{it}\n")).collect::<Vec<_>>().concat()
}

#[test]
fn rights_are_those_that_it_needs_and_no_more() {
    let plane = plane();
    plane.create_namespaces(&["shop", "bank", "istio-system"]);
    plane.apply(&without_pods(&kustomized("base")));
    let here = ["-n", NAMESPACE];
    for (words, want) in [
        (&["watch", "gateways.networking.istio.io", "-A"][..], true),
        (&["list", "virtualservices.networking.istio.io", "-A"], true),
        (&["list", "destinationrules.networking.istio.io", "-A"], true),
        (&["list", "serviceentries.networking.istio.io", "-A"], true),
        (&["list", "workloadentries.networking.istio.io", "-A"], true),
        (&["list", "telemetries.telemetry.istio.io", "-A"], true),
        (&["list", "services", "-A"], true),
        (&["list", "endpointslices.discovery.k8s.io", "-A"], true),
        (&["list", "pods", "-A"], true),
        (&["patch", "gateways.networking.istio.io/edge", "--subresource=status", "-n", "shop"], true),
        (&["patch", "virtualservices.networking.istio.io/web", "--subresource=status", "-n", "shop"], true),
        (&["create", "events.events.k8s.io", "-n", "shop"], true),
        (&["list", "secrets", here[0], here[1]], true),
        (&["watch", "configmaps", here[0], here[1]], true),
        (&["create", "leases.coordination.k8s.io", here[0], here[1]], true),
        (&["update", "leases.coordination.k8s.io/sluice-status", here[0], here[1]], true),
        (&["get", "secrets", "-n", "shop"], false),
        (&["list", "secrets", "-A"], false),
        (&["list", "configmaps", "-n", "shop"], false),
        (&["update", "secrets", here[0], here[1]], false),
        (&["create", "secrets", here[0], here[1]], false),
        (&["patch", "validatingwebhookconfigurations.admissionregistration.k8s.io/sluice"], false),
        (&["update", "leases.coordination.k8s.io/another", here[0], here[1]], false),
        (&["patch", "gateways.networking.istio.io", "-n", "shop"], false),
        (&["update", "services", "-n", "shop"], false),
        (&["patch", "destinationrules.networking.istio.io/web", "--subresource=status", "-n", "shop"], false),
        (&["create", "pods", here[0], here[1]], false),
        (&["create", "pods", "--subresource=exec", here[0], here[1]], false),
        (&["create", "serviceaccounts", "--subresource=token", here[0], here[1]], false),
        (&["list", "nodes"], false),
        (&["list", "customresourcedefinitions.apiextensions.k8s.io"], false),
        (&["*", "*", "-A"], false),
    ] {
        assert_eq!(may(&plane, words), want, "{words:?}");
    }
    for (group, resource) in
        [("security.istio.io", "authorizationpolicies"), ("networking.istio.io", "envoyfilters")]
    {
        for (namespace, want) in [(NAMESPACE, true), ("shop", false)] {
            let allowed = may_list(&plane, group, resource, namespace);
            assert_eq!(allowed, want, "{resource} in {namespace}");
        }
    }
}

/// The same of kinds that the cluster does not know, which kubectl takes for names of its own.
fn may_list(plane: &ControlPlane, group: &str, resource: &str, namespace: &str) -> bool {
    let review = format!(
        "apiVersion: authorization.k8s.io/v1\nkind: SubjectAccessReview\n\
         spec: {{user: 'system:serviceaccount:{NAMESPACE}:sluice', resourceAttributes: {{verb: list, group: {group}, \
         resource: {resource}, namespace: {namespace}}}}}\n"
    );
    let words = ["create", "-f", "-", "-o", "jsonpath={.status.allowed}"];
    plane.kubectl_with(&words, &review).expect_success().out == "true"
}

#[test]
fn with_namespaces_it_may_read_those_alone() {
    let plane = plane();
    plane.create_namespaces(&["shop", "bank", "istio-system", NAMESPACE]);
    plane.apply(&without_pods(&chart(&[
        "crds.install=false",
        "watchNamespaces={shop}",
        "rootNamespace=istio-system",
        "writeStatus=false",
    ])));
    for (words, want) in [
        (&["list", "gateways.networking.istio.io", "-n", "shop"][..], true),
        (&["list", "gateways.networking.istio.io", "-n", "bank"], false),
        (&["list", "gateways.networking.istio.io", "-A"], false),
        (&["patch", "gateways.networking.istio.io", "--subresource=status", "-n", "shop"], false),
        (&["list", "secrets", "-n", "shop"], false),
        (&["watch", "configmaps/istio", "-n", "istio-system"], true),
        (&["list", "configmaps", "-n", "istio-system"], false),
        (&["create", "leases.coordination.k8s.io", "-n", NAMESPACE], false),
    ] {
        assert_eq!(may(&plane, words), want, "{words:?}");
    }
}

#[test]
fn a_gateway_serves_with_these_rights() {
    const HOST: &str = "shop.example.com";
    let plane = plane();
    plane.create_namespaces(&["istioinaction", "istio-system"]);
    let rendered = kustomized_with(&COMPONENTS);
    plane.apply(&without_pods(&rendered));
    let backend = Backend::start("webapp", Version::Http1, Place::outside_loopback());
    let (authority, port, admission) = (Authority::new("the test's"), port::free(), port::free());
    let certificate = secret("shop", &authority.issue(&[HOST]), None);
    plane.apply(&certificate.replace("namespace: istio-system", &format!("namespace: {NAMESPACE}")));
    plane.apply(
        &(documents::gateway("edge", &[Server::https(port, "SIMPLE", "shop", &[HOST])])
            + &http_route("web", HOST, "edge", "webapp")
            + &http_service("webapp", &[backend.server.address])),
    );
    let kubeconfig = plane.kubeconfig_of(&User::ServiceAccount { namespace: NAMESPACE, name: "sluice" });
    let set = the("DaemonSet", &objects(&rendered));
    let arguments = texts(&set["spec"]["template"]["spec"]["containers"][0]["args"]);
    let own = |flag: &&str| flag.starts_with("--labels=") || flag.starts_with("--root-namespace=");
    let flags: Vec<_> = arguments.into_iter().filter(own).collect();
    assert_eq!(flags.len(), 2, "{flags:?}");
    let (kubeconfig, admission) = (kubeconfig.display().to_string(), format!("127.0.0.1:{admission}"));
    let ours = [
        "--kubernetes",
        "--kubeconfig",
        &kubeconfig,
        "--namespace",
        NAMESPACE,
        "--admission-address",
        &admission,
    ];
    let gateway = Gateway::arrange().flags(&flags).flags(&ours).start();
    let mut stream = TlsClient::new(authority.roots(), HOST).connect(gateway.at(port)).expect("a handshake");
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    assert!(exchange(&mut stream, &request).expect("an answer").contains("\"backend\":\"webapp\""));
    let written = |words: &[&str], at: &str| {
        let said = plane.kubectl(&[&["get", "-o", "json"], words].concat()).expect_success();
        let object: Value = serde_json::from_str(&said.out).expect("JSON");
        object.pointer(at).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let reason = wait::until("the Gateway's status", || {
        written(&["gateway", "edge", "-n", "istioinaction"], "/status/conditions/0/reason")
    });
    assert_eq!(reason, "InForce");
    wait::until("whom the API server is to trust", || {
        written(&["validatingwebhookconfiguration", "sluice"], "/webhooks/0/clientConfig/caBundle")
    });
    assert!(!gateway.log().contains("forbidden"), "{}", gateway.log());
}

/// Helm on a cluster.
fn helm(plane: &ControlPlane, words: &[&str]) -> Said {
    let mut helm = Command::new(tool("helm"));
    // What it keeps for itself is not to be the user's.
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(variable, plane.directory().join(variable));
    }
    run(helm.args(words).args(["--namespace", NAMESPACE, "--kubeconfig"]).arg(plane.kubeconfig()))
}

fn definitions(plane: &ControlPlane, template: &str) -> Vec<String> {
    let said = plane.kubectl(&["get", "crd", "-o", template]).expect_success();
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn helm_keeps_up_its_own_definitions_and_takes_none_away() {
    const RELEASES: &str = r#"go-template={{range .items}}{{index .metadata.annotations "meta.helm.sh/release-name"}}{{"\n"}}{{end}}"#;
    let (plane, chart) = (ControlPlane::bare(), path("deploy/helm/sluice").display().to_string());
    helm(&plane, &["install", "sluice", &chart, "--create-namespace"]).expect_success();
    assert_eq!(definitions(&plane, RELEASES), ["sluice"; 6]);
    // A definition that has fallen behind.
    let stale =
        ["label", "crd", "gateways.networking.istio.io", "app.kubernetes.io/part-of=older", "--overwrite"];
    plane.kubectl(&stale).expect_success();
    helm(&plane, &["upgrade", "sluice", &chart, "--set", "drainTime=60"]).expect_success();
    let part = r"-o=jsonpath={.metadata.labels.app\.kubernetes\.io/part-of}";
    let said = plane.kubectl(&["get", "crd", "gateways.networking.istio.io", part]).expect_success();
    assert_eq!(said.out, "sluice", "an upgrade keeps up what is its own");
    helm(&plane, &["uninstall", "sluice"]).expect_success();
    assert_eq!(definitions(&plane, "name").len(), 6, "documents would go with them");
    assert!(plane.kubectl(&["get", "daemonset", "sluice", "-n", NAMESPACE]).code != Some(0));
}

#[test]
fn helm_leaves_definitions_of_others_alone() {
    let (plane, chart) = (ControlPlane::start(), path("deploy/helm/sluice").display().to_string());
    let before = definitions(&plane, "name");
    helm(&plane, &["install", "sluice", &chart, "--create-namespace"]).expect_success();
    let marked = plane
        .kubectl(&["get", "crd", "-l", "app.kubernetes.io/part-of=sluice", "-o", "name"])
        .expect_success()
        .out;
    let made: Vec<_> =
        definitions(&plane, "name").into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(
        marked.lines().collect::<Vec<_>>(),
        made,
        "those that were there are nobody's but their owner's"
    );
    assert!(!before.is_empty());
}
