//! Certificates of clients and backends of X.509 version 1. They have no extensions; `openssl x509 -req` makes them as long as it is not told
//! otherwise, and Istio's tutorials with it. webpki reads none, so that they are verified here, by the same algorithms: such a
//! certificate counts where an authority of the bundle itself signed it.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError as Refusal, DigitallySignedStruct, Error};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer,
    UnixTime,
};
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use super::certificate::{self, CertificateError};
use crate::model::ClientAuthority;

/// Verifies such certificates.
#[derive(Debug)]
pub(super) struct VersionOne {
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// With any, one of the authority's must say that the certificate is not revoked.
    pub(super) revoked: Option<Vec<CertificateRevocationListDer<'static>>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl VersionOne {
    /// For an authority's clients.
    pub(super) fn new(
        authority: &ClientAuthority,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, CertificateError> {
        let authorities = certificate::chain(&authority.bundle)?;
        let revoked = authority.revoked.as_deref().map(certificate::revocation_lists).transpose()?;
        Ok(Self { authorities, revoked, algorithms })
    }

    /// Whether a certificate is of that version.
    pub(super) fn is_of(certificate: &CertificateDer<'_>) -> bool {
        certificate::parse(certificate).is_ok_and(|parsed| parsed.version() == X509Version::V1)
    }

    /// Whether an authority of the bundle signed it, and both are in force.
    pub(super) fn verify(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let leaf = parsed(certificate)?;
        in_force(&leaf, now)?;
        let mut authorities = self.authorities.iter().filter_map(|it| certificate::parse(it).ok());
        let signed = |authority: &X509Certificate<'_>| {
            // A bundle may hold a certificate that is no authority's; one of version 1 cannot say which it is.
            (authority.is_ca() || authority.version() == X509Version::V1)
                && authority.subject().as_raw() == leaf.issuer().as_raw()
                && in_force(authority, now).is_ok()
                && self.is_signed_by(certificate, authority.public_key())
        };
        let authority = authorities.find(signed).ok_or(Error::InvalidCertificate(Refusal::UnknownIssuer))?;
        match &self.revoked {
            Some(lists) => self.is_not_revoked(&leaf, &authority, lists, now),
            None => Ok(()),
        }
    }

    /// By the authority's own list, which must be in force.
    fn is_not_revoked(
        &self,
        leaf: &X509Certificate<'_>,
        authority: &X509Certificate<'_>,
        lists: &[CertificateRevocationListDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let refused = |why| Err(Error::InvalidCertificate(why));
        let mut read =
            lists.iter().filter_map(|list| Some((list, CertificateRevocationList::from_der(list).ok()?.1)));
        let own = read.find(|(list, parsed)| {
            parsed.issuer().as_raw() == leaf.issuer().as_raw()
                && self.is_signed_by(list, authority.public_key())
        });
        let Some((_, list)) = own else { return refused(Refusal::UnknownRevocationStatus) };
        let is_late = |next: ASN1Time| next.timestamp() < now.as_secs().cast_signed();
        if list.next_update().is_none_or(is_late) {
            return refused(Refusal::ExpiredRevocationList);
        }
        if list.iter_revoked_certificates().any(|revoked| revoked.raw_serial() == leaf.raw_serial()) {
            return refused(Refusal::Revoked);
        }
        Ok(())
    }

    /// Whether a key signed a certificate or a list, which are built alike.
    fn is_signed_by(&self, signed: &[u8], key: &SubjectPublicKeyInfo<'_>) -> bool {
        let Some([to_be_signed, algorithm, signature]) = signed_parts(signed) else { return false };
        let Some((key_algorithm, key)) = key_parts(key.raw) else { return false };
        let fitting = self.algorithms.all.iter().filter(|it| {
            *it.signature_alg_id() == *algorithm.content && *it.public_key_alg_id() == *key_algorithm
        });
        let Some(signature) = bit_string(signature.content) else { return false };
        fitting.into_iter().any(|it| it.verify_signature(key, to_be_signed.whole, signature).is_ok())
    }

    /// Its owner's proof that it has the key.
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

/// What is signed, by which algorithm, and the signature (RFC 5280, 4.1 and 5.1).
fn signed_parts(signed: &[u8]) -> Option<[Element<'_>; 3]> {
    let (signed, _) = element(signed)?;
    let (to_be_signed, rest) = element(signed.content)?;
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
