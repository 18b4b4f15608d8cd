//! Whether an endpoint's certificate is taken for it: by its chain, and by the names that it is for.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate;

/// What a policy demands of certificates, whoever is asked for.
#[derive(Debug)]
pub(super) struct Judge {
    /// `None` believes anyone.
    pub(super) chains: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that are believed as they are: those of the bundle, as an endpoint may show the very one that the
    /// bundle holds, signed by itself.
    pub(super) pinned: Vec<CertificateDer<'static>>,
    /// Names of which a certificate must have one; none: any.
    pub(super) names: Vec<Arc<str>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
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
        let Judge { chains, pinned, names, .. } = &*self.judge;
        let Some(chains) = chains else { return Ok(ServerCertVerified::assertion()) };
        if pinned.iter().any(|pinned| pinned == end_entity) {
            check_time(end_entity, now)?;
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
        verify_tls12_signature(message, certificate, signature, &self.judge.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.judge.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.algorithms.supported_schemes()
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
