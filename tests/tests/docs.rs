//! What the documentation says holds: links lead somewhere, documents are sound, commands, flags, variables, metrics and codes
//! that it names are there, what is generated is current, and each block has a test or a reason. The commands of the how-tos are
//! typed by `kernel_book`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory as _;
use gateway_userspace::api::code::Code;
use gateway_userspace::cli::Cli;
use gateway_userspace::telemetry::ResponseFlag;
use harness::docs::commands::commands;
use harness::docs::page::{Block, Page, all, root};
use harness::docs::stage::is_played;
use harness::gateway::program;
use harness::program::run_with_input;

/// Classes of shell blocks that `kernel_book` does not type, and why.
const CLASSES: &[(&str, &str)] = &[
    ("api", "`kube_book` types it, against an API server"),
    ("build", "takes minutes and the sources: `cargo xtask ci` and `cargo xtask demo --check` run the same"),
    (
        "cluster",
        "a cluster with nodes: `kernel_node`, `kube_deploy` and `kube_commands` have one, and type the same by their harness",
    ),
    ("measure", "takes minutes and a quiet machine"),
    ("node", "changes the machine that it is typed on: rules of routing, services of systemd"),
];

/// Programs of others whose flags are not ours.
const CHECKED: &[&str] = &["sluice", "target/release/sluice", "target/debug/sluice"];

#[track_caller]
fn none(what: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
}

#[test]
fn links_lead_somewhere() {
    let pages = all();
    let anchors: BTreeMap<&str, &BTreeSet<String>> =
        pages.iter().map(|page| (page.name.as_str(), &page.anchors)).collect();
    let mut faults = Vec::new();
    for page in &pages {
        for link in &page.links {
            if let Some(fault) = fault_of(page, &link.target, &anchors) {
                faults.push(format!("{}: {}: {fault}", page.at(link.line), link.target));
            }
        }
    }
    none("links that lead nowhere", faults);
}

fn fault_of(page: &Page, target: &str, anchors: &BTreeMap<&str, &BTreeSet<String>>) -> Option<&'static str> {
    if let Some((scheme, rest)) = target.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        let is_one = matches!(scheme, "https" | "http") && host.contains('.') && !target.contains(' ');
        return (!is_one).then_some("is no address");
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let name = if path.is_empty() { page.name.clone() } else { beside(&page.name, path) };
    if !root().join(&name).exists() {
        return Some("is not there");
    }
    let anchor = anchor?;
    match anchors.get(name.as_str()) {
        Some(known) if known.contains(anchor) => None,
        Some(_) => Some("has no such heading"),
        None => Some("is no page with headings"),
    }
}

