//! Host names in Istio's sense: DNS names of which the left-most label may be `*`.

use std::net::IpAddr;

/// What a host may be made of.
pub(super) const HELP: &str = "letters, digits and dashes, with dots between the labels, such as `web.example.com`; the \
                               first label may be `*`";

/// RFC 1123 label.
pub(super) fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    label.len() <= 63
        && label.bytes().all(inner)
        && label.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && label.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// A DNS name, or one whose first label is a wildcard.
pub(super) fn check_wildcard_domain(name: &str) -> Result<(), String> {
    if name.len() > 255 {
        return Err(format!("domain name \"{name}\" too long (max length is 255)"));
    }
    if name.is_empty() {
        return Err("empty domain name not allowed".to_owned());
    }
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let tail = first.strip_prefix("*-").or_else(|| first.strip_prefix('*')).unwrap_or(first);
    if first != "*" && !is_label(tail) {
        return Err(format!("domain name \"{name}\" invalid (label \"{first}\" invalid)"));
    }
    if first != "*" && first.starts_with('*') {
        return Err(format!("partial wildcard \"{name}\" not allowed"));
    }
    rest.map_or(Ok(()), check_labels)
}

fn check_labels(domain: &str) -> Result<(), String> {
    let labels: Vec<&str> = domain.split('.').collect();
    let last = labels.len() - 1;
    let top = labels[last];
    if !top.is_empty() && top.bytes().all(|byte| byte.is_ascii_digit()) {
        let why = format!("top level domain \"{top}\" cannot be all-numeric");
        return Err(format!("domain name \"{domain}\" invalid ({why})"));
    }
    for (at, label) in labels.into_iter().enumerate() {
        if at == last && label.is_empty() {
            return Ok(());
        }
        if !is_label(label) {
            return Err(format!("domain name \"{domain}\" invalid (label \"{label}\" invalid)"));
        }
    }
    Ok(())
}

/// A subset's name.
pub(super) fn check_subset(name: &str) -> Result<(), String> {
    match name {
        "" => Err("subset name cannot be empty".to_owned()),
        name if is_label(name) => Ok(()),
        name => Err(format!("subset name is invalid: {name}")),
    }
}

/// A host of a VirtualService: a name, a wildcard, or an address.
pub(super) fn check_host(name: &str) -> Result<(), String> {
    if name.parse::<IpAddr>().is_ok() { Ok(()) } else { check_wildcard_domain(name) }
}

/// `servers[].hosts[]`.
pub(super) fn check_server_host(entry: &str) -> Result<(), String> {
    let Some((namespace, name)) = entry.split_once('/') else { return check_dns_name(entry) };
    if namespace.is_empty() || name.is_empty() {
        return Err("config namespace and dnsName in host entry cannot be empty".to_owned());
    }
    if !matches!(namespace, "*" | ".") && !is_label(namespace) {
        return Err(format!("invalid namespace value \"{namespace}\" in gateway"));
    }
    check_dns_name(name)
}

fn check_dns_name(name: &str) -> Result<(), String> {
    if name.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    check_wildcard_domain(name)?;
    if name != "*" && !name.contains('.') {
        return Err("short names (non FQDN) are not allowed".to_owned());
    }
    Ok(())
}

/// Whether some name is meant by both: Istio calls that duplicate within one document.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

/// Whether every name that `narrow` means is meant by `wide`.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    match wide.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => {
            let narrow = narrow.strip_prefix('*').map_or((narrow, 1), |tail| (tail, 0));
            narrow.0.len() >= suffix.len() + narrow.1
                && narrow.0.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase())
        }
        None => wide.eq_ignore_ascii_case(narrow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_hosts_are_checked_in_istios_words() {
        for (host, want) in [
            ("a.example.com", None),
            ("*.example.com", None),
            ("*", None),
            ("ns/*", None),
            ("./a.example.com", None),
            ("*/a.example.com", None),
            ("10.0.0.1", None),
            ("a.example.com.", None),
            ("short", Some("short names (non FQDN) are not allowed")),
            ("*foo.com", Some("partial wildcard \"*foo.com\" not allowed")),
            ("foo.1", Some("domain name \"1\" invalid (top level domain \"1\" cannot be all-numeric)")),
            ("/a.com", Some("config namespace and dnsName in host entry cannot be empty")),
            ("a/", Some("config namespace and dnsName in host entry cannot be empty")),
            ("a_b/a.com", Some("invalid namespace value \"a_b\" in gateway")),
            (
                "simple-sni=1.istioinaction.io",
                Some(
                    "domain name \"simple-sni=1.istioinaction.io\" invalid (label \"simple-sni=1\" invalid)",
                ),
            ),
            ("a.*.com", Some("domain name \"*.com\" invalid (label \"*\" invalid)")),
            ("", Some("empty domain name not allowed")),
        ] {
            assert_eq!(check_server_host(host).err().as_deref(), want, "{host}");
        }
    }

    #[test]
    fn overlapping_hosts_count_as_duplicates() {
        for (a, b, want) in [
            ("a.foo.com", "*", true),
            ("*.foo.com", "a.foo.com", true),
            ("*.foo.com", "*.com", true),
            ("*.foo.com", "foo.com", false),
            ("a.com", "b.com", false),
        ] {
            assert_eq!(overlap(a, b), want, "{a} {b}");
        }
    }
}
