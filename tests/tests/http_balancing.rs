//! Which endpoint gets a request of the real gateway: by weight, in turns, and by what keeps requests together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::backend::Backend;
use harness::client::{self, Answer, get};
use harness::documents::{self, Server, http_route, http_service};
use harness::gateway::Gateway;
use harness::{port, wait};

const HOST: &str = "shop.test";

struct Site {
    gateway: Gateway,
    address: SocketAddr,
    backends: Vec<Backend>,
}

impl Site {
    /// Three backends behind a rule, and one worker, whose turns are then everyone's.
    fn new(policy: &str) -> Self {
        let backends: Vec<Backend> = ["a", "b", "c"].into_iter().map(Backend::http).collect();
        let endpoints: Vec<SocketAddr> = backends.iter().map(|backend| backend.server.address).collect();
        let port = port::free();
        let gateway = Gateway::arrange()
            .document("edge", &documents::gateway("edge", &[Server::http(port, &["*"])]))
            .document("shop", &(http_route("shop", "*", "edge", "shop") + &http_service("shop", &endpoints)))
            .document("rule", &documents::destination_rule("shop", policy))
            .flags(&["--workers", "1"])
            .start();
        Self { address: gateway.at(port), gateway, backends }
    }

    fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        client::send(self.address, client::request("GET", HOST, path, headers))
    }

    /// How many of so many requests each backend got.
    fn shares(&self, requests: usize) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for _ in 0..requests {
            *shares.entry(get(self.address, HOST, "/").backend()).or_default() += 1;
        }
        shares
    }
}

#[test]
fn endpoints_take_turns_by_their_weight() {
    let site = Site::new("{loadBalancer: {simple: ROUND_ROBIN}}");
    assert!(site.shares(30).values().all(|share| (9..=11).contains(share)));
    let [a, b, _] = [0, 1, 2].map(|at| site.backends[at].server.address);
    let weighted = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: istioinaction}}\nspec: {{hosts: [e.test], location: \
         MESH_EXTERNAL, resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{{address: {}, \
         ports: {{http: {}}}, weight: 30}}, {{address: {}, ports: {{http: {}}}, weight: 10}}]}}\n",
        a.ip(),
        a.port(),
        b.ip(),
        b.port()
    );
    site.gateway.apply("shop", &(http_route("shop", "*", "edge", "e.test") + &weighted));
    let shares = site.shares(400);
    // By least request, at random: each request is over before the next.
    assert!(shares["a"].abs_diff(300) < 50 && shares["b"].abs_diff(100) < 50, "{shares:?}");
}

#[test]
fn requests_that_belong_together_have_one_endpoint() {
    for (hash, path, headers) in [
        ("httpHeaderName: x-user", "/", Some("x-user")),
        ("httpQueryParameterName: user", "/?user=", None),
        ("httpCookie: {name: user}", "/", Some("cookie")),
    ] {
        let site = Site::new(&format!("{{loadBalancer: {{consistentHash: {{{hash}}}}}}}"));
        let mut seen = BTreeMap::<String, Vec<String>>::new();
        for round in 0..3 {
            for user in 0..20 {
                let value = if headers == Some("cookie") { format!("user={user}") } else { user.to_string() };
                let answer = match headers {
                    Some(name) => site.ask(path, &[(name, &value)]),
                    None => site.ask(&format!("{path}{user}&round={round}"), &[]),
                };
                assert_eq!(answer.header("set-cookie"), "", "{hash}");
                seen.entry(user.to_string()).or_default().push(answer.backend());
            }
        }
        assert!(
            seen.values().all(|backends| backends.iter().all(|it| *it == backends[0])),
            "{hash} {seen:?}"
        );
        let all: std::collections::BTreeSet<&String> = seen.values().map(|backends| &backends[0]).collect();
        assert_eq!(all.len(), 3, "{hash}: everyone has some");
    }
}

#[test]
fn a_client_is_given_a_cookie_that_brings_it_back() {
    let cookie = "{consistentHash: {httpCookie: {name: stay, path: /, ttl: 60s}}}";
    let site = Site::new(&format!("{{loadBalancer: {cookie}}}"));
    for _ in 0..10 {
        let first = site.ask("/", &[]);
        let given = first.header("set-cookie").to_owned();
        let (pair, attributes) = given.split_once(';').expect("attributes");
        assert!(pair.starts_with("stay=\""), "{given}");
        assert_eq!(attributes, " Max-Age=60; Path=/; HttpOnly");
        for _ in 0..3 {
            let again = site.ask("/", &[("cookie", pair)]);
            assert_eq!(again.backend(), first.backend());
            assert_eq!(again.header("set-cookie"), "");
        }
    }
}

