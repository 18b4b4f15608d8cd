//! From what the sources hold to the next generation of everything.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::time::SystemTime;

use crate::analysis::{Analysis, analyse};
use crate::api::diagnostic::{Diagnostic, Severity, render};
use crate::proxy::Runtime;
use crate::settings::RunArgs;
use crate::source::FileSource;
use crate::tls::CredentialFault;
use crate::translate::Surroundings;

/// One generation, ready to be put in force.
pub(super) struct Generation {
    pub(super) runtime: Runtime,
    pub(super) credential_faults: Vec<(String, String)>,
    /// One line each, for the status.
    pub(super) diagnostics: Vec<String>,
}

/// The sources, and what has been said about them.
pub(super) struct Configuration {
    source: FileSource,
    surroundings: Surroundings,
    generation: u64,
    said: Said,
    colour: bool,
}

impl Configuration {
    pub(super) fn new(args: &RunArgs) -> Self {
        Self {
            source: FileSource::new(args.config.clone(), &args.identity.default_namespace),
            surroundings: Surroundings::of(args.identity.identity()),
            generation: 0,
            said: Said::default(),
            colour: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Reads, translates, and builds what can be kept from `previous`.
    pub(super) fn next(&mut self, previous: &Runtime) -> Generation {
        let loaded = self.source.load();
        self.generation += 1;
        let now = SystemTime::now();
        let Analysis { snapshot, tls, credential_faults, diagnostics } =
            analyse(loaded, &self.surroundings, self.generation, &previous.tls, now);
        self.say(&diagnostics);
        let of = |fault: &CredentialFault| (fault.secret.to_string(), fault.error.to_string());
        Generation {
            runtime: Runtime { snapshot, tls },
            credential_faults: credential_faults.iter().map(of).collect(),
            diagnostics: diagnostics
                .iter()
                .filter(|it| it.severity != Severity::Info)
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// Prints what was not said before.
    fn say(&mut self, diagnostics: &[Diagnostic]) {
        let worth_saying = diagnostics.iter().filter(|it| it.severity != Severity::Info);
        let texts = worth_saying.map(|diagnostic| render(diagnostic, self.colour)).collect();
        for text in self.said.news(texts) {
            eprintln!("{text}");
        }
    }
}

/// What was said already, so that a reload does not say it again; what is no longer true may be said again.
#[derive(Debug, Default)]
struct Said(HashSet<String>);

impl Said {
    /// What of all that is true now was not so the last time, each once.
    fn news(&mut self, now: Vec<String>) -> Vec<String> {
        let mut all = HashSet::new();
        let fresh =
            now.into_iter().filter(|text| all.insert(text.clone()) && !self.0.contains(text)).collect();
        self.0 = all;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_true_is_said_once_and_what_comes_back_again() {
        let mut said = Said::default();
        let mut news = |now: &[&str]| said.news(now.iter().map(ToString::to_string).collect());
        assert_eq!(news(&["a", "b", "a"]), ["a", "b"]);
        assert!(news(&["b", "a"]).is_empty());
        assert_eq!(news(&["a", "c"]), ["c"]);
        assert_eq!(news(&["b", "c"]), ["b"]);
    }
}
