//! What all commands have in common: forms that agree, help, exit codes, readers that go early, manual pages, completions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use clap::CommandFactory as _;
use gateway_userspace::cli::Cli;
use harness::documents::{self, Server, http_route, http_service, tcp_route, tcp_service};
use harness::gateway::{Gateway, program};
use harness::port;
use harness::program::{Said, run, run_with_input};
use serde_json::Value;

const HOST: &str = "webapp.istioinaction.io";

fn sluice(words: &[&str]) -> Said {
    run(Command::new(program()).args(words))
}

fn documents(ports: [u16; 2]) -> String {
    documents::gateway("edge", &[Server::http(ports[0], &[HOST]), Server::tcp(ports[1])])
        + &http_route("webapp", HOST, "edge", "webapp")
        + &tcp_route("echo", ports[1], "edge", "echo")
        + &http_service("webapp", &[([127, 0, 0, 1], 9).into()])
        + &tcp_service("echo", &[([127, 0, 0, 1], 7).into()])
}

/// A gateway, its HTTP port, and a file of its documents.
fn site() -> (Gateway, u16, tempfile::TempDir) {
    let ports = [port::free(), port::free()];
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("site.yaml"), documents(ports)).expect("writing");
    (Gateway::arrange().document("site", &documents(ports)).start(), ports[0], directory)
}

/// A command that shows something, and where in what programs get there is a word of what people get.
struct Shown {
    words: Vec<String>,
    place: &'static str,
}

fn shown(port: u16, file: &Path) -> Vec<Shown> {
    let of =
        |words: &[&str], place| Shown { words: words.iter().map(|&word| word.to_owned()).collect(), place };
    let url = format!("http://{HOST}:{port}/");
    let file = file.display().to_string();
    vec![
        of(&["proxy-config", "listeners"], "/0/key/port"),
        of(&["proxy-config", "routes"], "/0/name"),
        of(&["proxy-config", "clusters"], "/0/discovery"),
        of(&["proxy-config", "endpoints"], "/0/address"),
        of(&["proxy-config", "secrets"], ""),
        of(&["proxy-config", "all"], ""),
        of(&["status"], "/fingerprint"),
        of(&["explain", "--url", &url], "/summary"),
        of(&["explain", &url, &file], "/summary"),
        of(&["check", &file], "/documents"),
        of(&["flows"], ""),
    ]
}

