//! A question of the API server's and its answer (admission.k8s.io/v1 AdmissionReview).

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::yaml::Node;
use crate::api::{Diagnostic, Reading, Severity, read_tree};

/// Warnings of an answer, and characters of each: what API servers hand on.
const MOST_WARNINGS: usize = 16;
const MOST_CHARACTERS: usize = 250;

#[derive(Deserialize)]
struct Review {
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(default)]
    operation: String,
    /// Nothing where a document is deleted.
    object: Option<Node>,
}

/// The answer to a question, as JSON; `None` if it is none.
pub(super) fn answer(body: &[u8]) -> Option<Value> {
    let Review { request } = serde_json::from_slice(body).ok()?;
    let judged = match request.object {
        Some(object) if request.operation != "DELETE" && !object.is_null() => judge(&read_tree(object)),
        _ => json!({"allowed": true}),
    };
    let mut response = judged;
    response["uid"] = json!(request.uid);
    Some(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

fn judge(reading: &Reading) -> Value {
    let of = |severity: Severity| reading.diagnostics.iter().filter(move |found| found.severity == severity);
    let warnings: Vec<String> =
        of(Severity::Warning).take(MOST_WARNINGS).map(|found| cut(&words(found))).collect();
    // An error about what is not of a kind that is read here is no reason to keep it out of the cluster.
    let is_refused = reading.is_refused() && reading.reference.is_some();
    let errors: Vec<String> = of(Severity::Error).map(words).collect();
    if is_refused && !is_unheeded(reading) {
        return json!({
            "allowed": false,
            "status": {"code": 422, "reason": "Invalid", "message": errors.join("; ")},
            "warnings": warnings,
        });
    }
    let all: Vec<String> = warnings.into_iter().chain(errors.iter().map(|error| cut(error))).collect();
    json!({"allowed": true, "warnings": all})
}

/// Policies that nothing here enforces: others may.
fn is_unheeded(reading: &Reading) -> bool {
    reading.diagnostics.iter().any(|found| found.code == crate::api::Code::NotEnforced)
}

fn words(found: &Diagnostic) -> String {
    format!("[{}] {}", found.code, found.brief())
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(operation: &str, object: &str) -> Value {
        let question =
            format!(r#"{{"request": {{"uid": "u-1", "operation": "{operation}", "object": {object}}}}}"#);
        answer(question.as_bytes()).unwrap()["response"].take()
    }

    fn gateway(port: u32) -> String {
        format!(
            r#"{{"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {{"name": "web", "namespace": "shop"}},
                "spec": {{"servers": [{{"port": {{"number": {port}, "name": "http", "protocol": "HTTP"}}, "hosts": ["*"]}}]}}}}"#
        )
    }

    #[test]
    fn what_would_not_be_in_force_is_refused_with_the_reason() {
        let sound = asked("CREATE", &gateway(80));
        assert_eq!((&sound["allowed"], &sound["uid"]), (&json!(true), &json!("u-1")));
        let broken = asked("UPDATE", &gateway(0));
        assert_eq!(broken["allowed"], json!(false));
        let message = broken["status"]["message"].as_str().unwrap();
        assert!(message.contains("spec.servers[0].port.number: port number 0"), "{message}");
        assert_eq!(asked("DELETE", "null")["allowed"], json!(true));
        assert_eq!(asked("DELETE", &gateway(0))["allowed"], json!(true), "what is broken may go");
    }

    #[test]
    fn what_is_not_enforced_here_may_be_elsewhere() {
        let policy = r#"{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "p", "namespace": "a"}}"#;
        let answer = asked("CREATE", policy);
        assert_eq!(answer["allowed"], json!(true));
        assert!(answer["warnings"][0].as_str().unwrap().contains("not yet supported"), "{answer}");
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        for body in ["", "{}", "[]", r#"{"request": {}}"#, r#"{"request": {"uid": 1}}"#] {
            assert!(answer(body.as_bytes()).is_none(), "{body}");
        }
    }
}
