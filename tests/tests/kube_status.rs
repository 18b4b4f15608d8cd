//! What a gateway says to a cluster: the status of documents, Events, and, by an admission webhook, no.

use std::sync::Arc;
use std::time::Duration;

use harness::documents::{self, Server, http_route, http_service};
use harness::gateway::{Arrangement, Gateway};
use harness::kube::{ControlPlane, Tenant};
use harness::program::Said;
use harness::{port, wait};
use serde_json::Value;

const HOST: &str = "webapp.istioinaction.io";
/// A Lease's time, twice.
const SUCCESSION: Duration = Duration::from_secs(40);

/// A Gateway for this gateway, and one for another.
fn gateways(port: u16) -> String {
    let of = |name: &str| documents::gateway(name, &[Server::http(port, &["*"])]);
    of("edge") + &of("foreign").replace("istio: ingressgateway", "istio: another")
}

fn route(service: &str) -> String {
    http_route("webapp", HOST, "edge", service)
}

fn object(tenant: &Tenant, kind: &str, name: &str) -> Value {
    let words = ["get", kind, name, "--namespace", &tenant.applications, "--output=json"];
    serde_json::from_str(&tenant.plane.kubectl(&words).expect_success().out).expect("JSON")
}

/// The status, once it is of the document's present state.
fn status(tenant: &Tenant, kind: &str, name: &str) -> Option<Value> {
    let object = object(tenant, kind, name);
    let of = object["status"]["observedGeneration"].as_str()?.parse::<i64>().ok()?;
    (object["metadata"]["generation"].as_i64() == Some(of)).then(|| object["status"].clone())
}

fn wait_for_status(tenant: &Tenant, words: &str) -> Value {
    wait::until(words, || {
        status(tenant, "virtualservice", "webapp").filter(|status| status.to_string().contains(words))
    })
}

fn condition<'s>(status: &'s Value, key: &str) -> &'s str {
    status["conditions"][0][key].as_str().unwrap_or_default()
}

