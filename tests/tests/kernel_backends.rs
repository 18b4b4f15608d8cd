//! Backends that refuse, keep silent, go, and come and go all the time, before flows in the kernel. Needs root; fails
//! where the kernel plane cannot be had.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::backend::{Backend, Version};
use harness::chatter::Chatter;
use harness::client::{LIMIT, connect, line, read_line};
use harness::documents::{NAMESPACE, annotated_rule};
use harness::lab::{Family, Lab};
use harness::namespace;
use harness::serve::{Place, Server};
use harness::steered::{Steered, Wishes, connect_from, greet, place, verify_checksums};
use harness::{echo, wait};

/// `baseEjectionTime` of the rule below: long enough that a test sees it.
const EJECTION: Duration = Duration::from_secs(4);
/// Ejects at the third failure.
const EJECTING: &str = "{outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 4s, interval: 60s, maxEjectionPercent: 100}}";

/// How a backend fails, and recovers.
trait Failing {
    /// Ends what is there.
    fn fail(lab: &Lab, family: Family, server: Server) -> Self;
    /// Has it answer again.
    fn recover(self, lab: &Lab, family: Family) -> Server;
}

/// Nobody listens.
struct Refusing(SocketAddr);

impl Failing for Refusing {
    fn fail(_: &Lab, _: Family, server: Server) -> Self {
        Self(server.address)
    }

    fn recover(self, lab: &Lab, _: Family) -> Server {
        echo::start_silent(Place::within(&lab.backends[0], self.0))
    }
}

/// It knows no way back to the gateway.
struct Silent(Server);

fn way_back(lab: &Lab, family: Family, change: &str) {
    let (version, gateway) = match family {
        Family::V4 => ("-4", "198.18.1.1/32"),
        Family::V6 => ("-6", "fd00:18:1::1/128"),
    };
    lab.backends[0].ip(&[version, "route", change, "blackhole", gateway]).expect("a route");
}

impl Failing for Silent {
    fn fail(lab: &Lab, family: Family, server: Server) -> Self {
        way_back(lab, family, "add");
        Self(server)
    }

    fn recover(self, lab: &Lab, family: Family) -> Server {
        way_back(lab, family, "del");
        self.0
    }
}

/// Clients get another backend by the SYN that they send again; after some failures new ones do not even meet the bad
/// one, and it is back when its time is over. `failure` is the counter that tells of it.
fn is_got_round<F: Failing>(family: Family, failure: &str) {
    let lab = Lab::new(2).expect("namespaces");
    let [bad, good] = [0, 1].map(|index| echo::start_silent(place(&lab, family, index)));
    let backends = [bad.address, good.address];
    let bad = F::fail(&lab, family, bad);
    let wishes = Wishes { policy: Some(EJECTING), ..Wishes::default() };
    let steered = Steered::start(lab, &wishes, &backends, &[]);
    let address = steered.address(family);

    // All at once, so that each meets its backend before that can be ejected.
    let chat = Chatter::start(&steered.lab.client, address, 24);
    chat.expect_unharmed();
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    assert_eq!(good.accepted(), 24);
    let retried = steered.verdict("retried");
    assert!(retried >= 3, "{retried} met the bad backend");

    wait::until("the ejection", || {
        let listeners = steered.dump("LISTENERS");
        let is_in = |row: &serde_json::Value| row["backends"].to_string().contains(&backends[0].to_string());
        (!listeners.iter().any(is_in)).then_some(())
    });
    let failures = || {
        let kernel = steered.kernel();
        let traffic = kernel["backendTraffic"].as_array().expect("the backends");
        let row = traffic.iter().find(|row| row["backend"] == *backends[0].to_string());
        row.and_then(|row| row[failure].as_u64()).unwrap_or(0)
    };
    let failed = failures();
    assert!(failed >= 3, "{failure} {failed} times");
    let begun = Instant::now();
    let more = Chatter::start(&steered.lab.client, address, 24);
    more.expect_unharmed();
    let met = steered.verdict("retried") - retried;
    assert!(met == 0 || begun.elapsed() > EJECTION, "{met} met the backend that was ejected");
    assert_eq!(failures() - failed, met, "an ejected backend's failures are still told of");

    let back = F::recover(bad, &steered.lab, family);
    wait::until("a flow at the backend that is back", || {
        drop(steered.greet(family));
        (back.accepted() > 0).then_some(())
    });
    chat.expect_unharmed();
    more.expect_unharmed();
}

