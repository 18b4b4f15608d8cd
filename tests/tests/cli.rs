//! The commands of `sluice`: exit codes, what they say to people and to machines, and what they say when they cannot.

use std::path::PathBuf;
use std::process::Command;

use harness::authority::Authority;
use harness::documents::{self, Server, http_route, http_service, secret, sni_route, tcp_route, tcp_service};
use harness::gateway::{Gateway, program};
use harness::port;
use harness::program::{Said, run, run_with_input};
use serde_json::Value;

const HOST: &str = "webapp.istioinaction.io";

fn sluice(words: &[&str]) -> Said {
    run(Command::new(program()).args(words))
}

/// A file of documents that is gone when dropped.
struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("documents.yaml");
        std::fs::write(&path, text).expect("writing");
        Self { _directory: directory, path }
    }

    fn check(&self, more: &[&str]) -> Said {
        run(Command::new(program()).arg("check").arg(&self.path).args(more))
    }
}

fn sound() -> String {
    documents::gateway("edge", &[Server::http(80, &[HOST])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[])
}

#[test]
fn check_of_sound_documents_succeeds() {
    let said = File::new(&sound()).check(&[]).expect_success();
    assert!(said.out.ends_with("3 documents, 0 errors, 0 warnings\n"), "{}", said.out);
}

#[test]
fn a_gateway_that_keeps_to_its_namespace_says_so() {
    let file = File::new(&sound());
    let told = "takes Gateways of its own namespace";
    let flag = file.check(&["--scope-gateway-to-namespace"]);
    assert!(flag.out.contains(told), "{}", flag.all());
    for (value, is_told) in [("true", true), ("1", true), ("false", false), ("", false)] {
        let mut command = Command::new(program());
        let said = run(command.env("PILOT_SCOPE_GATEWAY_TO_NAMESPACE", value).arg("check").arg(&file.path));
        assert_eq!(said.out.contains(told), is_told, "{value:?}: {}", said.all());
    }
}

#[test]
fn the_examples_are_sound() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
    let said = sluice(&["check", &examples.display().to_string()]).expect_success();
    assert!(said.out.ends_with(" 0 errors, 0 warnings\n"), "{}", said.out);
}

#[test]
fn check_names_file_line_field_and_remedy_of_an_error() {
    let file = File::new(&sound().replace("number: 80, name: http-0", "number: 0, name: http-0"));
    // The route misses its Gateway then, too.
    let said = file.check(&[]);
    assert_eq!(said.code, Some(1));
    let place = format!("{}:8:20", file.path.display());
    for part in ["port number 0 must be in the range 1..65535", &place, "servers[0].port.number", "help: "] {
        assert!(said.out.contains(part), "no `{part}` in:\n{}", said.out);
    }
    assert!(said.out.ends_with("\n3 documents, 2 errors, 0 warnings\n"), "{}", said.out);
}

#[test]
fn check_tells_machines_the_same() {
    let file = File::new(&sound().replace("host: webapp", "hots: webapp"));
    let said = file.check(&["-o", "json"]);
    assert_eq!(said.code, Some(1));
    let found: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(found["errors"], 1, "{found}");
    let first = &found["diagnostics"][0];
    assert_eq!(first["position"]["line"].as_u64(), line_of(&file, "hots"), "{first}");
}

#[test]
fn check_says_what_annotations_cannot_do_and_what_to_do_instead() {
    let annotated = |annotation: &str, server| {
        documents::annotated_gateway("edge", &[annotation], &[server])
            + &http_route("webapp", HOST, "edge", "webapp")
            + &http_service("webapp", &[])
    };
    let kept = annotated("sluice.dev/source-address: preserve", Server::http(80, &[HOST]));
    let unknown = annotated("sluice.dev/source-address: keep", Server::http(80, &[HOST]));
    for (documents, parts) in [
        (kept, ["cannot be preserved on port 80", "needs HTTP", "x-forwarded-for"]),
        (unknown, ["unknown value \"keep\"", "documents.yaml:4:", "`snat` (the default) or `preserve`"]),
    ] {
        let said = File::new(&documents).check(&[]);
        assert_eq!(said.code, Some(1), "{}", said.all());
        for part in parts {
            assert!(said.out.contains(part), "no `{part}` in:\n{}", said.out);
        }
    }
}

