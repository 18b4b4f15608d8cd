//! Kubernetes' `LabelSelector`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What labels must be; without a word, any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that must be there.
    pub match_labels: BTreeMap<String, String>,
    /// All must hold.
    pub match_expressions: Vec<Requirement>,
}

/// `matchExpressions[]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// A label.
    pub key: String,
    /// What of it.
    pub operator: Operator,
    /// For `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

/// `operator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Operator {
    /// It has one of the values.
    In,
    /// It has none of them, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether something with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_selector_must_hold() {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        for (selector, holds) in [
            ("{}", true),
            (r#"{"matchLabels": {"env": "prod"}}"#, true),
            (r#"{"matchLabels": {"env": "test"}}"#, false),
            (r#"{"matchExpressions": [{"key": "env", "operator": "In", "values": ["test", "prod"]}]}"#, true),
            (r#"{"matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}]}"#, false),
            (r#"{"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["prod"]}]}"#, false),
            (r#"{"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}"#, true),
            (r#"{"matchExpressions": [{"key": "env", "operator": "Exists"}]}"#, true),
            (r#"{"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]}"#, false),
            (
                r#"{"matchLabels": {"env": "prod"}, "matchExpressions": [{"key": "team", "operator": "Exists"}]}"#,
                false,
            ),
        ] {
            let read: LabelSelector = serde_json::from_str(selector).unwrap();
            assert_eq!(read.matches(&labels), holds, "{selector}");
        }
        assert!(serde_json::from_str::<LabelSelector>(r#"{"matchLabel": {}}"#).is_err());
    }
}
