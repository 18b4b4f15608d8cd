//! `http` rules.

use base64::Engine as _;
use regex::Regex;

use crate::api::diagnostic::{Code, Severity};
use crate::api::path::FieldPath;
use crate::api::virtual_service::{
    HttpDirectResponse, HttpMatchRequest, HttpRedirect, HttpRewrite, HttpRoute, HttpRouteDestination,
    StringMatch,
};

use super::cors::check_cors;
use super::fault::check_fault;
use super::headers::check_headers;
use super::mirror::check_mirrors;
use super::retry::check_retries;
use super::text::{EmptyPrefix, check_match};
use super::virtual_service::{check_destination, check_weights};
use super::{Findings, check_duration};

/// Codes that lead to an action; Istio lets the others pass and then serves no new routes at all.
const REDIRECT_CODES: [u32; 5] = [301, 302, 303, 307, 308];
/// Largest body of a direct response, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// Body that Istio warns of, in bytes.
const LARGE_BODY: usize = 100 * 1024;

pub(super) fn check_rule(found: &mut Findings<'_>, field: &FieldPath, rule: &HttpRoute) {
    check_action(found, field, rule);
    for (at, condition) in rule.matches.iter().enumerate() {
        check_condition(found, &field.field("match").index(at), condition);
    }
    check_destinations(found, &field.field("route"), &rule.route);
    if let Some(redirect) = &rule.redirect {
        check_redirect(found, &field.field("redirect"), redirect);
    }
    if let Some(response) = &rule.direct_response {
        check_direct_response(found, &field.field("directResponse"), response);
    }
    if let Some(rewrite) = &rule.rewrite {
        check_rewrite(found, &field.field("rewrite"), rewrite);
    }
    if let Some(headers) = &rule.headers {
        check_headers(found, field, headers);
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
    }
    check_mirrors(found, field, rule);
}

fn check_action(found: &mut Findings<'_>, field: &FieldPath, rule: &HttpRoute) {
    let has = [
        ("route", !rule.route.is_empty()),
        ("redirect", rule.redirect.is_some()),
        ("direct_response", rule.direct_response.is_some()),
        ("delegate", rule.delegate.is_some()),
        ("rewrite", rule.rewrite.is_some()),
        ("fault", rule.fault.is_some()),
        ("mirror", rule.mirror.is_some()),
        ("mirrors", !rule.mirrors.is_empty()),
    ];
    let set = |name: &str| has.iter().any(|(field, set)| *field == name && *set);
    if !set("route") && !set("redirect") && !set("direct_response") && !set("delegate") {
        found.error_with_help(
            field,
            "HTTP route, redirect or direct_response is required",
            "say where the requests go: `route:`, `redirect:` or `directResponse:`",
        );
    }
    for (a, b) in [
        ("route", "redirect"),
        ("fault", "redirect"),
        ("rewrite", "redirect"),
        ("redirect", "direct_response"),
        ("route", "direct_response"),
        ("fault", "direct_response"),
        ("rewrite", "direct_response"),
        ("mirror", "mirrors"),
    ] {
        if set(a) && set(b) {
            found.error(field, format!("HTTP route cannot contain both {a} and {b}"));
        }
    }
}

