//! Lines in JSON: an object whose texts may hold operators. A text that is one operator has its value's type, and `null`
//! where there is none.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::format::Text;
use super::operator::Value;
use super::record::Connection;
use super::rule::Wanted;

/// A JSON value to be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Template {
    Text(Text),
    Object(BTreeMap<String, Self>),
    List(Vec<Self>),
    Fixed(Json),
}

/// Istio's default format: its members and their operators.
const MEMBERS: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];

impl Default for Template {
    fn default() -> Self {
        let text = |format| Self::Text(Text::parse(format).expect("Istio's format"));
        Self::Object(MEMBERS.iter().map(|(name, format)| ((*name).to_owned(), text(format))).collect())
    }
}

impl Template {
    pub(super) fn parse(value: &Json) -> Result<Self, String> {
        Ok(match value {
            Json::String(text) => Self::Text(Text::parse(text)?),
            Json::Array(items) => Self::List(items.iter().map(Self::parse).collect::<Result<_, _>>()?),
            Json::Object(members) => {
                let member = |(name, value): (&String, &Json)| Ok((name.clone(), Self::parse(value)?));
                Self::Object(members.iter().map(member).collect::<Result<_, String>>()?)
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => Self::Fixed(value.clone()),
        })
    }

    pub(super) fn add_to(&self, wanted: &mut Wanted) {
        match self {
            Self::Text(text) => text.add_to(wanted),
            Self::Object(members) => members.values().for_each(|member| member.add_to(wanted)),
            Self::List(items) => items.iter().for_each(|item| item.add_to(wanted)),
            Self::Fixed(_) => {}
        }
    }

    /// `None`: left out.
    pub(super) fn value(&self, record: &Connection, omits_empty: bool) -> Option<Json> {
        Some(match self {
            Self::Text(text) => match text.single().map(|operator| operator.value(record)) {
                None => Json::String(text.raw(record, omits_empty)),
                Some(Value::None) if omits_empty => return None,
                Some(Value::None) => Json::Null,
                Some(Value::Text(value)) => Json::String(value.into_owned()),
                Some(Value::Number(value)) => value.into(),
            },
            Self::Object(members) => {
                let member = |(name, member): (&String, &Self)| {
                    Some((name.clone(), member.value(record, omits_empty)?))
                };
                Json::Object(members.iter().filter_map(member).collect())
            }
            Self::List(items) => {
                Json::Array(items.iter().filter_map(|item| item.value(record, omits_empty)).collect())
            }
            Self::Fixed(value) => value.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::super::record::samples;
    use super::*;

    fn line(format: &Format, record: &Connection) -> Json {
        let mut line = String::new();
        format.add_line(&mut line, record);
        assert!(line.ends_with("}\n"), "{line}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn the_default_has_the_same_by_name() {
        let format = Format::default_json();
        let told = line(&format, &samples::connection());
        assert_eq!((&told["bytes_received"], &told["duration"]), (&550.into(), &1500.into()));
        assert_eq!((&told["response_flags"], &told["method"]), (&"-".into(), &Json::Null));
        let told = line(&format, &samples::request());
        for (name, want) in [
            ("method", Json::from("GET")),
            ("path", "/a?b".into()),
            ("response_code", 200.into()),
            ("response_code_details", "via_upstream".into()),
            ("upstream_service_time", "7".into()),
            ("user_agent", "curl/8 \"x\"".into()),
            ("route_name", "rule.match".into()),
        ] {
            assert_eq!(told[name], want, "{name}");
        }
    }

    #[test]
    fn an_operator_alone_keeps_its_type_at_any_depth() {
        let format = serde_json::json!({
            "status": "%RESPONSE_CODE%",
            "none": "%REQ(x-none)%",
            "inner": {"both": "%REQ(:METHOD)% %RESPONSE_CODE%", "list": ["%DURATION%", 1, true]},
        });
        let parsed = Format::json(&format).unwrap();
        let inner = serde_json::json!({"both": "GET 200", "list": [1500, 1, true]});
        let whole = serde_json::json!({"status": 200, "none": null, "inner": inner});
        assert_eq!(line(&parsed, &samples::request()), whole);
        let omitting = parsed.omitting_empty(true);
        assert_eq!(line(&omitting, &samples::request()), serde_json::json!({"status": 200, "inner": inner}));
        let bad = serde_json::json!({"a": {"b": "%NOTHING%"}});
        assert!(Format::json(&bad).unwrap_err().contains("%NOTHING%"));
        assert!(Format::json(&serde_json::json!(["a"])).is_err());
    }
}
