//! Documents that change while traffic flows.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::backend::Backend;
use harness::client::{self, Connection, get, request};
use harness::documents::{self, Server, http_route, http_service};
use harness::gateway::Gateway;
use harness::{port, wait};
use hyper::StatusCode;

const HOST: &str = "webapp.istioinaction.io";

fn site(port: u16, service: &str) -> String {
    documents::gateway("edge", &[Server::http(port, &["*"])]) + &http_route("webapp", HOST, "edge", service)
}

fn services(backends: &[(&str, SocketAddr)]) -> String {
    backends.iter().map(|(name, address)| http_service(name, &[*address])).collect()
}

#[test]
fn a_change_is_live_within_a_second() {
    let (blue, green) = (Backend::http("blue"), Backend::http("green"));
    let port = port::free();
    let gateway = Gateway::arrange()
        .document("site", &site(port, "blue"))
        .document("services", &services(&[("blue", blue.server.address), ("green", green.server.address)]))
        .start();
    let address = gateway.at(port);
    // The best of five: a machine that is busy with other things proves nothing, a slow gateway is slow each time.
    let fastest = ["green", "blue", "green", "blue", "green"].map(|next| {
        let changed = Instant::now();
        gateway.write("site", &site(port, next));
        wait::until("the change", || (get(address, HOST, "/").backend() == next).then_some(()));
        changed.elapsed()
    });
    let fastest = fastest.into_iter().min().expect("five times");
    assert!(fastest < Duration::from_secs(1), "the fastest of five changes took {fastest:?}");
}

#[test]
fn a_broken_document_keeps_its_last_good_state_and_is_reported() {
    let (blue, green) = (Backend::http("blue"), Backend::http("green"));
    let port = port::free();
    let gateway = Gateway::arrange()
        .document("gateway", &documents::gateway("edge", &[Server::http(port, &["*"])]))
        .document("route", &http_route("webapp", HOST, "edge", "blue"))
        .document("services", &services(&[("blue", blue.server.address), ("green", green.server.address)]))
        .start();
    let address = gateway.at(port);
    gateway.apply("route", &http_route("webapp", HOST, "edge", "green").replace("route:", "rout:"));
    assert_eq!(get(address, HOST, "/").backend(), "blue");
    let status = gateway.sluice(&["status"]).all();
    assert!(status.contains("rout"), "the status tells of the broken document:\n{status}");
    assert!(gateway.log().contains("route.yaml:"), "the log names the file:\n{}", gateway.log());
    // Other documents go on changing.
    gateway.apply("other", &http_route("other", "other.istioinaction.io", "edge", "green"));
    wait::until("the other host", || {
        (get(address, "other.istioinaction.io", "/").status == StatusCode::OK).then_some(())
    });
    assert_eq!(get(address, HOST, "/").backend(), "blue");
    // And once mended it counts.
    gateway.apply("route", &http_route("webapp", HOST, "edge", "green"));
    wait::until("the mended route", || (get(address, HOST, "/").backend() == "green").then_some(()));
}

#[test]
fn ports_open_and_close_with_their_documents() {
    let backend = Backend::http("webapp");
    let (first, second) = (port::free(), port::free());
    let gateway = Gateway::arrange()
        .document("site", &site(first, "webapp"))
        .document("services", &services(&[("webapp", backend.server.address)]))
        .start();
    assert!(client::try_send(gateway.at(second), request("GET", HOST, "/", &[])).is_err());
    gateway.apply("site", &site(second, "webapp"));
    wait::until("the new port", || {
        let answer = client::try_send(gateway.at(second), request("GET", HOST, "/", &[])).ok()?;
        (answer.status == StatusCode::OK).then_some(())
    });
    wait::until("the end of the old port", || {
        client::try_send(gateway.at(first), request("GET", HOST, "/", &[])).err()
    });
}

#[test]
fn policies_and_annotations_change_with_their_documents() {
    let backend = harness::echo::start("echo", harness::serve::Place::loopback());
    let port = port::free();
    let site = |annotations: &[&str]| {
        documents::annotated_gateway("edge", annotations, &[Server::tcp(port)])
            + &documents::tcp_route("echo", port, "edge", "echo")
            + &documents::tcp_service("echo", &[backend.address])
    };
    let limit = |most| {
        documents::destination_rule(
            "echo",
            &format!("{{connectionPool: {{tcp: {{maxConnections: {most}}}}}}}"),
        )
    };
    let gateway = Gateway::arrange()
        .document("site", &site(&["sluice.dev/max-connections: '1'"]))
        .document("rule", &limit(1))
        .start();
    let greeted = || {
        let mut client = std::net::TcpStream::connect(gateway.at(port)).ok()?;
        let mut byte = [0];
        (std::io::Read::read(&mut client, &mut byte).ok()? == 1).then_some(client)
    };
    let _first = wait::until("the first", greeted);
    assert!(greeted().is_none(), "the port takes one");
    gateway.apply("site", &site(&["sluice.dev/max-connections: '5'"]));
    assert!(wait::within(Duration::from_millis(200), greeted).is_none(), "the cluster takes one");
    gateway.apply("rule", &limit(2));
    let _second = wait::until("the second", greeted);
    assert!(greeted().is_none(), "the first still counts");
    gateway.remove("rule");
    let _third = wait::until("the third", greeted);
}

