//! `sluice top`: what it shows of traffic, what keys do, and that the terminal is given back however it ends.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use harness::backend::Backend;
use harness::client::{self, get};
use harness::documents::{self, http_route, http_service, tcp_route, tcp_service};
use harness::echo;
use harness::gateway::{Gateway, program};
use harness::program::{Said, run};
use harness::serve::{Place, Server};
use harness::terminal::Terminal;
use harness::{deploy, port, wait};
use nix::sys::signal::Signal;

const HOST: &str = "webapp.istioinaction.io";
const SERVICE: &str = "webapp.istioinaction.svc.cluster.local";

/// A gateway with an HTTP port, a TCP port, and a service without endpoints.
struct Site {
    gateway: Gateway,
    _backend: Backend,
    _echo: Server,
    http: SocketAddr,
    tcp: SocketAddr,
}

fn site() -> Site {
    let (backend, echo) = (Backend::http("webapp"), echo::start_silent(Place::loopback()));
    let ports = [port::free(), port::free()];
    let documents = documents::gateway(
        "edge",
        &[documents::Server::http(ports[0], &["*"]), documents::Server::tcp(ports[1])],
    ) + &http_route("webapp", HOST, "edge", "webapp")
        + &http_route("empty", "empty.test", "edge", "empty")
        + &tcp_route("echo", ports[1], "edge", "echo")
        + &http_service("webapp", &[backend.server.address])
        + &http_service("empty", &[])
        + &tcp_service("echo", &[echo.address]);
    let gateway = Gateway::arrange().document("site", &documents).start();
    Site { http: gateway.at(ports[0]), tcp: gateway.at(ports[1]), gateway, _backend: backend, _echo: echo }
}

impl Site {
    fn batch(&self, words: &[&str]) -> String {
        let words = [&["top", "--batch", "1", "--width", "160"], words].concat();
        self.gateway.sluice(&words).expect_success().out
    }

    fn terminal(&self, more: &[&str]) -> Terminal {
        let mut command = Command::new(program());
        command.arg("top").arg("--admin-socket").arg(self.gateway.socket());
        command.arg("--pin-dir").arg(self.gateway.pin_directory()).args(more);
        Terminal::start(command.env_remove("COLUMNS"), 80, 24)
    }
}

#[track_caller]
fn row<'a>(frame: &'a str, of: &str) -> Vec<&'a str> {
    let line = frame.lines().find(|line| line.trim_start_matches(['!', ' ']).starts_with(of));
    let line = line.unwrap_or_else(|| panic!("no row of {of} in\n{frame}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// Frames with requests between all of their readings.
fn under_load(site: &Site, words: &[&str]) -> String {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                get(site.http, HOST, "/");
                get(site.http, "empty.test", "/");
            }
        });
        let frame = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| site.batch(words)));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        frame.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn the_overview_counts_requests_errors_and_what_the_process_takes() {
    let site = site();
    let frame = under_load(&site, &[]);
    let number = |of: &str| {
        let value = row(&frame, of).join(" ").trim_start_matches('!').to_owned();
        let digits = value[of.len()..].split_whitespace().next().unwrap_or_default().to_owned();
        digits.parse::<f64>().unwrap_or_else(|_| panic!("no number in {value}"))
    };
    assert!(number("requests/s") > 1.0 && number("5xx/s") > 0.4, "{frame}");
    assert!(number("requests/s") > number("5xx/s"), "{frame}");
    assert!(frame.contains("!5xx/s"), "what is wrong has a sign:\n{frame}");
    assert!(number("memory") > 1.0 && number("open files") > 5.0, "{frame}");
    assert!(frame.contains("ready") && frame.contains("off: switched off by --kernel off"), "{frame}");
}

#[test]
fn services_have_rates_durations_and_endpoints() {
    let site = site();
    let frame = under_load(&site, &["--pane", "clusters"]);
    let webapp = row(&frame, SERVICE);
    assert!(webapp[1].parse::<f64>().is_ok_and(|rate| rate > 0.0), "{frame}");
    assert!(webapp[4].ends_with("ms") && webapp[5].ends_with("ms"), "{frame}");
    assert_eq!(webapp.last(), Some(&"1/1"), "{frame}");
    let empty = row(&frame, "empty.istioinaction.svc.cluster.local");
    assert!(empty[3].parse::<f64>().is_ok_and(|rate| rate > 0.0), "{frame}");
    assert_eq!(empty.last(), Some(&"0/0"), "{frame}");
}

#[test]
fn each_pane_shows_what_there_is() {
    let site = site();
    let mut open = client::connect(site.tcp);
    open.write_all(b"hello").expect("sending");
    open.read_exact(&mut [0; 5]).expect("an echo");
    let listeners = site.batch(&["--pane", "listeners"]);
    let http = row(&listeners, &format!("0.0.0.0:{}", site.http.port()));
    assert!(http.contains(&"user space (needs HTTP)"), "{listeners}");
    let endpoints = site.batch(&["--pane", "endpoints"]);
    assert_eq!(row(&endpoints, "127.0.0.1:")[1], "HEALTHY", "{endpoints}");
    let routes = site.batch(&["--pane", "routes", "--filter", "EMPTY"]);
    assert!(routes.contains("empty.istioinaction") && !routes.contains("webapp"), "{routes}");
    let flows = site.batch(&["--pane", "flows"]);
    let flow = row(&flows, &open.local_addr().expect("an address").to_string());
    assert_eq!((flow[1], flow[3]), (site.tcp.to_string().as_str(), "copy"), "{flows}");
    let findings = site.batch(&["--pane", "findings"]);
    assert!(findings.contains("document") || findings.contains("nothing is wrong"), "{findings}");
}

