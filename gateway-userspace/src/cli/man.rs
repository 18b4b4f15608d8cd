//! `sluice man`: manual pages, out of the same definitions that flags are read by. The program writes them itself, as it does
//! completions, so that whoever packages it needs nothing but it, and pages are never of another version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args, Command, CommandFactory, ValueHint};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::table;
use crate::settings::DEFAULT_PIN_DIR;
use crate::telemetry::clock;

/// Of commands that people run.
const SECTION: &str = "1";
/// Where examples begin in what a command's help ends with.
const EXAMPLES: &str = "Examples:\n";

/// Variables that no flag is named for, each with the flag whose commands look at it.
const VARIABLES: [(&str, &str, &str); 4] = [
    ("NO_COLOR", "color", "If set, and not empty, there are no colours unless --color always asks for them."),
    (
        "KUBECONFIG",
        "kubeconfig",
        "Files that say which clusters there are, and as whom to ask them, separated by colons.",
    ),
    ("TERM", "color", "On a terminal called dumb there are no colours, and no sluice top without --batch."),
    (
        "LC_ALL, LC_CTYPE, LANG",
        "batch",
        "Where the first that is set is not of UTF-8, sluice top draws nothing but ASCII.",
    ),
];

/// Exit codes, the same for all commands.
const CODES: [(&str, &str); 3] = [
    ("0", "Done; where the command asks a question, the answer is yes."),
    (
        "1",
        "Not done, and standard error says why and what to do; or the answer is no: check and analyze have found an error, \
         status an agent that is not ready, proxy-status a gateway that is not in sync, ready one that does not serve.",
    ),
    ("2", "The command line is not understood."),
];

/// Flags of `sluice man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice man | man -l -
  sluice man proxy-config | man -l -
  sluice man --directory /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Command whose page is printed, such as `flows` or `maps dump`; without it, that of sluice itself.
    #[arg(value_name = "COMMAND", conflicts_with = "directory")]
    pub command: Vec<String>,
    /// Write all pages to a directory, each to a file of its own. Their date is that of SOURCE_DATE_EPOCH, if it is set.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
}

/// Prints a page, or writes all of them.
pub fn run(args: &ManArgs) -> Result<ExitCode> {
    let whole = whole();
    if let Some(directory) = &args.directory {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        write_below(&whole, &whole, directory)?;
    } else {
        table::print(&page(find(&whole, &args.command)?, &whole)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The command of these words, of which none is sluice itself.
fn find<'a>(whole: &'a Command, words: &[String]) -> Result<&'a Command> {
    words.iter().try_fold(whole, |found, word| {
        let is_it = |it: &&Command| it.get_name() == word || it.get_all_aliases().any(|alias| alias == word);
        told(found).find(is_it).with_context(|| {
            let names: Vec<&str> = told(found).map(Command::get_name).collect();
            format!("there is no command `{word}`: {}", names.join(", "))
        })
    })
}

/// All commands, with nothing in them that depends on who asks.
fn whole() -> Command {
    // Another user has another socket: below FILES both are told.
    let plain = |command: Command| {
        let is_socket = command.get_arguments().any(|arg| arg.get_id() == "admin_socket");
        if is_socket { command.mut_arg("admin_socket", |arg| arg.hide_default_value(true)) } else { command }
    };
    let mut whole = super::Cli::command().mut_subcommands(plain);
    whole.build();
    whole
}

fn write_below(command: &Command, whole: &Command, directory: &Path) -> Result<()> {
    let file = directory.join(format!("{}.{SECTION}", title(command)));
    fs::write(&file, page(command, whole)?).with_context(|| format!("{}", file.display()))?;
    told(command).try_for_each(|below| write_below(below, whole, directory))
}

/// Commands below another one that have a page.
fn told(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| is_told(below))
}

fn is_told(command: &Command) -> bool {
    command.get_name() != "help" && !command.is_hide_set()
}

/// `sluice-maps-dump`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command, whole: &Command) -> Result<String> {
    let man = Man::new(command.clone());
    let mut out = Vec::new();
    let version = whole.get_version().unwrap_or_default();
    let mut head = Roff::new();
    let source = format!("sluice {version}");
    head.control("TH", [title(command), SECTION, &date(), &source, "Sluice"]);
    head.to_writer(&mut out)?;
    man.render_name_section(&mut out)?;
    synopsis(command).to_writer(&mut out)?;
    man.render_description_section(&mut out)?;
    let (more, examples) = told_behind(command);
    paragraphs(&more).to_writer(&mut out)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut out)?;
    }
    let mut rest = Roff::new();
    commands(&mut rest, command);
    environment(&mut rest, command);
    files(&mut rest, command);
    exit_status(&mut rest);
    literally(&mut rest, &examples);
    see_also(&mut rest, command, whole);
    rest.to_writer(&mut out)?;
    Ok(without_idle_breaks(&String::from_utf8(out)?))
}