fn words<'a>(shown: &'a Shown, more: &[&'a str]) -> Vec<&'a str> {
    shown.words.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// Asks the gateway, if the command asks one.
fn asked(gateway: &Gateway, words: &[&str]) -> Said {
    if words[0] == "check" { sluice(words) } else { gateway.sluice(words) }
}

#[test]
fn every_form_parses_and_all_of_them_agree() {
    let (gateway, port, directory) = site();
    for shown in shown(port, directory.path()) {
        let form = |form: &str| asked(&gateway, &words(&shown, &["-o", form])).expect_success().out;
        let [text, table, wide] = ["text", "table", "wide"].map(form);
        assert_eq!(text, table, "{:?}", shown.words);
        assert!(wide.lines().count() >= table.lines().count(), "{:?}", shown.words);
        let json: Value = serde_json::from_str(&form("json")).expect("JSON");
        let yaml: Value = serde_saphyr::from_str(&form("yaml")).expect("YAML");
        assert_eq!(json, yaml, "{:?}", shown.words);
        if !shown.place.is_empty() {
            let word = json.pointer(shown.place).unwrap_or_else(|| panic!("no {} in {json:#}", shown.place));
            let word = word.as_str().map_or_else(|| word.to_string(), str::to_owned);
            assert!(table.contains(&word), "no `{word}` in\n{table}");
        }
    }
}

#[test]
fn tables_go_without_headings_when_told_to() {
    let (gateway, _, _directory) = site();
    for kind in ["listeners", "routes", "clusters", "endpoints"] {
        let whole = gateway.sluice(&["proxy-config", kind]).expect_success().out;
        let rows = gateway.sluice(&["proxy-config", kind, "--no-headers"]).expect_success().out;
        assert_eq!(whole.split_once('\n').map(|(_, rows)| rows), Some(rows.as_str()), "{kind}");
    }
    assert_eq!(gateway.sluice(&["flows", "--no-headers"]).expect_success().out, "");
}

#[test]
fn short_names_of_istioctl_mean_the_same() {
    let (gateway, _, _directory) = site();
    for (short, long) in [
        ("l", "listeners"),
        ("listener", "listeners"),
        ("r", "routes"),
        ("route", "routes"),
        ("c", "clusters"),
        ("cluster", "clusters"),
        ("ep", "endpoints"),
        ("endpoint", "endpoints"),
        ("s", "secrets"),
        ("secret", "secrets"),
        ("a", "all"),
    ] {
        let of = |what| gateway.sluice(&["pc", what]).expect_success().out;
        assert_eq!(of(short), of(long), "{short}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (gateway, port, directory) = site();
    let socket = gateway.socket().display().to_string();
    let mut all: Vec<Vec<String>> = shown(port, directory.path()).into_iter().map(|it| it.words).collect();
    all.extend([vec!["man".to_owned()], vec!["completions".to_owned(), "zsh".to_owned()]]);
    for words in all {
        // Both outputs: what is said beside them must not end it either.
        let script = "\"$0\" \"$@\" 2>&1 | true; exit ${PIPESTATUS[0]}";
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(program()).args(&words).env("SLUICE_ADMIN_SOCKET", &socket);
        assert_eq!(run(&mut command).code, Some(0), "{words:?}");
        let full = "\"$0\" \"$@\" >/dev/full";
        let mut command = Command::new("bash");
        command.arg("-c").arg(full).arg(program()).args(&words).env("SLUICE_ADMIN_SOCKET", &socket);
        let said = run(&mut command);
        assert_eq!(said.code, Some(1), "{words:?}");
        assert!(said.err.contains("No space left"), "{words:?}: {}", said.err);
    }
}

#[test]
fn exit_codes_are_those_that_are_documented() {
    let empty = tempfile::tempdir().expect("a directory");
    let empty = empty.path().display().to_string();
    let nobody = ["--admin-socket", "/nonexistent/admin.sock"];
    for (words, code, part) in [
        (vec!["--version"], 0, "sluice "),
        (vec!["status", nobody[0], nobody[1]], 1, "sluice run"),
        (vec!["ready", nobody[0], nobody[1]], 1, "no agent answers"),
        (vec!["drain", nobody[0], nobody[1]], 1, "sluice run"),
        (vec!["check", &empty], 1, ".yaml, .yml or .json"),
        (vec!["check"], 2, "--help"),
        (vec!["statu"], 2, "'status'"),
        (vec!["status", "-o", "xml"], 2, "table, wide, json, yaml"),
        (vec!["explain", "-o", "xml", "--url", "http://a"], 2, "text, json, yaml"),
        (vec!["explain"], 2, "--url"),
        (vec!["explain", "webapp"], 1, "--url https://HOST/PATH"),
        (vec!["proxy-config", "wheels"], 2, "listeners, routes, clusters, endpoints, secrets, all"),
        (vec!["proxy-config", "routes", "deploy/x", "-n", "edge"], 1, "sluice proxy-status"),
        (vec!["man", "wheels"], 1, "proxy-config"),
    ] {
        let said = sluice(&words);
        assert_eq!(said.code, Some(code), "{words:?}: {}", said.all());
        assert!(said.all().contains(part), "{words:?}: no `{part}` in {}", said.all());
    }
}

/// Each command, and those below it, with the words that lead there.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    fn below(command: &clap::Command, words: &[String], all: &mut Vec<(Vec<String>, clap::Command)>) {
        for command in command.get_subcommands().filter(|it| it.get_name() != "help") {
            let words = [words, &[command.get_name().to_owned()]].concat();
            all.push((words.clone(), command.clone()));
            below(command, &words, all);
        }
    }
    let mut whole = Cli::command();
    whole.build();
    let mut all = Vec::new();
    below(&whole, &[], &mut all);
    all
}

#[test]
fn every_command_has_an_example_and_every_flag_says_what_it_does() {
    for (words, command) in commands() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let help = sluice(&[&words[..], &["--help"]].concat()).expect_success().out;
        assert!(help.contains("Usage: sluice") && help.contains("Examples:\n"), "{words:?}:\n{help}");
        for argument in command.get_arguments().filter(|it| !it.is_hide_set()) {
            let told = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!told.is_empty(), "{words:?}: {}", argument.get_id());
        }
    }
}

