//! The manifests below `deploy`, as kustomize and Helm render them: the same objects, that agree with one another and with the
//! program that they start. What an API server says of them is `kube_deploy`'s matter.

use std::collections::BTreeMap;
use std::process::Command;

use harness::deploy::{NAMESPACE, chart, kustomized, objects, path, texts, the};
use harness::gateway::program;
use harness::program::run;
use serde_json::{Value, json};

/// By kind, namespace and name.
fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let name = |object: &Value| {
        let word = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("{} {}/{}", word("/kind"), word("/metadata/namespace"), word("/metadata/name"))
    };
    objects.into_iter().map(|object| (name(&object), object)).collect()
}

fn definitions() -> Vec<Value> {
    let files = std::fs::read_dir(path("deploy/crds"))
        .expect("deploy/crds")
        .map(|entry| entry.expect("a file").path());
    files.flat_map(|file| objects(&std::fs::read_to_string(file).expect("text"))).collect()
}

#[test]
fn the_chart_has_what_the_base_has() {
    let (chart, base) = (by_name(objects(&chart(&[]))), by_name(objects(&kustomized("base"))));
    let namespace = format!("Namespace /{NAMESPACE}");
    assert!(base.contains_key(&namespace), "Helm makes none: {:?}", base.keys());
    let want: BTreeMap<_, _> =
        base.into_iter().filter(|(name, _)| *name != namespace).chain(by_name(definitions())).collect();
    assert_eq!(chart.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, object) in want {
        assert_eq!(chart[&name], object, "{name}");
    }
}

