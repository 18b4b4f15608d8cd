//! Which keys of a Secret or ConfigMap hold what, in istiod's order and words.

use std::sync::Arc;

use crate::api::{ConfigMap, Secret};

/// Keys of a Secret that Istio shows in its message, before "and N more".
const KEYS_SHOWN: usize = 3;

/// Something with bytes by key.
pub(super) trait Keyed {
    /// The bytes of a key.
    fn bytes(&self, key: &str) -> Option<&[u8]>;
    /// All keys, sorted.
    fn names(&self) -> Vec<&str>;
}

impl Keyed for Secret {
    fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.get(key)
    }

    fn names(&self) -> Vec<&str> {
        self.keys()
    }
}

impl Keyed for ConfigMap {
    fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(String::as_bytes)
    }

    fn names(&self) -> Vec<&str> {
        self.data.keys().map(String::as_str).collect()
    }
}

/// What a server shows: chain, key and OCSP response.
pub(super) type Shown = (Arc<[u8]>, Arc<[u8]>, Option<Arc<[u8]>>);

/// The generic set of keys beats that of kubernetes.io/tls; one that is empty does not count.
pub(super) fn certificate(secret: &impl Keyed) -> Result<Shown, String> {
    let sets = [("cert", "key", None), ("tls.crt", "tls.key", Some("tls.ocsp-staple"))];
    for (certificate, key, staple) in sets {
        if let (Some(certificate), Some(key)) = (filled(secret, certificate), filled(secret, key)) {
            let staple = staple.and_then(|name| filled(secret, name));
            return Ok((certificate.into(), key.into(), staple.map(Into::into)));
        }
    }
    for (certificate, key, _) in sets {
        if secret.bytes(certificate).is_some() && secret.bytes(key).is_some() {
            return Err(format!("found keys \"{certificate}\" and \"{key}\", but they were empty"));
        }
    }
    Err(format!(
        "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: {}",
        found(secret)
    ))
}

/// The CA's bundle, and lists of what it revoked.
pub(super) type Root = (Arc<[u8]>, Option<Arc<[u8]>>);

/// The same for a CA.
pub(super) fn root(secret: &impl Keyed) -> Result<Root, String> {
    let sets = [("cacert", "crl"), ("ca.crt", "ca.crl")];
    for (bundle, revoked) in sets {
        if let Some(bundle) = filled(secret, bundle) {
            return Ok((bundle.into(), filled(secret, revoked).map(Into::into)));
        }
    }
    if let Some((bundle, _)) = sets.iter().find(|(bundle, _)| secret.bytes(bundle).is_some()) {
        return Err(format!("found key \"{bundle}\", but it was empty"));
    }
    Err(format!("found secret, but didn't have expected keys cacert or ca.crt; found: {}", found(secret)))
}

fn filled<'a>(secret: &'a impl Keyed, key: &str) -> Option<&'a [u8]> {
    secret.bytes(key).filter(|bytes| !bytes.is_empty())
}

fn found(secret: &impl Keyed) -> String {
    let keys = secret.names();
    let shown = keys.iter().take(KEYS_SHOWN).copied().collect::<Vec<_>>().join(", ");
    match keys.len().saturating_sub(KEYS_SHOWN) {
        0 => shown,
        more => format!("{shown}, and {more} more..."),
    }
}
