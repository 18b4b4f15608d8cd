//! Clients' certificates of X.509 version 1. They have no extensions; `openssl x509 -req` makes them as long as it is not told
//! otherwise, and Istio's tutorials with it. webpki reads none, so that they are verified here, by the same algorithms: such a
//! certificate counts where an authority of the bundle itself signed it.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError as Refusal, DigitallySignedStruct, Error};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use super::certificate::{self, CertificateError};
use crate::model::ClientAuthority;

/// Verifies such certificates.
#[derive(Debug)]
pub(super) struct VersionOne {
    authorities: Vec<CertificateDer<'static>>,
    /// With lists of revoked certificates none gets in: webpki alone reads those.
    is_revocable: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl VersionOne {
    pub(super) fn new(
        authority: &ClientAuthority,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, CertificateError> {
        let authorities = certificate::chain(&authority.bundle)?;
        Ok(Self { authorities, is_revocable: authority.revoked.is_some(), algorithms })
    }

    /// Whether a certificate is of that version.
    pub(super) fn is_of(certificate: &CertificateDer<'_>) -> bool {
        certificate::parse(certificate).is_ok_and(|parsed| parsed.version() == X509Version::V1)
    }

    /// Whether an authority of the bundle signed it, and both are in force.
    pub(super) fn verify(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let leaf = parsed(certificate)?;
        if self.is_revocable {
            return Err(Error::InvalidCertificate(Refusal::UnknownRevocationStatus));
        }
        in_force(&leaf, now)?;
        let authorities = self.authorities.iter().filter_map(|authority| certificate::parse(authority).ok());
        let signed = |authority: X509Certificate<'_>| {
            authority.subject().as_raw() == leaf.issuer().as_raw()
                && in_force(&authority, now).is_ok()
                && self.is_signed_by(certificate, authority.public_key())
        };
        if authorities.into_iter().any(signed) {
            return Ok(());
        }
        Err(Error::InvalidCertificate(Refusal::UnknownIssuer))
    }

    fn is_signed_by(&self, certificate: &CertificateDer<'_>, key: &SubjectPublicKeyInfo<'_>) -> bool {
        let Some([to_be_signed, algorithm, signature]) = signed_parts(certificate) else { return false };
        let Some((key_algorithm, key)) = key_parts(key.raw) else { return false };
        let fitting = self.algorithms.all.iter().filter(|it| {
            *it.signature_alg_id() == *algorithm.content && *it.public_key_alg_id() == *key_algorithm
        });
        let Some(signature) = bit_string(signature.content) else { return false };
        fitting.into_iter().any(|it| it.verify_signature(key, to_be_signed.whole, signature).is_ok())
    }

    /// The client's proof that it has the key.
    pub(super) fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = || Error::InvalidCertificate(Refusal::BadSignature);
        let leaf = parsed(certificate)?;
        let (key_algorithm, key) = key_parts(leaf.public_key().raw).ok_or_else(bad)?;
        let mapped = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
        let algorithms: &[&dyn SignatureVerificationAlgorithm] = mapped.map_or(&[], |(_, all)| all);
        let fitting =
            algorithms.iter().find(|it| *it.public_key_alg_id() == *key_algorithm).ok_or_else(bad)?;
        fitting.verify_signature(key, message, signature.signature()).map_err(|_| bad())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    /// The same in TLS 1.3.
    pub(super) fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let leaf = parsed(certificate)?;
        let key = SubjectPublicKeyInfoDer::from(leaf.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    certificate::parse(certificate).map_err(|_| Error::InvalidCertificate(Refusal::BadEncoding))
}

fn in_force(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let (validity, now) = (certificate.validity(), now.as_secs().cast_signed());
    let refusal = match now {
        now if now < validity.not_before.timestamp() => Refusal::NotValidYet,
        now if now > validity.not_after.timestamp() => Refusal::Expired,
        _ => return Ok(()),
    };
    Err(Error::InvalidCertificate(refusal))
}

/// An element of DER, with its header and without.
struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
}

fn element(der: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (rest, any) = Any::from_der(der).ok()?;
    Some((Element { whole: &der[..der.len() - rest.len()], content: any.data }, rest))
}

/// What is signed, by which algorithm, and the signature (RFC 5280, 4.1).
fn signed_parts(certificate: &[u8]) -> Option<[Element<'_>; 3]> {
    let (certificate, _) = element(certificate)?;
    let (to_be_signed, rest) = element(certificate.content)?;
    let (algorithm, rest) = element(rest)?;
    let (signature, _) = element(rest)?;
    Some([to_be_signed, algorithm, signature])
}

/// The algorithm of a public key, and its bits.
fn key_parts(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, _) = element(key)?;
    let (algorithm, rest) = element(key.content)?;
    let (bits, _) = element(rest)?;
    Some((algorithm.content, bit_string(bits.content)?))
}

/// A bit string of whole bytes.
fn bit_string(content: &[u8]) -> Option<&[u8]> {
    content.strip_prefix(&[0])
}
