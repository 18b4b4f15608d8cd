//! `sluice completions SHELL`.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

/// Flags of `sluice completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice completions bash > /etc/bash_completion.d/sluice
  sluice completions zsh > \"${fpath[1]}/_sluice\"
  sluice completions fish > ~/.config/fish/completions/sluice.fish")]
pub struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell.
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let (mut script, mut command) = (Vec::new(), super::Cli::command());
    clap_complete::generate(args.shell, &mut command, "sluice", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if args.shell == Shell::Fish {
        command.get_subcommands().for_each(|below| fish_values(&mut script, below));
    }
    super::table::print(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// The values that stand without a flag, which the generator has for all shells but fish.
fn fish_values(script: &mut String, command: &Command) {
    for argument in command.get_positionals() {
        let values = argument.get_possible_values();
        let names: Vec<&str> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
        if names.is_empty() {
            continue;
        }
        let (command, names) = (command.get_name(), names.join(" "));
        // Writing into a String does not fail.
        let _ = writeln!(
            script,
            "complete -c sluice -n \"__fish_sluice_using_subcommand {command}; and not __fish_seen_subcommand_from {names}\" \
             -f -a \"{names}\""
        );
    }
}
