//! A translation that goes on from the one before gives what a first one gives: the same snapshot, the same findings, in the
//! same order. Documents of every kind come, change and go at random, and so do addresses of names and the gateway's own
//! identity. And what did not change is not made again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use fastrand::Rng;
use gateway_userspace::api::{self, Object, Objects};
use gateway_userspace::model::{GatewayIdentity, RouteAction, Snapshot, WeightedCluster};
use gateway_userspace::translate::{Surroundings, Translation, Translator, translate};

const NAMESPACES: [&str; 3] = ["default", "shop", "istio-system"];
const HOSTS: [&str; 6] = ["a.test", "b.test", "*.test", "*.b.test", "'*'", "x.b.test"];
/// Kinds, and how many documents of each there may be at a time.
const KINDS: [(&str, usize); 11] = [
    ("Gateway", 3),
    ("VirtualService", 8),
    ("DestinationRule", 4),
    ("Service", 5),
    ("EndpointSlice", 5),
    ("Endpoints", 2),
    ("ServiceEntry", 3),
    ("WorkloadEntry", 3),
    ("Pod", 3),
    ("Secret", 2),
    ("ConfigMap", 1),
];

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

/// The documents there are, by kind and number. One that is not edited stays the same object, as a source keeps it.
#[derive(Default)]
struct World {
    documents: BTreeMap<(&'static str, usize), (String, Option<Object>)>,
    surroundings: Surroundings,
}

impl World {
    fn objects(&self) -> Objects {
        self.documents.values().filter_map(|(_, object)| object.clone()).collect()
    }

