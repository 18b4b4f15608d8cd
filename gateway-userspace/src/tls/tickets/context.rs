//! What a session was agreed on under, as Envoy's session id context: a ticket is good where all of it is the same, and nowhere
//! else. Else a client that one chain let in, or asked for nothing, could go on at another one that asks for more, as who is
//! resumed shows no certificate; and rustls holds a ticket to its server name alone, which chains of several ports share.

use sha2::{Digest as _, Sha256};

use crate::model::{ClientAuthority, Credential, HostPattern, ServerCertificate, ServerTls};

/// A digest of a chain's server names, certificates, policies and client authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tls) struct Context([u8; 32]);

impl Context {
    /// Of a chain with these server names. Where certificates are from does not count, what they are does; nor does
    /// an OCSP response, which changes by the day and proves what was believed without it.
    pub(in crate::tls) fn of(
        names: &[HostPattern],
        tls: &ServerTls,
        credential: &Credential,
    ) -> serde_json::Result<Self> {
        let ServerTls { mode, asked: _, credential: _, clients, protocol } = tls;
        let Credential { certificates, client_authority } = credential;
        let mut digest = Sha256::new();
        let policies = serde_json::to_vec(&(names, mode, clients, protocol))?;
        add(&mut digest, &policies);
        for certificate in certificates {
            // Of a key there is one to a certificate.
            let ServerCertificate { source: _, chain, private_key: _, ocsp_staple: _ } = certificate;
            add(&mut digest, b"certificate");
            add(&mut digest, chain);
        }
        if let Some(ClientAuthority { source: _, bundle, revoked }) = client_authority {
            add(&mut digest, b"authority");
            add(&mut digest, bundle);
            if let Some(revoked) = revoked {
                add(&mut digest, b"revoked");
                add(&mut digest, revoked);
            }
        }
        Ok(Self(digest.finalize().into()))
    }

    /// 32 bytes.
    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// With its length, so that nothing can be said in two ways.
fn add(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}