#[test]
fn frames_follow_one_another() {
    let site = site();
    let frames = site.gateway.sluice(&["top", "--batch", "2"]).expect_success().out;
    assert_eq!(frames.matches("requests/s").count(), 2, "{frames}");
    assert!(frames.lines().all(|line| line.chars().count() <= 100), "{frames}");
    assert!(!frames.contains('\x1b'), "text has no sequences: {frames:?}");
}

fn top(words: &[&str]) -> Said {
    run(Command::new(program()).arg("top").args(words).stdin(Stdio::null()))
}

#[test]
fn without_a_terminal_it_says_what_there_is_instead() {
    let said = top(&[]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    for part in ["no terminal", "--batch", "sluice status", "sluice flows"] {
        assert!(said.err.contains(part), "no `{part}` in {}", said.err);
    }
    let nobody =
        top(&["--batch", "1", "--admin-socket", "/nonexistent/admin.sock", "--pin-dir", "/nonexistent"]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains("sluice run"), "{}", nobody.err);
    let unsorted = top(&["--batch", "1", "--pane", "clusters", "--sort", "speed"]);
    assert!(unsorted.err.contains("REQ/S, 4XX/S"), "{}", unsorted.err);
}

#[test]
fn keys_choose_panes_filter_and_help_and_q_gives_the_terminal_back() {
    let site = site();
    let mut terminal = site.terminal(&[]);
    let overview = terminal.expect("requests/s");
    assert!(overview.contains("[1 overview]") && overview.contains("q quit"), "{overview}");
    assert!(!terminal.is_cooked());
    terminal.press("3");
    terminal.expect(SERVICE);
    terminal.press("/webapp");
    terminal.expect("/webapp_");
    terminal.press("\r");
    wait::until("the filter", || (!terminal.screen().contains("empty.istioinaction")).then_some(()));
    terminal.press("?");
    terminal.expect("sort by the next column");
    terminal.press("x\t");
    terminal.expect("[4 endpoints]");
    terminal.press("p");
    terminal.expect("PAUSED");
    terminal.resize(50, 12);
    let small = terminal.expect("1-7 [4 endpoints]");
    assert!(small.lines().count() <= 12 && small.lines().all(|line| line.chars().count() <= 50), "{small}");
    terminal.press("q");
    assert_eq!(terminal.end().code(), Some(0));
    terminal.expect_restored();
}

#[test]
fn signals_and_ctrl_c_give_the_terminal_back() {
    let site = site();
    for end in [None, Some(Signal::SIGTERM), Some(Signal::SIGHUP), Some(Signal::SIGINT)] {
        let mut terminal = site.terminal(&[]);
        terminal.expect("requests/s");
        match end {
            None => terminal.press("\x03"),
            Some(signal) => terminal.signal(signal),
        }
        assert_eq!(terminal.end().code(), Some(0), "{end:?}");
        terminal.expect_restored();
    }
}

#[test]
fn no_color_and_color_never_leave_none() {
    let site = site();
    // 30 to 37, 39, and 38 with a number behind it: colours of characters (ECMA-48, 8.3.117).
    let has_color = |raw: &str| raw.contains("\x1b[38;5;") || raw.contains("\x1b[31m");
    for (words, is_colored) in [(&["--color", "always"][..], true), (&["--color", "never"], false)] {
        get(site.http, "empty.test", "/");
        let mut terminal = site.terminal(&[words, &["--pane", "clusters"]].concat());
        // Without endpoints, which is red where there is red.
        terminal.expect("!empty");
        terminal.press("q");
        terminal.end();
        assert_eq!(has_color(&terminal.raw()), is_colored, "{words:?}: {:?}", terminal.raw());
    }
}

#[test]
fn an_agent_that_goes_and_one_that_takes_its_place_are_told_of() {
    let mut site = site();
    let mut terminal = site.terminal(&[]);
    terminal.expect("requests/s");
    let before = site.gateway.pid();
    let relieved = site.gateway.replace();
    let said = terminal.expect("another agent has taken over");
    assert!(said.contains(&format!("process {}", site.gateway.pid())), "not {before}: {said}");
    relieved.expect_end();
    site.gateway.kill();
    terminal.expect("no answer for");
    terminal.expect("NO ANSWER");
    site.gateway.restart();
    wait::until("an answer", || (!terminal.screen().contains("NO ANSWER")).then_some(()));
    terminal.press("q");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn the_documentation_shows_a_frame_as_it_is() {
    let site = site();
    let guide = std::fs::read_to_string(deploy::path("docs/cli.md")).expect("docs/cli.md");
    let (_, shown) = guide.split_once("```\nsluice ").expect("a frame in docs/cli.md");
    let shown = shown.split("```").next().unwrap_or_default();
    let frame = site.batch(&[]);
    let labels = |frame: &str| -> Vec<String> {
        let lines = frame.lines().skip(1).filter(|line| !line.is_empty());
        lines.map(|line| line.chars().skip(1).take(13).collect::<String>().trim().to_owned()).collect()
    };
    assert_eq!(labels(shown), labels(&frame), "print it anew: sluice top --batch 1");
}