    /// Changes one thing, and says what.
    fn edit(&mut self, rng: &mut Rng) -> String {
        match rng.u8(..20) {
            0 => {
                let addresses = (0..rng.u8(..3)).map(|at| [192, 0, 2, at].into()).collect();
                let name = one(rng, &["db.example.com", "api.example.com"]);
                self.surroundings.resolved.insert(name, addresses);
                return format!("{name} stands for others");
            }
            1 => {
                let mut identity = GatewayIdentity::default();
                one(rng, &["istio-system", "shop"]).clone_into(&mut identity.namespace);
                let what = format!("the gateway is in {}", identity.namespace);
                self.surroundings.identity = identity;
                return what;
            }
            _ => {}
        }
        let (kind, most) = KINDS[rng.usize(..KINDS.len())];
        let key = (kind, rng.usize(..most));
        if rng.u8(..4) == 0 {
            self.documents.remove(&key);
            return format!("{key:?} goes");
        }
        let text = document(kind, key.1, rng);
        let object = read(&format!("{kind}-{}.yaml", key.1), &text);
        self.documents.insert(key, (text.clone(), object));
        format!("{key:?} becomes\n{text}")
    }
}

fn read(file: &str, text: &str) -> Option<Object> {
    let file: Arc<str> = file.into();
    let mut readings =
        api::split(text).into_iter().flat_map(|chunk| api::read_document(&file, chunk, "default"));
    readings.next().expect("a document").object
}

fn document(kind: &str, at: usize, rng: &mut Rng) -> String {
    let version = match kind {
        "Service" | "Endpoints" | "Pod" | "Secret" | "ConfigMap" => "v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        _ => "networking.istio.io/v1",
    };
    let (mut name, mut namespace) = (format!("{}{at}", kind.to_lowercase()), one(rng, &NAMESPACES));
    let mut more = String::new();
    if rng.bool() {
        let _ = write!(more, ", creationTimestamp: \"202{}-01-01T00:00:00Z\"", rng.u8(..4));
    }
    let spec = match kind {
        "Gateway" => {
            name = format!("g{at}");
            servers(rng)
        }
        "VirtualService" => rules(rng),
        "DestinationRule" => {
            if rng.u8(..3) == 0 {
                let (check, ports) = (one(rng, &["tcp", "grpc"]), one(rng, &["80", "90,91"]));
                let _ = write!(
                    more,
                    ", annotations: {{sluice.dev/health-check: {check}, sluice.dev/health-check-ports: '{ports}'}}"
                );
            }
            policy(rng)
        }
        "Service" => {
            name = format!("s{}", at % 4);
            let own = at == 0 && rng.u8(..4) == 0;
            match rng.u8(..5) {
                0 => "spec: {type: ExternalName, externalName: db.example.com, ports: [{name: http, port: 80}]}\n",
                1 => "spec: {selector: {app: w}, ports: [{name: http, port: 80}, {name: tcp, port: 90}]}\n",
                _ if own => "spec: {selector: {istio: ingressgateway}, ports: [{name: http, port: 80, targetPort: 8080}]}\n",
                _ => "spec: {ports: [{name: http, port: 80}, {name: tcp, port: 90}]}\n",
            }
            .to_owned()
        }
        "EndpointSlice" => {
            let _ = write!(
                more,
                ", labels: {{kubernetes.io/service-name: s{}, version: v{}}}",
                at % 4,
                rng.u8(1..3)
            );
            let address = one(rng, &["10.0.0.1", "10.0.0.2", "127.0.0.1", "no-address"]);
            let port = one(rng, &["http", "tcp", "other"]);
            format!(
                "ports: [{{name: {port}, port: 8080}}]\nendpoints: [{{addresses: [{address}]}}, {{addresses: [10.0.1.{at}]}}]\n"
            )
        }
        "Endpoints" => {
            name = format!("s{at}");
            format!(
                "subsets: [{{ports: [{{name: http, port: 80}}], addresses: [{{ip: 10.0.2.{}}}]}}]\n",
                rng.u8(1..9)
            )
        }
        "ServiceEntry" => {
            let host = one(rng, &["db.example.com", "api.example.com", "s1.shop.svc.cluster.local"]);
            let rest = one(
                rng,
                &[
                    "resolution: DNS",
                    "resolution: STATIC, endpoints: [{address: 10.1.0.1}, {address: 10.1.0.2, labels: {version: v2}}]",
                    "resolution: STATIC, workloadSelector: {labels: {app: w}}",
                    "resolution: NONE",
                ],
            );
            format!(
                "spec: {{hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}], {rest}}}\n"
            )
        }
        "WorkloadEntry" => {
            format!("spec: {{address: 10.2.0.{}, labels: {{app: w, version: v1}}}}\n", rng.u8(1..9))
        }
        "Pod" => {
            let _ = write!(more, ", labels: {{app: w, version: v{}}}", rng.u8(1..3));
            "status: {podIP: 10.0.0.1}\n".to_owned()
        }
        "Secret" => {
            (name, namespace) = (format!("pair{at}"), "istio-system");
            one(rng, &["stringData: {tls.crt: a, tls.key: b}\n", "stringData: {tls.crt: a}\n"]).to_owned()
        }
        _ => {
            (name, namespace) = ("istio".to_owned(), "istio-system");
            format!("data: {{mesh: 'connectTimeout: {}s'}}\n", rng.u8(1..4))
        }
    };
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}{more}}}\n{spec}"
    )
}

fn servers(rng: &mut Rng) -> String {
    let mut text = "spec:\n  servers:\n".to_owned();
    for at in 0..rng.usize(1..4) {
        let port = one(rng, &["80", "81", "443"]);
        let (protocol, tls) = match rng.u8(..6) {
            0 => ("HTTP", ", tls: {httpsRedirect: true}"),
            1 => ("TLS", ", tls: {mode: PASSTHROUGH}"),
            2 => ("HTTPS", ", tls: {mode: SIMPLE, credentialName: pair0}"),
            3 => ("TCP", ""),
            _ => ("HTTP", ""),
        };
        let (first, second) = (one(rng, &HOSTS), one(rng, &["a.test", "b.test", "*.test"]));
        let _ = writeln!(
            text,
            "  - {{port: {{number: {port}, name: p{at}, protocol: {protocol}}}, hosts: [{first}, 'shop/{second}']{tls}}}"
        );
    }
    text
}

const GATEWAYS: &str = "[default/g0, shop/g0, istio-system/g0, default/g1, shop/g1, g2]";