fn line_of(file: &File, word: &str) -> Option<u64> {
    let text = std::fs::read_to_string(&file.path).expect("reading");
    text.lines().position(|line| line.contains(word)).map(|index| index as u64 + 1)
}

#[test]
fn check_counts_warnings_as_errors_when_told_to() {
    let file = File::new(&sound().replace("gateways: [edge]", "exportTo: [.]\n  gateways: [edge]"));
    let said = file.check(&[]).expect_success();
    assert!(said.out.contains("exportTo") && said.out.contains(" 1 warning\n"), "{}", said.out);
    assert_eq!(file.check(&["--warnings-as-errors"]).code, Some(1));
}

#[test]
fn check_reads_standard_input() {
    let mut command = Command::new(program());
    command.args(["check", "-"]);
    let said = run_with_input(&mut command, sound().as_bytes()).expect_success();
    assert!(said.out.contains("3 documents, 0 errors"), "{}", said.out);
}

#[test]
fn check_of_no_file_fails() {
    let said = sluice(&["check", "/nonexistent/documents.yaml"]);
    assert_eq!(said.code, Some(1));
    assert!(said.all().contains("/nonexistent/documents.yaml"), "{}", said.all());
}

#[test]
fn check_finds_a_key_of_another_certificate() {
    let authority = Authority::new("the test's");
    let mut mixed = authority.issue(&[HOST]);
    mixed.key = authority.issue(&[HOST]).key;
    let documents = documents::gateway("edge", &[Server::https(443, "SIMPLE", "webapp-credential", &[HOST])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &http_service("webapp", &[])
        + &secret("webapp-credential", &mixed, None);
    let said = File::new(&documents).check(&[]);
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert!(said.out.contains("webapp-credential"), "{}", said.out);
    assert!(!said.all().contains("BEGIN"), "keys never show");
}

/// One listener of each kind.
fn everything() -> (Gateway, [u16; 4]) {
    let authority = Authority::new("the test's");
    let ports = [0; 4].map(|_| port::free());
    let servers = [
        Server::http(ports[0], &[HOST]),
        Server::https(ports[1], "SIMPLE", "webapp-credential", &[HOST]),
        Server::tcp(ports[2]),
        Server::passthrough(ports[3], &["sni.istioinaction.io"]),
    ];
    let documents = documents::gateway("edge", &servers)
        + &http_route("webapp", HOST, "edge", "webapp")
        + &tcp_route("echo", ports[2], "edge", "echo")
        + &sni_route("sni", ports[3], "sni.istioinaction.io", "edge", "echo")
        + &http_service("webapp", &[([127, 0, 0, 1], 9).into()])
        + &tcp_service("echo", &[([127, 0, 0, 1], 7).into()])
        + &secret("webapp-credential", &authority.issue(&[HOST]), None);
    (Gateway::arrange().document("site", &documents).start(), ports)
}

#[test]
fn proxy_config_shows_every_kind_as_a_table() {
    let (gateway, ports) = everything();
    let table = |kind: &str| gateway.sluice(&["proxy-config", kind]).expect_success().out;
    let listeners = table("listeners");
    assert!(listeners.starts_with("ADDRESSES"), "{listeners}");
    for (port, word, end) in [
        (ports[0], "needs HTTP", ")"),
        (ports[1], "terminates TLS", ")"),
        (ports[2], "outbound|80||echo.istioinaction.svc.cluster.local", "), up to splice"),
        (ports[3], "SNI: sni.istioinaction.io", "), up to splice"),
    ] {
        let row = listeners.lines().find(|line| line.contains(&port.to_string())).expect("a row");
        assert!(row.contains(word) && row.ends_with(end), "no `{word}` or `{end}` in {row}");
    }
    assert!(table("routes").contains("webapp.istioinaction"), "{}", table("routes"));
    assert!(table("clusters").contains("webapp.istioinaction.svc.cluster.local"), "{}", table("clusters"));
    assert!(table("endpoints").contains("127.0.0.1:9"), "{}", table("endpoints"));
    assert!(table("secrets").contains("webapp-credential"), "{}", table("secrets"));
}

#[test]
fn routes_show_the_hosts_of_a_document_as_one_and_the_port_that_documents_name() {
    let (port, number) = (port::free(), port::free());
    let rule = "  http: [{match: [{uri: {prefix: /a}}], directResponse: {status: 200}}, {directResponse: {status: 201}}]";
    let documents = documents::gateway("edge", &[Server::http(number, &["*"])])
        + &documents::gateway_service(&[(number, port)])
        + &documents::virtual_service("four", &["a.test", "b.test", "c.test", "d.test"], "edge", rule)
        + &documents::virtual_service("two", &["e.test", "f.test"], "edge", rule)
        + &documents::virtual_service(
            "more",
            &["f.test"],
            "edge",
            "  http: [{directResponse: {status: 202}}]",
        );
    let gateway = Gateway::arrange().document("site", &documents).start();
    let table = gateway.sluice(&["proxy-config", "routes"]).expect_success().out;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let name = format!("http.{port}");
    let row = |host: &str, domains: &'static str, condition: &'static str, from: &'static str| {
        [
            name.clone(),
            format!("{host}:{number}"),
            domains.to_owned(),
            condition.to_owned(),
            format!("{from}.istioinaction"),
        ]
    };
    let want = [
        row("a.test", "a.test, b.test + 2 more...", "/a*", "four"),
        row("a.test", "a.test, b.test + 2 more...", "/*", "four"),
        row("f.test", "f.test", "/a*", "two"),
        row("f.test", "f.test", "/*", "more"),
        row("f.test", "f.test", "/*", "two"),
        row("e.test", "e.test", "/a*", "two"),
        row("e.test", "e.test", "/*", "two"),
    ];
    let mut rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect();
    let mut want: Vec<Vec<String>> = want.into_iter().map(Vec::from).collect();
    rows.sort();
    want.sort();
    assert_eq!(rows, want, "{table}");
}

#[test]
fn proxy_config_shows_whether_the_source_address_is_preserved() {
    let port = port::free();
    let documents =
        documents::annotated_gateway("edge", &["sluice.dev/source-address: preserve"], &[Server::tcp(port)])
            + &tcp_route("echo", port, "edge", "echo")
            + &tcp_service("echo", &[([10, 0, 0, 1], 7).into()])
            + &documents::destination_rule("echo", "{outlierDetection: {}}");
    let gateway = Gateway::arrange().document("site", &documents).start();
    let table = |kind: &str| gateway.sluice(&["proxy-config", kind]).expect_success().out;
    assert!(
        table("listeners").contains(" off), source not preserved (no kernel plane)"),
        "{}",
        table("listeners")
    );
    assert!(table("clusters").contains("echo.istioinaction\n"), "{}", table("clusters"));
}

#[test]
fn proxy_config_has_filters_and_machine_forms() {
    let (gateway, ports) = everything();
    let port = ports[2].to_string();
    let said = gateway.sluice(&["proxy-config", "listeners", "--port", &port, "-o", "json"]).expect_success();
    let listeners: Value = serde_json::from_str(&said.out).expect("JSON");
    let listeners = listeners.as_array().expect("a list");
    assert_eq!(listeners.len(), 1, "{listeners:?}");
    assert_eq!(listeners[0]["key"]["port"], ports[2], "{listeners:?}");
    let yaml = gateway.sluice(&["proxy-config", "clusters", "--name", "echo", "-o", "yaml"]).expect_success();
    assert!(yaml.out.contains("echo.istioinaction.svc"), "{}", yaml.out);
    assert!(!yaml.out.contains("webapp.istioinaction.svc"), "{}", yaml.out);
}

#[test]
fn no_form_of_a_dump_shows_a_key() {
    let (gateway, _) = everything();
    for kind in ["secrets", "listeners"] {
        for form in ["table", "json", "yaml"] {
            let said = gateway.sluice(&["proxy-config", kind, "-o", form]).expect_success();
            assert!(!said.out.contains("PRIVATE KEY"), "{kind} as {form}");
        }
    }
    let dump = gateway.ask("/config_dump").expect("an answer");
    assert!(dump.starts_with("HTTP/1.1 200") && !dump.contains("PRIVATE KEY"));
}

#[test]
fn status_tells_the_plane_and_why() {
    let (gateway, _) = everything();
    let said = gateway.sluice(&["status"]).expect_success();
    assert!(said.out.contains("ready") && said.out.contains("--kernel off"), "{}", said.out);
    let json = gateway.sluice(&["status", "--json"]).expect_success();
    let status: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&status["ready"], &status["listeners"]), (&true.into(), &4.into()), "{status}");
}

