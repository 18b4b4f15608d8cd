//! Commands in a cluster, with a real API server: gateways that are asked through it, side by side or one at a time, and its
//! documents as `analyze` and `explain` see them. The gateways are real; they are pods to the API server alone, behind a stand-in
//! for their node's kubelet (`harness::kube::Kubelet`).

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::authority::Authority;
use harness::documents::{self, Server, http_route, http_service, secret};
use harness::gateway::{Gateway, program};
use harness::kube::{Kubelet, Tenant, User};
use harness::mesh::Mesh;
use harness::program::{Said, run, run_with_input};
use harness::{port, wait};
use serde_json::{Value, json};

const HOST: &str = "webapp.istioinaction.io";

/// A node of a tenant's, and what it runs.
struct Node {
    tenant: Tenant,
    name: String,
    kubelet: Kubelet,
}

impl Node {
    fn new() -> Self {
        let tenant = Tenant::of_shared();
        // Nodes are in no namespace; their names may have dots.
        let name = format!("{}.example.com", tenant.system);
        let kubelet = Kubelet::start(&tenant.plane, &name);
        Self { tenant, name, kubelet }
    }

    fn namespace(&self) -> &str {
        &self.tenant.system
    }

    /// A pod whose admin address is that port here.
    fn run(&self, name: &str, admin: u16) {
        // Of this tenant's alone: tests share the cluster.
        let labels = json!({"app.kubernetes.io/name": self.namespace(), "pod-template-hash": name});
        self.kubelet.run((self.namespace(), name), &labels, ([127, 0, 0, 1], admin).into());
    }

    fn selector(&self) -> String {
        format!("app.kubernetes.io/name={}", self.namespace())
    }

    /// The administrator's kubeconfig, with a namespace in its context.
    fn kubeconfig_within(&self, namespace: &str) -> PathBuf {
        let plane = &self.tenant.plane;
        let path = plane.directory().join(format!("within-{namespace}"));
        std::fs::copy(plane.kubeconfig(), &path).expect("copying a kubeconfig");
        let words = ["config", "set-context", "--current", "--namespace", namespace, "--kubeconfig"];
        plane.kubectl(&[&words[..], &[path.to_str().expect("a path")]].concat()).expect_success();
        path
    }

    /// A kubeconfig of somebody who may do this with resources of the namespace.
    fn kubeconfig_of(&self, rights: &str) -> PathBuf {
        let name = format!("{}-{}", self.namespace(), rights.len());
        let group = "rbac.authorization.k8s.io";
        let metadata = format!("{{name: {name}, namespace: {}}}", self.namespace());
        self.tenant.plane.apply(&format!(
            "---\napiVersion: {group}/v1\nkind: Role\nmetadata: {metadata}\nrules: [{rights}]\n---\n\
             apiVersion: {group}/v1\nkind: RoleBinding\nmetadata: {metadata}\n\
             roleRef: {{apiGroup: {group}, kind: Role, name: {name}}}\n\
             subjects: [{{apiGroup: {group}, kind: User, name: {name}}}]\n"
        ));
        self.tenant.plane.kubeconfig_of(&User::Person(&name))
    }
}

/// A gateway with its admin address.
fn gateway(documents: &[(&str, &str)]) -> (Gateway, u16) {
    let admin = port::free();
    let address = format!("127.0.0.1:{admin}");
    let arranged = documents.iter().fold(Gateway::arrange(), |it, (name, text)| it.document(name, text));
    (arranged.flags(&["--admin-address", &address]).start(), admin)
}

