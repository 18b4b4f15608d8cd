//! `%DOWNSTREAM_PEER_…%`: what the certificate says that a client has shown and proved to be its own.

use std::borrow::Cow;

use super::record::Request;

/// Which of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerPart {
    /// Of the whole certificate, by SHA-256, in hexadecimal digits.
    Fingerprint,
    /// PEM, escaped as in addresses.
    Certificate,
    Subject,
    UriNames,
    DnsNames,
}

const PARTS: &[(&str, PeerPart)] = &[
    ("DOWNSTREAM_PEER_FINGERPRINT_256", PeerPart::Fingerprint),
    ("DOWNSTREAM_PEER_CERT", PeerPart::Certificate),
    ("DOWNSTREAM_PEER_SUBJECT", PeerPart::Subject),
    ("DOWNSTREAM_PEER_URI_SAN", PeerPart::UriNames),
    ("DOWNSTREAM_PEER_DNS_SAN", PeerPart::DnsNames),
];

impl PeerPart {
    pub(super) fn parse(command: &str) -> Option<Self> {
        PARTS.iter().find(|(name, _)| *name == command).map(|(_, part)| *part)
    }

    /// Out of what backends are told of it (`x-forwarded-client-cert`), several names joined by commas.
    pub(super) fn value(self, request: &Request) -> Option<Cow<'_, str>> {
        let key = match self {
            Self::Fingerprint => "Hash",
            Self::Certificate => "Cert",
            Self::Subject => "Subject",
            Self::UriNames => "URI",
            Self::DnsNames => "DNS",
        };
        let mut values = fields(request.certificate.as_deref()?).filter(|(name, _)| *name == key);
        let first = values.next().map(|(_, value)| unquoted(value)).filter(|value| !value.is_empty())?;
        Some(values.fold(first, |all, (_, value)| format!("{all},{}", unquoted(value)).into()))
    }
}

/// Names and values between semicolons; those within quotes end none.
fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(move |c| {
        let was_escaped = is_escaped;
        is_escaped = c == '\\' && !was_escaped;
        is_quoted ^= c == '"' && !was_escaped;
        c == ';' && !is_quoted
    });
    parts.filter_map(|part| part.split_once('='))
}

fn unquoted(value: &str) -> Cow<'_, str> {
    match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(inner) if inner.contains('\\') => inner.replace("\\\"", "\"").into(),
        Some(inner) => inner.into(),
        None => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_taken_apart() {
        let told = "Hash=ab12;Cert=\"-----BEGIN%20\";Subject=\"CN=a\\\"b;c,O=x\";URI=spiffe://a;DNS=a.test;DNS=b.test";
        let asked = Request { certificate: Some(told.into()), ..Request::default() };
        for (name, want) in [
            ("FINGERPRINT_256", "ab12"),
            ("CERT", "-----BEGIN%20"),
            ("SUBJECT", "CN=a\"b;c,O=x"),
            ("URI_SAN", "spiffe://a"),
            ("DNS_SAN", "a.test,b.test"),
        ] {
            let part = PeerPart::parse(&format!("DOWNSTREAM_PEER_{name}")).unwrap();
            assert_eq!(part.value(&asked).as_deref(), Some(want), "{name}");
            assert_eq!(part.value(&Request::default()), None, "{name}");
        }
        assert_eq!(PeerPart::parse("DOWNSTREAM_PEER_ISSUER"), None);
    }
}