/// A path from a page, as one from the root.
fn beside(page: &str, path: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_page_is_in_the_contents() {
    let contents = Page::read("docs/README.md");
    let listed: BTreeSet<String> = contents
        .links
        .iter()
        .map(|link| beside("docs/README.md", link.target.split('#').next().unwrap_or_default()))
        .collect();
    let pages = all();
    let lacking = pages
        .iter()
        .map(|page| page.name.clone())
        .filter(|name| name.starts_with("docs/") && name != "docs/README.md" && !listed.contains(name));
    none("pages that docs/README.md does not list", lacking.collect());
}

#[test]
fn documents_are_sound() {
    let mut faults = Vec::new();
    for page in all() {
        for block in page.blocks_of("yaml").filter(|block| !block.is("foreign")) {
            // Those of a stage are checked together, with what the page's commands make.
            let with_secrets = block.file().is_some() || block.is("applied");
            let said = run_with_input(
                std::process::Command::new(program()).args(["check", "--quiet", "-"]),
                whole(block).as_bytes(),
            );
            let errors = said.out.lines().filter(|line| line.starts_with("error["));
            let errors: Vec<_> =
                errors.filter(|line| !(with_secrets && line.contains("credential"))).collect();
            if block.is("broken") == errors.is_empty() {
                faults.push(format!("{}:\n{}", page.at(block.line), said.all()));
            }
        }
        for block in page.blocks_of("yaml").filter(|block| block.is("foreign")) {
            if let Err(error) = serde_saphyr::from_multiple::<serde_json::Value>(&block.text) {
                faults.push(format!("{}: not YAML: {error}", page.at(block.line)));
            }
        }
    }
    none("documents with errors, or without one where they are said to have it", faults);
}

/// A part is put in its place.
fn whole(block: &Block) -> String {
    let Some(name) = block.value("within=") else { return block.text.clone() };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/docs").join(format!("{name}.yaml"));
    let frame = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let place = frame.lines().find(|line| line.trim() == "HERE").expect("a place for the part");
    let indent = place.len() - place.trim_start().len();
    let part: Vec<String> = block.text.lines().map(|line| format!("{:indent$}{line}", "")).collect();
    frame.replace(place, &part.join("\n"))
}

#[test]
fn each_block_of_shell_is_typed_or_has_a_reason() {
    let mut faults = Vec::new();
    for page in all() {
        for block in page.blocks_of("sh") {
            let has_reason = block.words.iter().any(|word| CLASSES.iter().any(|(class, _)| class == word));
            // Only chapters of the book have a stage.
            if !(has_reason || is_played(block) && page.name.starts_with("docs/")) {
                faults.push(page.at(block.line));
            }
        }
        for pair in page.blocks.windows(2) {
            let [before, block] = pair else { continue };
            if block.language == "text" && block.is("output") && before.language != "sh" {
                faults.push(format!("{}: no command before it prints this", page.at(block.line)));
            }
        }
        let known = ["sh", "text", "yaml", "json", "promql", ""];
        let unknown = page.blocks.iter().filter(|block| !known.contains(&block.language.as_str()));
        faults.extend(unknown.map(|block| format!("{}: `{}`", page.at(block.line), block.language)));
    }
    none("blocks that nothing holds to what they say", faults);
}

#[test]
fn commands_of_ours_are_ones_that_are_there() {
    let tasks = xtask_commands();
    let mut faults = Vec::new();
    for page in all() {
        for block in page.blocks_of("sh") {
            for words in commands(&block.text) {
                if let Some(fault) = fault_of_command(&words, &tasks) {
                    faults.push(format!("{}: `{}`: {fault}", page.at(block.line), words.join(" ")));
                }
            }
        }
    }
    none("commands that cannot be typed", faults);
}

fn fault_of_command(words: &[String], tasks: &BTreeSet<String>) -> Option<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        // What stands behind `--` of kubectl exec is a command in the pod.
        ["kubectl", rest @ ..] => {
            let at = rest.iter().position(|word| *word == "--")?;
            let inner: Vec<String> = rest[at + 1..].iter().map(|word| (*word).to_owned()).collect();
            fault_of_command(&inner, tasks)
        }
        [program, rest @ ..] if CHECKED.contains(program) => {
            // What is left to the reader stands for anything.
            let words = ["sluice"].iter().chain(rest).filter(|word| **word != "…");
            Cli::command().try_get_matches_from(words).err().and_then(|error| {
                let is_help = !error.use_stderr();
                (!is_help).then(|| error.to_string())
            })
        }
        ["cargo", "xtask", task, ..] => {
            (!tasks.contains(*task)).then(|| "no such command of xtask".to_owned())
        }
        _ => None,
    }
}

/// What `cargo xtask --help` lists, by the source: the program itself is not built for tests.
fn xtask_commands() -> BTreeSet<String> {
    let source = std::fs::read_to_string(root().join("xtask/src/main.rs")).expect("the source of xtask");
    let (_, list) = source.split_once("enum Command {").expect("its commands");
    let (list, _) = list.split_once("\n}").expect("their end");
    let variants = list.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
    let names = variants.filter_map(|line| line.trim().split([',', '(', ' ']).next());
    names.filter(|name| name.starts_with(char::is_uppercase)).map(dashed).collect()
}

