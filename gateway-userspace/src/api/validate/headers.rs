//! `headers` of a route or a destination.

use http::{HeaderName, HeaderValue};

use crate::api::header_text::{Direction, Piece, pieces};
use crate::api::path::FieldPath;
use crate::api::virtual_service::{HeaderOperations, Headers};

use super::Findings;

/// What Envoy's router takes from headers that a route may set; here a route says it in its own fields.
const WORDS_TO_THE_ROUTER: [&str; 9] = [
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-max-retries",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// `authority` is what the rule rewrites the Host to, if it does.
pub(super) fn check_headers(
    found: &mut Findings<'_>,
    field: &FieldPath,
    headers: &Headers,
    authority: Option<&str>,
) {
    let field = field.field("headers");
    check_operations(found, &field.field("request"), &headers.request, Direction::Request, authority);
    check_operations(found, &field.field("response"), &headers.response, Direction::Response, None);
}

fn check_operations(
    found: &mut Findings<'_>,
    field: &FieldPath,
    operations: &HeaderOperations,
    direction: Direction,
    rewritten: Option<&str>,
) {
    let mut authority = rewritten;
    for (operation, pairs) in [("set", &operations.set), ("add", &operations.add)] {
        for (name, value) in pairs {
            let field = field.field(operation).field(name);
            if is_authority(name) && direction == Direction::Request {
                if let Some(first) = authority {
                    let message = format!(
                        "authority header cannot be set multiple times: have \"{first}\", attempting to set \"{value}\""
                    );
                    found.error(&field, message);
                }
                authority = Some(value);
            } else {
                found.check(&field, check_name(name));
            }
            if direction == Direction::Request
                && WORDS_TO_THE_ROUTER.iter().any(|word| word.eq_ignore_ascii_case(name))
            {
                let message = format!("a route that tells the gateway by {name} is not yet supported");
                found.error_with_help(&field, message, "say it in the route's own `retries` and `timeout`");
            }
            let is_authority = is_authority(name) && direction == Direction::Request;
            found.check(&field, check_value(value, direction, is_authority));
        }
    }
    for (at, name) in operations.remove.iter().enumerate() {
        found.check(&field.field("remove").index(at), check_name(name));
    }
}

/// `host` and `:authority` rewrite the Host when they are set on the request.
pub fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("header name cannot be empty".to_owned());
    }
    if name.starts_with(':') {
        return Err(format!("invalid header \"{name}\": header cannot have \":\" prefix"));
    }
    if name.eq_ignore_ascii_case("host") {
        return Err(format!("invalid header \"{name}\": cannot set Host header"));
    }
    HeaderName::from_bytes(name.as_bytes())
        .map(|_| ())
        .map_err(|_| format!("invalid header \"{name}\": not a header name"))
}

/// A Host is text alone: Istio writes it as it stands, whatever is in it.
fn check_value(value: &str, direction: Direction, is_authority: bool) -> Result<(), String> {
    for piece in pieces(value, direction)? {
        match piece {
            Piece::Text(text) => {
                HeaderValue::from_str(&text)
                    .map_err(|_| "header value has characters that no header may have".to_owned())?;
            }
            Piece::Variable(_) if is_authority => {
                return Err("variables are not replaced in a Host, as in Istio: write it out".to_owned());
            }
            Piece::Variable(_) => {}
        }
    }
    Ok(())
}