#[test]
fn commands_say_so_when_there_is_no_agent() {
    let said = sluice(&["proxy-config", "listeners", "--admin-socket", "/nonexistent/admin.sock"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("/nonexistent/admin.sock") && said.err.contains("sluice run"), "{}", said.err);
    assert_eq!(said.out, "");
}

#[test]
fn a_trace_needs_a_kernel_plane() {
    let (gateway, _) = everything();
    let said = gateway.sluice(&["trace", "--client", "198.51.100.7"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("no kernel plane"), "{}", said.err);
}

#[test]
fn commands_say_so_when_there_is_no_kernel_plane() {
    for words in [&["maps", "list"][..], &["maps", "dump", "FLOWS"], &["flows"]] {
        let said = sluice(&[words, &["--pin-dir", "/sys/fs/bpf/sluice-none"]].concat());
        assert_eq!(said.code, Some(1), "{words:?}");
        assert!(said.err.contains("/sys/fs/bpf/sluice-none"), "{}", said.err);
    }
    let said = sluice(&["cleanup", "--pin-dir", "/sys/fs/bpf/sluice-none"]).expect_success();
    assert!(said.all().contains("nothing to remove"), "{}", said.all());
}

#[test]
fn completions_are_scripts_that_their_shell_takes() {
    let script = sluice(&["completions", "bash"]).expect_success().out;
    let said = run_with_input(Command::new("bash").args(["-n"]), script.as_bytes()).expect_success();
    assert_eq!(said.all(), "");
    assert!(script.contains("proxy-config") && script.contains("--admin-socket"));
    for shell in ["zsh", "fish"] {
        assert!(sluice(&["completions", shell]).expect_success().out.contains("proxy-config"), "{shell}");
    }
}

#[test]
fn every_command_has_help_and_wrong_words_fail() {
    for words in [
        &["run"][..],
        &["check"],
        &["proxy-config"],
        &["maps"],
        &["status"],
        &["proxy-status"],
        &["analyze"],
        &["explain"],
        &["drain"],
        &["cleanup"],
        &["completions"],
        &["flows"],
        &["trace"],
    ] {
        let said = sluice(&[words, &["--help"]].concat()).expect_success();
        assert!(said.out.contains("Usage: sluice"), "{words:?}");
    }
    for words in [
        &["serve"][..],
        &["proxy-config", "wheels"],
        &["run"],
        &["run", "--config", "x", "--kernel", "maybe"],
    ] {
        let said = sluice(words);
        assert_eq!(said.code, Some(2), "{words:?}: {}", said.all());
    }
}

#[test]
fn a_second_agent_on_the_same_socket_is_refused() {
    let (gateway, _) = everything();
    let socket = gateway.socket().display().to_string();
    let config = tempfile::tempdir().expect("a directory");
    let addresses = ["--admin-address", "none", "--ready-address", "none", "--metrics-address", "none"];
    let arguments = [["--admin-socket", &socket, "--kernel", "off"].as_slice(), &addresses].concat();
    let said = run(Command::new(program()).arg("run").arg("--config").arg(config.path()).args(arguments));
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("another sluice is running"), "{}", said.err);
    gateway.sluice(&["status"]).expect_success();
}
