//! Commands that ask gateways in a cluster: `proxy-config`, `status`, `flows` and `explain` of a pod, and all gateways side by
//! side. The gateways are real; the cluster between them and the commands is a stand-in (`harness::forwarder`).

use std::path::Path;
use std::process::Command;

use harness::documents::{self, Server, http_route, http_service};
use harness::forwarder::{ADMINISTRATOR, Cluster, Pod, STRANGER, VIEWER};
use harness::gateway::{Gateway, program};
use harness::mesh::Mesh;
use harness::program::{Said, run};
use harness::{port, wait};
use serde_json::Value;

const HOST: &str = "webapp.istioinaction.io";

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
        + &http_service("webapp", &[([127, 0, 0, 1], 9).into()])
}

fn pod(name: &str, node: &str, admin: u16) -> Pod {
    Pod::of("edge", name, node, ([127, 0, 0, 1], admin).into())
}

/// A command as a user in the namespace `edge` types it.
fn sluice(kubeconfig: &Path, words: &[&str]) -> Said {
    run(Command::new(program()).args(words).arg("--kubeconfig").arg(kubeconfig))
}

#[test]
fn a_gateway_is_asked_by_its_pod_or_its_node_as_it_is_on_its_own_machine() {
    let (gateway, admin) = gateway(&[("site", &site(port::free()))]);
    let cluster = Cluster::of(&[
        pod("sluice-a", "n1.example.com", admin),
        Pod::of("other", "sluice-a", "n2", ([127, 0, 0, 1], 1).into()),
    ]);
    let (here, elsewhere) =
        (cluster.kubeconfig(ADMINISTRATOR, "edge"), cluster.kubeconfig(ADMINISTRATOR, "default"));
    for kind in ["listeners", "routes", "clusters", "endpoints", "secrets", "all"] {
        let want = gateway.sluice(&["proxy-config", kind]).expect_success().out;
        assert!(kind == "secrets" || want.lines().count() > 1, "{want}");
        for (kubeconfig, words) in [
            (&here, &["sluice-a"][..]),
            (&here, &["sluice-a.edge"]),
            (&here, &["pod/sluice-a"]),
            (&here, &["n1.example.com"]),
            (&elsewhere, &["sluice-a.edge"]),
            (&elsewhere, &["sluice-a", "-n", "edge"]),
            (&elsewhere, &["node/n1.example.com"]),
        ] {
            let said = sluice(kubeconfig, &[&["proxy-config", kind], words].concat()).expect_success();
            assert_eq!(said.out, want, "{kind} {words:?}");
        }
    }
    let routes = ["proxy-config", "routes", "--name", "http", "-o", "json"];
    let said = sluice(&here, &[&routes[..], &["sluice-a"]].concat()).expect_success();
    assert_eq!(said.out, gateway.sluice(&routes).expect_success().out);
}

