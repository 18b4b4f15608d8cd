//! What backends are told of a client's certificate: `x-forwarded-client-cert` as Envoy writes it at Istio's gateway, with
//! hash, certificate, subject, URI and DNS names.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The header's value for a certificate in DER; `None` for one that cannot be read.
pub fn client_certificate(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |extension| extension.value.general_names.as_slice());
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let domains = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let mut parts = vec![
        format!("Hash={}", hex(&Sha256::digest(der))),
        format!("Cert=\"{}\"", escaped_pem(der)),
        format!("Subject=\"{}\"", subject(certificate.subject())),
    ];
    // The key is there without a URI too.
    parts.extend(keyed("URI", uris));
    if parts.len() == 3 {
        parts.push("URI=".to_owned());
    }
    parts.extend(keyed("DNS", domains));
    Some(parts.join(";"))
}

fn keyed<'a>(key: &str, values: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    values.map(move |value| format!("{key}={value}"))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// PEM in which what a header may not hold, and base64's signs, are percent-encoded.
fn escaped_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut escaped = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for (at, sign) in body.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            escaped.push_str("%0A");
        }
        match sign {
            '+' => escaped.push_str("%2B"),
            '/' => escaped.push_str("%2F"),
            '=' => escaped.push_str("%3D"),
            sign => escaped.push(sign),
        }
    }
    escaped + "%0A-----END%20CERTIFICATE-----%0A"
}

/// RFC 2253: the last part first.
fn subject(name: &X509Name<'_>) -> String {
    let parts = name.iter_rdn().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"));
    let mut parts: Vec<String> = parts.collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let abbreviation = oid2abbrev(oid, oid_registry()).map(str::to_owned);
    let key = abbreviation.unwrap_or_else(|_| oid.to_id_string());
    match attribute.as_str() {
        Ok(value) => format!("{key}={}", escaped(value)),
        Err(_) => format!("{key}=#{}", hex(attribute.attr_value().data)),
    }
}

/// RFC 2253, 2.4. Bytes beyond ASCII are written as hex, as OpenSSL does: a header holds no others safely.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        let is_edge = (at == 0 && matches!(byte, b'#' | b' ')) || (at == last && byte == b' ');
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', byte as char]),
            b' '..=b'~' if is_edge => out.extend(['\\', byte as char]),
            b' '..=b'~' => out.push(byte as char),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "Ac, me");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_is_told_in_envoys_words() {
        let uri = SanType::URI("spiffe://x/ns/a/sa/b".try_into().unwrap());
        let domain = SanType::DnsName("alice.test".try_into().unwrap());
        let der = certificate(vec![domain, uri]);
        let told = client_certificate(der.der()).unwrap();
        let parts: Vec<&str> = told.split(';').collect();
        let [hash, pem, subject, uri, dns] = parts[..] else { panic!("{told}") };
        assert_eq!(hash.strip_prefix("Hash=").map(str::len), Some(64));
        assert_eq!(subject, r#"Subject="O=Ac\, me,CN=alice""#);
        assert_eq!((uri, dns), ("URI=spiffe://x/ns/a/sa/b", "DNS=alice.test"));
        let pem = pem.strip_prefix("Cert=\"").and_then(|pem| pem.strip_suffix('"')).unwrap();
        let signs = [("%0A", "\n"), ("%20", " "), ("%2B", "+"), ("%2F", "/"), ("%3D", "=")];
        let decoded = signs.iter().fold(pem.to_owned(), |text, (code, sign)| text.replace(code, sign));
        assert_eq!(decoded.replace('\r', ""), der.pem().replace('\r', ""));
    }

    #[test]
    fn the_uri_key_is_there_without_one_and_what_is_no_certificate_is_not_told() {
        let der = certificate(Vec::new());
        assert!(client_certificate(der.der()).unwrap().ends_with(";URI="));
        assert_eq!(client_certificate(b"\x30\x03\x02\x01\x01"), None);
    }
}