fn codes(status: &Value) -> Vec<&str> {
    let messages = status["validationMessages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().filter_map(|message| message["type"]["code"].as_str()).collect()
}

#[test]
fn findings_are_written_where_they_were_found_and_an_event_tells_of_what_is_refused() {
    let tenant = Tenant::of_shared();
    tenant.apply(&(gateways(port::free()) + &route("webapp")));
    let gateway = tenant.arrange().start();
    let dangling = wait_for_status(&tenant, "IST0101");
    assert_eq!((condition(&dangling, "type"), condition(&dangling, "status")), ("Reconciled", "True"));
    assert_eq!(codes(&dangling), ["IST0101"], "the service is not there: {dangling}");
    assert_eq!(dangling["validationMessages"][0]["level"], "ERROR");

    tenant.apply(&http_service("webapp", &[]));
    let sound = wait_for_status(&tenant, "\"message\":\"in force\"");
    assert!(codes(&sound).is_empty(), "{sound}");
    let since = |status: &Value| condition(status, "lastTransitionTime").to_owned();
    assert_eq!(since(&sound), since(&dangling), "it was in force all the time");

    tenant.apply(&route("webapp").replace("route:", "rout:"));
    let refused = wait_for_status(&tenant, "\"status\":\"False\"");
    assert_eq!(condition(&refused, "reason"), "Refused");
    assert!(condition(&refused, "message").contains("unknown field \"rout\""), "{refused}");
    wait::until("an Event", || {
        let words = ["get", "events", "--namespace", &tenant.applications];
        let said = tenant.plane.kubectl(&words).expect_success().out;
        (said.contains("virtualservice/webapp") && said.contains("Refused") && said.contains("rout"))
            .then_some(())
    });

    let other = object(&tenant, "gateways.networking.istio.io", "foreign");
    assert!(other["status"].is_null(), "it is for another gateway: {other}");
    assert!(status(&tenant, "gateways.networking.istio.io", "edge").is_some());
    let patches = || tenant.plane.asked_by(&tenant.user()).iter().filter(|it| it.verb == "patch").count();
    // Of the Gateway once, of the VirtualService three times: what it writes is no news to it.
    wait::until("all notes of the API server", || (patches() >= 4).then_some(()));
    let before = gateway.generation();
    tenant.apply(&http_service("another", &[]));
    wait::until("another generation", || (gateway.generation() > before).then_some(()));
    assert_eq!(patches(), 4, "{:?}", tenant.plane.asked_by(&tenant.user()));
}

/// Whether its log says that it writes.
fn writes(gateway: &Gateway) -> bool {
    gateway.log().contains("this gateway writes the status of documents")
}

#[test]
fn one_of_two_gateways_writes_and_when_it_dies_the_other_one_does() {
    let tenant = Tenant::of_shared();
    tenant.apply(&(gateways(port::free()) + &route("webapp") + &http_service("webapp", &[])));
    let mut first = tenant.arrange().start();
    wait::until("a holder of the Lease", || writes(&first).then_some(()));
    let second = tenant.arrange().start();
    wait_for_status(&tenant, "in force");
    assert!(!writes(&second), "it is held");
    first.kill();
    tenant.apply(&route("nobody"));
    let written = wait::within(SUCCESSION, || {
        status(&tenant, "virtualservice", "webapp").filter(|status| codes(status) == ["IST0101"])
    });
    assert!(written.is_some(), "the other one writes: {}", second.log());
    assert!(writes(&second));
}

/// A gateway that the API server asks, of a control plane of its own.
struct Asked {
    tenant: Tenant,
    gateway: Gateway,
}

impl Asked {
    fn new() -> Self {
        let tenant = Tenant::of(Arc::new(ControlPlane::start()));
        let port = port::free();
        tenant.allow_admission();
        tenant.apply(&webhook(port, &tenant));
        let gateway = arrange(&tenant, port).start();
        let asked = Self { tenant, gateway };
        asked.wait_until_trusted();
        asked
    }

    /// Documents that cannot be judged are refused, too: so what is sound is taken once the server is trusted.
    fn wait_until_trusted(&self) {
        wait::until("a webhook that is trusted", || {
            let said = self.try_apply(&gateways(80));
            (said.code == Some(0)).then_some(())
        });
    }

    fn try_apply(&self, documents: &str) -> Said {
        self.tenant.plane.kubectl_with(&["apply", "-f", "-"], &self.tenant.placed(documents))
    }
}

fn arrange(tenant: &Tenant, port: u16) -> Arrangement {
    tenant.arrange().flags(&["--admission-address", &format!("127.0.0.1:{port}")])
}

/// The Service's name leads to this machine, as there is nothing that would carry packets to a cluster's addresses.
fn webhook(port: u16, tenant: &Tenant) -> String {
    let service = format!("{{name: sluice-admission, namespace: {}", tenant.system);
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {service}}}\n\
         spec: {{type: ExternalName, externalName: localhost, ports: [{{port: {port}}}]}}\n\
         ---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\n\
         metadata: {{name: sluice}}\n\
         webhooks:\n- name: documents.sluice.dev\n  admissionReviewVersions: [v1]\n  sideEffects: None\n  \
         failurePolicy: Fail\n  timeoutSeconds: 5\n  \
         clientConfig: {{service: {service}, path: /validate, port: {port}}}}}\n  \
         rules: [{{apiGroups: [networking.istio.io], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: ['*']}}]\n"
    )
}

#[test]
fn what_would_not_be_in_force_is_refused_by_the_api_server_whatever_certificate_is_in_use() {
    let asked = Asked::new();
    let refused = asked.try_apply(&route("webapp").replace("route:", "rout:"));
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.all().contains("denied the request: [IST0106] spec.http[0].rout: unknown field \"rout\""),
        "{}",
        refused.all()
    );
    let doubtful =
        asked.try_apply(&route("webapp").replace("route:", "match: [{uri: {prefix: a}}]\n    route:"));
    let doubtful = doubtful.expect_success();
    assert!(doubtful.all().contains("Warning: "), "{}", doubtful.all());

    // As when its time is over: another certificate, another authority.
    let system = ["--namespace", &asked.tenant.system];
    asked
        .tenant
        .plane
        .kubectl(&[&["delete", "secret", "sluice-admission"], &system[..]].concat())
        .expect_success();
    let made = || asked.gateway.log().matches("a new certificate for the admission webhook").count();
    assert!(wait::within(SUCCESSION, || (made() == 2).then_some(())).is_some(), "{}", asked.gateway.log());
    asked.wait_until_trusted();
    assert_ne!(asked.try_apply(&route("webapp").replace("route:", "rout:")).code, Some(0));
}
