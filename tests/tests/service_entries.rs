//! Services outside the cluster, through the real gateway: addresses that documents give, and names that are resolved.

use std::net::{Ipv4Addr, SocketAddr};

use harness::backend::Backend;
use harness::client::get;
use harness::dns::{NameServer, Says};
use harness::documents::{self, NAMESPACE, Server, http_route};
use harness::gateway::Gateway;
use harness::{port, wait};
use hyper::StatusCode;

const HOST: &str = "webapp.istioinaction.io";
const API: &str = "api.example.com";

/// A Gateway for any host, and a route to port 80 of `API`.
fn site(port: u16) -> String {
    documents::gateway("edge", &[Server::http(port, &["*"])]) + &http_route("webapp", HOST, "edge", API)
}

/// A ServiceEntry of `API`, whose port 80 is another port of its endpoints.
fn entry(target: u16, rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: api, namespace: {NAMESPACE}}}\n\
         spec:\n  hosts: [{API}]\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {target}}}]\n  {rest}\n"
    )
}

#[test]
fn a_static_entry_is_served_and_one_without_addresses_answers_503() {
    let backend = Backend::http("api");
    let port = port::free();
    let target = backend.server.address.port();
    let to_backend = entry(target, "resolution: STATIC\n  endpoints: [{address: 127.0.0.1}]");
    let gateway = Gateway::arrange().document("site", &site(port)).document("entry", &to_backend).start();
    let address = gateway.at(port);
    assert_eq!(get(address, HOST, "/").backend(), "api");
    gateway.apply("entry", &entry(target, "resolution: NONE"));
    let answer = get(address, HOST, "/");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream")
    );
}

#[test]
fn names_are_resolved_before_the_first_request_and_again_when_answers_are_old() {
    let names = NameServer::start();
    let backend = Backend::http("api");
    let port = port::free();
    let here = Says::Addresses(vec![Ipv4Addr::LOCALHOST]);
    names.say(API, here.clone());
    let gateway = Gateway::arrange()
        .flags(&["--dns-server", &names.address.to_string()])
        .document("site", &site(port))
        .document("entry", &entry(backend.server.address.port(), "resolution: DNS"))
        .start();
    let address = gateway.at(port);
    assert_eq!(get(address, HOST, "/").backend(), "api", "the first generation waits for the name");

    let generation = gateway.generation();
    let asked = names.asked(API);
    wait::until("two more questions", || (names.asked(API) > asked + 1).then_some(()));
    assert_eq!(gateway.generation(), generation, "the same answer is no news");

    // A server that fails takes nothing away.
    names.say(API, Says::Failure);
    wait::until("word of the failure", || gateway.log().contains("not resolved").then_some(()));
    assert_eq!(get(address, HOST, "/").backend(), "api");

    // One that says that there is no such name does.
    names.say(API, Says::Addresses(Vec::new()));
    let status = |address: SocketAddr| get(address, HOST, "/").status;
    wait::until("no address", || (status(address) == StatusCode::SERVICE_UNAVAILABLE).then_some(()));
    names.say(API, here);
    wait::until("the address again", || (status(address) == StatusCode::OK).then_some(()));
}

#[test]
fn a_name_server_that_is_silent_holds_nobody_up() {
    let names = NameServer::start();
    names.say(API, Says::Nothing);
    let backend = Backend::http("other");
    let port = port::free();
    let other = "other.istioinaction.io";
    let documents = site(port)
        + &http_route("other", other, "edge", "other")
        + &documents::http_service("other", &[backend.server.address]);
    let gateway = Gateway::arrange()
        .flags(&["--dns-server", &names.address.to_string()])
        .document("site", &documents)
        .document("entry", &entry(1, "resolution: DNS"))
        .start();
    let address = gateway.at(port);
    assert_eq!(get(address, other, "/").backend(), "other");
    let answer = get(address, HOST, "/");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream")
    );
    assert!(names.asked(API) > 0);
}

#[test]
fn a_name_that_is_new_in_a_change_is_resolved_before_the_change_is_in_force() {
    let names = NameServer::start();
    let (before, after) = (Backend::http("before"), Backend::http("after"));
    let port = port::free();
    let fixed = "resolution: STATIC\n  endpoints: [{address: 127.0.0.1}]";
    let gateway = Gateway::arrange()
        .flags(&["--dns-server", &names.address.to_string()])
        .document("site", &site(port))
        .document("entry", &entry(before.server.address.port(), fixed))
        .start();
    let address = gateway.at(port);
    assert_eq!(get(address, HOST, "/").backend(), "before");
    names.say("db.example.com", Says::Addresses(vec![Ipv4Addr::LOCALHOST]));
    let by_name = "resolution: DNS\n  endpoints: [{address: db.example.com}]";
    gateway.write("entry", &entry(after.server.address.port(), by_name));
    wait::until("the change", || {
        let answer = get(address, HOST, "/");
        assert_eq!(answer.status, StatusCode::OK, "no request meets a cluster without addresses");
        (answer.backend() == "after").then_some(())
    });
    let clusters = gateway.sluice(&["proxy-config", "clusters"]).all();
    assert!(clusters.contains("STRICT_DNS"), "{clusters}");
}
