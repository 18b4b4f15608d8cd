//! The rustls configurations of all terminating chains of a snapshot, made once for each credential and policy and
//! kept over generations, so that session tickets survive a change of routes.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::certificate::{self, CertificateError};
use crate::model::{
    ChainAction, Credential, CredentialProblem, ListenerKey, ListenerKind, ServerTls, Snapshot, TlsMode,
    TlsVersion,
};

/// A chain whose credential does not work; its clients are reset, all else is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFault {
    /// `namespace/name` of the Secret.
    pub secret: Arc<str>,
    /// The filter chain.
    pub chain: Arc<str>,
    /// What is wrong with it.
    pub error: CertificateError,
}

type ChainId = (ListenerKey, Arc<str>);

/// Configurations by chain.
#[derive(Debug, Default)]
pub struct ServerConfigs {
    by_chain: HashMap<ChainId, (Arc<ServerTls>, Arc<ServerConfig>)>,
}

impl ServerConfigs {
    /// Builds what a snapshot needs, taking over from `previous` whatever is unchanged.
    pub fn build(snapshot: &Snapshot, previous: &Self) -> (Self, Vec<CredentialFault>) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (mut configs, mut faults) = (Self::default(), Vec::new());
        for (key, chain, tls) in terminating_chains(snapshot) {
            let id = (key, chain.clone());
            let before = previous.by_chain.get(&id);
            // As Istio's gateway goes on with the certificate it had when a new one cannot be used or the Secret is gone.
            let kept = before.filter(|(before, _)| before.asks_the_same_as(tls)).cloned();
            let built = match &tls.credential {
                Ok(_) if before.is_some_and(|(before, _)| before == tls) => kept,
                Ok(credential) => match server_config(tls, credential, &provider) {
                    Ok(config) => Some((tls.clone(), config)),
                    Err(error) => {
                        let (secret, chain) = (credential.name.clone(), chain.clone());
                        faults.push(CredentialFault { secret, chain, error });
                        kept
                    }
                },
                Err(CredentialProblem::NotFound { .. }) => kept,
                // Such as a revocation list, without which clients would get in that should not.
                Err(CredentialProblem::Unusable { .. }) => None,
            };
            configs.by_chain.extend(built.map(|built| (id, built)));
        }
        (configs, faults)
    }

    /// The configuration of a chain; `None` resets the client.
    pub fn get(&self, listener: ListenerKey, chain: &Arc<str>) -> Option<Arc<ServerConfig>> {
        self.by_chain.get(&(listener, chain.clone())).map(|(_, config)| config.clone())
    }
}

fn terminating_chains(
    snapshot: &Snapshot,
) -> impl Iterator<Item = (ListenerKey, &Arc<str>, &Arc<ServerTls>)> {
    snapshot.listeners.iter().flat_map(|listener| {
        let chains = match &listener.kind {
            ListenerKind::Tls(tls) => tls.chains.as_slice(),
            _ => &[],
        };
        chains.iter().filter_map(|chain| match &chain.action {
            ChainAction::TerminateHttp { tls, .. } | ChainAction::TerminateTcp { tls, .. } => {
                Some((listener.key, &chain.name, tls))
            }
            ChainAction::Passthrough(_) => None,
        })
    })
}

fn server_config(
    tls: &ServerTls,
    credential: &Credential,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let key = certificate::certified_key(&credential.certificate_chain, &credential.private_key, provider)?;
    let versions: Vec<_> =
        [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)]
            .into_iter()
            .filter(|(version, _)| (tls.min_version..=tls.max_version).contains(version))
            .map(|(_, version)| version)
            .collect();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| CertificateError::BadKey(error.to_string()))?;
    let builder = match client_verifier(tls, credential, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(resolver(key));
    // Istio advertises both on every terminated server, even where the bytes within are opaque.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Stateless tickets instead of a session store, which would belong to one worker and grow with the clients.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer =
        aws_lc_rs::Ticketer::new().map_err(|error| CertificateError::BadKey(error.to_string()))?;
    Ok(Arc::new(config))
}

fn resolver(key: Arc<CertifiedKey>) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(key))
}

fn client_verifier(
    tls: &ServerTls,
    credential: &Credential,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>, CertificateError> {
    if tls.mode == TlsMode::Simple {
        return Ok(None);
    }
    let pem = credential.client_ca.as_deref().unwrap_or_default();
    let roots = Arc::new(certificate::client_roots(pem)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let builder = if tls.mode == TlsMode::OptionalMutual { builder.allow_unauthenticated() } else { builder };
    builder.build().map(Some).map_err(|error| CertificateError::BadClientCa(error.to_string()))
}
