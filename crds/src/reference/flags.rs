//! The command line: every command with its flags, their variables and defaults, as clap has them.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};
use gateway_userspace::cli::Cli;

use super::cell;

/// The page.
pub(super) fn page() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut out = String::from(
        "# Commands and flags\n\nAs `sluice --help` and `sluice COMMAND --help` have them. A flag beats its variable.\n\n| command | |\n|---|---|\n",
    );
    let commands: Vec<&Command> = cli.get_subcommands().filter(|it| it.get_name() != "help").collect();
    for command in &commands {
        let name = command.get_name();
        let _ = writeln!(out, "| [`sluice {name}`](#sluice-{name}) | {} |", about(command));
    }
    for command in commands {
        describe(&mut out, command, &format!("sluice {}", command.get_name()));
    }
    out
}

fn about(command: &Command) -> String {
    cell(&command.get_about().map(ToString::to_string).unwrap_or_default())
}

fn describe(out: &mut String, command: &Command, name: &str) {
    let _ = write!(out, "\n## {name}\n\n{}\n", sentence(&about(command)));
    let aliases: Vec<String> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        let _ = write!(out, "\nAlso {}.\n", aliases.join(", "));
    }
    let shown = |argument: &&Arg| {
        !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
    };
    let arguments: Vec<&Arg> = command.get_arguments().filter(shown).collect();
    let mut heading = None;
    for (index, argument) in arguments.iter().enumerate() {
        if index == 0 || argument.get_help_heading() != heading {
            heading = argument.get_help_heading();
            let _ = write!(out, "\n{}| flag | variable, default | |\n|---|---|---|\n", titled(heading));
        }
        let _ = writeln!(out, "| {} | {} | {} |", usage(argument), origin(argument), help(argument));
    }
    for inner in command.get_subcommands().filter(|it| it.get_name() != "help") {
        describe(out, inner, &format!("{name} {}", inner.get_name()));
    }
}

fn titled(heading: Option<&str>) -> String {
    heading.map(|heading| format!("**{heading}**\n\n")).unwrap_or_default()
}

fn sentence(text: &str) -> String {
    if text.is_empty() || text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

/// `-n`, `--namespace NAMESPACE`; a positional argument by its name.
fn usage(argument: &Arg) -> String {
    let takes_value = argument.get_action().takes_values();
    let value = argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
    let words: Vec<String> = [
        argument.get_short().map(|short| format!("`-{short}`")),
        argument.get_long().map(|long| {
            let value = if takes_value { format!(" {value}") } else { String::new() };
            format!("`--{long}{value}`")
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    if words.is_empty() { format!("`{}`", cell(&value)) } else { cell(&words.join(", ")) }
}

/// The path of a user's own runtime directory differs from user to user.
fn origin(argument: &Arg) -> String {
    let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let default = match argument.get_id().as_str() {
        _ if defaults.is_empty() || !argument.get_action().takes_values() => None,
        "admin_socket" => Some("`/run/sluice/admin.sock` for root".to_owned()),
        _ => Some(format!("`{}`", defaults.join(" "))),
    };
    cell(&[variable, default].into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn help(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && argument.get_action().takes_values())
        .map(|value| {
            let help = value.get_help().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("`{}`{}", value.get_name(), help.replace(".)", ")"))
        })
        .collect();
    let values = if values.is_empty() { String::new() } else { format!(" Values: {}.", values.join(", ")) };
    cell(&format!("{}{values}", sentence(help.trim())))
}
