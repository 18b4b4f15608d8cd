//! What a line of the access log looks like: text with Envoy's command operators, or a JSON object of such texts.

use std::fmt::Write as _;

use super::json::Template;
use super::operator::{Operator, Value};
use super::record::Connection;
use super::rule::Wanted;
use crate::notation::command::{Part, parts};
use crate::telemetry::digits;

/// Istio's text format.
const DEFAULT_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// The form of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    form: Form,
    /// Values that are not there are left out, instead of a dash or `null`.
    omits_empty: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Text(Text),
    Json(Template),
}

impl Format {
    /// Istio's text format.
    pub fn default_text() -> Self {
        Self { form: Form::Text(Text::default()), omits_empty: false }
    }

    /// Istio's JSON format.
    pub fn default_json() -> Self {
        Self { form: Form::Json(Template::default()), omits_empty: false }
    }

    /// Text with operators; one that is empty is the default. An error names the operator that is not known.
    pub fn text(format: &str) -> Result<Self, String> {
        if format.is_empty() {
            return Ok(Self::default_text());
        }
        let newline = if format.ends_with('\n') { "" } else { "\n" };
        Ok(Self { form: Form::Text(Text::parse(&format!("{format}{newline}"))?), omits_empty: false })
    }

    /// A JSON object, at any depth of texts with operators; one without members is the default.
    pub fn json(format: &serde_json::Value) -> Result<Self, String> {
        match format.as_object() {
            None => Err("the JSON format is no object".to_owned()),
            Some(members) if members.is_empty() => Ok(Self::default_json()),
            Some(_) => Ok(Self { form: Form::Json(Template::parse(format)?), omits_empty: false }),
        }
    }

    /// The same without values that are not there.
    pub fn omitting_empty(self, omits_empty: bool) -> Self {
        Self { omits_empty, ..self }
    }

    /// Adds a record's line, with its end.
    pub(super) fn add_line(&self, lines: &mut String, record: &Connection) {
        match &self.form {
            Form::Text(text) => text.add_line(lines, record, self.omits_empty),
            Form::Json(template) => {
                let value = template.value(record, self.omits_empty).unwrap_or(serde_json::Value::Null);
                // Writing to a string cannot fail.
                let _ = writeln!(lines, "{value}");
            }
        }
    }

    pub(super) fn add_to(&self, wanted: &mut Wanted) {
        match &self.form {
            Form::Text(text) => text.add_to(wanted),
            Form::Json(template) => template.add_to(wanted),
        }
    }
}

/// Text in which operators stand for something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Operator {
        operator: Operator,
        /// Between quotes of the text a value may have spaces.
        is_quoted: bool,
    },
}

impl Default for Text {
    fn default() -> Self {
        Self::parse(DEFAULT_TEXT).expect("Istio's format")
    }
}

impl Text {
    pub(super) fn parse(format: &str) -> Result<Self, String> {
        let parts = parts(format).map_err(|rest| format!("the operator %{rest} has no end"))?;
        let (mut pieces, mut is_quoted) = (Vec::with_capacity(parts.len()), false);
        for part in parts {
            pieces.push(match part {
                Part::Text(plain) => {
                    is_quoted ^= plain.matches('"').count() % 2 == 1;
                    Piece::Plain(plain)
                }
                Part::Command(command) => Piece::Operator { operator: Operator::parse(command)?, is_quoted },
            });
        }
        Ok(Self(pieces))
    }

    /// The operator that is all of it.
    pub(super) fn single(&self) -> Option<&Operator> {
        match self.0.as_slice() {
            [Piece::Operator { operator, .. }] => Some(operator),
            _ => None,
        }
    }

    pub(super) fn add_to(&self, wanted: &mut Wanted) {
        for piece in &self.0 {
            if let Piece::Operator { operator, .. } = piece {
                operator.add_to(wanted);
            }
        }
    }

    /// With whatever clients say made harmless to a line's reader.
    fn add_line(&self, lines: &mut String, record: &Connection, omits_empty: bool) {
        self.fill(lines, record, omits_empty, |line, value, is_quoted| {
            let is_harmless =
                |byte: u8| byte != b'"' && (byte.is_ascii_graphic() || (is_quoted && byte == b' '));
            // As nearly all are. Without an early end, so that many bytes are looked at together.
            if value.bytes().fold(true, |all, byte| all & is_harmless(byte)) {
                line.push_str(value);
            } else {
                let shown = |c: char| if c.is_ascii() && is_harmless(c as u8) { c } else { '?' };
                line.extend(value.chars().map(shown));
            }
        });
    }

    /// As it is.
    pub(super) fn raw(&self, record: &Connection, omits_empty: bool) -> String {
        let mut text = String::new();
        self.fill(&mut text, record, omits_empty, |text, value, _| text.push_str(value));
        text
    }

