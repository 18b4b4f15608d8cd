//! `http` rules.

use base64::Engine as _;
use regex::Regex;

use crate::api::diagnostic::{Code, Severity};
use crate::api::path::FieldPath;
use crate::api::virtual_service::{
    HttpDirectResponse, HttpMatchRequest, HttpRedirect, HttpRewrite, HttpRoute, HttpRouteDestination,
};
use crate::notation::re2;

use super::cors::check_cors;
use super::delegate::check_root_rule;
use super::fault::check_fault;
use super::headers::check_headers;
use super::mirror::check_mirrors;
use super::retry::check_retries;
use super::text::{EmptyPrefix, check_match};
use super::virtual_service::{check_destination, check_weights};
use super::{Findings, check_duration};

/// In place of an expression: present.
pub const ANY: &str = "*";
/// Codes that lead to an action; Istio lets the others pass and then serves no new routes at all.
const REDIRECT_CODES: [u32; 5] = [301, 302, 303, 307, 308];
/// Keys of `headers` that Istio keeps for conditions of the match itself.
const IGNORED_HEADERS: [&str; 4] = ["uri", "scheme", "method", "authority"];
/// What HTTP/2 sends like headers, which Envoy lets conditions on headers look at.
const PSEUDO_HEADERS: [&str; 4] = [":authority", ":method", ":path", ":scheme"];
/// Largest body of a direct response, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// Body that Istio warns of, in bytes.
const LARGE_BODY: usize = 100 * 1024;

/// Checks a rule; those of a delegate may not delegate further.
pub(super) fn check_rule(found: &mut Findings<'_>, field: &FieldPath, rule: &HttpRoute, of_delegate: bool) {
    match &rule.delegate {
        Some(_) if of_delegate => {
            found.error(&field.field("delegate"), "delegate HTTP route cannot contain delegate");
        }
        Some(_) => check_root_rule(found, field, rule),
        None => check_action(found, field, rule),
    }
    for (at, condition) in rule.matches.iter().enumerate() {
        check_condition(found, &field.field("match").index(at), condition);
    }
    check_destinations(found, &field.field("route"), &rule.route);
    if let Some(redirect) = &rule.redirect {
        check_redirect(found, &field.field("redirect"), redirect);
        check_prefix_rewrite(found, field, redirect, &rule.matches);
    }
    if let Some(response) = &rule.direct_response {
        check_direct_response(found, &field.field("directResponse"), response);
    }
    if let Some(rewrite) = &rule.rewrite {
        check_rewrite(found, &field.field("rewrite"), rewrite);
    }
    if let Some(headers) = &rule.headers {
        let rewritten = rule.rewrite.as_ref().map(|rewrite| rewrite.authority.as_str());
        check_headers(found, field, headers, rewritten.filter(|authority| !authority.is_empty()));
    }
    check_duration(found, &field.field("timeout"), rule.timeout);
    if let Some(retries) = &rule.retries {
        check_retries(found, &field.field("retries"), retries);
    }
    if let Some(fault) = &rule.fault {
        check_fault(found, &field.field("fault"), fault);
    }
    if let Some(cors) = &rule.cors_policy {
        check_cors(found, &field.field("corsPolicy"), cors);
        if rule.redirect.is_some() || rule.direct_response.is_some() {
            found.warning(
                &field.field("corsPolicy"),
                "corsPolicy has no effect on a redirect or a direct response, as in Istio",
            );
        }
    }
    check_mirrors(found, field, rule);
}

fn check_action(found: &mut Findings<'_>, field: &FieldPath, rule: &HttpRoute) {
    let has = [
        ("route", !rule.route.is_empty()),
        ("redirect", rule.redirect.is_some()),
        ("direct_response", rule.direct_response.is_some()),
        ("rewrite", rule.rewrite.is_some()),
        ("fault", rule.fault.is_some()),
        ("mirror", rule.mirror.is_some()),
        ("mirrors", !rule.mirrors.is_empty()),
    ];
    let set = |name: &str| has.iter().any(|(field, set)| *field == name && *set);
    if !set("route") && !set("redirect") && !set("direct_response") {
        found.error_with_help(
            field,
            "HTTP route, redirect or direct_response is required",
            "say where the requests go: `route:`, `redirect:` or `directResponse:`",
        );
    }
    for (what, a, b) in [
        ("route", "route", "redirect"),
        ("route", "fault", "redirect"),
        ("route rule", "rewrite", "redirect"),
        ("route rule", "direct_response", "redirect"),
        ("route", "route", "direct_response"),
        ("route", "fault", "direct_response"),
        ("route rule", "rewrite", "direct_response"),
        ("route", "mirror", "mirrors"),
    ] {
        if set(a) && set(b) {
            found.error(field, format!("HTTP {what} cannot contain both {a} and {b}"));
        }
    }
}

