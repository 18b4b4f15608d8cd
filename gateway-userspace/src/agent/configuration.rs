//! From what the sources hold to the next generation of everything.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::sync::Arc;

use crate::api::diagnostic::{Diagnostic, Severity, render};
use crate::model::GatewayIdentity;
use crate::proxy::Runtime;
use crate::settings::RunArgs;
use crate::source::FileSource;
use crate::tls::ServerConfigs;
use crate::translate::translate;

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
    identity: GatewayIdentity,
    generation: u64,
    said: HashSet<String>,
    colour: bool,
}

impl Configuration {
    pub(super) fn new(args: &RunArgs) -> Self {
        Self {
            source: FileSource::new(args.config.clone(), &args.identity.default_namespace),
            identity: args.identity.identity(),
            generation: 0,
            said: HashSet::new(),
            colour: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Reads, translates, and builds what can be kept from `previous`.
    pub(super) fn next(&mut self, previous: &Runtime) -> Generation {
        let loaded = self.source.load();
        self.generation += 1;
        let translation = translate(&loaded.objects, &self.identity, self.generation);
        let snapshot = Arc::new(translation.snapshot);
        let (tls, faults) = ServerConfigs::build(&snapshot, &previous.tls);
        let mut diagnostics = loaded.diagnostics;
        diagnostics.extend(translation.diagnostics);
        self.say(&diagnostics);
        let mut credential_faults = Vec::new();
        for fault in faults {
            let (secret, reason) = (fault.secret.to_string(), fault.error.to_string());
            if self.said.insert(format!("{secret} {reason}")) {
                tracing::error!(%secret, chain = %fault.chain, %reason, "credential cannot be used; its clients are reset");
            }
            credential_faults.push((secret, reason));
        }
        Generation {
            runtime: Runtime { snapshot, tls },
            credential_faults,
            diagnostics: diagnostics
                .iter()
                .filter(|it| it.severity != Severity::Info)
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// Prints what was not said before; what is no longer true may be said again.
    fn say(&mut self, diagnostics: &[Diagnostic]) {
        let now: HashSet<String> =
            diagnostics.iter().map(|diagnostic| render(diagnostic, self.colour)).collect();
        for diagnostic in diagnostics.iter().filter(|it| it.severity != Severity::Info) {
            let text = render(diagnostic, self.colour);
            if !self.said.contains(&text) {
                eprintln!("{text}");
            }
        }
        self.said = now;
    }
}
