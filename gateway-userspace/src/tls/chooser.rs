//! Which of a server's certificates a client is shown, by the rules of Istio's gateway: by name first, then by what the
//! client can verify, ECDSA before RSA.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::UnixTime;

use super::certificate::{self, CertificateError};
use super::ocsp;

/// The certificates of a server.
#[derive(Debug)]
pub(super) struct Chooser(Vec<Candidate>);

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Candidate {
    plain: Arc<CertifiedKey>,
    /// The same with an OCSP response, and until when that may be shown.
    stapled: Option<(Arc<CertifiedKey>, UnixTime)>,
    is_ecdsa: bool,
    /// DNS names in lower case; `*.` stands for one label.
    names: Vec<String>,
}

impl Chooser {
    /// Chooses among certificates in the document's order.
    pub(super) fn new(candidates: Vec<Candidate>) -> Self {
        Self(candidates)
    }

    /// With a name, of the certificates that have it, else the first; without one, of all.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Candidate> {
        let first = self.0.first();
        let Some(name) = name.map(str::to_ascii_lowercase) else {
            return best(self.0.iter(), schemes).or(first);
        };
        let having = |name: &str| {
            let named = self.0.iter().filter(|candidate| candidate.names.iter().any(|it| *it == *name));
            best(named, schemes)
        };
        let wildcard = || having(&format!("*.{}", name.split_once('.')?.1));
        having(&name).or_else(wildcard).or(first)
    }
}

/// ECDSA where the client can verify it, else RSA.
fn best<'a>(
    candidates: impl Iterator<Item = &'a Candidate> + Clone,
    schemes: &[SignatureScheme],
) -> Option<&'a Candidate> {
    let verifiable = |it: &&Candidate| it.is_ecdsa && it.plain.key.choose_scheme(schemes).is_some();
    candidates.clone().find(verifiable).or_else(|| candidates.clone().find(|it| !it.is_ecdsa))
}

impl Candidate {
    /// A certificate, with an OCSP response (RFC 6960, DER) or none.
    pub(super) fn new(plain: Arc<CertifiedKey>, staple: Option<&[u8]>) -> Result<Self, CertificateError> {
        let stapled = staple.map(|response| {
            let until = ocsp::good_until(response, &plain.cert)?;
            let mut key = CertifiedKey::clone(&plain);
            key.ocsp = Some(response.to_vec());
            Ok((Arc::new(key), until))
        });
        Ok(Self {
            stapled: stapled.transpose()?,
            is_ecdsa: plain.key.algorithm() == SignatureAlgorithm::ECDSA,
            names: certificate::names(plain.cert.first())?,
            plain,
        })
    }

    /// A response that is too old is not shown: the client asks by itself.
    fn at(&self, now: UnixTime) -> Arc<CertifiedKey> {
        match &self.stapled {
            Some((key, until)) if now <= *until => key.clone(),
            _ => self.plain.clone(),
        }
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.choose(hello.server_name(), hello.signature_schemes())?;
        Some(chosen.at(UnixTime::now()))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm as KeyKind,
    };
    use rustls::crypto::aws_lc_rs;

    use super::*;

    const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
    const BOTH: &[SignatureScheme] =
        &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
    const OTHER_CURVE: &[SignatureScheme] =
        &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384];

    fn key(algorithm: &'static KeyKind, names: &[&str]) -> Arc<CertifiedKey> {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate =
            CertificateParams::new(names).expect("names").self_signed(&key).expect("a certificate");
        certificate::certified_key(
            certificate.pem().as_bytes(),
            key.serialize_pem().as_bytes(),
            &aws_lc_rs::default_provider(),
        )
        .expect("a pair")
    }

    #[test]
    fn a_response_that_is_too_old_is_not_shown() {
        let key = key(&PKCS_ECDSA_P256_SHA256, &["a.test"]);
        let serial = certificate::parse(&key.cert[0]).expect("a certificate").raw_serial().to_vec();
        let response = ocsp::tests::response(&serial, Some("20300102030405Z"), 0, false);
        let candidate = Candidate::new(key, Some(&response)).expect("a candidate");
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        assert_eq!(candidate.at(at(1_893_553_445)).ocsp, Some(response));
        assert_eq!(candidate.at(at(1_893_553_446)).ocsp, None);
    }

    #[test]
    fn the_name_goes_before_the_algorithm_and_ecdsa_before_rsa() {
        let keys = [
            key(&PKCS_RSA_SHA256, &["A.test", "*.wild.test"]),
            key(&PKCS_ECDSA_P256_SHA256, &["a.test", "*.wild.test", "only.test"]),
            key(&PKCS_RSA_SHA256, &["b.test", "exact.wild.test"]),
        ];
        let chooser = keys.iter().map(|key| Candidate::new(key.clone(), None).expect("names"));
        let chooser = Chooser::new(chooser.collect());
        for (name, schemes, want) in [
            (Some("a.test"), BOTH, 1),
            (Some("A.TEST"), BOTH, 1),
            (Some("a.test"), RSA, 0),
            (Some("a.test"), OTHER_CURVE, 0),
            (Some("b.test"), BOTH, 2),
            (Some("x.wild.test"), BOTH, 1),
            (Some("x.wild.test"), RSA, 0),
            (Some("exact.wild.test"), BOTH, 2),
            // One label alone.
            (Some("x.y.wild.test"), BOTH, 0),
            (Some("unknown.test"), BOTH, 0),
            // No RSA certificate has the name.
            (Some("only.test"), RSA, 0),
            (None, BOTH, 1),
            (None, RSA, 0),
        ] {
            let chosen = chooser.choose(name, schemes).expect("one").plain.clone();
            let at = keys.iter().position(|key| Arc::ptr_eq(key, &chosen));
            assert_eq!(at, Some(want), "{name:?} {schemes:?}");
        }
    }
}