fn site(port: u16) -> String {
    documents::gateway("edge", &[Server::http(port, &[HOST])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[([192, 0, 2, 1], 9).into()])
}

/// A command as a user types it.
fn sluice(kubeconfig: &Path, words: &[&str]) -> Said {
    run(Command::new(program()).args(words).arg("--kubeconfig").arg(kubeconfig))
}

#[test]
fn a_gateway_is_asked_by_its_pod_or_its_node_as_it_is_on_its_own_machine() {
    let (gateway, admin) = gateway(&[("site", &site(port::free()))]);
    let node = Node::new();
    node.run("sluice-a", admin);
    let (namespace, selector) = (node.namespace(), node.selector());
    let (here, elsewhere) = (node.kubeconfig_within(namespace), node.tenant.plane.kubeconfig().to_owned());
    let (full, on_node) = (format!("sluice-a.{namespace}"), format!("node/{}", node.name));
    for kind in ["listeners", "routes", "clusters", "endpoints", "secrets", "all"] {
        let want = gateway.sluice(&["proxy-config", kind]).expect_success().out;
        assert!(kind == "secrets" || want.lines().count() > 1, "{want}");
        for (kubeconfig, words) in [
            (&here, &["sluice-a"][..]),
            (&here, &["pod/sluice-a"]),
            (&here, &[&node.name, "--selector", &selector]),
            (&elsewhere, &[&full]),
            (&elsewhere, &["sluice-a", "-n", namespace]),
            (&elsewhere, &[&on_node, "-l", &selector]),
        ] {
            let said = sluice(kubeconfig, &[&["proxy-config", kind], words].concat()).expect_success();
            assert_eq!(said.out, want, "{kind} {words:?}");
        }
    }
    let routes = ["proxy-config", "routes", "--name", "http", "-o", "json"];
    let said = sluice(&elsewhere, &[&routes[..], &[&full]].concat()).expect_success();
    assert_eq!(said.out, gateway.sluice(&routes).expect_success().out);
}

#[test]
fn status_flows_and_explain_ask_a_pod_too() {
    let listener = port::free();
    let (gateway, admin) = gateway(&[("site", &site(listener))]);
    let node = Node::new();
    node.run("sluice-a", admin);
    let kubeconfig = node.kubeconfig_within(node.namespace());
    let status = |said: Said| serde_json::from_str::<Value>(&said.expect_success().out).expect("JSON");
    let remote = status(sluice(&kubeconfig, &["status", "sluice-a", "-o", "json"]));
    let local = status(gateway.sluice(&["status", "--json"]));
    for part in ["process", "generation", "documents", "fingerprint"] {
        assert_eq!(remote[part], local[part], "{part}");
    }
    let words = sluice(&kubeconfig, &["proxy-status", "sluice-a"]).expect_success().out;
    assert!(words.contains("generation 1") && words.contains("fingerprint "), "{words}");
    let url = format!("http://{HOST}:{listener}/");
    let explained = sluice(&kubeconfig, &["explain", "--url", &url, "--pod", "sluice-a"]).expect_success();
    assert_eq!(explained.out, gateway.sluice(&["explain", "--url", &url]).expect_success().out);
    assert!(explained.out.contains("webapp"), "{}", explained.out);
    let flows = sluice(&kubeconfig, &["flows", "sluice-a"]).expect_success();
    assert!(
        flows.out.starts_with("CLIENT") && flows.err.contains("on the gateway's own node"),
        "{}",
        flows.all()
    );
}

#[test]
fn who_cannot_be_asked_is_told_of_with_what_to_do() {
    let (_gateway, admin) = gateway(&[("site", &site(port::free()))]);
    let node = Node::new();
    node.run("sluice-a", admin);
    // Nobody listens there.
    node.run("sluice-off", port::free());
    let namespace = node.namespace();
    let pending = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sluice-p", "namespace": namespace},
        "spec": {"containers": [{"name": "sluice", "image": "sluice"}]},
    });
    node.tenant.plane.apply(&pending.to_string());
    let administrator = node.kubeconfig_within(namespace);
    let viewer = node.kubeconfig_of("{apiGroups: [''], resources: [pods], verbs: [get, list]}");
    let stranger = node.kubeconfig_of("{apiGroups: [apps], resources: [pods], verbs: [get]}");
    let selector = node.selector();
    let (there, within) = (format!("sluice-a.{namespace}"), format!("in the namespace {namespace}"));
    let on_node = format!("sluice-off.{namespace} on {}", node.name);
    for (kubeconfig, words, parts) in [
        (
            &administrator,
            &["sluice-x", "-l", &selector][..],
            &[&*within, "no pod sluice-x", &there, &on_node][..],
        ),
        (
            &administrator,
            &["sluice-a", "-n", "default"],
            &["in the namespace default", "no pod in the namespace"],
        ),
        (&administrator, &["node/n9", "-l", &selector], &["no gateway on a node n9", &on_node]),
        (&administrator, &[&node.name, "-l", &selector], &["several gateways", &there, &on_node]),
        (&administrator, &["node/n1", "--selector", "app=x"], &["no pod has the labels app=x", "--selector"]),
        (&administrator, &["deployment/sluice"], &["`deployment/`", "POD.NAMESPACE"]),
        (&administrator, &["sluice-p"], &["sluice-p", "Pending", "describe pod"]),
        (&administrator, &["sluice-off"], &["sluice-off", "port 15000", "--admin-address none", "refused"]),
        (&administrator, &["sluice-a", "--admin-port", "15001"], &["port 15001", "--admin-port"]),
        (&administrator, &[], &["--kubeconfig", "name the pod"]),
        (&viewer, &[&there], &["forbidden", "`get` and `create` on pods/portforward", &within]),
        (&stranger, &[&there], &["forbidden", "`get` on pods", &within]),
        (&stranger, &["node/n1"], &["forbidden", "`list` on pods in all namespaces"]),
    ] {
        let said = sluice(kubeconfig, &[&["proxy-config", "listeners"], words].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{words:?}: {}", said.all());
        for part in parts {
            assert!(said.err.contains(part), "{words:?}: no `{part}` in:\n{}", said.err);
        }
    }
    // What the error names is enough.
    let rights = "{apiGroups: [''], resources: [pods], verbs: [get]}, \
                  {apiGroups: [''], resources: [pods/portforward], verbs: [get, create]}";
    sluice(&node.kubeconfig_of(rights), &["proxy-config", "listeners", &there]).expect_success();
}

