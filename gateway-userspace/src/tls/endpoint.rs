//! Whether an endpoint's certificate is taken for it: by its chain, and by the names that it is for.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate;
use super::version_one::VersionOne;

/// What a policy demands of certificates, whoever is asked for.
#[derive(Debug)]
pub(super) struct Judge {
    /// `None` believes anyone.
    pub(super) chains: Option<Arc<WebPkiServerVerifier>>,
    /// Verifies what webpki does not read. Its authorities are those of the bundle, and believed as they are: an endpoint may
    /// show the very certificate that the bundle holds, signed by itself.
    pub(super) version_one: VersionOne,
    /// Names of which a certificate must have one; none: any.
    pub(super) names: Vec<Arc<str>>,
}

/// A judge, and whether the name that is asked for counts.
#[derive(Debug)]
pub(super) struct EndpointVerifier {
    pub(super) judge: Arc<Judge>,
    pub(super) verifies_host: bool,
}

impl ServerCertVerifier for EndpointVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Judge { chains, version_one, names } = &*self.judge;
        let Some(chains) = chains else { return Ok(ServerCertVerified::assertion()) };
        if version_one.authorities.iter().any(|pinned| pinned == end_entity) {
            check_time(end_entity, now)?;
        } else if VersionOne::is_of(end_entity) {
            version_one.verify(end_entity, now)?;
        } else {
            // The name comes last: who fails by it alone has a chain that is believed.
            match chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ))
                | Ok(_) => {}
                Err(other) => return Err(other),
            }
        }
        if self.verifies_host {
            // One of version 1 has no name that counts.
            if VersionOne::is_of(end_entity) {
                return Err(CertificateError::NotValidForName.into());
            }
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        if !names.is_empty() && !certificate::is_for_any(end_entity, names) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let version_one = &self.judge.version_one;
        if VersionOne::is_of(certificate) {
            return version_one.verify_tls12_signature(message, certificate, signature);
        }
        verify_tls12_signature(message, certificate, signature, &version_one.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let version_one = &self.judge.version_one;
        if VersionOne::is_of(certificate) {
            return version_one.verify_tls13_signature(message, certificate, signature);
        }
        verify_tls13_signature(message, certificate, signature, &version_one.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.version_one.algorithms.supported_schemes()
    }
}

fn check_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let Some((not_before, not_after)) = certificate::validity(certificate) else {
        return Err(CertificateError::BadEncoding.into());
    };
    match i64::try_from(now.as_secs()) {
        Ok(now) if now < not_before => Err(CertificateError::NotValidYet.into()),
        Ok(now) if now <= not_after => Ok(()),
        _ => Err(CertificateError::Expired.into()),
    }
}