/// Breaks of a line beside an empty one do nothing, and formatters say so.
fn without_idle_breaks(page: &str) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let is_empty = |at: Option<usize>| at.and_then(|at| lines.get(at)).is_some_and(|line| line.is_empty());
    let kept = lines.iter().enumerate().filter(|(at, line)| {
        **line != ".br" || !(is_empty(at.checked_sub(1)) || is_empty(at.checked_add(1)))
    });
    kept.map(|(_, line)| format!("{line}\n")).collect::<Vec<_>>().concat()
}

/// Of the build, where somebody says which that is (reproducible-builds.org); else of today.
fn date() -> String {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let time =
        epoch.map_or_else(SystemTime::now, |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    clock::milliseconds(time).chars().take("2024-01-31".len()).collect()
}

fn synopsis(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    match usage.strip_prefix(name) {
        Some(rest) => roff.text([bold(name), roman(rest)]),
        None => roff.text([roman(usage)]),
    };
    roff
}

/// What help ends with: what there is to say besides, and examples.
fn told_behind(command: &Command) -> (String, String) {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    match text.split_once(EXAMPLES) {
        Some((more, examples)) => (more.trim().to_owned(), examples.to_owned()),
        None => (text, String::new()),
    }
}

fn paragraphs(text: &str) -> Roff {
    let mut roff = Roff::new();
    if !text.is_empty() {
        roff.control("PP", []);
        roff.text([roman(text.split_whitespace().collect::<Vec<_>>().join(" "))]);
    }
    roff
}

fn entry(roff: &mut Roff, name: &str, words: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(words)]);
}

fn commands(roff: &mut Roff, command: &Command) {
    let mut below = told(command).peekable();
    if below.peek().is_none() {
        return;
    }
    roff.control("SH", ["COMMANDS"]);
    for below in below {
        let about = below.get_about().map(ToString::to_string).unwrap_or_default();
        entry(roff, &format!("{}({SECTION})", title(below)), &about);
    }
}

fn environment(roff: &mut Roff, command: &Command) {
    let mut entries: Vec<(String, String)> = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        if let (Some(variable), Some(flag)) = (arg.get_env().and_then(|it| it.to_str()), arg.get_long()) {
            entries.push((variable.to_owned(), format!("Stands for --{flag}, where that is not given.")));
        }
    }
    let looked_at = VARIABLES.iter().filter(|(_, flag, _)| has(command, flag));
    entries.extend(looked_at.map(|(name, _, words)| ((*name).to_owned(), (*words).to_owned())));
    if entries.is_empty() {
        return;
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for (name, words) in &entries {
        entry(roff, name, words);
    }
}

/// Whether a command, or for sluice itself one of them, has a flag.
fn has(command: &Command, id: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == id) || told(command).any(|below| has(below, id))
}

fn files(roff: &mut Roff, command: &Command) {
    let [has_socket, has_pins] = ["admin_socket", "pin_dir"].map(|id| has(command, id));
    if !(has_socket || has_pins) {
        return;
    }
    roff.control("SH", ["FILES"]);
    if has_socket {
        let of_others = "$XDG_RUNTIME_DIR/sluice-UID.sock";
        entry(roff, "/run/sluice/admin.sock", "The agent's unix socket, if root runs it.");
        entry(roff, of_others, "The same of other users; in /tmp where that directory is not set.");
    }
    if has_pins {
        entry(
            roff,
            DEFAULT_PIN_DIR,
            "What the kernel plane has pinned; flows go on with it when the agent is gone.",
        );
    }
}

fn exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, words) in CODES {
        entry(roff, code, words);
    }
}

fn literally(roff: &mut Roff, examples: &str) {
    if examples.is_empty() {
        return;
    }
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in examples.lines() {
        roff.text([roman(line.trim())]);
    }
    roff.control("fi", []);
}

fn see_also(roff: &mut Roff, command: &Command, whole: &Command) {
    roff.control("SH", ["SEE ALSO"]);
    let own = title(command).to_owned();
    let all = std::iter::once(whole).chain(told(whole)).map(title);
    let mut words = Vec::new();
    for other in all.filter(|other| *other != own) {
        if !words.is_empty() {
            words.push(roman(", "));
        }
        words.extend([italic(other), roman(format!("({SECTION})"))]);
    }
    roff.text(words);
}
