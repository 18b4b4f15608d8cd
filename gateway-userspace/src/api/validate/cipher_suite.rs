//! Names of cipher suites and of groups for the exchange of keys: which Istio takes, and which of those this gateway has.

use std::collections::BTreeSet;

use crate::api::diagnostic::{Code, Severity};
use crate::api::path::FieldPath;

use super::Findings;

/// What Istio takes: OpenSSL's names of those suites that BoringSSL has, PSK aside, and which this gateway has.
const SUITES: &[(&str, bool)] = &[
    ("ECDHE-ECDSA-AES128-GCM-SHA256", true),
    ("ECDHE-RSA-AES128-GCM-SHA256", true),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", true),
    ("ECDHE-RSA-AES256-GCM-SHA384", true),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", true),
    ("ECDHE-RSA-CHACHA20-POLY1305", true),
    ("ECDHE-ECDSA-AES128-SHA", false),
    ("ECDHE-RSA-AES128-SHA", false),
    ("ECDHE-ECDSA-AES256-SHA", false),
    ("ECDHE-RSA-AES256-SHA", false),
    ("AES128-GCM-SHA256", false),
    ("AES256-GCM-SHA384", false),
    ("AES128-SHA", false),
    ("AES256-SHA", false),
    ("DES-CBC3-SHA", false),
];

/// What Envoy takes, and which of those this gateway has.
const GROUPS: &[(&str, bool)] = &[
    ("X25519", true),
    ("P-256", true),
    ("P-384", true),
    ("X25519MLKEM768", true),
    ("P-224", false),
    ("P-521", false),
    ("X25519Kyber768Draft00", false),
];

/// What a list of names comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CipherChoice {
    /// Those that the gateway has, in order and each once. `None`: the list says nothing, so that the default holds.
    pub suites: Option<Vec<&'static str>>,
    /// Names that Istio does not know, and drops.
    invalid: BTreeSet<String>,
    /// Names that come again.
    duplicate: BTreeSet<String>,
    /// Names that Istio takes and this gateway does not have.
    absent: Vec<String>,
}

impl CipherChoice {
    /// Reads `cipherSuites`.
    pub fn new(names: &[String]) -> Self {
        let mut choice = Self::default();
        let (mut seen, mut suites) = (BTreeSet::new(), Vec::new());
        for name in names {
            let Some((has, lacks)) = entry(name) else {
                choice.invalid.insert(name.clone());
                continue;
            };
            if seen.insert(name) {
                suites.extend(has);
                choice.absent.extend(lacks.into_iter().map(str::to_owned));
            } else {
                choice.duplicate.insert(name.clone());
            }
        }
        let mut once = BTreeSet::new();
        suites.retain(|suite| once.insert(*suite));
        choice.suites = (!seen.is_empty()).then_some(suites);
        choice
    }
}

/// The suites of an entry of the list that the gateway has, and those that it lacks: one, all of them, or several of equal
/// rank, `[A|B]`. `None`: Istio knows no such name.
fn entry(text: &str) -> Option<(Vec<&'static str>, Vec<&str>)> {
    let known = |name: &str| SUITES.iter().find(|(known, _)| *known == name);
    if text == "ALL" {
        // Nobody asked by name for those that the gateway lacks.
        return Some((SUITES.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect(), Vec::new()));
    }
    if let Some(group) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let (has, lacks): (Vec<&str>, Vec<&str>) =
            group.split('|').partition(|name| known(name).is_some_and(|(_, has)| *has));
        return Some((has.into_iter().filter_map(|name| Some(known(name)?.0)).collect(), lacks));
    }
    match known(text) {
        Some((name, true)) => Some((vec![*name], Vec::new())),
        Some((name, false)) => Some((Vec::new(), vec![*name])),
        // Istio passes whatever begins like an operator on to BoringSSL.
        None if text.starts_with(|first: char| !first.is_alphanumeric()) => Some((Vec::new(), vec![text])),
        None => None,
    }
}

/// Checks `cipherSuites`.
pub(super) fn check(found: &mut Findings<'_>, field: &FieldPath, names: &[String]) {
    let choice = CipherChoice::new(names);
    for (what, set) in [("invalid", &choice.invalid), ("duplicate", &choice.duplicate)] {
        if !set.is_empty() {
            let list: Vec<&str> = set.iter().map(String::as_str).collect();
            found.warning(field, format!("ignoring {what} cipher suites: [{}]", list.join(" ")));
        }
    }
    if !choice.absent.is_empty() {
        let message =
            format!("cipher suites that are not supported are left out: [{}]", choice.absent.join(" "));
        let help = "suites with forward secrecy and authenticated encryption alone are there: ECDHE with GCM or CHACHA20";
        found.add(Severity::Warning, Code::NotSupported, field, message).help = Some(help.to_owned());
    }
}

/// The groups of `ecdhCurves` that the gateway has, in order and each once; `None`: the list is empty, so that the default
/// holds.
pub fn key_groups(names: &[String]) -> Option<Vec<&'static str>> {
    let mut groups: Vec<&str> = Vec::new();
    for name in names {
        let known = GROUPS.iter().find(|(known, has)| known == name && *has);
        groups.extend(known.map(|(name, _)| *name).filter(|name| !groups.contains(name)));
    }
    (!names.is_empty()).then_some(groups)
}

/// Whether Envoy knows a group.
pub(super) fn is_group(name: &str) -> bool {
    GROUPS.iter().any(|(known, _)| *known == name)
}

/// Checks `ecdhCurves`. A name that Envoy does not know costs it the listener.
pub(super) fn check_groups(found: &mut Findings<'_>, field: &FieldPath, names: &[String]) {
    let mut absent = Vec::new();
    for (at, name) in names.iter().enumerate() {
        match GROUPS.iter().find(|(known, _)| known == name) {
            Some((_, true)) => {}
            Some((name, false)) => absent.push(*name),
            None => {
                let known: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
                let message = format!("unrecognized ECDH curve: {name}");
                found.error_with_help(&field.index(at), message, &format!("known are {}", known.join(", ")));
            }
        }
    }
    if absent.is_empty() {
        return;
    }
    if key_groups(names).is_some_and(|groups| groups.is_empty()) {
        let message = format!("no ECDH curve is left: [{}] are not supported", absent.join(" "));
        found.error_with_help(field, message, "add X25519, P-256, P-384 or X25519MLKEM768");
        return;
    }
    let message = format!("ECDH curves that are not supported are left out: [{}]", absent.join(" "));
    found.add(Severity::Warning, Code::NotSupported, field, message).help =
        Some("X25519, P-256, P-384 and X25519MLKEM768 are there".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_chosen_as_istio_filters_them() {
        let all: Vec<&str> = SUITES.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
        for (names, want) in [
            (&[][..], None),
            (&["FOO"], None),
            (&["ECDHE-RSA-AES256-GCM-SHA384", "FOO"], Some(vec!["ECDHE-RSA-AES256-GCM-SHA384"])),
            (&["AES128-SHA"], Some(vec![])),
            (&["ALL"], Some(all.clone())),
            (
                &["ECDHE-RSA-CHACHA20-POLY1305", "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]"],
                Some(vec!["ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"]),
            ),
        ] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(CipherChoice::new(&names).suites, want, "{names:?}");
        }
    }
}