fn rules(rng: &mut Rng) -> String {
    let host = one(rng, &HOSTS);
    let mut text = match rng.u8(..4) {
        // A delegate.
        0 => "spec:\n  http:\n".to_owned(),
        1 => format!(
            "spec:\n  exportTo: [{}]\n  hosts: [{host}]\n  gateways: {GATEWAYS}\n  http:\n",
            one(rng, &["'.'", "shop"])
        ),
        _ => format!(
            "spec:\n  hosts: [{host}, {}]\n  gateways: {GATEWAYS}\n  http:\n",
            one(rng, &["c.test", "d.b.test"])
        ),
    };
    let is_root = text.contains("hosts");
    for _ in 0..rng.usize(1..5) {
        let condition = one(
            rng,
            &[
                "",
                "match: [{uri: {prefix: /a}}], ",
                "match: [{uri: {exact: /a/b}}, {method: {exact: POST}}], ",
                "match: [{headers: {x-k: {exact: v}}}], ",
                "match: [{port: 81}], ",
            ],
        );
        let leaf = format!(
            "delegate: {{name: virtualservice{}, namespace: {}}}",
            rng.u8(..8),
            one(rng, &NAMESPACES)
        );
        let action = one(
            rng,
            &[
                "directResponse: {status: 418}",
                "redirect: {uri: /moved}",
                "route: [{destination: {host: s0, port: {number: 80}}}], mirror: {host: s2, port: {number: 80}}",
                "route: [{destination: {host: s1, subset: v1}, weight: 1}, {destination: {host: s2}, weight: 2}]",
                "route: [{destination: {host: db.example.com}}]",
                "route: [{destination: {host: s3.shop.svc.cluster.local, port: {number: 80}}}]",
                if is_root { &leaf } else { "directResponse: {status: 410}" },
            ],
        );
        let _ = writeln!(text, "  - {{{condition}{action}}}");
    }
    if is_root {
        let _ = write!(
            text,
            "  tls:\n  - {{match: [{{sniHosts: [{host}]}}], route: [{{destination: {{host: s0, port: {{number: 80}}}}}}]}}\n  \
             tcp:\n  - {{route: [{{destination: {{host: s1, port: {{number: 90}}}}}}]}}\n"
        );
    }
    text
}

fn policy(rng: &mut Rng) -> String {
    let host = one(rng, &["s0", "s1.shop.svc.cluster.local", "'*.local'", "s2", "db.example.com"]);
    let policy = one(
        rng,
        &[
            "subsets: [{name: v1, labels: {version: v1}}]",
            "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3, connectTimeout: 1s}}}",
            "subsets: [{name: v1, labels: {version: v2}, trafficPolicy: {outlierDetection: {}}}]",
            "trafficPolicy: {tls: {mode: SIMPLE, credentialName: pair0}}",
        ],
    );
    format!("spec: {{host: {host}, {policy}}}\n")
}

/// Every destination that something may be sent to.
fn destinations(snapshot: &Snapshot) -> Vec<&WeightedCluster> {
    let mut all: Vec<&WeightedCluster> =
        snapshot.listeners.iter().flat_map(|listener| listener.opaque_destinations()).collect();
    for route in
        snapshot.route_tables().flat_map(|table| &table.virtual_hosts).flat_map(|host| host.routes.iter())
    {
        if let RouteAction::Forward(forward) = &route.action {
            all.extend(&forward.destinations);
            all.extend(forward.mirrors.iter().map(|mirror| &mirror.destination));
        }
    }
    all
}

/// A snapshot as text, and that its routes lead to its own clusters.
fn shown(translation: &Translation) -> String {
    let snapshot = &translation.snapshot;
    for destination in destinations(snapshot) {
        let (known, held) = (snapshot.clusters.get(&destination.name), destination.cluster.as_ref());
        assert_eq!(known.map(Arc::as_ptr), held.map(Arc::as_ptr), "{}", destination.name);
    }
    serde_json::to_string_pretty(snapshot).expect("a snapshot is JSON")
}

#[test]
fn going_on_gives_what_beginning_anew_gives() {
    let mut found = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let (mut world, mut translator) = (World::default(), Translator::default());
        for _ in 0..15 {
            world.edit(&mut rng);
        }
        for step in 0..40 {
            let edits = rng.usize(1..3);
            let edits: Vec<String> = (0..edits).map(|_| world.edit(&mut rng)).collect();
            let objects = Arc::new(world.objects());
            world.surroundings.learn(&objects);
            let on = translator.translate(&objects, &world.surroundings, step);
            let anew = translate(&objects, &world.surroundings, step);
            let told = || format!("seed {seed}, step {step}: {}", edits.join("\n"));
            assert_eq!(shown(&on), shown(&anew), "{}", told());
            assert_eq!(on.diagnostics, anew.diagnostics, "{}", told());
            assert_eq!(on.names, anew.names, "{}", told());
            found.extend(on.diagnostics.iter().map(|found| found.code.as_str()));
        }
    }
    assert!(found.len() >= 12, "the generator makes findings of many kinds: {found:?}");
}

