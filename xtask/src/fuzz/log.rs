//! What libFuzzer says in its log.

use std::fmt;

/// Lines of a log that are shown when a target has failed: a message, and the most of a backtrace that tells something.
const LAST_LINES: usize = 40;

/// A run in which nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    /// Inputs tried.
    runs: u64,
    /// In a second.
    speed: u64,
    /// Edges of the code that were taken.
    edges: u64,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9} inputs, {:>6} a second, {:>5} edges reached", self.runs, self.speed, self.edges)
    }
}

/// Sums a log up; `None` if it is none, or if nothing was counted because the target was built without counters.
pub(super) fn sum(log: &str) -> Option<Sum> {
    let runs = behind(log, "stat::number_of_executed_units:")?;
    let speed = behind(log, "stat::average_exec_per_sec:")?;
    let edges = behind(log, " cov: ").filter(|edges| *edges > 0)?;
    Some(Sum { runs, speed, edges })
}

/// The number behind the last such words.
fn behind(log: &str, words: &str) -> Option<u64> {
    log.rsplit_once(words)?.1.split_whitespace().next()?.parse().ok()
}

/// The file of the input that a target has failed on.
pub(super) fn failure(log: &str) -> Option<&str> {
    log.rsplit_once("Test unit written to ")?.1.lines().next()
}

/// What a target said before it ended, from its panic on, if it was one.
pub(super) fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    let first = |words: &str| lines.iter().position(|line| line.contains(words));
    let begin = first("panicked at").or_else(|| first("ERROR: libFuzzer")).unwrap_or_default();
    let said: Vec<&str> = lines[begin..].iter().take(LAST_LINES).copied().collect();
    said.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: &str = "#2 INITED cov: 12 ft: 13 corp: 1/1b\n#918\tDONE   cov: 899 ft: 1886 corp: 242/339Kb lim: 4096\n\
        Done 918 runs in 11 second(s)\nstat::number_of_executed_units: 918\nstat::average_exec_per_sec:     83\n";

    #[test]
    fn a_log_is_summed_up() {
        assert_eq!(sum(DONE), Some(Sum { runs: 918, speed: 83, edges: 899 }));
        assert_eq!(sum(&DONE.replace("cov: 899", "cov: 0")), None);
        assert_eq!(sum("INFO: Seed: 1\n"), None);
    }

    #[test]
    fn a_failure_is_told_from_its_panic_on() {
        let log = "#1 NEW cov: 1\n\nthread '<unnamed>' panicked at a.rs:1:1:\nwhy\n==1== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='/f/'; Test unit written to /f/crash-1\nBase64: AA==\n";
        assert_eq!(failure(log), Some("/f/crash-1"));
        assert!(
            last_words(log).starts_with("thread '<unnamed>' panicked at a.rs:1:1:\nwhy\n"),
            "{}",
            last_words(log)
        );
        assert_eq!(failure(DONE), None);
    }
}