#[test]
fn a_gateway_with_other_documents_than_the_rest_is_seen() {
    let all = site(port::free());
    let (first, rest) = all.split_at(all.rfind("---\n").expect("several documents"));
    // The same documents, whatever files and order they are in.
    let (one, first_admin) = gateway(&[("site", &all)]);
    let (_two, second_admin) = gateway(&[("b", first), ("a", rest)]);
    let (three, third_admin) = gateway(&[("site", &all.replace("port: 9", "port: 8"))]);
    let node = Node::new();
    for (name, admin) in [("sluice-1", first_admin), ("sluice-2", second_admin), ("sluice-3", third_admin)] {
        node.run(name, admin);
    }
    let (kubeconfig, namespace, selector) =
        (node.tenant.plane.kubeconfig(), node.namespace(), node.selector());
    let said = sluice(kubeconfig, &["proxy-status", "--selector", &selector]);
    assert_eq!(said.code, Some(1), "{}", said.all());
    let rows: Vec<Vec<&str>> = said
        .out
        .lines()
        .map(|line| line.split("   ").map(str::trim).filter(|it| !it.is_empty()).collect())
        .collect();
    assert_eq!((rows.len(), rows[0][0], rows[0][6]), (4, "POD", "IN SYNC"), "{}", said.all());
    let full = format!("sluice-1.{namespace}");
    assert_eq!(rows[1][..3], [&*full, &*node.name, "yes"], "{}", said.out);
    let behind = three.status()["fingerprint"].as_str().expect("a fingerprint")[..8].to_owned();
    let in_sync: Vec<&str> = rows[1..].iter().map(|row| row[6]).collect();
    assert_eq!(in_sync, ["yes", "yes", &format!("no ({behind})")], "{}", said.out);

    three.apply("site", &all);
    assert_eq!(three.status()["fingerprint"], one.status()["fingerprint"]);
    let said = sluice(kubeconfig, &["ps", "-n", namespace, "-l", &selector, "-o", "json"]).expect_success();
    let told: Value = serde_json::from_str(&said.out).expect("JSON");
    let in_sync: Vec<_> = told.as_array().expect("rows").iter().map(|row| &row["inSync"]).collect();
    assert_eq!(in_sync, [true, true, true], "{told}");
    assert_eq!(told[2]["status"]["generation"], 2, "generations are each process' own");

    node.run("sluice-off", port::free());
    let said = sluice(kubeconfig, &["status", "--all", "-l", &selector]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("\nsluice-off.") && said.out.contains("--admin-address"), "{}", said.all());
    let said = sluice(kubeconfig, &["status", "--all", "-n", "nowhere"]);
    assert!(said.err.contains("no pod in the namespace nowhere"), "{}", said.err);
}

