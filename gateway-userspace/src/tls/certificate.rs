//! Certificates and keys: from PEM to what rustls signs with, and to what the dumps show.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Why a credential cannot be used. No bytes of a key are ever in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No PEM certificate.
    #[error("holds no certificate in PEM form")]
    NoCertificate,
    /// A certificate that cannot be read.
    #[error("certificate cannot be read: {0}")]
    BadCertificate(String),
    /// No PEM private key.
    #[error("holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1)")]
    NoKey,
    /// A kind of key that is not supported.
    #[error("private key cannot be used: {0}")]
    BadKey(String),
    /// Key and certificate don't belong together.
    #[error("private key does not match the certificate")]
    Mismatch,
    /// The client CA bundle.
    #[error("client CA cannot be used: {0}")]
    BadClientCa(String),
    /// The lists of revoked certificates.
    #[error("list of revoked certificates cannot be used: {0}")]
    BadRevocationList(String),
    /// The OCSP response.
    #[error("OCSP response cannot be used: {0}")]
    BadStaple(String),
    /// What the TLS library does not take.
    #[error("TLS settings cannot be used: {0}")]
    BadSettings(String),
}

/// Reads chain and key and proves that they belong together.
pub fn certified_key(
    chain_pem: &[u8],
    key_pem: &[u8],
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain = chain(chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| CertificateError::NoKey)?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| CertificateError::BadKey(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    // By a parser of our own: rustls' reads no certificate of version 1, such as `openssl x509 -req` makes.
    let leaf = parse(certified.end_entity_cert().map_err(|_| CertificateError::NoCertificate)?)?;
    match certified.key.public_key() {
        Some(key) if *key != *leaf.public_key().raw => Err(CertificateError::Mismatch),
        _ => Ok(Arc::new(certified)),
    }
}

/// One certificate, in DER.
pub(super) fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, CertificateError> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(|error| CertificateError::BadCertificate(error.to_string()))
}

/// The names that a server's certificate is for, in lower case: its DNS names, or, where it has no alternative names at all,
/// its common name.
pub(super) fn names(certificate: Option<&CertificateDer<'_>>) -> Result<Vec<String>, CertificateError> {
    let certificate = parse(certificate.ok_or(CertificateError::NoCertificate)?)?;
    let common = || certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let names = match certificate.subject_alternative_name() {
        Ok(Some(alternative)) => alternative.value.general_names.iter().filter_map(dns).collect(),
        _ => common().into_iter().collect::<Vec<_>>(),
    };
    Ok(names.into_iter().map(str::to_ascii_lowercase).collect())
}

fn dns<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::DNSName(name) => Some(name),
        _ => None,
    }
}

/// The CA certificates that client certificates are verified against.
pub fn client_roots(pem: &[u8]) -> Result<RootCertStore, CertificateError> {
    let chain = chain(pem)?;
    roots(&chain).map_err(|error| CertificateError::BadClientCa(error.to_string()))
}

/// Certificates as authorities.
pub(super) fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone())?;
    }
    Ok(roots)
}

/// Lists of revoked certificates; at least one.
pub fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, CertificateError> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::BadRevocationList(error.to_string()))?;
    if lists.is_empty() {
        return Err(CertificateError::BadRevocationList("holds none in PEM form".to_owned()));
    }
    Ok(lists)
}

/// The certificates of a bundle, the first first.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::BadCertificate(error.to_string()))?;
    if chain.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(chain) }
}

/// What people ask of a certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFacts {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Subject, as RFC 4514 writes it.
    pub subject: String,
    /// RFC 3339, UTC.
    pub not_before: String,
    /// RFC 3339, UTC.
    pub not_after: String,
    /// Whether now lies between the two.
    pub in_force: bool,
}

/// Facts of the first certificate of a PEM chain; `None` if it cannot be read.
pub fn facts(chain_pem: &[u8], now: SystemTime) -> Option<CertificateFacts> {
    let chain = chain(chain_pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    let validity = certificate.validity();
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs().cast_signed();
    let time = |at: x509_parser::time::ASN1Time| {
        let at = at.to_datetime();
        let (hour, minute, second) = at.to_hms();
        format!("{}T{hour:02}:{minute:02}:{second:02}Z", at.date())
    };
    Some(CertificateFacts {
        serial: certificate.tbs_certificate.serial.to_str_radix(16),
        subject: certificate.subject().to_string(),
        not_before: time(validity.not_before),
        not_after: time(validity.not_after),
        in_force: (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now),
    })
}

/// What people want to see of a certificate before it matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Subject, as RFC 4514 writes it.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// Alternative names: of DNS, addresses, URIs, mailboxes.
    pub names: Vec<String>,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Such as `ECDSA, 256 bits`.
    pub key: String,
}

/// Of the first certificate of a PEM chain; `None` if it cannot be read.
pub fn shown(chain_pem: &[u8]) -> Option<Shown> {
    let chain = chain(chain_pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    Some(Shown {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names: names.filter_map(name).collect(),
        serial: certificate.tbs_certificate.serial.to_str_radix(16),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        key: key_words(&certificate),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    }
}

/// `id-Ed25519` (RFC 8410, 3).
const ED25519: &str = "1.3.101.112";

fn key_words(certificate: &X509Certificate<'_>) -> String {
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA, {} bits", rsa.key_size()),
        Ok(PublicKey::EC(point)) => format!("ECDSA, {} bits", point.key_size()),
        _ if key.algorithm.algorithm.to_id_string() == ED25519 => "Ed25519".to_owned(),
        _ => "another kind".to_owned(),
    }
}

/// The same of the first certificate of a chain in PEM.
pub fn bounds(chain_pem: &[u8]) -> Option<(i64, i64)> {
    validity(chain(chain_pem).ok()?.first()?)
}

/// Seconds since 1970 between which a certificate is valid, both included; `None` if it cannot be read.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Whether a certificate has one of the names among its alternative names: those of DNS, of which one of the
/// certificate's may begin with a wildcard, or an address, URI or mailbox as it stands there.
pub(super) fn is_for_any(certificate: &CertificateDer<'_>, names: &[Arc<str>]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return false };
    extension.value.general_names.iter().any(|general| match general {
        GeneralName::DNSName(pattern) => names.iter().any(|name| covers(pattern, name)),
        GeneralName::URI(text) | GeneralName::RFC822Name(text) => names.iter().any(|name| **name == **text),
        GeneralName::IPAddress(bytes) => {
            let address = address(bytes);
            names.iter().any(|name| address.is_some() && name.parse().ok() == address)
        }
        _ => false,
    })
}

/// Whether a name of a certificate is that name, or all names of its level (RFC 6125, 6.4.3).
fn covers(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let (Some(parent), Some((label, rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else {
        return false;
    };
    !label.is_empty() && parent.eq_ignore_ascii_case(rest)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
