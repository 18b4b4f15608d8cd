//! What documents mean and all that is wrong with them: one analysis, asked by `sluice check`, `sluice explain` and the
//! running agent, so that none of them finds what another does not. What `translate` finds on its way is joined by what
//! only shows in its result: certificates put together with their keys, and rules that meet on a host.

mod credentials;
mod entries;
mod ports;
mod shadowed;
mod subsets;
mod upstream;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::api::Diagnostic;
use crate::model::Snapshot;
use crate::source::Loaded;
use crate::tls::{ClientConfigs, CredentialFault, ServerConfigs};
use crate::translate::{Surroundings, Translator, discovered};

/// All that is known of a set of documents.
#[derive(Debug)]
pub struct Analysis {
    /// What the gateway does.
    pub snapshot: Arc<Snapshot>,
    /// Configurations of its terminating chains.
    pub tls: ServerConfigs,
    /// Configurations of clusters that are spoken to by TLS.
    pub upstream_tls: ClientConfigs,
    /// Secrets that cannot be used.
    pub credential_faults: Vec<CredentialFault>,
    /// Names outside the cluster whose addresses the snapshot wants.
    pub names: BTreeSet<String>,
    /// In the order of files and lines, then what concerns several documents.
    pub diagnostics: Vec<Diagnostic>,
}

/// Analyses one set of documents. `now` is what certificates are held against.
pub fn analyse(loaded: Loaded, surroundings: &Surroundings, now: SystemTime) -> Analysis {
    let previous = (&ServerConfigs::default(), &ClientConfigs::default());
    Analyst::default().analyse(loaded, surroundings, 1, previous, now)
}

/// Analyses one set of documents after the other; what stays the same between them is not looked at again.
#[derive(Debug, Default)]
pub struct Analyst {
    translator: Translator,
    bounds: credentials::Bounds,
}

impl Analyst {
    /// Translates what was loaded, takes over from `previous` what stays the same, and reports. `now` is what certificates
    /// are held against.
    pub fn analyse(
        &mut self,
        loaded: Loaded,
        surroundings: &Surroundings,
        generation: u64,
        (previous, previous_upstream): (&ServerConfigs, &ClientConfigs),
        now: SystemTime,
    ) -> Analysis {
        let Loaded { objects, mut diagnostics, .. } = loaded;
        let (objects, undescribed) = discovered(objects, surroundings);
        diagnostics.extend(undescribed);
        let objects = Arc::new(objects);
        let translation = self.translator.translate(&objects, surroundings, generation);
        let (tls, credential_faults) = ServerConfigs::build(&translation.snapshot, previous);
        let (upstream_tls, upstream_faults) = ClientConfigs::build(&translation.snapshot, previous_upstream);
        diagnostics.extend(translation.diagnostics);
        diagnostics.extend(shadowed::report(&objects, &translation.snapshot));
        diagnostics.extend(ports::report(&objects));
        diagnostics.extend(credentials::report(
            &objects,
            &surroundings.identity.namespace,
            (&translation.snapshot, &credential_faults),
            (&mut self.bounds, now),
        ));
        diagnostics.extend(entries::report(&objects));
        diagnostics.extend(subsets::report(&objects, &surroundings.identity.domain));
        diagnostics.extend(upstream::report(&objects, &upstream_faults));
        Analysis {
            snapshot: Arc::new(translation.snapshot),
            tls,
            upstream_tls,
            credential_faults,
            names: translation.names,
            diagnostics,
        }
    }
}

#[cfg(test)]
mod tests;
