//! Plans: what of a snapshot the kernel steers, and what it refuses.

use std::sync::Arc;

use super::*;
use crate::model::listener::TlsListener;
use crate::model::{
    ChainAction, ClusterName, Endpoint, FilterChain, Forward, Health, HostPattern, Limits, RouteAction,
    RouteMatch, RouteRule, RouteTable, SourceAddress, UpstreamProtocol, UserSpaceReason, VirtualHost,
};

fn name(host: &str) -> ClusterName {
    ClusterName { host: host.into(), port: 80, subset: None }
}

fn destination(host: &str, weight: u32, endpoints: &[(&str, Health)]) -> WeightedCluster {
    let endpoints =
        endpoints.iter().map(|(address, health)| Endpoint::new(address.parse().unwrap(), *health)).collect();
    let cluster = Cluster::new(name(host), UpstreamProtocol::Tcp, endpoints);
    WeightedCluster { name: name(host), cluster: Some(Arc::new(cluster)), weight }
}

fn healthy<'a>(addresses: &[&'a str]) -> Vec<(&'a str, Health)> {
    addresses.iter().map(|address| (*address, Health::Healthy)).collect()
}

fn route(destinations: Vec<WeightedCluster>) -> Arc<TcpRoute> {
    Arc::new(TcpRoute {
        virtual_service: "vs.default".into(),
        destinations,
        idle_timeout: Duration::from_hours(1),
        max_duration: None,
        origin: None,
    })
}

fn listener(bind: Option<&str>, port: u16, destinations: Vec<WeightedCluster>) -> Listener {
    Listener {
        name: "listener".into(),
        key: ListenerKey { bind: bind.map(|ip| ip.parse().unwrap()), port },
        kind: ListenerKind::Tcp(route(destinations)),
        steering: Steering::Kernel,
        source_address: SourceAddress::Snat,
        proxy_protocol: None,
        behind_proxy: false,
        limits: Limits::default(),
        servers: Vec::new(),
    }
}

/// One that user space must serve.
fn in_user_space(reason: UserSpaceReason, listener: Listener) -> Listener {
    Listener { steering: Steering::UserSpace(reason), ..listener }
}

/// One that passes TLS through, by a chain for each host.
fn passing(port: u16, hosts: Vec<(&str, Vec<WeightedCluster>)>) -> Listener {
    let chain = |(host, destinations): (&str, Vec<WeightedCluster>)| FilterChain {
        name: host.into(),
        sni: vec![HostPattern::new(host)],
        action: ChainAction::Passthrough(route(destinations)),
        origin: None,
    };
    let tls = TlsListener::new(hosts.into_iter().map(chain).collect());
    let kind = ListenerKind::Tls(tls);
    in_user_space(UserSpaceReason::NeedsSni, Listener { kind, ..listener(None, port, Vec::new()) })
}

fn snapshot(listeners: Vec<Listener>) -> Snapshot {
    Snapshot { listeners: listeners.into_iter().map(Arc::new).collect(), ..Snapshot::default() }
}

fn surroundings() -> Surroundings {
    let route = |source: &str, oif| Ok(Route { source: source.parse().unwrap(), oif });
    Surroundings {
        addresses: ["198.18.0.1", "198.18.0.2", "fd00::1"].map(|ip| ip.parse().unwrap()).into(),
        routes: [
            ("10.0.0.2", route("10.0.0.1", 3)),
            ("10.0.0.3", route("10.0.0.1", 3)),
            ("10.9.0.2", route("10.9.0.1", 9)),
            ("fd01::2", route("fd01::1", 3)),
            ("198.18.0.1", Err(NoRoute::Local)),
        ]
        .map(|(ip, route)| (ip.parse().unwrap(), route))
        .into(),
        unattachable: [(9, "tun0 carries no Ethernet".to_owned())].into(),
        unfit: BTreeSet::new(),
    }
}

fn addresses(placement: &Placement) -> Vec<String> {
    placement.steered.iter().map(ToString::to_string).collect()
}

fn refusals(placement: &Placement) -> Vec<String> {
    placement.refusals.iter().map(ToString::to_string).collect()
}

/// Plans one listener and returns where it went.
fn placed(listener: Listener) -> (Placement, State) {
    let key = listener.key;
    let plan = plan(&snapshot(vec![listener]), &surroundings());
    (plan.placements[&key].clone(), plan.state)
}

