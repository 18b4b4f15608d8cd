//! Undoes what a test does to the machine besides starting processes, also when the test is killed: a shell that hears what is
//! to be done and does it, the last first, once nobody speaks to it any more.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// See the module.
#[derive(Debug)]
pub(super) struct Warden(Child);

impl Warden {
    pub(super) fn start() -> Self {
        let mut shell = Command::new("sh");
        // A group of its own: what ends the test from a terminal is not to end this.
        shell.args(["-c", "tac | sh"]).stdin(Stdio::piped()).process_group(0);
        Self(shell.spawn().expect("a shell"))
    }

    /// Has a line of shell be run in the end, before those that were said earlier.
    pub(super) fn undo(&mut self, line: &str) {
        let heard = self.0.stdin.as_mut().expect("open until it is dropped");
        writeln!(heard, "{line}").expect("a shell that listens");
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It says itself what it could not do.
        let _ = self.0.wait();
    }
}
