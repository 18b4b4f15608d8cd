//! Certificates that listeners show or trust, with what people ask of them: names, until when, and what is wrong. Keys are not
//! looked at.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::dump;
use super::super::view::View;
use super::paging::Page;
use super::query::Query;
use crate::model::{CredentialProblem, CredentialSource, Listener, ServerTls};
use crate::tls::certificate::{self, Shown};

/// Listeners and chains of a certificate that are named.
const MOST_USES: usize = 8;
/// Names of a certificate that are shown.
const MOST_NAMES: usize = 20;

/// One of them.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
    /// `secret namespace/name`, `file path`.
    source: String,
    /// `certificate` or `authority`.
    role: &'static str,
    /// Of a document or of the files it names; without it, there is nothing to show.
    fault: Option<String>,
    /// Where it is used: addresses of listeners, and there the names of chains.
    used: Vec<String>,
    /// Uses that are not named.
    more_uses: usize,
    #[serde(flatten)]
    shown: Option<Shown>,
    /// Names of the certificate that are not shown.
    more_names: usize,
}

/// Those whose end comes first come first, and before them those that nothing can be said of.
pub(super) fn answer(view: &View, query: &Query) -> Page<Certificate> {
    let mut all: BTreeMap<(String, &'static str), Certificate> = BTreeMap::new();
    for listener in &view.snapshot.listeners {
        for tls in dump::server_tls(listener) {
            note(view, listener, tls, &mut all);
        }
    }
    let mut all: Vec<_> = all.into_values().collect();
    all.sort_by_key(|it| (it.fault.is_none(), it.shown.as_ref().map(|shown| shown.not_after)));
    let wanted = all.into_iter().filter(|it| {
        let names = it.shown.iter().flat_map(|shown| &shown.names).map(String::as_str);
        let texts = [&*it.source, it.role].into_iter().chain(it.used.iter().map(String::as_str));
        (!query.trouble || it.fault.is_some()) && query.fits(texts.chain(names).chain(it.fault.as_deref()))
    });
    Page::of(query, wanted, |it| it)
}

fn note(
    view: &View,
    listener: &Listener,
    tls: &ServerTls,
    all: &mut BTreeMap<(String, &'static str), Certificate>,
) {
    let user = listener.key.to_string();
    let mut add = |source: String, role, fault: Option<String>, pem: Option<&[u8]>| {
        let known = all.entry((source.clone(), role)).or_insert_with(|| {
            let of_files = || view.credential_faults.iter().find(|(of, _)| *of == source);
            let fault = fault.or_else(|| of_files().map(|(_, reason)| reason.clone()));
            let mut shown = pem.and_then(certificate::shown);
            let names = shown.as_mut().map(|shown| &mut shown.names);
            let more_names = names.map_or(0, |names| {
                let all = names.len();
                names.truncate(MOST_NAMES);
                all - names.len()
            });
            Certificate { source, role, fault, used: Vec::new(), more_uses: 0, shown, more_names }
        });
        if !known.used.contains(&user) {
            if known.used.len() < MOST_USES { known.used.push(user.clone()) } else { known.more_uses += 1 }
        }
    };
    match &tls.credential {
        Ok(credential) => {
            for it in &credential.certificates {
                add(it.source.to_string(), "certificate", None, Some(&it.chain));
            }
            if let Some(it) = &credential.client_authority {
                add(it.source.to_string(), "authority", None, Some(&it.bundle));
            }
        }
        Err(problem) => add(source(problem), "certificate", Some(problem.to_string()), None),
    }
}

fn source(problem: &CredentialProblem) -> String {
    let of = |credential: &CredentialSource| credential.to_string();
    match problem {
        CredentialProblem::NotFound { credential }
        | CredentialProblem::Unread { credential, .. }
        | CredentialProblem::Unusable { credential, .. } => of(credential),
        CredentialProblem::Refused { name, .. } => name.to_string(),
    }
}
