//! The conformance suite of HTTP/2 (github.com/summerwind/h2spec), whole and in its strict form, against the real gateway
//! before backends of either version, with TLS and without.

use std::process::Command;

use harness::authority::Authority;
use harness::backend::{Backend, Version};
use harness::documents::{self, Server, http_route, secret, service};
use harness::gateway::Gateway;
use harness::port;
use harness::program::{Said, run, tool};
use harness::serve::Place;

const HOST: &str = "webapp.istioinaction.io";
/// Cases of the suite.
const CASES: &str = "146 tests, ";
/// On a cleartext port whoever does not begin with the preface speaks HTTP/1, in which this case asks for nothing: it gets
/// 400 and the end of the connection. The suite wants the end alone, and takes the answer for frames.
const NO_PREFACE: &str = "2: Sends invalid connection preface";

/// What the suite says of a gateway whose backend speaks `version`.
fn judged(version: Version, tls: bool) -> Said {
    let backend = Backend::start("webapp", version, Place::loopback());
    let port = port::free();
    let server = if tls {
        Server::https(port, "SIMPLE", "webapp-credential", &["*"])
    } else {
        Server::http(port, &["*"])
    };
    let port_name = if version == Version::Http2 { "http2" } else { "http" };
    let credential = secret("webapp-credential", &Authority::new("the test's").issue(&[HOST]), None);
    let documents = documents::gateway("edge", &[server])
        + &http_route("webapp", "*", "edge", "webapp")
        + &service("webapp", port_name, &[backend.server.address])
        + &credential;
    let _gateway = Gateway::arrange().document("site", &documents).start();
    let mut suite = Command::new(tool("h2spec"));
    suite.args(["--strict", "--port", &port.to_string()]);
    if tls {
        suite.args(["--tls", "--insecure"]);
    }
    let said = run(&mut suite);
    assert!(backend.requests() > 50, "most cases ask for something: {}", backend.requests());
    said
}

/// Lines of what failed, each case once.
fn failed(said: &Said) -> Vec<String> {
    let (_, failures) = said.out.split_once("\nFailures:").unwrap_or_default();
    let lines = failures.lines().filter_map(|line| line.trim().strip_prefix("× "));
    lines.map(str::to_owned).collect()
}

#[test]
fn every_case_passes_with_tls() {
    for version in [Version::Http1, Version::Http2] {
        let said = judged(version, true);
        let all = format!("{CASES}146 passed, 0 skipped, 0 failed");
        assert!(said.code == Some(0) && said.out.contains(&all), "{version:?}: {}", said.all());
    }
}

#[test]
fn every_case_that_begins_with_the_preface_passes_without_tls() {
    for version in [Version::Http1, Version::Http2] {
        let said = judged(version, false);
        assert_eq!(failed(&said), [NO_PREFACE], "{version:?}: {}", said.all());
        let all = format!("{CASES}145 passed, 0 skipped, 1 failed");
        assert!(said.out.contains(&all), "{version:?}: {}", said.all());
    }
}
