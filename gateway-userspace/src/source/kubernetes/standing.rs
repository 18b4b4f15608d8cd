//! How a document stands at the API server: which state of it this is, and what its `status` says, of this one or of an
//! earlier one.

use serde_json::{Value, json};

use crate::api::diagnostic::{Diagnostic, Severity};
use crate::api::yaml::Node;

/// Findings that a status has at most, and characters of each.
const MOST_MESSAGES: usize = 16;
const MOST_CHARACTERS: usize = 512;
/// The condition that Istio's documents have: whether gateways do what the document says.
const CONDITION: &str = "Reconciled";

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Standing {
    /// Its version, in paths.
    pub(super) version: &'static str,
    /// `metadata.uid`.
    pub(super) uid: String,
    /// `metadata.generation`: the state of its `spec`.
    pub(super) generation: i64,
    /// What is written there, as far as it is ours to write.
    pub(super) status: Option<Status>,
}

/// `status`, as Istio writes it (`meta.istio.io/v1alpha1` IstioStatus).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Status {
    /// Of which state.
    observed: i64,
    /// Whether that is in force; `None`: nobody has said so.
    pub(super) is_in_force: Option<bool>,
    /// Since when that is so, as the API server writes times.
    since: String,
    messages: Vec<Message>,
}

/// One of `validationMessages`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Message {
    name: String,
    code: String,
    level: String,
    /// What Istio's have not: the words.
    text: String,
}

impl Standing {
    /// From a document as the API server gives it.
    pub(super) fn of(tree: &Node, version: &'static str) -> Self {
        let metadata = tree.get("metadata").map(|entry| &entry.value);
        Self {
            version,
            uid: metadata.map_or_else(String::new, |node| text(node, "uid")),
            generation: metadata.map_or(0, |node| number(node, "generation")),
            status: tree.get("status").map(|entry| Status::of(&entry.value)),
        }
    }
}

impl Status {
    fn of(node: &Node) -> Self {
        let list = |key: &str| node.get(key).map(|entry| entry.value.items()).unwrap_or_default();
        let condition = list("conditions").iter().find(|it| text(it, "type") == CONDITION);
        let message = |node: &Node| {
            let of_type =
                |key: &str| node.get("type").map_or_else(String::new, |entry| text(&entry.value, key));
            Message {
                name: of_type("name"),
                code: of_type("code"),
                level: text(node, "level"),
                text: text(node, "message"),
            }
        };
        Self {
            observed: number(node, "observedGeneration"),
            is_in_force: condition.map(|it| text(it, "status") == "True"),
            since: condition.map_or_else(String::new, |it| text(it, "lastTransitionTime")),
            messages: list("validationMessages").iter().map(message).collect(),
        }
    }

    /// What is to be written of a state in which these are the findings.
    pub(super) fn wanted(generation: i64, is_in_force: bool, findings: &[&Diagnostic]) -> Self {
        let grave = findings.iter().filter(|found| found.severity > Severity::Info);
        let message = |found: &&Diagnostic| Message {
            name: format!("{:?}", found.code),
            code: found.code.as_str().to_owned(),
            level: found.severity.as_str().to_uppercase(),
            text: found.brief().chars().take(MOST_CHARACTERS).collect(),
        };
        Self {
            observed: generation,
            is_in_force: Some(is_in_force),
            since: String::new(),
            messages: grave.take(MOST_MESSAGES).map(message).collect(),
        }
    }

    /// Whether it says the same as another one, whenever that was.
    pub(super) fn says_as(&self, other: &Self) -> bool {
        (self.observed, self.is_in_force, &self.messages)
            == (other.observed, other.is_in_force, &other.messages)
    }

    /// As a merge patch, beside what stood there before.
    pub(super) fn patch(&self, before: Option<&Self>, now: &str) -> Value {
        let is_in_force = self.is_in_force == Some(true);
        let since =
            before.filter(|before| before.is_in_force == self.is_in_force && !before.since.is_empty());
        let message = |it: &Message| {
            json!({
                "type": {"name": it.name, "code": it.code},
                "level": it.level,
                "documentationUrl": documentation(&it.code),
                "message": it.text,
            })
        };
        json!({"status": {
            // Numbers of 64 bits are texts in Istio's documents.
            "observedGeneration": self.observed.to_string(),
            "conditions": [{
                "type": CONDITION,
                "status": if is_in_force { "True" } else { "False" },
                "reason": if is_in_force { "InForce" } else { "Refused" },
                "message": self.summary(),
                "lastProbeTime": now,
                "lastTransitionTime": since.map_or(now, |before| &before.since),
                "observedGeneration": self.observed.to_string(),
            }],
            "validationMessages": self.messages.iter().map(message).collect::<Vec<_>>(),
        }})
    }

    /// In words: the first finding, or that all is well.
    pub(super) fn summary(&self) -> String {
        match (self.is_in_force, self.messages.first()) {
            (Some(true), None) => "in force".to_owned(),
            (Some(true), Some(first)) => format!("in force; {}", first.text),
            (_, Some(first)) => first.text.clone(),
            (_, None) => "refused".to_owned(),
        }
    }
}

/// Istio's page of a code that is Istio's.
fn documentation(code: &str) -> String {
    if code.starts_with("IST") {
        format!("https://istio.io/latest/docs/reference/config/analysis/{}/", code.to_lowercase())
    } else {
        String::new()
    }
}

fn text(node: &Node, key: &str) -> String {
    node.get(key).and_then(|entry| entry.value.text()).unwrap_or_default().to_owned()
}

/// Written as a number or as text; 0 where there is none.
fn number(node: &Node, key: &str) -> i64 {
    node.get(key).and_then(|entry| entry.value.text()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Code, ObjectRef};

    #[test]
    fn what_was_written_is_read_as_what_was_meant() {
        let mut found = Diagnostic::new(Severity::Error, Code::ReferencedResourceNotFound, "no such gateway");
        found.document = Some(ObjectRef::new("VirtualService", "shop", "web"));
        found.field = Some("spec.gateways[0]".to_owned());
        let info = Diagnostic::new(Severity::Info, Code::NotSelected, "not ours");
        let wanted = Status::wanted(3, true, &[&info, &found]);
        let patch = wanted.patch(None, "2026-01-01T00:00:00Z");
        let read = |patch: &Value, generation: u32| {
            let document =
                json!({"metadata": {"uid": "u", "generation": generation}, "status": patch["status"]});
            Standing::of(&serde_json::from_value(document).unwrap(), "v1")
        };
        let standing = read(&patch, 4);
        assert_eq!((standing.generation, &*standing.uid), (4, "u"));
        let written = standing.status.unwrap();
        assert!(written.says_as(&wanted), "{written:?}");
        assert!(!written.says_as(&Status::wanted(4, true, &[&found])), "of another state");
        assert_eq!(written.messages.len(), 1);
        assert_eq!(patch["status"]["validationMessages"][0]["level"], "ERROR");

        // What stays so has been so since then.
        let later = Status::wanted(4, true, &[]).patch(Some(&written), "2026-01-02T00:00:00Z");
        let condition = &later["status"]["conditions"][0];
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(condition["message"], "in force");
        let refused = Status::wanted(5, false, &[&found]).patch(Some(&written), "2026-01-03T00:00:00Z");
        assert_eq!(refused["status"]["conditions"][0]["lastTransitionTime"], "2026-01-03T00:00:00Z");
        assert_eq!(refused["status"]["conditions"][0]["status"], "False");
    }
}