#[test]
fn the_nearest_endpoints_serve_until_they_fail() {
    let backends: Vec<Backend> = ["near", "far"].into_iter().map(Backend::http).collect();
    let endpoint = |at: usize, zone: &str| {
        let address = backends[at].server.address;
        format!("{{address: {}, ports: {{http: {}}}, locality: r1/{zone}}}", address.ip(), address.port())
    };
    let entry = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: istioinaction}}\nspec: {{hosts: [e.test], location: \
         MESH_EXTERNAL, resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{}, {}]}}\n",
        endpoint(0, "z1"),
        endpoint(1, "z2"),
    );
    let policy =
        "{outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 300s, maxEjectionPercent: 100}}";
    let rule = documents::destination_rule("e.test", policy);
    let port = port::free();
    let gateway = Gateway::arrange()
        .document("edge", &documents::gateway("edge", &[Server::http(port, &["*"])]))
        .document("shop", &(http_route("shop", "*", "edge", "e.test") + &entry + &rule))
        .flags(&["--labels", "istio=ingressgateway,istio-locality=r1.z1"])
        .start();
    let address = gateway.at(port);
    for _ in 0..20 {
        assert_eq!(get(address, HOST, "/").backend(), "near");
    }
    for _ in 0..2 {
        get(address, HOST, "/status/503");
    }
    for _ in 0..20 {
        assert_eq!(get(address, HOST, "/").backend(), "far");
    }
    let clusters = gateway.sluice(&["proxy-config", "clusters", "-o", "json"]).expect_success().out;
    assert!(clusters.contains("\"priorities\""), "{clusters}");
}

#[test]
fn a_new_endpoint_gets_its_share_little_by_little() {
    const WINDOW: Duration = Duration::from_secs(4);
    let backends: Vec<Backend> = ["a", "b", "c"].into_iter().map(Backend::http).collect();
    let endpoints: Vec<SocketAddr> = backends.iter().map(|backend| backend.server.address).collect();
    let port = port::free();
    let shop =
        |count: usize| http_route("shop", "*", "edge", "shop") + &http_service("shop", &endpoints[..count]);
    let policy = "{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 4s, minimumPercent: 10}}}";
    let gateway = Gateway::arrange()
        .document("edge", &documents::gateway("edge", &[Server::http(port, &["*"])]))
        .document("shop", &shop(2))
        .document("rule", &documents::destination_rule("shop", policy))
        .flags(&["--workers", "1"])
        .start();
    let site = Site { address: gateway.at(port), gateway, backends };
    // All are new together, and get alike.
    assert!(site.shares(20).values().all(|share| (9..=11).contains(share)));
    let passed = |since: Instant| (since.elapsed() > WINDOW).then_some(());
    let begun = Instant::now();
    wait::until("the first to be warm", || passed(begun));
    let begun = Instant::now();
    site.gateway.apply("shop", &shop(3));
    let shares = site.shares(60);
    // Of 2.1 shares a tenth is due, and more the longer the requests take.
    if begun.elapsed() < WINDOW / 4 {
        let of_new = shares.get("c").copied().unwrap_or_default();
        assert!(of_new <= 10, "{shares:?} within {:?}", begun.elapsed());
    }
    wait::until("all to be warm", || passed(begun));
    // The turn that it had been given while it was new may be ten rounds off.
    site.shares(30);
    let shares = site.shares(60);
    assert!(shares.values().all(|share| (18..=22).contains(share)), "{shares:?}");
}

#[test]
fn after_two_tries_in_vain_another_place_is_asked() {
    let far = Backend::http("far");
    let dead = || SocketAddr::from(([127, 0, 0, 1], port::free()));
    let endpoint = |address: SocketAddr, zone: &str| {
        format!("{{address: {}, ports: {{http: {}}}, locality: r1/{zone}}}", address.ip(), address.port())
    };
    let near: Vec<String> = (0..4).map(|_| endpoint(dead(), "z1")).collect();
    let entry = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: istioinaction}}\nspec: {{hosts: [e.test], location: \
         MESH_EXTERNAL, resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{}, {}]}}\n",
        near.join(", "),
        endpoint(far.server.address, "z2"),
    );
    let rule = documents::destination_rule("e.test", "{outlierDetection: {consecutive5xxErrors: 0}}");
    for (more, want) in [("", 503), (", retryRemoteLocalities: true", 200)] {
        let port = port::free();
        let rules = format!(
            "  http:\n  - {{route: [{{destination: {{host: e.test}}}}], retries: {{attempts: 2{more}}}}}"
        );
        let documents = documents::gateway("edge", &[Server::http(port, &["*"])])
            + &documents::virtual_service("shop", &["*"], "edge", &rules)
            + &entry
            + &rule;
        let gateway = Gateway::arrange()
            .document("site", &documents)
            .flags(&["--labels", "istio=ingressgateway,istio-locality=r1.z1"])
            .start();
        for _ in 0..5 {
            assert_eq!(get(gateway.at(port), HOST, "/").status.as_u16(), want, "{more}");
        }
    }
}