#[test]
fn answers_of_any_length_come_through() {
    let admin = port::free();
    let arranged =
        Mesh::of(2000).files().fold(Gateway::arrange(), |it, (name, text)| it.document(&name, &text));
    let gateway = arranged.flags(&["--admin-address", &format!("127.0.0.1:{admin}")]).start();
    wait::until("the mesh", || (gateway.status()["documents"].as_u64()? > 3000).then_some(()));
    let node = Node::new();
    node.run("sluice-a", admin);
    let kubeconfig = node.kubeconfig_within(node.namespace());
    let dump = sluice(&kubeconfig, &["proxy-config", "all", "sluice-a", "-o", "json"]).expect_success().out;
    let here = gateway.ask("/config_dump").expect("an answer");
    let (_, here) = here.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(dump.len() > 4 << 20, "{} bytes", dump.len());
    assert!(dump.trim_end() == here, "{} bytes, not {}", dump.len(), here.len());
    let routes = sluice(&kubeconfig, &["pc", "routes", "sluice-a"]).expect_success().out;
    assert!(routes.lines().count() > 10_000, "{}", routes.lines().count());
}

/// Flags that make a command look as the gateway of a tenant.
fn as_gateway(tenant: &Tenant) -> Vec<String> {
    let (system, applications) = (&tenant.system, &tenant.applications);
    ["--namespace", system, "--root-namespace", system, "-n", system, "-n", applications]
        .map(str::to_owned)
        .into()
}

/// A command that looks at a cluster's documents as the gateway of a tenant.
fn look(tenant: &Tenant, kubeconfig: &Path, words: &[&str], input: &str) -> Said {
    let mut command = Command::new(program());
    command.args(words).args(as_gateway(tenant)).arg("--kubeconfig").arg(kubeconfig);
    run_with_input(&mut command, input.as_bytes())
}

#[test]
fn analyze_finds_in_a_cluster_what_check_finds_in_files() {
    let tenant = Tenant::of_shared();
    let kubeconfig = tenant.plane.kubeconfig();
    let sound = site(8080);
    tenant.apply(&sound);
    let said = look(&tenant, kubeconfig, &["analyze"], "").expect_success();
    assert!(said.out.ends_with(" documents, 0 errors, 0 warnings\n"), "{}", said.out);

    tenant.apply(&http_route("webapp", HOST, "edge", "missing"));
    let path = tenant.plane.directory().join(format!("{}.yaml", tenant.system));
    let broken = tenant.placed(&sound.replace("host: webapp", "host: missing"));
    std::fs::write(&path, broken).expect("writing documents");
    let path = path.to_str().expect("a path");
    let codes = |said: &Said| -> Vec<Value> {
        let found: Value = serde_json::from_str(&said.out).expect("JSON");
        let all = found["diagnostics"].as_array().expect("findings").iter();
        all.map(|it| json!([it["code"], it["document"], it["field"], it["message"]])).collect()
    };
    let system = &tenant.system;
    let files = ["check", "-o", "json", "--namespace", system, "--root-namespace", system, path];
    let of_files = run(Command::new(program()).args(files));
    for words in [&["analyze", "-o", "json"][..], &["check", "--kubernetes", "-o", "json"]] {
        let said = look(&tenant, kubeconfig, words, "");
        assert_eq!((said.code, of_files.code), (Some(1), Some(1)), "{}", said.all());
        assert_eq!(codes(&said), codes(&of_files));
    }

    // A file's document is what the cluster's is to become.
    let mended = tenant.placed(&http_route("webapp", HOST, "edge", "webapp"));
    let said = look(&tenant, kubeconfig, &["analyze", "-"], &mended).expect_success();
    assert!(said.out.ends_with(" 0 errors, 0 warnings\n"), "{}", said.out);
    let url = format!("http://{HOST}:8080/");
    let explain = ["explain", "--kubernetes", "--url", &url];
    let said = look(&tenant, kubeconfig, &explain, "").expect_success();
    assert!(said.err.contains("the documents have 1 error"), "{}", said.all());
    let said = look(&tenant, kubeconfig, &[&explain[..], &["-"]].concat(), &mended).expect_success();
    assert!(said.out.contains("192.0.2.1:9") && said.err.is_empty(), "{}", said.all());
}

