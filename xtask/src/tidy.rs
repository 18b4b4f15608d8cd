//! `cargo xtask tidy`: rules of the code that no compiler knows, held as a test too. The order of the modules is the
//! one of ARCHITECTURE.md: a module imports from the levels below its own only, or what the table of exceptions names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo::workspace;

/// Modules of the agent, lowest level first. Those of one level don't import each other.
const LEVELS: &[&[&str]] = &[
    &["notation"],
    &["telemetry", "wire"],
    &["http1", "http2", "net", "api", "model"],
    &["settings"],
    &["translate", "source", "resolve", "tls", "datapath"],
    &["upstream", "analysis"],
    &["proxy", "admin", "admission"],
    &["cli", "agent"],
    &["main", "lib"],
];

/// Outside crates that belong to some modules only.
const OWNERS: &[(&str, &[&str])] = &[
    ("aws_lc_rs", &["tls"]),
    ("aya", &["datapath"]),
    ("clap", &["settings", "cli", "main"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("foldhash", &["upstream"]),
    ("h2", &["upstream"]),
    ("hyper", &["upstream", "proxy", "admin", "admission", "cli"]),
    ("httparse", &["http1"]),
    ("hyper_rustls", &["source"]),
    ("hyper_util", &["source", "upstream", "proxy", "admin", "admission", "cli"]),
    ("k8s_openapi", &["source", "cli"]),
    ("kube", &["source", "cli"]),
    ("notify", &["source"]),
    ("ratatui", &["cli"]),
    ("rcgen", &["analysis", "tls"]),
    ("rustls", &["tls"]),
    ("rustls_native_certs", &["tls"]),
    ("tokio_rustls", &["proxy", "upstream", "admission"]),
    ("serde_saphyr", &["api", "cli"]),
    ("signal_hook", &["cli"]),
    ("simple_dns", &["resolve"]),
    ("tls_parser", &["tls"]),
    ("tower", &["source"]),
    ("x509_parser", &["tls"]),
];

/// Files that may hold unsafe code; each says why at its head.
const UNSAFE: &[&str] = &[
    "gateway-common/src/pod.rs",
    "gateway-ebpf/src/boundary.rs",
    "gateway-ebpf/src/index.rs",
    "gateway-ebpf/src/main.rs",
    "gateway-ebpf/src/maps.rs",
    "gateway-ebpf/src/measure.rs",
    "gateway-ebpf/src/packet.rs",
    "gateway-ebpf/src/record.rs",
    "gateway-ebpf/src/shared.rs",
    "gateway-ebpf/src/skb.rs",
    "gateway-ebpf/src/socket.rs",
    "gateway-ebpf/src/trace.rs",
    "gateway-ebpf/src/xdp.rs",
    "gateway-userspace/src/datapath/memory.rs",
    "gateway-userspace/src/datapath/sys.rs",
    "gateway-userspace/src/net/repair.rs",
    "gateway-userspace/src/proxy/memory.rs",
    "gateway-userspace/tests/kernel_packets/raw.rs",
];

/// Lines of a file; a longer one does more than one job.
const MAX_LINES: usize = 900;

/// Words that say that something is not there, or speak of how the work is done.
const WORDS: &[&str] = &["todo!(", "unimplemented!(", "#[ignore", "FIXME", "XXX:"];

/// Checks the tree; every fault is a line.
pub(crate) fn run() -> Result<()> {
    let root = workspace()?;
    let mut faults = Vec::new();
    for directory in ["gateway-common", "gateway-ebpf", "gateway-userspace", "crds", "xtask", "tests", "fuzz"]
    {
        for path in sources(&root.join(directory))? {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let file = path.strip_prefix(root)?.to_string_lossy().into_owned();
            faults.extend(check_file(&file, &text));
        }
    }
    if faults.is_empty() {
        println!("tidy");
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    bail!("{} faults", faults.len())
}

fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "data" {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn check_file(file: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!("{file}:1: opens without a line that says what lives here (//!)"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!("{file}: {lines} lines; more than {MAX_LINES} do more than one job"));
    }
    let module = module_of(file);
    for (index, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", index + 1);
        if !file.ends_with("xtask/src/tidy.rs") {
            faults.extend(
                WORDS.iter().filter(|word| line.contains(**word)).map(|word| format!("{place}: `{word}`")),
            );
        }
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        if !file.starts_with("xtask")
            && !UNSAFE.contains(&file)
            && (code.contains("unsafe {") || code.starts_with("unsafe "))
        {
            faults.push(format!("{place}: unsafe code; only these may hold it: {}", UNSAFE.join(", ")));
        }
        if let Some(module) = &module {
            faults.extend(check_imports(module, code).into_iter().map(|fault| format!("{place}: {fault}")));
        }
    }
    faults
}

/// The top-level module of a file of the agent.
fn module_of(file: &str) -> Option<String> {
    let inside = file.strip_prefix("gateway-userspace/src/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first).to_owned())
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&module))
}

fn check_imports(module: &str, code: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(mine) = level(module) else {
        return vec![format!("module `{module}` has no place in the order of the modules")];
    };
    for target in paths_after(code, "crate::").into_iter().chain(paths_after(code, "gateway_userspace::")) {
        match level(&target) {
            Some(theirs) if theirs >= mine && target != module => {
                faults.push(format!("`{module}` imports `{target}`, which is not below it"));
            }
            _ => {}
        }
    }
    for (name, owners) in OWNERS {
        if names_crate(code, name) && !owners.contains(&module) {
            faults.push(format!("`{name}` is for {} only", owners.join(", ")));
        }
    }
    faults
}

/// The first path segments behind a prefix: of `crate::a::b`, `crate::{a, b::c}`.
fn paths_after(code: &str, prefix: &str) -> Vec<String> {
    let identifier = |text: &str| -> String {
        text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
    };
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        // `$crate::` and `other_crate::` are something else.
        if code[..at]
            .ends_with(|character: char| character.is_alphanumeric() || character == '_' || character == '$')
        {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => found.push(identifier(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (index, character) in list.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        character if start && !character.is_whitespace() => {
                            found.push(identifier(&list[index..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

/// Whether a line names an outside crate as the start of a path.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = &code[..at];
        !before.ends_with(|character: char| {
            character.is_alphanumeric() || matches!(character, '_' | ':' | '"' | '=')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        run().expect("see the lines above");
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let faults = |file: &str, code: &str| check_file(file, &format!("//! Head.\n{code}\n")).len();
        let file = "gateway-userspace/src/model/host.rs";
        assert_eq!(faults(file, "use crate::model::route;"), 0);
        assert_eq!(faults(file, "use crate::proxy::Workers;"), 1);
        assert_eq!(faults(file, "use crate::{model::x, translate::{a, b}};"), 1);
        assert_eq!(faults(file, "use crate::net::drain;"), 1);
        assert_eq!(faults(file, "// use crate::proxy::Workers;"), 0);
        assert_eq!(faults("gateway-userspace/src/cli/mod.rs", "use crate::agent::run;"), 1);
        assert_eq!(faults("gateway-userspace/src/elsewhere.rs", "fn x() {}"), 1);
    }

    #[test]
    fn a_crate_in_a_strangers_hands_is_found() {
        let faults = |file: &str, code: &str| check_file(file, &format!("//! Head.\n{code}\n")).len();
        assert_eq!(faults("gateway-userspace/src/proxy/tcp.rs", "use aya::Pod;"), 1);
        assert_eq!(faults("gateway-userspace/src/datapath/maps.rs", "use aya::Pod;"), 0);
        assert_eq!(faults("gateway-userspace/src/proxy/tls.rs", "use tokio_rustls::TlsAcceptor;"), 0);
        assert_eq!(faults("gateway-userspace/src/proxy/tls.rs", "let x = rustls::version::TLS13;"), 1);
    }

    #[test]
    fn heads_lengths_words_and_unsafe_code_are_checked() {
        assert_eq!(check_file("tests/src/x.rs", "fn x() {}\n").len(), 1);
        assert_eq!(check_file("tests/src/x.rs", &format!("//! Head.\n{}", "\n".repeat(900))).len(), 1);
        assert_eq!(check_file("tests/src/x.rs", "//! Head.\nfn x() { todo!() }\n").len(), 1);
        assert_eq!(check_file("tests/src/x.rs", "//! Head.\nunsafe { x() }\n").len(), 1);
        assert_eq!(check_file("gateway-common/src/pod.rs", "//! Head.\nunsafe { x() }\n").len(), 0);
    }
}