#[test]
fn a_listener_on_every_address_has_an_entry_for_each_local_one_with_backends_of_its_family() {
    let both = destination("both", 1, &healthy(&["10.0.0.2:80", "[fd01::2]:80"]));
    let (placement, state) = placed(listener(None, 443, vec![both]));
    assert_eq!(addresses(&placement), ["198.18.0.1:443", "198.18.0.2:443", "[fd00::1]:443"]);
    assert!(placement.refusals.is_empty());
    for (address, spec) in &state.listeners {
        assert!(spec.weights.keys().all(|backend| backend.is_ipv4() == address.is_ipv4()));
    }
    let four = destination("four", 1, &healthy(&["10.0.0.2:80"]));
    let (placement, _) = placed(listener(None, 443, vec![four]));
    assert_eq!(addresses(&placement), ["198.18.0.1:443", "198.18.0.2:443"]);
    assert_eq!(refusals(&placement), ["no healthy IPv6 backend of `outbound|80||four`"]);
}

#[test]
fn a_bound_listener_takes_its_address_away_from_one_on_every_address() {
    let one = || vec![destination("one", 1, &healthy(&["10.0.0.2:80"]))];
    let user_space = in_user_space(UserSpaceReason::NeedsHttp, listener(Some("198.18.0.1"), 443, one()));
    let plan = plan(&snapshot(vec![listener(None, 443, one()), user_space]), &surroundings());
    assert_eq!(plan.state.listeners.keys().map(ToString::to_string).collect::<Vec<_>>(), ["198.18.0.2:443"]);
    assert_eq!(plan.placements.len(), 1);
}

#[test]
fn weights_are_shared_out_among_healthy_endpoints() {
    let two = destination("two", 30, &healthy(&["10.0.0.2:80", "10.0.0.3:80"]));
    let one = destination(
        "one",
        10,
        &[
            ("10.0.0.2:80", Health::Healthy),
            ("10.0.0.9:80", Health::Unhealthy),
            ("10.0.0.8:80", Health::Draining),
        ],
    );
    let (_, state) = placed(listener(Some("198.18.0.1"), 443, vec![two, one]));
    let spec = &state.listeners[&"198.18.0.1:443".parse().unwrap()];
    let weight = |address: &str| spec.weights[&address.parse::<SocketAddr>().unwrap()] / WEIGHT_SCALE;
    assert_eq!((weight("10.0.0.2:80"), weight("10.0.0.3:80")), (25, 15));
    assert_eq!(spec.weights.len(), 2);
}

#[test]
fn what_cannot_be_steered_says_why() {
    let unknown = WeightedCluster { name: name("unknown"), cluster: None, weight: 1 };
    let good = || destination("good", 1, &healthy(&["10.0.0.2:80"]));
    let to = |address: &str| destination("d", 1, &healthy(&[address]));
    for (bind, destinations, want) in [
        ("198.18.0.9", vec![good()], "no interface for clients has address 198.18.0.9"),
        ("198.18.0.1", vec![good(), unknown], "no service `outbound|80||unknown`"),
        ("198.18.0.1", vec![good(), destination("d", 1, &[])], "no healthy backend of `outbound|80||d`"),
        ("198.18.0.1", vec![good(), to("127.0.0.1:80")], "backend 127.0.0.1:80: on loopback"),
        ("fd00::1", vec![good()], "no healthy IPv6 backend of `outbound|80||good`"),
        ("0.0.0.0", vec![to("10.5.5.5:80")], "backend 10.5.5.5:80: no route"),
        ("fd00::1", vec![to("[fe80::2]:80")], "backend [fe80::2]:80: link-local address"),
        ("198.18.0.1", vec![to("198.18.0.1:80")], "backend 198.18.0.1:80: address of this node itself"),
        ("198.18.0.1", vec![to("10.5.5.5:80")], "backend 10.5.5.5:80: no route"),
        ("198.18.0.1", vec![to("10.9.0.2:80")], "backend 10.9.0.2:80: tun0 carries no Ethernet"),
    ] {
        let (placement, state) = placed(listener(Some(bind), 443, destinations));
        assert_eq!(refusals(&placement), [want]);
        assert!(placement.steered.is_empty());
        assert_eq!(state, State::default());
    }
    // On addresses of both families: a reason that holds for both is told once.
    let (placement, _) = placed(listener(None, 443, vec![destination("d", 1, &[])]));
    assert_eq!(refusals(&placement), ["no healthy backend of `outbound|80||d`"]);
}

