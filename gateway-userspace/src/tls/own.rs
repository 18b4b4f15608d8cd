//! A certificate that the gateway makes for itself, where it is called by somebody who can be told whom to trust: the API
//! server, by its admission webhooks.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use zeroize::Zeroizing;

use super::certificate::{self, CertificateError};

/// Clocks of machines differ: it is good from so long before now.
const BEFORE: Duration = Duration::from_hours(1);

/// Certificate and key, and whom to trust who trusts it.
#[derive(Clone)]
pub struct OwnCertificate {
    /// PEM.
    pub certificate: String,
    /// PEM (PKCS #8).
    pub key: Zeroizing<String>,
    /// The certificate of the authority that signed it and nothing else, PEM. Its key is gone.
    pub authority: String,
}

/// Makes one for these names.
pub fn issue(names: &[String], lifetime: Duration, now: SystemTime) -> Result<OwnCertificate, rcgen::Error> {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let within = |mut params: CertificateParams, name: &str| {
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = epoch + since.saturating_sub(BEFORE);
        params.not_after = epoch + since + lifetime;
        params
    };
    let mut authority = within(CertificateParams::default(), "sluice admission");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let mut server = within(CertificateParams::new(names)?, names.first().map_or("sluice", String::as_str));
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok(OwnCertificate {
        certificate: certificate.pem(),
        key: Zeroizing::new(key.serialize_pem()),
        authority: authority_certificate.pem(),
    })
}

/// What a server needs to show it.
pub fn server_config(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, CertificateError> {
    let provider = aws_lc_rs::default_provider();
    let key = certificate::certified_key(certificate, key, &provider)?;
    let bad = |error: rustls::Error| CertificateError::BadSettings(error.to_string());
    let builder =
        ServerConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from((*key).clone()));
    Ok(Arc::new(builder.map_err(bad)?.with_no_client_auth().with_cert_resolver(resolver)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_good_for_its_time_and_can_be_shown() {
        let now = UNIX_EPOCH + Duration::from_hours(24 * 365 * 56);
        let own = issue(&["sluice.shop.svc".to_owned()], Duration::from_hours(24), now).unwrap();
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let want = (seconds(now - BEFORE), seconds(now + Duration::from_hours(24)));
        assert_eq!(certificate::bounds(own.certificate.as_bytes()), Some(want));
        server_config(own.certificate.as_bytes(), own.key.as_bytes()).unwrap();
        assert!(own.authority.contains("BEGIN CERTIFICATE"));
    }
}
