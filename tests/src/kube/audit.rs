//! What API servers note of those who ask them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Administrators are the tests.
const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:masters"]}
- {level: Metadata}
"#;
/// How files of notes begin; each API server has its own.
const NOTES: &str = "audit-";

/// A request, or, of a watch, its beginning or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// list, watch, get, create, …
    pub verb: String,
    /// With its query.
    pub uri: String,
    /// The answer's.
    pub status: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    user: Who,
    #[serde(default)]
    response_status: Status,
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct Who {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
}

/// Has an API server take notes.
pub(super) fn flags(directory: &Path, port: u16) -> [String; 2] {
    let (policy, notes) = (directory.join("policy.yaml"), directory.join(format!("{NOTES}{port}.log")));
    std::fs::write(&policy, POLICY).expect("writing a policy");
    [format!("--audit-policy-file={}", policy.display()), format!("--audit-log-path={}", notes.display())]
}

/// All that was noted of a user, in order.
pub(super) fn asked_by(directory: &Path, user: &str) -> Vec<Asked> {
    let mut events: Vec<Event> = notes(directory).iter().flat_map(|path| read(path)).collect();
    events.retain(|event| event.user.username == user);
    // Of one format and one time zone, so that the order of texts is that of times.
    events.sort_by(|one, other| one.request_received_timestamp.cmp(&other.request_received_timestamp));
    let asked = |event: Event| Asked { verb: event.verb, uri: event.uri, status: event.response_status.code };
    events.into_iter().map(asked).collect()
}

fn notes(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the directory").flatten();
    let is_notes = |name: &str| name.starts_with(NOTES);
    entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| is_notes(&name.to_string_lossy())))
        .collect()
}

/// A line may be under way, or have been when its server was killed.
fn read(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).expect("notes");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