    fn fill(
        &self,
        text: &mut String,
        record: &Connection,
        omits_empty: bool,
        add: impl Fn(&mut String, &str, bool),
    ) {
        for piece in &self.0 {
            match piece {
                Piece::Plain(plain) => text.push_str(plain),
                Piece::Operator { operator, is_quoted } => {
                    if operator.push(text, record) {
                        continue;
                    }
                    match operator.value(record) {
                        Value::None if omits_empty => {}
                        Value::None => text.push('-'),
                        Value::Text(value) => add(text, &value, *is_quoted),
                        Value::Number(value) => digits::push(text, value),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::record::samples;
    use super::*;
    use crate::telemetry::ResponseFlag;

    fn line(format: &Format, record: &Connection) -> String {
        let mut line = String::new();
        format.add_line(&mut line, record);
        line
    }

    #[test]
    fn a_line_is_as_envoy_writes_it() {
        let text = |record: &Connection| line(&Format::default_text(), record);
        let head = "[2024-01-31T12:00:00.123Z] \"- - -\" 0";
        assert_eq!(
            text(&samples::connection()),
            format!(
                "{head} - - - \"-\" 550 92 1500 - \"-\" \"-\" \"-\" \"-\" \"10.0.0.2:8080\" \
                 outbound|9000||echo.default.svc.cluster.local 10.0.0.1:40000 198.18.0.1:31400 \
                 198.18.0.2:50000 - -\n"
            )
        );
        let flags = [ResponseFlag::UpstreamConnectionFailure, ResponseFlag::UpstreamRetryLimitExceeded];
        let failed = Connection {
            flags: Cow::Owned(flags.into()),
            upstream_host: None,
            upstream_cluster: None,
            upstream_local: None,
            server_name: Some("a\nb.test c".to_owned()),
            ..samples::connection()
        };
        assert_eq!(
            text(&failed),
            format!(
                "{head} UF,URX - - \"-\" 550 92 1500 - \"-\" \"-\" \"-\" \"-\" \"-\" - - 198.18.0.1:31400 \
                 198.18.0.2:50000 a?b.test?c -\n"
            )
        );
        assert_eq!(
            text(&samples::request()),
            "[2024-01-31T12:00:00.123Z] \"GET /a?b HTTP/1.1\" 200 - via_upstream - \"-\" 550 92 1500 7 \"198.18.0.2\" \
             \"curl/8 ?x?\" \"id\" \"a.test\" \"10.0.0.2:8080\" outbound|9000||echo.default.svc.cluster.local \
             10.0.0.1:40000 198.18.0.1:31400 198.18.0.2:50000 - rule.match\n"
        );
    }

    #[test]
    fn operators_stand_for_what_is_known() {
        for (format, want) in [
            ("%REQ(:path)% %REQ(:AUTHORITY)% %REQ(:SCHEME)%", "/new/a?b a.test https"),
            ("%REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)% 100%%", "/a 100%"),
            ("%REQ(x-team):2% %REQ(x-none?x-team)% %REQ(x-none)%", "bl blue -"),
            ("%RESP(Content-Type)% %TRAILER(grpc-status)%", "text/html 5"),
            ("%GRPC_STATUS% %GRPC_STATUS_NUMBER%", "NotFound 5"),
            (
                "%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%",
                "10.0.0.2:8080 10.0.0.2 8080",
            ),
            ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "198.18.0.3 31400"),
            (
                "%UPSTREAM_REQUEST_ATTEMPT_COUNT% %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER%",
                "2 TLSv1.3 TLS_AES_128_GCM_SHA256",
            ),
            ("%START_TIME(%s)% %START_TIME()%", "1706702400 2024-01-31T12:00:00.123Z"),
            ("%RESPONSE_FLAGS_LONG%", "-"),
            ("%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "1193 1200 300"),
            ("%ACCESS_LOG_TYPE% %STREAM_ID% %VIRTUAL_CLUSTER_NAME%", "DownstreamEnd id -"),
            ("%TRACE_ID%", "4bf92f3577b34da6a3ce929d0e0e4736"),
            ("%PATH(NQ)% %PATH(NQ:PATH)% %QUERY_PARAMS%", "/a /new/a b"),
            ("%ENVIRONMENT(CARGO_PKG_NAME)% %ENVIRONMENT(CARGO_PKG_NAME):7%", "gateway-userspace gateway"),
            ("%ENVIRONMENT(NO_SUCH_VARIABLE)% %DOWNSTREAM_PEER_SUBJECT%", "- -"),
        ] {
            let mut record = samples::request();
            let traced = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".to_owned();
            let traceparent = http::HeaderName::from_static("traceparent");
            record.request.as_mut().unwrap().headers.push((traceparent, traced));
            let line = line(&Format::text(format).unwrap(), &record);
            assert_eq!(line, format!("{want}\n"), "{format}");
        }
        let omitting = Format::text("[%REQ(x-none)%]").unwrap().omitting_empty(true);
        assert_eq!(line(&omitting, &samples::request()), "[]\n");
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (format, named) in [
            ("%FILTER_STATE(wasm.x:PLAIN)%", "%FILTER_STATE(wasm.x:PLAIN)%"),
            ("a %NOTHING% b", "%NOTHING%"),
            ("%REQ%", "%REQ%"),
            ("%REQ(a b)%", "%REQ(a b)%"),
            ("%REQ(a):x%", "%REQ(a):x%"),
            ("%START_TIME(%Q)%", "%Q"),
            ("%DURATION", "%DURATION"),
        ] {
            let error = Format::text(format).unwrap_err();
            assert!(error.contains(named), "{format}: {error}");
        }
    }

    #[test]
    fn headers_that_a_record_may_lack_are_wanted() {
        let format = "%REQ(X-A?:PATH)% %REQ(User-Agent)% %RESP(B)% %TRAILER(C)% %GRPC_STATUS% %TRACE_ID%";
        let mut wanted = Wanted::default();
        Format::text(format).unwrap().add_to(&mut wanted);
        let names = |names: &[http::HeaderName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&wanted.request), ["x-a", "traceparent"]);
        assert_eq!(names(&wanted.response), ["b", "grpc-status"]);
        assert_eq!(names(&wanted.trailers), ["c", "grpc-status"]);
    }
}