#[test]
fn the_components_have_what_values_have() {
    let component = |file: &str| {
        let path = path("deploy/kustomize/components").join(file);
        objects(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    for (values, files, flag) in [
        (&["networkPolicy.enabled=true"][..], &["network-policy/network-policy.yaml"][..], "--take-over"),
        (&["rootNamespace=istio-system"], &["istio-root/role.yaml"], "--root-namespace=istio-system"),
        (
            &["serviceMonitor.enabled=true"],
            &["service-monitor/service.yaml", "service-monitor/service-monitor.yaml"],
            "--take-over",
        ),
        (
            &["admission.enabled=true"],
            &["admission/role.yaml", "admission/service.yaml", "admission/webhook.yaml"],
            "--admission-address=0.0.0.0:15017",
        ),
    ] {
        let of_chart = by_name(objects(&chart(values)));
        for (name, object) in by_name(files.iter().flat_map(|file| component(file)).collect()) {
            assert_eq!(of_chart.get(&name), Some(&object), "{name}");
        }
        let set = &of_chart[&format!("DaemonSet {NAMESPACE}/sluice")];
        let arguments = set.pointer("/spec/template/spec/containers/0/args").expect("args");
        assert!(texts(arguments).contains(&flag), "{arguments}");
    }

    let privileged = the("DaemonSet", &objects(&kustomized("overlays/privileged")));
    let mut of_chart = the("DaemonSet", &objects(&chart(&["privileged=true"])));
    // kustomize puts what is patched first.
    for list in ["/spec/template/spec/volumes", "/spec/template/spec/containers/0/env"] {
        let sorted = |object: &Value| {
            let mut all = object.pointer(list).and_then(Value::as_array).expect(list).clone();
            all.sort_by_key(|it| it["name"].to_string());
            Value::from(all)
        };
        assert_eq!(sorted(&of_chart), sorted(&privileged), "{list}");
        *of_chart.pointer_mut(list).expect(list) = privileged.pointer(list).expect(list).clone();
    }
    assert_eq!(of_chart, privileged);
}

/// The pod's template and its container.
fn pod(objects: &[Value]) -> (Value, Value) {
    let template = the("DaemonSet", objects)["spec"]["template"].clone();
    let container = template["spec"]["containers"][0].clone();
    (template, container)
}

#[test]
fn gateways_service_and_pods_mean_the_same_labels() {
    let objects = objects(&kustomized("base"));
    let (template, container) = pod(&objects);
    let flag =
        texts(&container["args"]).into_iter().find_map(|it| it.strip_prefix("--labels=")).expect("--labels");
    let own: BTreeMap<_, _> = flag.split(',').map(|pair| pair.split_once('=').expect("a pair")).collect();
    // What Gateways of Istio's documentation select.
    assert_eq!(own.get("istio"), Some(&"ingressgateway"));
    let selector = the("Service", &objects)["spec"]["selector"].clone();
    for (key, value) in selector.as_object().expect("a selector") {
        assert_eq!(
            own.get(key.as_str()).copied(),
            value.as_str(),
            "the Service selects the gateway by {key}"
        );
    }
    for (key, value) in &own {
        assert_eq!(template["metadata"]["labels"][key], *value, "pods are what --labels says");
    }
}

#[test]
fn a_drain_fits_into_the_time_that_a_pod_has() {
    for (values, want) in [(vec![], 30 + 10), (vec!["drainTime=600", "noticeTime=0"], 600)] {
        let (template, container) = pod(&objects(&chart(&values)));
        let seconds = |list: &Value, flag: &str| -> u64 {
            texts(list).into_iter().find_map(|it| it.strip_prefix(flag)?.parse().ok()).expect(flag)
        };
        let drained = seconds(&container["args"], "--drain-time=")
            + seconds(&container["lifecycle"]["preStop"]["exec"]["command"], "--for=");
        assert_eq!(drained, want);
        // What user space hands over to the kernel takes three seconds, besides.
        assert!(template["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds") >= drained + 5);
    }
}

#[test]
fn the_program_knows_the_flags_that_it_is_given() {
    for values in [
        vec![],
        vec![
            "writeStatus=false",
            "watchNamespaces={shop,bank}",
            "clusterDomain=corp.test",
            "extraArgs={--kernel=off}",
        ],
    ] {
        let (_, container) = pod(&objects(&chart(&values)));
        let arguments =
            texts(&container["args"]).into_iter().map(|it| it.replace("$(POD_NAMESPACE)", NAMESPACE));
        // Nothing is served: there is no cluster here.
        let mut sluice = Command::new(program());
        sluice.args(arguments).args(["--kubeconfig", "/nonexistent/kubeconfig"]);
        let directory = tempfile::tempdir().expect("a directory");
        let said = run(sluice
            .env("SLUICE_ADMIN_SOCKET", directory.path().join("admin.sock"))
            .env("POD_NAMESPACE", NAMESPACE));
        assert!(said.all().contains("/nonexistent/kubeconfig"), "{values:?}: {}", said.all());
        for hook in [&container["readinessProbe"]["exec"], &container["lifecycle"]["preStop"]["exec"]] {
            let words = texts(&hook["command"]);
            assert_eq!(words[0], "sluice");
            let said = run(Command::new(program())
                .args(&words[1..])
                .arg("--admin-socket")
                .arg(directory.path().join("none")));
            assert!(said.all().contains("no agent answers"), "{words:?}: {}", said.all());
        }
    }
}

#[test]
fn with_namespaces_nothing_is_allowed_elsewhere() {
    let all = objects(&chart(&["watchNamespaces={shop,bank}"]));
    assert!(!all.iter().any(|it| it["kind"] == "ClusterRole" || it["kind"] == "ClusterRoleBinding"));
    let documents =
        all.iter().filter(|it| it["kind"] == "Role" && it["metadata"]["name"] == "sluice-documents");
    let namespaces: Vec<_> = documents.map(|it| it["metadata"]["namespace"].clone()).collect();
    assert_eq!(namespaces, [json!("shop"), json!("bank")]);
}

#[test]
fn capabilities_of_older_runtimes_leave_what_the_api_server_takes() {
    let (_, container) = pod(&objects(&chart(&["capabilities={SYS_ADMIN,NET_ADMIN,NET_BIND_SERVICE}"])));
    let context = &container["securityContext"];
    assert_eq!(
        context["capabilities"],
        json!({"drop": ["ALL"], "add": ["SYS_ADMIN", "NET_ADMIN", "NET_BIND_SERVICE"]})
    );
    assert!(context["allowPrivilegeEscalation"].is_null(), "{context}");
}