/// `BuildEbpf` as `build-ebpf`.
fn dashed(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Flags of our own command line, and of `xtask` and the programs that the text speaks of by name.
fn known_flags() -> BTreeSet<String> {
    fn walk(command: &clap::Command, flags: &mut BTreeSet<String>) {
        flags.extend(command.get_arguments().filter_map(|it| it.get_long()).map(|it| format!("--{it}")));
        command.get_subcommands().for_each(|it| walk(it, flags));
    }
    let mut flags = BTreeSet::from(["--help", "--version"].map(str::to_owned));
    let mut command = Cli::command();
    command.build();
    walk(&command, &mut flags);
    flags
}

/// Flags of xtask, its measurements and of others that the text names by themselves.
const OF_OTHERS: &[&str] = &[
    "--dry-run",
    "--haproxy-clientip",
    "--input",
    "--keep",
    "--kernel",
    "--measures",
    "--metrics",
    "--no-kernel",
    "--only",
    "--repeat-failed",
    "--resolve",
    "--rounds",
    "--seconds",
    "--set",
    "--steer",
];

#[test]
fn flags_that_are_named_are_there() {
    let known = known_flags();
    let mut faults = Vec::new();
    for page in all() {
        // Those of other programs are theirs.
        let is_ours = |word: &&String| {
            ["--", "sluice ", "target/release/sluice "].iter().any(|it| word.starts_with(it))
        };
        for word in page.words.iter().filter(is_ours) {
            for flag in word.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
                let flag = flag.trim_end_matches([',', '.', ':']).split('=').next().unwrap_or_default();
                if !known.contains(flag) && !OF_OTHERS.contains(&flag) {
                    faults.push(format!("{}: `{word}`: no {flag}", page.name));
                }
            }
        }
    }
    none("flags that are not there", faults);
}

#[test]
fn metrics_that_are_named_are_told_of() {
    let telemetry = Page::read("docs/telemetry.md");
    let told: BTreeSet<&str> = telemetry.words.iter().map(String::as_str).collect();
    let is_metric = |word: &&String| {
        (word.starts_with("sluice_") || word.starts_with("istio_"))
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let mut faults = Vec::new();
    for page in all() {
        let unknown = page.words.iter().filter(is_metric).filter(|word| !told.contains(word.as_str()));
        faults.extend(unknown.map(|word| format!("{}: {word}", page.name)));
    }
    none("metrics that docs/telemetry.md does not have, and `metrics.rs` holds that it has all", faults);
}

#[test]
fn codes_that_are_named_are_there() {
    let known: BTreeSet<String> = Code::ALL.iter().map(ToString::to_string).collect();
    let mut faults = Vec::new();
    for page in all() {
        let words = page.text.split(|c: char| !c.is_ascii_alphanumeric());
        let codes = words.filter(|word| {
            word.len() == 7
                && (word.starts_with("IST") || word.starts_with("SLU"))
                && word[3..].bytes().all(|byte| byte.is_ascii_digit())
        });
        faults
            .extend(codes.filter(|code| !known.contains(*code)).map(|code| format!("{}: {code}", page.name)));
    }
    none("codes that are not there", faults);
}

/// From the root, or from a package; a module without its ending.
fn is_there(word: &str) -> bool {
    let packages = [".", "tests", "gateway-userspace", "gateway-common"].map(|package| root().join(package));
    packages.iter().any(|package| package.join(word).exists() || package.join(format!("{word}.rs")).exists())
}

#[test]
fn files_that_are_named_are_there() {
    let directories =
        ["deploy/", "config/", "tests/", "docs/", "gateway-userspace/", "gateway-common/", "xtask/"];
    let mut faults = Vec::new();
    for page in all() {
        let in_shell = page.blocks_of("sh").flat_map(|block| commands(&block.text)).flatten();
        for word in page.words.iter().cloned().chain(in_shell) {
            let is_one = directories.iter().any(|it| word.starts_with(it))
                && !word.contains(['*', ' ', '<', '…', '{', '$']);
            if is_one && !is_there(&word) {
                faults.push(format!("{}: {word}", page.name));
            }
        }
    }
    none("files that are not there", faults);
}

/// Texts between quotes in a source that begin so.
fn quoted(source: &str, prefix: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("gateway-userspace/src").join(source)).expect(source);
    let own = text.split("#[cfg(test)]").next().unwrap_or_default();
    let texts = own.split('"').skip(1).step_by(2);
    texts.filter(|text| text.starts_with(prefix) && *text != prefix).map(str::to_owned).collect()
}