#[test]
fn the_nearest_backends_have_all_flows_and_others_once_they_fail() {
    let lab = Lab::new(2).expect("namespaces");
    let [near, far] = [0, 1].map(|index| echo::start_silent(place(&lab, Family::V4, index)));
    let backends = [near.address, far.address];
    let wishes = Wishes { policy: Some(EJECTING), ..Wishes::default() };
    let here = ["--labels", "istio=ingressgateway,istio-locality=here.a.1"];
    let steered = Steered::start(lab, &wishes, &backends, &here);
    let pods = [(backends[0], "here.a.2"), (backends[1], "there.b.1")].map(|(backend, locality)| {
        let name = locality.replace('.', "-");
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{istio-locality: \
             {locality}}}}}\nstatus: {{podIP: {}, phase: Running}}\n",
            backend.ip()
        )
    });
    steered.gateway.apply("pods", &pods.concat());
    wait::until("tables of the nearest backend alone", || {
        let is_in = |row: &serde_json::Value| row["backends"].to_string().contains(&backends[1].to_string());
        (!steered.dump("LISTENERS").iter().any(is_in)).then_some(())
    });
    let address = steered.address(Family::V4);
    let chat = Chatter::start(&steered.lab.client, address, 24);
    chat.expect_unharmed();
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    assert_eq!((near.accepted(), far.accepted()), (24, 0));
    drop(chat);

    drop(near);
    // Refused until that is known of the nearest.
    wait::until("a flow at the next backend", || {
        let connected = steered.lab.client.enter(move || TcpStream::connect_timeout(&address, LIMIT).is_ok());
        (connected && far.accepted() > 0).then_some(())
    });
}

#[test]
fn a_backend_that_refuses_is_got_round_ejected_and_taken_back() {
    is_got_round::<Refusing>(Family::V4, "refused");
}

#[test]
fn a_backend_that_refuses_over_ipv6_is_got_round_ejected_and_taken_back() {
    is_got_round::<Refusing>(Family::V6, "refused");
}

#[test]
fn a_silent_backend_is_got_round_ejected_and_taken_back() {
    is_got_round::<Silent>(Family::V4, "unanswered");
}

#[test]
fn a_silent_backend_over_ipv6_is_got_round_ejected_and_taken_back() {
    is_got_round::<Silent>(Family::V6, "unanswered");
}

#[test]
fn a_backend_that_is_not_well_gets_no_new_flow_and_keeps_those_it_has() {
    let lab = Lab::new(2).expect("namespaces");
    let [bad, good] = [("bad", 0), ("good", 1)]
        .map(|(name, at)| Backend::start(name, Version::Http1, place(&lab, Family::V4, at)));
    let backends = [bad.server.address, good.server.address];
    let steered = Steered::start(lab, &Wishes::default(), &backends, &[]);
    let check = ["'sluice.dev/health-check': 'http:///healthz'", "sluice.dev/health-check-interval: 50ms"];
    steered.gateway.apply("check", &annotated_rule("backend", &check, "{outlierDetection: {}}"));
    let address = steered.address(Family::V4);
    let asked = |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("sending");
        let mut heard = String::new();
        while !heard.ends_with("\r\n\r\n") {
            heard += &read_line(stream);
        }
        let length = heard.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|length| length.parse().ok()).expect("a length")];
        stream.read_exact(&mut body).expect("a body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        body["backend"].as_str().expect("a name").to_owned()
    };
    let open = || steered.lab.client.enter(move || connect(address));
    let mut kept = wait::until("a flow at the backend that will be unwell", || {
        let mut stream = open();
        (asked(&mut stream) == "bad").then_some(stream)
    });
    let is_steered_to = |backend: SocketAddr| {
        let listeners = steered.dump("LISTENERS");
        listeners.iter().all(|row| row["backends"].to_string().contains(&backend.to_string()))
    };
    assert!(is_steered_to(backends[0]) && is_steered_to(backends[1]));

    bad.feel(Some(503));
    wait::until("tables without it", || (!is_steered_to(backends[0])).then_some(()));
    assert!(is_steered_to(backends[1]));
    for _ in 0..20 {
        assert_eq!(asked(&mut open()), "good");
        assert_eq!(asked(&mut kept), "bad");
    }
    bad.feel(Some(200));
    wait::until("tables with it", || is_steered_to(backends[0]).then_some(()));
    wait::until("a flow at the backend that is well again", || (asked(&mut open()) == "bad").then_some(()));
    assert!(steered.steers(kept.local_addr().expect("an address")), "the kernel carries them");
}