#[test]
fn a_port_in_use_is_reported_and_opened_once_it_is_free() {
    let backend = Backend::http("webapp");
    let (taken, free) = (port::free(), port::free());
    let squatter = std::net::TcpListener::bind(("0.0.0.0", taken)).expect("a free port");
    let documents = documents::gateway("edge", &[Server::http(taken, &["*"]), Server::http(free, &["*"])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &services(&[("webapp", backend.server.address)]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    assert_eq!(get(gateway.at(free), HOST, "/").status, StatusCode::OK, "the other port is served");
    let status = gateway.sluice(&["status"]).all();
    assert!(status.contains(&taken.to_string()), "the status tells of the port:\n{status}");
    drop(squatter);
    // Whoever mends the machine touches a document, or waits for the next change.
    gateway.apply("nudge", &http_service("nudge", &[]));
    wait::until("the port", || {
        let answer = client::try_send(gateway.at(taken), request("GET", HOST, "/", &[])).ok()?;
        (answer.status == StatusCode::OK).then_some(())
    });
}

/// Ten thousand requests on kept connections, and one of each kind of change under way all the time.
#[test]
fn no_request_fails_while_documents_change_a_hundred_times() {
    const REQUESTS: usize = 10_000;
    const CHANGES: usize = 100;
    let backends = ["blue", "green"].map(Backend::http);
    let port = port::free();
    let addresses = [("blue", backends[0].server.address), ("green", backends[1].server.address)];
    let gateway = Gateway::arrange()
        .document("site", &site(port, "blue"))
        .document("services", &services(&addresses))
        .start();
    let address = gateway.at(port);
    let before = gateway.generation();
    let (sent, changes_done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failures = std::thread::scope(|scope| {
        let end = Set(&changes_done);
        let clients: Vec<_> =
            (0..4).map(|_| scope.spawn(|| drive(address, &sent, REQUESTS, &changes_done))).collect();
        for change in 0..CHANGES {
            let generation = gateway.generation();
            match change % 4 {
                0 => gateway.write("site", &site(port, if change % 8 == 0 { "green" } else { "blue" })),
                1 => gateway.write("extra", &http_route("extra", &format!("x{change}.io"), "edge", "blue")),
                2 => gateway.write("services", &(services(&addresses) + &http_service("more", &[]))),
                _ => gateway.write("services", &services(&addresses)),
            }
            wait::until("the change", || (gateway.generation() > generation).then_some(()));
        }
        drop(end);
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect::<Vec<_>>()
    });
    let total = sent.load(Ordering::SeqCst);
    assert!(total >= REQUESTS, "{total} requests were sent");
    assert!(gateway.generation() >= before + CHANGES as u64);
    assert!(failures.is_empty(), "{} of {total} failed, first: {:?}", failures.len(), failures.first());
    assert!(backends.iter().all(|backend| backend.requests() > 0), "both services were routed to");
}

/// Sets a flag when dropped: clients must end although their test panics.
struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sends until enough was sent and all changes are done. A new connection every 50 requests.
fn drive(address: SocketAddr, sent: &AtomicUsize, enough: usize, changes_done: &AtomicBool) -> Vec<String> {
    let mut failures = Vec::new();
    client::runtime().block_on(async {
        while sent.load(Ordering::SeqCst) < enough || !changes_done.load(Ordering::SeqCst) {
            let mut connection = Connection::open(address).await.expect("a connection");
            for _ in 0..50 {
                sent.fetch_add(1, Ordering::SeqCst);
                match connection.send(request("GET", HOST, "/", &[])).await {
                    Ok(answer) if answer.status == StatusCode::OK => {}
                    Ok(answer) => failures.push(format!("{}: {}", answer.status, answer.text())),
                    Err(error) => {
                        failures.push(format!("{error:#}"));
                        break;
                    }
                }
            }
        }
    });
    failures
}