#[test]
fn annotations_are_all_told_of_and_no_others() {
    let known: BTreeSet<String> = ["api/annotation.rs", "api/health_check.rs"]
        .iter()
        .flat_map(|source| quoted(source, "sluice.dev/"))
        .filter(|text| {
            text.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'.' | b'/'))
        })
        .collect();
    let annotations = Page::read("docs/reference/annotations.md");
    let untold = known.iter().filter(|name| !annotations.words.contains(name)).cloned();
    none("annotations that docs/reference/annotations.md does not have", untold.collect());
    let mut faults = Vec::new();
    for page in all() {
        let words = page.text.split(|c: char| !(c.is_ascii_lowercase() || matches!(c, '-' | '.' | '/')));
        let named = words.filter(|word| word.starts_with("sluice.dev/") && *word != "sluice.dev/");
        let unknown = named.map(|word| word.trim_end_matches('.')).filter(|word| !known.contains(*word));
        faults.extend(unknown.map(|word| format!("{}: {word}", page.name)));
    }
    none("annotations that are not there", faults);
}

#[test]
fn response_flags_are_all_told_of() {
    let page = Page::read("docs/reference/response-flags.md");
    let rows = page.text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let told: BTreeSet<&str> = rows.collect();
    let known: BTreeSet<String> = ResponseFlag::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(told, known.iter().map(String::as_str).collect());
}

#[test]
fn reasons_for_user_space_are_all_told_of() {
    let source =
        std::fs::read_to_string(root().join("gateway-userspace/src/model/listener.rs")).expect("a source");
    let (_, list) = source.split_once("pub enum UserSpaceReason {").expect("the reasons");
    let (list, _) = list.split_once("\n}").expect("their end");
    let reasons: Vec<&str> =
        list.split("#[error(\"").skip(1).filter_map(|text| text.split('"').next()).collect();
    assert!(reasons.len() > 10, "{reasons:?}");
    let concepts = Page::read("docs/concepts.md");
    let is_told = |reason: &&str| concepts.words.contains(&format!("user space ({reason})"));
    none(
        "reasons that docs/concepts.md does not have",
        reasons.iter().filter(|it| !is_told(it)).map(|it| (*it).to_owned()).collect(),
    );
}

#[test]
fn variables_that_are_named_are_there() {
    fn walk(command: &clap::Command, names: &mut BTreeSet<String>) {
        names.extend(
            command.get_arguments().filter_map(|it| it.get_env()).map(|it| it.to_string_lossy().into_owned()),
        );
        command.get_subcommands().for_each(|it| walk(it, names));
    }
    let mut known = BTreeSet::new();
    walk(&Cli::command(), &mut known);
    // Of tests and debug builds: CONTRIBUTING.md says what for.
    known.extend(["SLUICE_SEED", "SLUICE_MUTATIONS", "SLUICE_DIE_AT", "SLUICE_ABSENCE"].map(str::to_owned));
    let mut faults = Vec::new();
    for page in all() {
        let names = page.words.iter().flat_map(|word| word.split([' ', '=']));
        let ours =
            names.filter(|name| ["SLUICE_", "PILOT_", "ISTIO_META_"].iter().any(|it| name.starts_with(it)));
        faults
            .extend(ours.filter(|name| !known.contains(*name)).map(|name| format!("{}: {name}", page.name)));
    }
    none("variables that are not there", faults);
}