#[test]
fn the_routes_asked_for_are_those_of_all_opaque_connections() {
    let to = |address: &str| vec![destination("d", 1, &healthy(&[address]))];
    let kernel = listener(None, 443, vec![destination("tcp", 1, &healthy(&["10.0.0.2:80", "[fd01::2]:80"]))]);
    let header = in_user_space(UserSpaceReason::ProxyProtocol, listener(None, 80, to("10.0.0.7:80")));
    let tls = passing(8443, vec![("a.example", to("10.0.0.8:80")), ("b.example", to("10.0.0.9:80"))]);
    let asked = destinations(&snapshot(vec![header, kernel, tls]));
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    assert_eq!(asked, ["10.0.0.2", "10.0.0.7", "10.0.0.8", "10.0.0.9", "fd01::2"]);
}

#[test]
fn backends_of_opaque_connections_are_planned_without_a_listener() {
    let both = destination("both", 1, &healthy(&["10.0.0.2:80", "[fd01::2]:80"]));
    let sick = destination("sick", 1, &[("10.0.0.3:80", Health::Unhealthy)]);
    let mut limited = in_user_space(UserSpaceReason::MaxConnections, listener(None, 9000, vec![both, sick]));
    limited.source_address = SourceAddress::Preserve;
    let unknown = WeightedCluster { name: name("unknown"), cluster: None, weight: 1 };
    let tls = vec![
        ("a.example", vec![destination("a", 1, &healthy(&["10.0.0.3:443"])), unknown]),
        ("b.example", vec![destination("b", 1, &healthy(&["10.0.0.3:444"]))]),
    ];
    let steered = listener(None, 7000, vec![destination("tcp", 1, &healthy(&["10.0.0.2:80"]))]);
    let plan = plan(&snapshot(vec![limited, passing(443, tls), steered]), &surroundings());
    let backends: Vec<(String, bool)> =
        plan.state.backends.keys().map(|backend| (backend.address.to_string(), backend.preserve)).collect();
    // The first is also one of the steered listener's, whose backends see the gateway.
    let want = [
        ("10.0.0.2:80", false),
        ("10.0.0.2:80", true),
        ("10.0.0.3:443", false),
        ("10.0.0.3:444", false),
        ("[fd01::2]:80", true),
    ];
    assert_eq!(backends, want.map(|(address, preserve)| (address.to_owned(), preserve)));
    assert!(plan.state.listeners.keys().all(|address| address.port() == 7000));
    assert_eq!(plan.placements.len(), 1);
    let ports: Vec<u16> = plan.opaque.listeners.iter().map(|listener| listener.port).collect();
    assert_eq!(ports, [443, 9000]);
    assert_eq!(plan.opaque.backends.len(), 4);
    assert!(plan.opaque.backends.iter().all(|(key, backend)| {
        backend.as_ref().is_ok_and(|backend| plan.state.backends[key] == *backend && backend.key == *key)
    }));
}

/// One that serves HTTP in clear: a route for each destination.
fn serving(port: u16, https_redirect: bool, destinations: Vec<WeightedCluster>) -> Listener {
    let route = |destination| crate::model::Route {
        name: "".into(),
        matcher: RouteMatch::default(),
        rule: Arc::new(RouteRule::new(
            RouteAction::Forward(Forward::to(vec![destination])),
            "vs.default".into(),
        )),
        operation: http::HeaderValue::from_static(""),
        origin: None,
    };
    let routes = destinations.into_iter().map(route).map(Arc::new).collect();
    let host = VirtualHost { domain: HostPattern::Any, routes, https_redirect };
    let kind = ListenerKind::Http(Arc::new(RouteTable::new("http".into(), vec![host])));
    in_user_space(UserSpaceReason::NeedsHttp, Listener { kind, ..listener(None, port, Vec::new()) })
}

fn speaking(protocol: UpstreamProtocol, mut destination: WeightedCluster) -> WeightedCluster {
    let cluster = destination.cluster.take().unwrap();
    destination.cluster = Some(Arc::new(Cluster { protocol, ..(*cluster).clone() }));
    destination
}