#[test]
fn flows_of_a_removed_backend_are_reset_after_the_drain_time_and_no_others() {
    const DRAIN: Duration = Duration::from_secs(3);
    let lab = Lab::new(2).expect("namespaces");
    verify_checksums(&lab);
    let servers = [0, 1].map(|index| echo::start_silent(place(&lab, Family::V4, index)));
    let [gone, kept] = servers.each_ref().map(|server| server.address);
    let wishes = Wishes::default();
    let steered = Steered::start(lab, &wishes, &[gone], &["--backend-drain-time", "3"]);
    let address = steered.address(Family::V4);
    let leaving = Chatter::start(&steered.lab.client, address, 20);
    let mut silent = steered.greet(Family::V4);
    // No later than the agent has it.
    let removed = Instant::now();
    steered.gateway.apply("site", &wishes.documents(&[kept]));
    let mut others = Vec::new();
    wait::until("new flows at the backend that stays alone", || {
        others.push(steered.greet(Family::V4));
        (servers[1].accepted() > 0).then_some(())
    });
    let staying = Chatter::start(&steered.lab.client, address, 20);
    let mut silent_neighbour = steered.greet(Family::V4);
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    leaving.expect_unharmed();
    assert!(removed.elapsed() < DRAIN, "the machine is too slow for this test: {:?}", removed.elapsed());

    let end = silent.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "the silent flow");
    let took = removed.elapsed();
    // The agent looks once a second, and this machine has other things to do too.
    assert!((DRAIN..DRAIN + Duration::from_secs(2)).contains(&took), "reset after {took:?}");
    wait::until("the end of all its flows", || (leaving.failures().len() == 20).then_some(()));
    assert!(leaving.failures().iter().all(|failure| failure.contains("reset")), "{:?}", leaving.failures());
    staying.expect_unharmed();
    assert_eq!(line(&mut silent_neighbour, "me too\n"), "me too\n");
    assert!(steered.verdict("reset") >= 21);
    assert_eq!(servers[0].accepted() + servers[1].accepted(), 20 + 1 + others.len() + 20 + 1);
}

#[test]
fn all_connections_of_a_client_go_to_one_backend_where_the_rule_says_so() {
    const CLIENTS: u8 = 16;
    let lab = Lab::new(3).expect("namespaces");
    let servers = [0, 1, 2].map(|index| {
        let name = index.to_string();
        let place = place(&lab, Family::V4, index);
        Server::start(place, move |mut stream| {
            let name = format!("{name}\n");
            async move {
                use tokio::io::AsyncWriteExt as _;
                // A client that has gone is the client's matter.
                let _ = stream.write_all(name.as_bytes()).await;
            }
        })
    });
    let clients: Vec<IpAddr> =
        (0..CLIENTS).map(|host| lab.add_client(Family::V4, 100 + host).expect("an address")).collect();
    let backends = servers.each_ref().map(|server| server.address);
    let sticky =
        Wishes { policy: Some("{loadBalancer: {consistentHash: {useSourceIp: true}}}"), ..Wishes::default() };
    let steered = Steered::start(lab, &sticky, &backends, &[]);
    let backends_of = |source: IpAddr| {
        steered.with_client(move |address| {
            let name = |_| {
                let mut stream = connect_from(source, 0, address).expect("a connection");
                harness::client::read_line(&mut stream)
            };
            (0..12).map(name).collect::<BTreeSet<String>>()
        })
    };
    let mut used = BTreeSet::new();
    for client in &clients {
        let backends = backends_of(*client);
        assert_eq!(backends.len(), 1, "client {client}");
        used.extend(backends);
    }
    assert!(used.len() > 1, "clients are spread: {used:?}");
    assert_eq!(steered.sockets(), 0, "the kernel carries them");

    steered.gateway.apply("site", &Wishes::default().documents(&backends));
    wait::until("connections of one client at several backends without the rule", || {
        (backends_of(clients[0]).len() > 1).then_some(())
    });
}

/// Short connections all the time from a namespace.
struct Visitors {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    done: AtomicBool,
    count: AtomicUsize,
}