#[test]
fn flags_of_one_name_mean_the_same_everywhere() {
    let mut known: BTreeMap<String, (Option<char>, Vec<String>, String)> = BTreeMap::new();
    for (words, command) in commands() {
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long() else { continue };
            // Which forms there are depends on what is shown.
            if ![
                "admin-socket",
                "pin-dir",
                "kubeconfig",
                "context",
                "selector",
                "admin-port",
                "color",
                "no-headers",
            ]
            .contains(&long)
            {
                continue;
            }
            let values = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string);
            let env = argument.get_env().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
            let own = (argument.get_short(), values.collect(), env);
            let first = known.entry(long.to_owned()).or_insert_with(|| own.clone());
            assert_eq!(*first, own, "{words:?} --{long}");
        }
    }
    assert!(known.len() >= 8, "{known:?}");
}

#[test]
fn manual_pages_are_sound_and_have_every_flag() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    let write = |socket: &str| {
        let mut command = Command::new(program());
        command.args(["man", "--directory", &path]).env("SOURCE_DATE_EPOCH", "86400");
        run(command.env("SLUICE_ADMIN_SOCKET", socket)).expect_success();
        let pages = std::fs::read_dir(directory.path())
            .expect("a directory")
            .map(|entry| entry.expect("a file").path());
        let pages: BTreeSet<_> = pages.collect();
        pages
            .into_iter()
            .map(|page| (page.clone(), std::fs::read_to_string(page).expect("text")))
            .collect::<Vec<_>>()
    };
    let pages = write("/run/one.sock");
    assert_eq!(pages, write("/run/other.sock"), "the same, whoever builds them");
    for (page, text) in &pages {
        let lint = run(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page));
        assert_eq!((lint.code, lint.all().as_str()), (Some(0), ""), "{}", page.display());
        let shown = run(Command::new("man").args(["--warnings=w", "-l"]).arg(page).env("MANWIDTH", "80"));
        assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""), "{}", page.display());
        for part in ["NAME", "SYNOPSIS", "EXIT STATUS", "EXAMPLES", "SEE ALSO", "1970-01-02"] {
            assert!(shown.out.contains(part) || text.contains(part), "no {part} in {}", page.display());
        }
    }
    for (words, command) in commands() {
        let page = directory.path().join(format!("sluice-{}.1", words.join("-")));
        let text =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        for flag in command.get_arguments().filter(|it| !it.is_hide_set()).filter_map(clap::Arg::get_long) {
            let written = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(text.contains(&written), "no --{flag} in {}", page.display());
        }
    }
    let printed = sluice(&["man", "maps", "dump"]).expect_success().out;
    assert!(printed.contains("sluice\\-maps\\-dump"), "{printed}");
}

#[test]
fn shells_complete_commands_flags_and_values() {
    let script = |shell| sluice(&["completions", shell]).expect_success().out;
    let bash = script("bash")
        + "\nask() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _sluice sluice \"${!#}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
           echo \"${COMPREPLY[@]}\"; }\n\
           ask sluice prox\nask sluice proxy-config e\nask sluice top --pane f\nask sluice status -o y\nask sluice drain --fo\n";
    let said = run_with_input(&mut Command::new("bash"), bash.as_bytes()).expect_success();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(
        lines,
        ["proxy-config proxy-status", "endpoints", "flows findings", "yaml", "--for"],
        "{}",
        said.all()
    );
    let fish = script("fish");
    for (line, want) in [
        ("sluice proxy-config e", "endpoints"),
        ("sluice top --pane fl", "flows"),
        ("sluice status --outp", "--output"),
    ] {
        let asked = format!("{fish}\ncomplete -C '{line}'\n");
        let said = run_with_input(Command::new("fish").arg("--no-config"), asked.as_bytes()).expect_success();
        assert!(
            said.out.lines().any(|found| found.split('\t').next() == Some(want)),
            "{line}: {}",
            said.all()
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("_sluice"), script("zsh")).expect("writing");
    let asked = format!(
        "fpath=({} $fpath)\nautoload -U compinit && compinit -D -u\nautoload +X -U _sluice\nprint $_comps[sluice]\n",
        directory.path().display()
    );
    let said = run_with_input(Command::new("zsh").arg("-f"), asked.as_bytes()).expect_success();
    assert_eq!(said.all(), "_sluice\n");
}