#[test]
fn backends_that_http_requests_may_be_upgraded_at_are_planned() {
    let to = |host: &str, address: &str| destination(host, 1, &healthy(&[address]));
    let one = speaking(UpstreamProtocol::Http1, to("one", "10.0.0.2:80"));
    let two = speaking(UpstreamProtocol::Http2, to("two", "10.0.0.3:80"));
    let listeners =
        vec![serving(80, false, vec![one, two]), serving(81, true, vec![to("elsewhere", "10.0.0.3:81")])];
    let plan = plan(&snapshot(listeners), &surroundings());
    assert!(!plan.opaque.is_crowded);
    let known: Vec<_> = plan.opaque.backends.keys().map(|key| key.address.to_string()).collect();
    assert_eq!(known, ["10.0.0.2:80"], "not those of HTTP/2, nor those that no cleartext request gets to");
    assert_eq!(plan.state.backends.len(), 1);
    assert_eq!(plan.opaque.listeners.iter().map(|listener| listener.port).collect::<Vec<_>>(), [80]);
    assert!(plan.placements.is_empty() && plan.state.listeners.is_empty());
}

#[test]
fn what_may_be_upgraded_leaves_room_for_what_is_carried_anyway() {
    let many: Vec<String> =
        (0..MOST_FOR_UPGRADES + 10).map(|port| format!("10.0.0.2:{}", 1000 + port)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let http = serving(80, false, vec![destination("many", 1, &healthy(&many))]);
    // Its backends are the last ones, and one of those that HTTP has too.
    let carried = healthy(&["10.0.0.2:60000", many[0]]);
    let tls = passing(443, vec![("a.example", vec![destination("a", 1, &carried)])]);
    let plan = plan(&snapshot(vec![http, tls]), &surroundings());
    assert_eq!(plan.state.backends.len(), MOST_FOR_UPGRADES + 2);
    assert_eq!(plan.opaque.backends.len(), MOST_FOR_UPGRADES + 2);
    assert!(plan.opaque.is_crowded);
    let planned = |port: usize| {
        let address = format!("10.0.0.2:{port}").parse().unwrap();
        plan.opaque.backends.contains_key(&BackendKey { address, preserve: false })
    };
    let ports = 1000..1000 + many.len();
    assert_eq!(ports.map(planned).take_while(|it| *it).count(), MOST_FOR_UPGRADES + 1, "the least of them");
}

#[test]
fn an_opaque_backend_that_the_kernel_cannot_send_to_says_why_and_harms_no_other() {
    let addresses = ["127.0.0.1:80", "10.0.0.2:80", "10.5.5.5:80", "10.9.0.2:80", "198.18.0.1:80"];
    let tls = passing(443, vec![("a.example", vec![destination("a", 1, &healthy(&addresses))])]);
    let plan = plan(&snapshot(vec![tls]), &surroundings());
    let outcome: Vec<(String, Option<String>)> = plan
        .opaque
        .backends
        .iter()
        .map(|(key, backend)| (key.address.to_string(), backend.as_ref().err().map(ToString::to_string)))
        .collect();
    let want = [
        ("10.0.0.2:80", None),
        ("10.5.5.5:80", Some("no route")),
        ("10.9.0.2:80", Some("tun0 carries no Ethernet")),
        ("127.0.0.1:80", Some("on loopback")),
        ("198.18.0.1:80", Some("address of this node itself")),
    ];
    assert_eq!(outcome, want.map(|(address, reason)| (address.to_owned(), reason.map(str::to_owned))));
    assert_eq!(plan.state.backends.len(), 1);
    assert!(plan.placements.is_empty());
}

#[test]
fn no_packet_from_outside_comes_to_a_listener_on_loopback() {
    let to = vec![destination("d", 1, &healthy(&["10.0.0.2:80"]))];
    let inner = in_user_space(UserSpaceReason::LoopbackBind, listener(Some("127.0.0.1"), 80, to));
    assert_eq!(plan(&snapshot(vec![inner]), &surroundings()), Plan::default());
}

#[test]
fn backends_that_a_listener_cannot_do_without_come_before_those_of_opaque_connections() {
    let to = |host: &str, address: &str| vec![destination(host, 1, &healthy(&[address]))];
    let tls = passing(443, vec![("a.example", to("a", "10.0.0.2:80"))]);
    let steered = listener(None, 7000, to("tcp", "10.0.0.3:80"));
    let plan = plan(&snapshot(vec![tls, steered]), &surroundings());
    let put: Vec<String> = diff(&State::default(), &plan.state)
        .iter()
        .filter_map(|step| match step {
            Step::PutBackend(backend) => Some(backend.key.address.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(put, ["10.0.0.3:80", "10.0.0.2:80"]);
}

/// A state of up to four backends and four listeners that name some of them.
fn any_state(random: &mut fastrand::Rng) -> State {
    let mut state = State::default();
    for number in 1..=4_u8 {
        if random.bool() {
            let address = SocketAddr::from(([10, 0, 0, number], 80));
            let route =
                Route { source: IpAddr::from([10, 0, 0, 100 + random.u8(..2)]), oif: random.u32(1..3) };
            for preserve in [false, true] {
                let key = BackendKey { address, preserve };
                state.backends.insert(key, BackendSpec { key, route });
            }
        }
    }
    for port in 1..=4 {
        let mut weights = Weights::new();
        for backend in state.backends.keys() {
            if random.bool() {
                weights.insert(backend.address, random.u64(1..3));
            }
        }
        if !weights.is_empty() {
            let address = SocketAddr::from(([198, 18, 0, 1], port));
            let (idle_timeout, preserve) = (random.u32(1..3), random.bool());
            let spec = ListenerSpec { weights, idle_timeout, preserve, ..ListenerSpec::default() };
            state.listeners.insert(address, spec);
        }
    }
    state
}

#[test]
fn the_steps_of_a_diff_lead_from_one_state_to_the_other_and_no_step_names_what_is_not_there() {
    let mut random = fastrand::Rng::with_seed(42);
    for _ in 0..2000 {
        let (from, to) = (any_state(&mut random), any_state(&mut random));
        let mut state = from.clone();
        for step in diff(&from, &to) {
            state.apply(&step);
            let known =
                |spec: &ListenerSpec| spec.backends().all(|backend| state.backends.contains_key(&backend));
            assert!(state.listeners.values().all(known), "{from:?} to {to:?}: after {step:?}");
        }
        assert_eq!(state, to);
        assert!(diff(&to, &to).is_empty());
    }
}

#[test]
fn a_backend_that_goes_another_way_rewrites_the_tables_that_name_it() {
    let mut random = fastrand::Rng::with_seed(43);
    for _ in 0..200 {
        let from = any_state(&mut random);
        let mut to = from.clone();
        let Some(backend) = to.backends.values_mut().next() else { continue };
        backend.route.oif += 1;
        let moved = backend.key;
        let rewritten: Vec<SocketAddr> = diff(&from, &to)
            .into_iter()
            .filter_map(|step| if let Step::PutListener(address, _) = step { Some(address) } else { None })
            .collect();
        let naming: Vec<SocketAddr> = to
            .listeners
            .iter()
            .filter(|(_, spec)| spec.backends().any(|backend| backend == moved))
            .map(|(address, _)| *address)
            .collect();
        assert_eq!(rewritten, naming);
    }
}

#[test]
fn an_ejected_endpoint_gets_nothing_new_from_its_own_cluster() {
    let mut surroundings = surroundings();
    surroundings.unfit.insert((name("tcp"), "10.0.0.2:80".parse().unwrap()));
    let backends = |host: &str, surroundings: &Surroundings| {
        let both = healthy(&["10.0.0.2:80", "10.0.0.3:80"]);
        let plan =
            plan(&snapshot(vec![listener(None, 443, vec![destination(host, 1, &both)])]), surroundings);
        plan.state.backends.keys().map(|backend| backend.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(backends("tcp", &surroundings), ["10.0.0.3:80"]);
    assert_eq!(backends("other", &surroundings), ["10.0.0.2:80", "10.0.0.3:80"]);
}

#[test]
fn what_the_documents_say_of_a_listener_reaches_its_table() {
    let mut cluster = destination("tcp", 1, &healthy(&["10.0.0.2:80"]));
    let changed = Cluster { affinity: Affinity::SourceAddress, ..(*cluster.cluster.take().unwrap()).clone() };
    cluster.cluster = Some(Arc::new(changed));
    let mut listener = listener(Some("198.18.0.1"), 443, vec![cluster]);
    listener.source_address = SourceAddress::Preserve;
    listener.limits = crate::model::Limits { connections: Some(7), new_per_second: Some(9) };
    let plan = plan(&snapshot(vec![listener]), &surroundings());
    let [spec] = plan.state.listeners.values().collect::<Vec<_>>()[..] else { panic!("{plan:?}") };
    assert!(spec.preserve && spec.by_client);
    assert_eq!((spec.max_flows, spec.max_rate), (7, 9));
    assert!(plan.state.backends.keys().all(|backend| backend.preserve));
}
