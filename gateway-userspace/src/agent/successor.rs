//! Starts the agent that is to take this one's place: the program that this one was started as, as it is on disk by now,
//! with the same arguments.

use std::ffi::OsString;
use std::process::{Child, Command};

const TAKE_OVER: &str = "--take-over";

/// Starts it, and says so if it ends without having taken over.
pub(super) fn start() {
    match command(std::env::args_os()).spawn() {
        Ok(child) => watch(child),
        Err(error) => tracing::error!(%error, "no successor could be started; this agent serves on"),
    }
}

fn command(words: impl Iterator<Item = OsString>) -> Command {
    let mut words = words;
    let mut command = Command::new(words.next().unwrap_or_else(|| "sluice".into()));
    let words: Vec<OsString> = words.collect();
    command.args(&words);
    if !words.iter().any(|word| word == TAKE_OVER) {
        command.arg(TAKE_OVER);
    }
    command
}

/// It outlives this process, or is waited for.
fn watch(mut child: Child) {
    let process = child.id();
    tracing::info!(process, "started a successor");
    std::thread::spawn(move || match child.wait() {
        Ok(status) => tracing::error!(process, %status, "the successor has ended; this agent serves on"),
        Err(error) => tracing::error!(process, %error, "the successor cannot be waited for"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_has_the_same_arguments_and_takes_over() {
        for words in [&["/bin/sluice", "run", "--config", "a"][..], &["/bin/sluice", "run", "--take-over"]] {
            let command = command(words.iter().map(OsString::from));
            assert_eq!(command.get_program(), "/bin/sluice");
            let arguments: Vec<_> = command.get_args().collect();
            assert!(words[1..].iter().all(|word| arguments.contains(&std::ffi::OsStr::new(word))));
            assert_eq!(arguments.iter().filter(|word| **word == TAKE_OVER).count(), 1, "{arguments:?}");
        }
    }
}