fn check_condition(found: &mut Findings<'_>, field: &FieldPath, condition: &HttpMatchRequest) {
    for (name, value, empty_prefix) in [
        ("uri", condition.uri.as_ref(), EmptyPrefix::Allowed),
        ("scheme", condition.scheme.as_deref(), EmptyPrefix::Refused),
        ("method", condition.method.as_deref(), EmptyPrefix::Refused),
        ("authority", condition.authority.as_deref(), EmptyPrefix::Refused),
    ] {
        if let Some(value) = value {
            check_match(found, &field.field(name), name, value, empty_prefix);
        }
    }
    check_path(found, &field.field("uri"), condition);
    for (name, conditions) in [
        ("headers", &condition.headers),
        ("withoutHeaders", &condition.without_headers),
        ("queryParams", &condition.query_params),
    ] {
        for (key, value) in conditions.iter() {
            let field = field.field(name).field(key);
            if name != "withoutHeaders" || value.regex.as_deref() != Some(ANY) {
                check_match(found, &field, name, value, EmptyPrefix::Refused);
            }
            if name != "queryParams" {
                check_header_key(found, &field, key);
            }
        }
    }
    if condition.port > 65535 {
        found.error(
            &field.field("port"),
            format!("port number {} must be in the range 1..65535", condition.port),
        );
    }
}

/// Every path that is matched begins with a slash: `OPTIONS *` is answered before.
fn check_path(found: &mut Findings<'_>, field: &FieldPath, condition: &HttpMatchRequest) {
    let Some(uri) = &condition.uri else { return };
    for (name, value) in [("exact", &uri.exact), ("prefix", &uri.prefix)] {
        let Some(value) = value.as_ref().filter(|value| !value.starts_with('/')) else { continue };
        if name == "exact" || !value.is_empty() {
            let message = format!("{name} \"{value}\" never matches: every path begins with a slash");
            found.warning(&field.field(name), message).help = Some("paths look like `/a/b`".to_owned());
        }
    }
}

fn check_header_key(found: &mut Findings<'_>, field: &FieldPath, key: &str) {
    if IGNORED_HEADERS.contains(&key) {
        let message = format!("\"{key}\" is not looked at among headers, as in Istio");
        found.warning(field, message).help = Some(format!("use the match's own `{key}`"));
    } else if key.starts_with("@request.auth.") {
        let message = format!("{key}: routing by JWT claims is not yet supported and must not be ignored");
        found.add(Severity::Error, Code::NotEnforced, field, message);
    } else if !PSEUDO_HEADERS.contains(&key) && http::HeaderName::from_bytes(key.as_bytes()).is_err() {
        found.error(field, format!("header name \"{key}\" is not a valid header name"));
    }
}

fn check_destinations(found: &mut Findings<'_>, field: &FieldPath, route: &[HttpRouteDestination]) {
    for (at, destination) in route.iter().enumerate() {
        let field = field.index(at);
        check_destination(found, &field, destination.destination.as_ref());
        if let Some(headers) = &destination.headers {
            check_headers(found, &field, headers, None);
        }
    }
    let weights: Vec<i32> = route.iter().map(|destination| destination.weight).collect();
    check_weights(found, field, &weights);
}

fn check_redirect(found: &mut Findings<'_>, field: &FieldPath, redirect: &HttpRedirect) {
    let HttpRedirect { uri, prefix_rewrite, authority, port, derive_port, scheme, redirect_code } = redirect;
    let has_port = port.is_some() || derive_port.is_some();
    if uri.is_empty() && prefix_rewrite.is_empty() && authority.is_empty() && scheme.is_empty() && !has_port {
        found.error(field, "redirect must specify URI, authority, scheme, or port");
    }
    if !scheme.is_empty() && scheme != "http" && scheme != "https" {
        found.error(&field.field("scheme"), "invalid redirect scheme, must be \"http\" or \"https\"");
    }
    if port.is_some() && derive_port.is_some() {
        found.error(&field.field("derivePort"), "only one of port and derivePort may be given");
    }
    if port.is_some_and(|port| port > 65535) {
        found.error(&field.field("port"), "port number must be in the range 1..65535");
    }
    if *port == Some(0) {
        found.warning(&field.field("port"), "port 0 has no effect: the request's port stays").help =
            Some("give the port of the new location, or leave `port` out".to_owned());
    }
    if *redirect_code != 0 && !REDIRECT_CODES.contains(redirect_code) {
        let message = if (300..400).contains(redirect_code) {
            format!("{redirect_code} is not a redirect that can be served")
        } else {
            format!("{redirect_code} is not a valid redirect code, must be 3xx")
        };
        found.error_with_help(&field.field("redirectCode"), message, "use one of 301, 302, 303, 307 and 308");
    }
}