/// Documents of which each route, each cluster and each Gateway can be told from the others.
fn town(changed_rule: bool, changed_slice: bool) -> BTreeMap<String, String> {
    let head = |kind: &str, name: &str| format!("kind: {kind}\nmetadata: {{name: {name}}}\n");
    let istio = "apiVersion: networking.istio.io/v1\n";
    let mut all = BTreeMap::new();
    for at in 0..2 {
        let servers = format!(
            "spec: {{servers: [{{port: {{number: 8{at}, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n"
        );
        all.insert(format!("g{at}"), format!("{istio}{}{servers}", head("Gateway", &format!("g{at}"))));
        let prefix = if changed_rule && at == 0 { "/new" } else { "/" };
        let rules = format!(
            "spec: {{hosts: [v{at}.test], gateways: [g0, g1], http: [{{match: [{{uri: {{prefix: {prefix}}}}}], route: \
             [{{destination: {{host: s{at}}}}}]}}]}}\n"
        );
        all.insert(format!("v{at}"), format!("{istio}{}{rules}", head("VirtualService", &format!("v{at}"))));
        let service = head("Service", &format!("s{at}"));
        all.insert(
            format!("s{at}"),
            format!("apiVersion: v1\n{service}spec: {{ports: [{{name: http, port: 80}}]}}\n"),
        );
        let last = if changed_slice && at == 0 { 9 } else { 1 };
        all.insert(
            format!("e{at}"),
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{at}, labels: \
                 {{kubernetes.io/service-name: s{at}}}}}\nports: [{{name: http, port: 80}}]\nendpoints: [{{addresses: \
                 [10.0.{at}.{last}]}}]\n"
            ),
        );
    }
    all
}

/// Whether the routes of each VirtualService, and the clusters of each Service, are the same objects in two snapshots.
fn shared(one: &Snapshot, other: &Snapshot) -> ([bool; 2], [bool; 2]) {
    let routes = |snapshot: &Snapshot, host: &str| -> Vec<_> {
        let hosts = snapshot.route_tables().map(|table| table.virtual_host(host).expect(host));
        hosts.map(|host| host.routes.iter().next().map(Arc::as_ptr)).collect()
    };
    let cluster = |snapshot: &Snapshot, name: &str| {
        let found =
            snapshot.clusters.values().find(|cluster| cluster.name.host.starts_with(name)).expect(name);
        Arc::as_ptr(found)
    };
    let same_routes = |host| routes(one, host) == routes(other, host);
    let same_cluster = |name| cluster(one, name) == cluster(other, name);
    (["v0.test", "v1.test"].map(same_routes), ["s0.", "s1."].map(same_cluster))
}

#[test]
fn what_did_not_change_is_the_same_object() {
    for (rule, slice, want) in [
        (false, false, ([true, true], [true, true])),
        (true, false, ([false, true], [true, true])),
        // Routes hold their clusters.
        (false, true, ([false, true], [false, true])),
    ] {
        let before = town(false, false);
        let first: BTreeMap<&String, Option<Object>> =
            before.iter().map(|(name, text)| (name, read(name, text))).collect();
        let after = town(rule, slice);
        let second = after
            .iter()
            .map(|(name, text)| if before[name] == *text { first[name].clone() } else { read(name, text) });
        let second: Arc<Objects> = Arc::new(second.flatten().collect());
        let (surroundings, mut translator) = (Surroundings::default(), Translator::default());
        let first =
            translator.translate(&Arc::new(first.values().flatten().cloned().collect()), &surroundings, 1);
        let second = translator.translate(&second, &surroundings, 2);
        assert_eq!(shared(&first.snapshot, &second.snapshot), want, "rule {rule}, slice {slice}");
    }
}