#[test]
fn secrets_that_may_not_be_read_are_named_and_no_failure() {
    let tenant = Tenant::of_shared();
    let server = Server::https(8443, "SIMPLE", "webapp-credential", &[HOST]);
    tenant.apply(
        &(documents::gateway("edge", &[server])
            + &http_route("webapp", HOST, "edge", "webapp")
            + &http_service("webapp", &[([192, 0, 2, 1], 9).into()])),
    );
    let missing = look(&tenant, tenant.plane.kubeconfig(), &["analyze"], "");
    assert!(missing.code == Some(1) && missing.out.contains("IST0101"), "{}", missing.all());

    // The gateway's account may read documents, and no Secret that it was not given.
    let account = User::ServiceAccount { namespace: &tenant.system, name: "sluice" };
    let kubeconfig = tenant.plane.kubeconfig_of(&account);
    let said = look(&tenant, &kubeconfig, &["analyze"], "").expect_success();
    for part in
        ["SLU0017", &format!("secret {}/webapp-credential could not be read", tenant.system), "forbidden"]
    {
        assert!(said.out.contains(part), "no `{part}` in:\n{}", said.out);
    }
    let url = format!("https://{HOST}:8443/");
    let said = look(&tenant, &kubeconfig, &["explain", "--kubernetes", "--url", &url], "").expect_success();
    assert!(said.out.contains("192.0.2.1:9"), "{}", said.out);

    tenant.allow_secrets(&["webapp-credential", "webapp-credential-cacert"]);
    tenant.apply(&secret("webapp-credential", &Authority::new("the test's").issue(&[HOST]), None));
    let said = look(&tenant, &kubeconfig, &["analyze"], "").expect_success();
    assert!(said.out.contains(" 0 errors, ") && !said.out.contains("webapp-credential"), "{}", said.out);
}

#[test]
fn what_keeps_from_looking_at_a_cluster_is_said() {
    let tenant = Tenant::of_shared();
    let stranger = tenant.plane.kubeconfig_of(&User::Person("stranger"));
    let nowhere = tenant.plane.directory().join("nowhere");
    let config = std::fs::read_to_string(tenant.plane.kubeconfig()).expect("a kubeconfig");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{}", port::free()));
    std::fs::write(&nowhere, config.to_string()).expect("writing a kubeconfig");
    for (kubeconfig, parts) in [
        (&stranger, &["could not be read", "forbidden", "`list` and `watch`", "-n NAMESPACE"][..]),
        (&nowhere, &["the API server cannot be asked", "refused"]),
        (&PathBuf::from("/nonexistent"), &["--kubeconfig /nonexistent"]),
    ] {
        let said = sluice(kubeconfig, &["analyze"]);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{}", said.all());
        for part in parts {
            assert!(said.err.contains(part), "no `{part}` in:\n{}", said.err);
        }
    }
    let said = run(Command::new(program()).args(["check", "-n", "shop", "/dev/null"]));
    assert!(said.code == Some(1) && said.err.contains("add --kubernetes"), "{}", said.all());
}