impl Visitors {
    fn start(from: &namespace::Namespace, address: SocketAddr, count: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let visitor = |_| {
            let (namespace, shared) = (from.open(), shared.clone());
            std::thread::spawn(move || {
                namespace::join(&namespace);
                while !shared.done.load(Ordering::SeqCst) {
                    drop(greet(address));
                    shared.count.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let threads = (0..count).map(visitor).collect();
        Self { shared, threads }
    }

    /// Ends them. Panics if a visit failed. Returns the number of visits.
    fn end(self) -> usize {
        self.shared.done.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no visit fails");
        }
        self.shared.count.load(Ordering::SeqCst)
    }
}

/// What flows hold: rows that are not zero.
fn held(steered: &Steered) -> Vec<String> {
    let kernel = steered.kernel();
    let counts = ["flows", "handshakes"].map(|count| (count, &kernel[count]));
    let busy = |count: &serde_json::Value| count["ipv4"] != 0 || count["ipv6"] != 0;
    let mut held: Vec<String> = counts
        .iter()
        .filter(|(_, count)| busy(count))
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    for (map, field) in [("FLOWS", "state"), ("HALF", "state"), ("PORTS", "inUse"), ("LIMITS", "flows")] {
        let rows = steered.dump(map).into_iter().filter(|row| row[field] != 0);
        held.extend(rows.map(|row| format!("{map}: {row}")));
    }
    held
}

#[test]
fn a_churn_of_backends_under_load_harms_no_flow_and_leaks_nothing() {
    const CHANGES: usize = 50;
    let lab = Lab::new(3).expect("namespaces");
    let servers = [(Family::V4, 0), (Family::V4, 1), (Family::V4, 2), (Family::V6, 0), (Family::V6, 1)]
        .map(|(family, index)| echo::start_silent(place(&lab, family, index)));
    let [stays, one, two, stays6, one6] = servers.each_ref().map(|server| server.address);
    // A limit that nobody meets: the count of flows is shown with it.
    let wishes = Wishes { annotations: &["sluice.dev/max-connections: \"100000\""], ..Wishes::default() };
    let flags = ["--backend-drain-time", "1", "--max-flows", "16384"];
    let steered = Steered::start(lab, &wishes, &[stays, stays6], &flags);
    let chats = [(Family::V4, 60), (Family::V6, 20)]
        .map(|(family, count)| Chatter::start(&steered.lab.client, steered.address(family), count));
    assert_eq!(steered.sockets(), 0, "the kernel carries them");
    let visitors = [Family::V4, Family::V6]
        .map(|family| Visitors::start(&steered.lab.client, steered.address(family), 1));

    let begun = Instant::now();
    for change in 0..CHANGES {
        let mut backends = vec![stays, stays6];
        let guests = [(one, change % 2 == 0), (two, change % 3 == 0), (one6, change % 4 < 2)];
        backends.extend(guests.into_iter().filter(|(_, here)| *here).map(|(address, _)| address));
        steered.gateway.apply("site", &wishes.documents(&backends));
        for chat in &chats {
            assert!(chat.failures().is_empty(), "change {change}");
        }
    }
    let visits: usize = visitors.into_iter().map(Visitors::end).sum();
    let exchanges: usize = chats.iter().map(Chatter::expect_unharmed).sum();
    println!("{CHANGES} changes in {:?}: {visits} visits, {exchanges} exchanges", begun.elapsed());
    assert!(servers.iter().all(|server| server.accepted() > 0), "all backends were used");
    let busy = held(&steered);
    for map in ["flows:", "FLOWS:", "PORTS:", "LIMITS:"] {
        assert!(
            busy.iter().any(|row| row.starts_with(map)),
            "what is to be given back in {map} is not held now"
        );
    }

    drop(chats);
    let back = wait::within(wait::PATIENCE, || held(&steered).is_empty().then_some(()));
    assert!(back.is_some(), "not given back: {:#?}", held(&steered));
}

#[test]
fn a_backend_that_comes_back_within_the_drain_time_keeps_its_flows() {
    let lab = Lab::new(2).expect("namespaces");
    let servers = [0, 1].map(|index| echo::start_silent(place(&lab, Family::V4, index)));
    let [first, second] = servers.each_ref().map(|server| server.address);
    let wishes = Wishes::default();
    let steered = Steered::start(lab, &wishes, &[first], &["--backend-drain-time", "2"]);
    let mut streams: Vec<TcpStream> = (0..5).map(|_| steered.greet(Family::V4)).collect();
    steered.gateway.apply("site", &wishes.documents(&[second]));
    wait::until("the first change", || {
        drop(steered.greet(Family::V4));
        (servers[1].accepted() > 0).then_some(())
    });
    steered.gateway.apply("site", &wishes.documents(&[first, second]));
    // The time of one that is really gone runs out later than that of the first would have.
    let doomed = wait::until("a flow at the second", || {
        let before = servers[1].accepted();
        let stream = steered.greet(Family::V4);
        (servers[1].accepted() > before).then_some(stream)
    });
    steered.gateway.apply("site", &wishes.documents(&[first]));
    let end = (&doomed).read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    for stream in &mut streams {
        assert_eq!(line(stream, "still here\n"), "still here\n");
    }
}