/// What a redirect does with the matched prefix needs one.
fn check_prefix_rewrite(
    found: &mut Findings<'_>,
    field: &FieldPath,
    redirect: &HttpRedirect,
    matches: &[HttpMatchRequest],
) {
    if redirect.prefix_rewrite.is_empty() {
        return;
    }
    let place = field.field("redirect").field("prefixRewrite");
    if !redirect.uri.is_empty() {
        found.error(&place, "redirect may only contain one of URI or PrefixRewrite");
    }
    let uris = matches.iter().filter_map(|condition| condition.uri.as_ref());
    if uris.into_iter().any(|uri| uri.exact.is_some() || uri.regex.is_some()) {
        found.error_with_help(
            &place,
            "prefixRewrite of a redirect requires a prefix match",
            "match by `uri: {prefix: …}`, or redirect to a whole path with `uri`",
        );
    }
}

fn check_direct_response(found: &mut Findings<'_>, field: &FieldPath, response: &HttpDirectResponse) {
    let status = response.status;
    if !(200..=599).contains(&status) {
        found.error(&field.field("status"), format!("HTTP status {status} is not in range 200-599"));
    }
    let Some(body) = &response.body else { return };
    let field = field.field("body");
    if body.string.is_some() && body.bytes.is_some() {
        found.error(&field, "only one of string and bytes may be given");
    }
    let decoded = body.bytes.as_ref().map(|text| base64::engine::general_purpose::STANDARD.decode(text));
    if matches!(decoded, Some(Err(_))) {
        found.error(&field.field("bytes"), "not base64");
    }
    let length =
        body.string.as_ref().map_or(0, String::len).max(decoded.and_then(Result::ok).map_or(0, |b| b.len()));
    if length > MAX_BODY {
        found.error(
            &field,
            "large direct_responses may impact control plane performance, must be less than 1MB",
        );
    } else if length > LARGE_BODY {
        found.warning(&field, "large direct_responses may impact control plane performance");
    }
}

fn check_rewrite(found: &mut Findings<'_>, field: &FieldPath, rewrite: &HttpRewrite) {
    let regex = rewrite.uri_regex_rewrite.as_ref();
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && regex.is_none() {
        found.error(
            field,
            "rewrite must specify at least one of URI, UriRegexRewrite, or authority. Only one of URI or \
             UriRegexRewrite may be specified",
        );
    }
    if !rewrite.uri.is_empty() && !rewrite.uri.starts_with('/') {
        let message = format!("\"{}\" makes no path: such requests are answered with 400", rewrite.uri);
        found.warning(&field.field("uri"), message).help =
            Some(format!("a path begins with a slash: `uri: /{}`", rewrite.uri));
    }
    let Some(regex) = regex else { return };
    let field = field.field("uriRegexRewrite");
    if !rewrite.uri.is_empty() {
        found.error(&field, "rewrite may only contain one of URI or UriRegexRewrite");
    }
    if regex.pattern.is_empty() || regex.rewrite.is_empty() {
        found.error(&field, "UriRegexRewrite requires both Rewrite and Match fields to be specified");
    } else {
        let outcome =
            super::text::check_regex(&regex.pattern).map_err(|why| format!("\"uriRegexRewrite\": {why}"));
        found.check(&field.field("match"), outcome);
        found.check(&field.field("rewrite"), check_groups(&regex.pattern, &regex.rewrite));
    }
}

/// `\1` must name a group that the pattern has.
fn check_groups(pattern: &str, rewrite: &str) -> Result<(), String> {
    let Ok(compiled) = Regex::new(&re2::translated(pattern)) else { return Ok(()) };
    let mut characters = rewrite.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            continue;
        }
        match characters.next() {
            Some('\\') => {}
            Some(digit) if digit.is_ascii_digit() => {
                let group = digit as usize - '0' as usize;
                if group >= compiled.captures_len() {
                    return Err(format!("\\{group} names a group that the match does not have"));
                }
            }
            _ => return Err("a backslash must be followed by a digit or another backslash".to_owned()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_name_groups_of_the_match() {
        for (pattern, rewrite, sound) in [
            ("^/a/(.*)$", r"/b/\1", true),
            ("^/a/(.*)$", r"/b/\2", false),
            ("^/a", r"/b\\", true),
            ("^/a", r"/b\x", false),
            ("^/a", r"/b\0", true),
        ] {
            assert_eq!(check_groups(pattern, rewrite).is_ok(), sound, "{pattern} {rewrite}");
        }
    }
}
