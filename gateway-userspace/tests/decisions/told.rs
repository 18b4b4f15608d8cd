//! What becomes of a case, in the words of its file.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::SystemTime;

use gateway_userspace::analysis::{Analysis, analyse};
use gateway_userspace::api::Diagnostic;
use gateway_userspace::model::explain::{Explanation, Outcome, Stage, State, Step, decide};
use gateway_userspace::source::FileSource;
use gateway_userspace::translate::Surroundings;

use crate::case::{Case, question};

/// Why a case does not hold, with the lines that would.
pub(crate) fn difference(case: &Case) -> Option<String> {
    let analysis = analysed(case);
    let calls: Vec<(String, String)> =
        case.calls.iter().map(|(call, want)| (call.clone(), asked(&analysis, call, want))).collect();
    let findings: Vec<String> = analysis.diagnostics.iter().map(finding).collect();
    if calls == case.calls && findings == case.findings {
        return None;
    }
    let mut told = format!("# === {} (line {})\n", case.name, case.line);
    for ((call, want), (_, have)) in case.calls.iter().zip(&calls) {
        let not = if want == have { String::new() } else { format!("     # not {want}") };
        let _ = writeln!(told, "# ? {call} => {have}{not}");
    }
    for (found, diagnostic) in findings.iter().zip(&analysis.diagnostics) {
        let new = if case.findings.contains(found) {
            String::new()
        } else {
            format!("     # new: {}", diagnostic.message)
        };
        let _ = writeln!(told, "# ! {found}{new}");
    }
    for gone in case.findings.iter().filter(|want| !findings.contains(want)) {
        let _ = writeln!(told, "#                  # gone: {gone}");
    }
    Some(told)
}

fn analysed(case: &Case) -> Analysis {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("case.yaml"), &case.documents).expect("writing");
    let loaded = FileSource::new(vec![directory.path().to_owned()], "default").load();
    let mut surroundings = Surroundings::of(case.identity.clone());
    surroundings.learn(&loaded.objects);
    analyse(loaded, &surroundings, SystemTime::now())
}

/// `severity code document field`.
fn finding(found: &Diagnostic) -> String {
    let document = found.document.as_ref().map_or_else(
        || "-".to_owned(),
        |document| format!("{}/{}/{}", document.kind, document.namespace, document.name),
    );
    let field = found.field.as_deref().unwrap_or("-");
    format!("{} {} {document} {field}", found.severity.as_str(), found.code)
}

/// The answer to a call; with endpoints where they are wanted.
fn asked(analysis: &Analysis, call: &str, want: &str) -> String {
    let state = State {
        available: &|cluster| {
            let nobody = None::<fn(SocketAddr) -> bool>;
            cluster.eligible(nobody).map(|candidate| candidate.endpoint.address).collect()
        },
        terminates: &|listener, chain| analysis.tls.get(listener, &chain.name).is_some(),
    };
    let explanation = decide(&analysis.snapshot, &question(call), state);
    let endpoints = if want.contains(" @") { endpoints(&explanation) } else { String::new() };
    answer(&explanation) + &endpoints
}

/// `refused`, `reset` or `404` with the stage at which the way ends, `redirect`, `direct`, or the clusters: `name.namespace:80`
/// with `/subset`, its share in front where there are several, `!` in front of one that does not exist and `-` of one that has
/// nobody to serve.
fn answer(explanation: &Explanation) -> String {
    let last = explanation.steps.last().map(|step| step.stage);
    let at = last.map_or_else(String::new, |stage| stage.to_string());
    match explanation.outcome {
        Outcome::Refused => "refused".to_owned(),
        Outcome::Reset => format!("reset {at}"),
        Outcome::NoRoute => format!("404 {at}"),
        Outcome::Redirect => "redirect".to_owned(),
        Outcome::Direct => "direct".to_owned(),
        Outcome::Forward | Outcome::Carried | Outcome::Unavailable => clusters(explanation),
    }
}

fn clusters(explanation: &Explanation) -> String {
    let steps = explanation.steps.iter().filter(|step| step.stage == Stage::Cluster);
    steps.map(cluster).collect::<Vec<_>>().join(" ")
}

fn cluster(step: &Step) -> String {
    let name = step.found.as_deref().unwrap_or_default();
    let mut parts = name.trim_start_matches("outbound|").split('|');
    let (port, subset, host) = (parts.next(), parts.next(), parts.next().unwrap_or(name));
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    let subset = subset.filter(|subset| !subset.is_empty()).map(|subset| format!("/{subset}"));
    let says = |part: &str| step.notes.iter().any(|note| note.contains(part));
    let sign = if says("does not exist") {
        "!"
    } else if says("flag UH") {
        "-"
    } else {
        ""
    };
    let weight = step.notes.iter().find_map(|note| note.strip_prefix("weight ")?.split(' ').next());
    let weight = weight.map(|weight| format!("{weight}*")).unwrap_or_default();
    format!("{weight}{sign}{host}:{}{}", port.unwrap_or(""), subset.unwrap_or_default())
}

/// The endpoints that may be chosen.
fn endpoints(explanation: &Explanation) -> String {
    let notes =
        explanation.steps.iter().filter(|step| step.stage == Stage::Cluster).flat_map(|step| &step.notes);
    let ready: Vec<&str> =
        notes.filter_map(|note| note.strip_suffix(" ready").filter(|rest| !rest.contains(' '))).collect();
    format!(" @{}", ready.join(","))
}
