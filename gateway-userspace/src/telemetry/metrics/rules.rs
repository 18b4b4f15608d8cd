//! What documents change of Istio's metrics: which are left out, and which labels they have. Nothing of it is felt on a
//! request's way: labels are changed where the text is made, and series that become the same are added up there.

use std::collections::BTreeMap;

use serde::Serialize;

use super::labels::{escaped, unescaped};

/// A metric as Telemetry names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "Telemetry's words")]
pub enum Metric {
    RequestCount,
    RequestDuration,
    RequestSize,
    ResponseSize,
    GrpcRequestMessages,
    GrpcResponseMessages,
    TcpSentBytes,
    TcpReceivedBytes,
    TcpOpenedConnections,
    TcpClosedConnections,
}

impl Metric {
    /// All of them, with their names in Telemetry.
    pub const ALL: [(Self, &str); 10] = [
        (Self::RequestCount, "REQUEST_COUNT"),
        (Self::RequestDuration, "REQUEST_DURATION"),
        (Self::RequestSize, "REQUEST_SIZE"),
        (Self::ResponseSize, "RESPONSE_SIZE"),
        (Self::GrpcRequestMessages, "GRPC_REQUEST_MESSAGES"),
        (Self::GrpcResponseMessages, "GRPC_RESPONSE_MESSAGES"),
        (Self::TcpSentBytes, "TCP_SENT_BYTES"),
        (Self::TcpReceivedBytes, "TCP_RECEIVED_BYTES"),
        (Self::TcpOpenedConnections, "TCP_OPENED_CONNECTIONS"),
        (Self::TcpClosedConnections, "TCP_CLOSED_CONNECTIONS"),
    ];

    /// By its name in Telemetry.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(metric, _)| *metric)
    }
}

/// What becomes of a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tag {
    /// It is taken away.
    Remove,
    /// It says this.
    Value(String),
    /// It says what another label says.
    Label(&'static str),
}

impl Tag {
    /// An expression of CEL: a text, a number, `true`, `false`, or what a label of Istio's says anyway. `None`: another one.
    pub fn expression(written: &str) -> Option<Self> {
        const ATTRIBUTES: [(&str, &str); 3] = [
            ("response.code", "response_code"),
            ("string(response.code)", "response_code"),
            ("response.grpc_status", "grpc_response_status"),
        ];
        let written = written.trim();
        if let Some((_, label)) = ATTRIBUTES.iter().find(|(attribute, _)| *attribute == written) {
            return Some(Self::Label(label));
        }
        let quoted = ['\'', '"'].iter().find_map(|quote| written.strip_prefix(*quote)?.strip_suffix(*quote));
        if let Some(text) = quoted.filter(|_| written.len() > 1) {
            return (!text.contains(['\\', '\'', '"'])).then(|| Self::Value(text.to_owned()));
        }
        let is_plain = matches!(written, "true" | "false") || written.parse::<i64>().is_ok();
        is_plain.then(|| Self::Value(written.to_owned()))
    }
}

/// What documents change of one metric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// It is left out.
    pub disabled: bool,
    /// By label.
    pub tags: BTreeMap<String, Tag>,
}

/// What documents change, by metric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Rules(pub BTreeMap<Metric, Change>);

impl Rules {
    /// Of a metric.
    pub(super) fn of(&self, metric: Metric) -> Option<&Change> {
        self.0.get(&metric)
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Change {
    /// The labels of a series as they stand between braces, changed.
    pub(super) fn apply(&self, labels: &str) -> String {
        let before = pairs(labels);
        let find =
            |name: &str| before.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        let mut written: Vec<String> = Vec::with_capacity(before.len());
        let mut write = |name: &str, value: &str| written.push(format!("{name}=\"{}\"", escaped(value)));
        let said = |tag: &Tag| match tag {
            Tag::Remove => None,
            Tag::Value(value) => Some(value.clone()),
            Tag::Label(label) => Some(find(label).unwrap_or_default().to_owned()),
        };
        for (name, value) in &before {
            let told = self.tags.get(*name).map_or_else(|| Some(value.clone()), said);
            if let Some(value) = told {
                write(name, &value);
            }
        }
        for (name, tag) in self.tags.iter().filter(|(name, _)| find(name).is_none()) {
            if let Some(value) = said(tag) {
                write(name, &value);
            }
        }
        written.join(",")
    }
}

/// Names and values of labels that are between braces.
fn pairs(mut text: &str) -> Vec<(&str, String)> {
    let mut pairs = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let Some((value, length)) = unescaped(rest) else { break };
        pairs.push((name.trim_start_matches(','), value));
        text = rest.get(length..).unwrap_or_default();
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_constants_or_labels_that_there_are() {
        for (written, want) in [
            ("'edge'", Some(Tag::Value("edge".to_owned()))),
            ("\"edge\"", Some(Tag::Value("edge".to_owned()))),
            (" 42 ", Some(Tag::Value("42".to_owned()))),
            ("true", Some(Tag::Value("true".to_owned()))),
            ("response.code", Some(Tag::Label("response_code"))),
            ("request.host", None),
            ("'a' + 'b'", None),
            ("'", None),
            ("", None),
        ] {
            assert_eq!(Tag::expression(written), want, "{written}");
        }
    }

    #[test]
    fn labels_are_taken_away_changed_and_added() {
        let tags = [
            ("gone", Tag::Remove),
            ("set", Tag::Value("n\"ew".to_owned())),
            ("added", Tag::Label("kept")),
            ("nothing", Tag::Remove),
        ];
        let tags = tags.map(|(name, tag)| (name.to_owned(), tag)).into();
        let change = Change { disabled: false, tags };
        let changed = change.apply("gone=\"1\",kept=\"a\\\"b,\\\\\",set=\"2\"");
        assert_eq!(changed, "kept=\"a\\\"b,\\\\\",set=\"n\\\"ew\",added=\"a\\\"b,\\\\\"");
    }
}