fn check_condition(found: &mut Findings<'_>, field: &FieldPath, condition: &HttpMatchRequest) {
    for (name, value, empty_prefix) in [
        ("uri", &condition.uri, EmptyPrefix::Allowed),
        ("scheme", &condition.scheme, EmptyPrefix::Refused),
        ("method", &condition.method, EmptyPrefix::Refused),
        ("authority", &condition.authority, EmptyPrefix::Refused),
    ] {
        if let Some(value) = value {
            check_match(found, &field.field(name), name, value, empty_prefix);
        }
    }
    for (name, conditions) in [
        ("headers", &condition.headers),
        ("withoutHeaders", &condition.without_headers),
        ("queryParams", &condition.query_params),
    ] {
        for (key, value) in conditions {
            let field = field.field(name).field(key);
            check_match(found, &field, name, value, EmptyPrefix::Refused);
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

fn check_header_key(found: &mut Findings<'_>, field: &FieldPath, key: &str) {
    if key.starts_with("@request.auth.") {
        let message = format!("{key}: routing by JWT claims is not yet supported and must not be ignored");
        found.add(Severity::Error, Code::NotEnforced, field, message);
    } else if http::HeaderName::from_bytes(key.as_bytes()).is_err() {
        found.error(field, format!("header name \"{key}\" is not a valid header name"));
    }
}

fn check_destinations(found: &mut Findings<'_>, field: &FieldPath, route: &[HttpRouteDestination]) {
    for (at, destination) in route.iter().enumerate() {
        let field = field.index(at);
        check_destination(found, &field, destination.destination.as_ref());
        if let Some(headers) = &destination.headers {
            check_headers(found, &field, headers);
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
    if *redirect_code != 0 && !REDIRECT_CODES.contains(redirect_code) {
        let message = if (300..400).contains(redirect_code) {
            format!("{redirect_code} is not a redirect that can be served")
        } else {
            format!("{redirect_code} is not a valid redirect code, must be 3xx")
        };
        found.error_with_help(&field.field("redirectCode"), message, "use one of 301, 302, 303, 307 and 308");
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
    let Ok(compiled) = Regex::new(pattern) else { return Ok(()) };
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

/// Warns of rules that come behind one which takes every request, and of matches behind a wider one.
pub(super) fn check_reachable(found: &mut Findings<'_>, field: &FieldPath, rules: &[HttpRoute]) {
    let mut prefixes: Vec<(String, usize, usize)> = Vec::new();
    let mut catch_all: Option<usize> = None;
    for (at, rule) in rules.iter().enumerate() {
        if let Some(earlier) = catch_all {
            let why = if rule.matches.is_empty() {
                "only the last rule can have no matches"
            } else {
                "route without matches defined before"
            };
            let message = format!("virtualService rule {} not used ({why})", label(rule, at));
            let diagnostic = found.add(Severity::Warning, Code::UnreachableRule, &field.index(at), message);
            diagnostic.help = Some(format!(
                "rule {} takes every request: move it to the end",
                label(&rules[earlier], earlier)
            ));
            continue;
        }
        if rule.matches.is_empty() {
            catch_all = Some(at);
        }
        check_prefixes(found, &field.index(at).field("match"), (at, rule), &mut prefixes);
    }
}

fn check_prefixes(
    found: &mut Findings<'_>,
    field: &FieldPath,
    (rule_at, rule): (usize, &HttpRoute),
    prefixes: &mut Vec<(String, usize, usize)>,
) {
    // Bounded: comparing thousands of matches with each other is not worth a warning.
    for (at, condition) in rule.matches.iter().enumerate().take(100) {
        let Some(uri) = &condition.uri else { continue };
        let (kind, path) = match uri {
            StringMatch { prefix: Some(prefix), .. } => ("prefix", prefix),
            StringMatch { exact: Some(exact), .. } => ("exact", exact),
            _ => continue,
        };
        if let Some((prefix, rule, index)) =
            prefixes.iter().find(|(prefix, ..)| path.starts_with(prefix.as_str()))
        {
            let message = format!(
                "VirtualService rule #{rule_at} match #{at} of {kind} {path} is not used (duplicate/overlapping match in \
                 rule #{rule} of prefix {prefix} on #{index})"
            );
            found.add(Severity::Info, Code::IneffectiveMatch, &field.index(at), message);
        } else if kind == "prefix" && is_path_only(condition) && prefixes.len() < 1000 {
            prefixes.push((path.clone(), rule_at, at));
        }
    }
}

fn is_path_only(condition: &HttpMatchRequest) -> bool {
    let HttpMatchRequest { scheme, method, authority, headers, without_headers, query_params, .. } =
        condition;
    [scheme, method, authority].iter().all(|value| value.is_none())
        && [headers, without_headers, query_params].iter().all(|map| map.is_empty())
        && !condition.ignore_uri_case
        && condition.port == 0
        && condition.gateways.is_empty()
        && condition.source_labels.is_empty()
        && condition.source_namespace.is_empty()
}

fn label(rule: &HttpRoute, at: usize) -> String {
    if rule.name.is_empty() { format!("#{at}") } else { format!("\"{}\"", rule.name) }
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
