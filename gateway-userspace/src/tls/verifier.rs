//! Which clients get in: those whose certificate the authority signed (webpki says so), and which is what the document asks
//! for besides. The rules beyond webpki's are Envoy's.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError as Refusal, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::certificate::{self, CertificateError};
use super::version_one::VersionOne;
use crate::model::{ClientAuthority, ClientPolicy};

/// Verifies the clients of a server.
#[derive(Debug)]
pub(super) struct Verifier {
    chains: Arc<dyn ClientCertVerifier>,
    version_one: VersionOne,
    policy: ClientPolicy,
}

impl Verifier {
    /// One for an authority's clients; `is_optional` lets in those that show nothing.
    pub(super) fn new(
        authority: &ClientAuthority,
        policy: &ClientPolicy,
        is_optional: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, CertificateError> {
        let roots = Arc::new(certificate::client_roots(&authority.bundle)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
        let builder = match &authority.revoked {
            // Each certificate of the chain must be covered by a list that is in force.
            Some(lists) => {
                builder.with_crls(certificate::revocation_lists(lists)?).enforce_revocation_expiration()
            }
            None => builder,
        };
        let chains = builder.build().map_err(|error| match &authority.revoked {
            Some(_) => CertificateError::BadRevocationList(error.to_string()),
            None => CertificateError::BadClientCa(error.to_string()),
        })?;
        let version_one = VersionOne::new(authority, provider.signature_verification_algorithms)?;
        Ok(Self { chains, version_one, policy: policy.clone() })
    }

    /// Names and hashes; any of a list suffices.
    fn fits(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let refused = || Error::InvalidCertificate(Refusal::ApplicationVerificationFailure);
        let parsed =
            certificate::parse(certificate).map_err(|_| Error::InvalidCertificate(Refusal::BadEncoding))?;
        let ClientPolicy { names, public_keys, certificates, .. } = &self.policy;
        if !names.is_empty() && !names.iter().any(|name| has_name(&parsed, name)) {
            return Err(refused());
        }
        let is_pinned = !public_keys.is_empty() || !certificates.is_empty();
        let fits = |list: &[[u8; 32]], bytes: &[u8]| list.contains(&Sha256::digest(bytes).into());
        if is_pinned && !fits(certificates, certificate) && !fits(public_keys, parsed.public_key().raw) {
            return Err(refused());
        }
        Ok(())
    }
}

/// Whether one of the certificate's alternative names is the name: DNS without case, and with a wildcard of the certificate's
/// standing for one label; all others exactly.
fn has_name(certificate: &X509Certificate<'_>, name: &str) -> bool {
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return false };
    alternative.value.general_names.iter().any(|shown| match shown {
        GeneralName::DNSName(shown) => is_dns(shown, name),
        GeneralName::URI(shown) | GeneralName::RFC822Name(shown) => *shown == name,
        GeneralName::IPAddress(shown) => address(shown).is_some_and(|shown| shown.to_string() == name),
        _ => false,
    })
}

fn is_dns(shown: &str, name: &str) -> bool {
    if shown.eq_ignore_ascii_case(name) {
        return true;
    }
    let beyond = |text: &str| text.split_once('.').map(|(_, rest)| rest.to_ascii_lowercase());
    shown.starts_with("*.") && beyond(shown).is_some_and(|rest| Some(rest) == beyond(name))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.policy.accept_any {
            return Ok(ClientCertVerified::assertion());
        }
        if VersionOne::is_of(end_entity) {
            self.version_one.verify(end_entity, now)?;
        } else {
            self.chains.verify_client_cert(end_entity, intermediates, now)?;
        }
        self.fits(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if VersionOne::is_of(certificate) {
            return self.version_one.verify_tls12_signature(message, certificate, signature);
        }
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if VersionOne::is_of(certificate) {
            return self.version_one.verify_tls13_signature(message, certificate, signature);
        }
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
