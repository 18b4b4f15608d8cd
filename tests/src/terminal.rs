//! A terminal with a program on it: keys go in, and what the program draws is there to be read, as a person would see it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, ttyname};

use crate::program::must;
use crate::wait;

/// See the module. The program is killed when this is dropped before its end.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: File,
    /// Keeps the terminal when the program is gone.
    slave: OwnedFd,
    seen: Arc<Mutex<Seen>>,
}

/// What came of the program's output.
#[derive(Debug, Default)]
struct Seen {
    raw: Vec<u8>,
    screen: Screen,
}

/// The characters in sight, by line and column.
#[derive(Debug, Default)]
struct Screen {
    lines: Vec<Vec<char>>,
    line: usize,
    column: usize,
    /// An escape sequence that has begun.
    sequence: Option<String>,
}

impl Terminal {
    /// Starts a program on a terminal of so many columns and lines.
    #[track_caller]
    pub fn start(command: &mut Command, columns: u16, lines: u16) -> Self {
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).expect("a terminal");
        let end = || Stdio::from(slave.try_clone().expect("another handle"));
        let child = command.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end()).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let mut master = File::from(master);
        let keys = master.try_clone().expect("another handle");
        let seen = Arc::<Mutex<Seen>>::default();
        let show = seen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                let mut seen = show.lock().unwrap_or_else(PoisonError::into_inner);
                seen.raw.extend_from_slice(&buffer[..length]);
                // Whole characters alone: what is cut is read again with its rest.
                let valid = seen.raw.utf8_chunks().map(|chunk| chunk.valid().to_owned()).collect::<String>();
                seen.screen = Screen::of(&valid);
            }
        });
        Self { child, keys, slave, seen }
    }

    /// Types.
    #[track_caller]
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typing");
    }

    /// The lines in sight.
    pub fn screen(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |line: &Vec<char>| line.iter().collect::<String>().trim_end().to_owned();
        seen.screen.lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// All that the program wrote.
    pub fn raw(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&seen.raw).into_owned()
    }

    /// Waits until a text is in sight.
    #[track_caller]
    pub fn expect(&self, text: &str) -> String {
        let found = wait::within(wait::PATIENCE, || Some(self.screen()).filter(|it| it.contains(text)));
        found.unwrap_or_else(|| panic!("no `{text}` in sight:\n{}", self.screen()))
    }

    /// Makes it another size, and says so as a terminal does.
    #[track_caller]
    pub fn resize(&self, columns: u16, lines: u16) {
        let name = ttyname(&self.slave).expect("a terminal has a name");
        let (columns, lines) = (columns.to_string(), lines.to_string());
        must(Command::new("stty").arg("-F").arg(name).args(["cols", &columns, "rows", &lines]))
            .expect("stty");
        self.signal(Signal::SIGWINCH);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // One that has ended in the meantime cannot be signalled.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        wait::until("the end of the program", || self.child.try_wait().expect("state of a child"))
    }

    /// Whether lines are edited and keys shown, as a shell wants it.
    pub fn is_cooked(&self) -> bool {
        let flags = tcgetattr(&self.slave).expect("a terminal").local_flags;
        flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// Panics unless the terminal is as it was: cooked, on the screen of before, with a cursor.
    #[track_caller]
    pub fn expect_restored(&self) {
        assert!(self.is_cooked(), "keys are not shown any more");
        let is_left =
            || Some(()).filter(|()| self.raw().rfind("\x1b[?1049l") > self.raw().rfind("\x1b[?1049h"));
        wait::until("the screen of before", is_left);
        let (hidden, shown) = (self.raw().rfind("\x1b[?25l"), self.raw().rfind("\x1b[?25h"));
        assert!(shown >= hidden, "the cursor is gone");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Screen {
    fn of(text: &str) -> Self {
        let mut screen = Self::default();
        text.chars().for_each(|character| screen.take(character));
        screen
    }

    fn take(&mut self, character: char) {
        if let Some(mut sequence) = self.sequence.take() {
            sequence.push(character);
            // ECMA-48, 5.4: parameters, then one byte that says what is meant.
            let is_over = sequence.len() > 1 && ('\x40'..='\x7e').contains(&character);
            if is_over || !sequence.starts_with('[') {
                self.obey(&sequence);
            } else {
                self.sequence = Some(sequence);
            }
            return;
        }
        match character {
            '\x1b' => self.sequence = Some(String::new()),
            '\r' => self.column = 0,
            '\n' => self.line += 1,
            shown => self.put(shown),
        }
    }

    fn put(&mut self, character: char) {
        if self.lines.len() <= self.line {
            self.lines.resize(self.line + 1, Vec::new());
        }
        let line = &mut self.lines[self.line];
        if line.len() <= self.column {
            line.resize(self.column + 1, ' ');
        }
        line[self.column] = character;
        self.column += 1;
    }

    /// What is not understood changes no character.
    fn obey(&mut self, sequence: &str) {
        let inner = sequence.trim_start_matches('[');
        if let Some(place) = inner.strip_suffix('H') {
            let mut numbers = place.split(';').map(|number| number.parse::<usize>().unwrap_or(1).max(1) - 1);
            self.line = numbers.next().unwrap_or(0);
            self.column = numbers.next().unwrap_or(0);
        } else if ["2J", "J", "?1049h", "?1049l"].contains(&inner) {
            self.lines.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_what_a_person_sees() {
        let screen = Screen::of("old\x1b[2J\x1b[2;3Hab\x1b[38;5;1m\x1b[1mc\x1b[1;1Hx\r\ny\x1b[?25l");
        let lines: Vec<String> = screen.lines.iter().map(|line| line.iter().collect()).collect();
        assert_eq!(lines, ["x", "y abc"]);
    }
}