#[test]
fn status_flows_and_explain_ask_a_pod_too() {
    let listener = port::free();
    let (gateway, admin) = gateway(&[("site", &site(listener))]);
    let cluster = Cluster::of(&[pod("sluice-a", "n1", admin)]);
    let kubeconfig = cluster.kubeconfig(ADMINISTRATOR, "edge");
    let status = |said: Said| serde_json::from_str::<Value>(&said.expect_success().out).expect("JSON");
    let remote = status(sluice(&kubeconfig, &["status", "sluice-a", "-o", "json"]));
    let local = status(gateway.sluice(&["status", "--json"]));
    for part in ["process", "generation", "documents", "fingerprint"] {
        assert_eq!(remote[part], local[part], "{part}");
    }
    let words = sluice(&kubeconfig, &["proxy-status", "sluice-a.edge"]).expect_success().out;
    assert!(words.contains("generation 1") && words.contains("fingerprint "), "{words}");
    let url = format!("http://{HOST}:{listener}/");
    let explained = sluice(&kubeconfig, &["explain", "--url", &url, "--pod", "n1"]).expect_success();
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
    let mut pending = pod("sluice-p", "", admin);
    pending.phase = "Pending".to_owned();
    let cluster = Cluster::of(&[
        pod("sluice-a", "n1", admin),
        // Nobody listens there.
        pod("sluice-off", "n2", port::free()),
        pending,
    ]);
    let user = |name: &str| cluster.kubeconfig(name, "edge");
    let ask = |name: &str, words: &[&str]| {
        let said = sluice(&user(name), &[&["proxy-config", "listeners"], words].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{words:?}: {}", said.all());
        said.err
    };
    for (name, words, parts) in [
        (
            ADMINISTRATOR,
            &["sluice-x"][..],
            &["no pod sluice-x in the namespace edge", "sluice-a.edge on n1"][..],
        ),
        (
            ADMINISTRATOR,
            &["sluice-a", "-n", "other"],
            &["in the namespace other", "no pod in the namespace other"],
        ),
        (ADMINISTRATOR, &["node/n9"], &["no gateway on a node n9", "sluice-off.edge on n2"]),
        (ADMINISTRATOR, &["n1", "--selector", "app=x"], &["no pod has the labels app=x", "--selector"]),
        (ADMINISTRATOR, &["deployment/sluice"], &["`deployment/`", "POD.NAMESPACE"]),
        (ADMINISTRATOR, &["sluice-p"], &["sluice-p.edge", "Pending", "describe pod"]),
        (
            ADMINISTRATOR,
            &["sluice-off"],
            &["sluice-off.edge", "port 15000", "--admin-address none", "refused"],
        ),
        (ADMINISTRATOR, &["sluice-a", "--admin-port", "15001"], &["port 15001", "--admin-port"]),
        (VIEWER, &["sluice-a"], &["forbidden", "`get` and `create` on pods/portforward", "namespace edge"]),
        (STRANGER, &["sluice-a"], &["forbidden", "`get` on pods", "namespace edge"]),
        (STRANGER, &["node/n1"], &["forbidden", "`list` on pods in all namespaces"]),
        ("nobody", &["sluice-a"], &["does not know this user", "--context"]),
        (ADMINISTRATOR, &[], &["--kubeconfig", "name the pod"]),
    ] {
        let err = ask(name, words);
        for part in parts {
            assert!(err.contains(part), "{name} {words:?}: no `{part}` in:\n{err}");
        }
    }
}

#[test]
fn a_gateway_with_other_documents_than_the_rest_is_seen() {
    let listener = port::free();
    let all = site(listener);
    let (first, rest) = all.split_at(all.rfind("---\n").expect("several documents"));
    // The same documents, whatever files and order they are in.
    let (one, first_admin) = gateway(&[("site", &all)]);
    let (_two, second_admin) = gateway(&[("b", first), ("a", rest)]);
    let (three, third_admin) = gateway(&[("site", &all.replace("port: 9", "port: 8"))]);
    let admins = [first_admin, second_admin, third_admin];
    let pods: Vec<Pod> = ["sluice-1", "sluice-2", "sluice-3"]
        .into_iter()
        .zip(admins)
        .map(|(name, admin)| pod(name, &format!("n-{name}"), admin))
        .collect();
    let cluster = Cluster::of(&pods);
    let kubeconfig = cluster.kubeconfig(ADMINISTRATOR, "default");
    let said = sluice(&kubeconfig, &["proxy-status"]);
    assert_eq!(said.code, Some(1), "{}", said.all());
    let rows: Vec<&str> = said.out.lines().collect();
    assert!(rows[0].starts_with("POD ") && rows.len() == 4, "{}", said.all());
    assert!(
        rows[1].starts_with("sluice-1.edge   n-sluice-1   yes") && rows[1].contains("   yes   "),
        "{}",
        said.out
    );
    let behind = three.status()["fingerprint"].as_str().expect("a fingerprint")[..8].to_owned();
    assert!(rows[3].contains(&format!("no ({behind})")), "{}", said.out);

    let fingerprint = |gateway: &Gateway| gateway.status()["fingerprint"].clone();
    three.apply("site", &all);
    assert_eq!(fingerprint(&three), fingerprint(&one));
    let said = sluice(&kubeconfig, &["ps", "-n", "edge", "-o", "json"]).expect_success();
    let told: Value = serde_json::from_str(&said.out).expect("JSON");
    let in_sync: Vec<_> = told.as_array().expect("rows").iter().map(|row| &row["inSync"]).collect();
    assert_eq!(in_sync, [true, true, true], "{told}");
    assert_eq!(told[2]["status"]["generation"], 2, "generations are each process' own");

    cluster.set(&[pods[0].clone(), pod("sluice-off", "n9", port::free())]);
    let said = sluice(&kubeconfig, &["status", "--all"]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("sluice-off.edge: ") && said.out.contains("--admin-address"), "{}", said.all());
    let said = sluice(&kubeconfig, &["status", "--all", "-n", "nowhere"]);
    assert!(said.err.contains("no pod in the namespace nowhere"), "{}", said.err);
}

#[test]
fn answers_of_any_length_come_through() {
    let admin = port::free();
    let arranged =
        Mesh::of(2000).files().fold(Gateway::arrange(), |it, (name, text)| it.document(&name, &text));
    let gateway = arranged.flags(&["--admin-address", &format!("127.0.0.1:{admin}")]).start();
    wait::until("the mesh", || (gateway.status()["documents"].as_u64()? > 3000).then_some(()));
    let cluster = Cluster::of(&[pod("sluice-a", "n1", admin)]);
    let kubeconfig = cluster.kubeconfig(ADMINISTRATOR, "edge");
    let dump = sluice(&kubeconfig, &["proxy-config", "all", "sluice-a", "-o", "json"]).expect_success().out;
    let here = gateway.ask("/config_dump").expect("an answer");
    let (_, here) = here.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(dump.len() > 4 << 20, "{} bytes", dump.len());
    assert!(dump.trim_end() == here, "{} bytes, not {}", dump.len(), here.len());
    let routes = sluice(&kubeconfig, &["pc", "routes", "sluice-a"]).expect_success().out;
    assert!(routes.lines().count() > 10_000, "{}", routes.lines().count());
}
