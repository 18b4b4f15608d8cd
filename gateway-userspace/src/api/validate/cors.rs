//! `corsPolicy` of an `http` rule.

use crate::api::path::FieldPath;
use crate::api::virtual_service::CorsPolicy;

use super::text::{EmptyPrefix, check_match};
use super::{Findings, check_duration};

const METHODS: &[&str] =
    &["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "*"];

pub(super) fn check_cors(found: &mut Findings<'_>, field: &FieldPath, cors: &CorsPolicy) {
    for (at, origin) in cors.allow_origins.iter().enumerate() {
        let field = field.field("allowOrigins").index(at);
        if [&origin.exact, &origin.prefix, &origin.regex].into_iter().flatten().all(|text| text.is_empty()) {
            found.error(&field, "'' is not a valid match type for CORS allow origins");
        } else {
            check_match(found, &field, "corsPolicy.allowOrigins", origin, EmptyPrefix::Refused);
        }
    }
    for (at, method) in cors.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            let message = format!("\"{method}\" is not a supported HTTP method");
            found.error(&field.field("allowMethods").index(at), message);
        }
    }
    for (name, headers) in [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)] {
        for (at, header) in headers.iter().enumerate() {
            let field = field.field(name).index(at);
            if header.is_empty() {
                found.error(&field, "header name cannot be empty");
            } else if http::HeaderName::from_bytes(header.as_bytes()).is_err() {
                found.error(&field, format!("header name \"{header}\" is not a valid header name"));
            }
        }
    }
    if cors.allow_origins.is_empty() && cors.allow_origin.is_empty() {
        found.warning(field, "no origin is allowed: the policy allows nothing").help =
            Some("name the origins in `allowOrigins`".to_owned());
    }
    let field = field.field("maxAge");
    check_duration(found, &field, cors.max_age);
    if cors.max_age.is_some_and(|age| age.0.subsec_nanos() > 0) {
        found.error(&field, "max_age duration is accurate only to seconds precision");
    }
}
