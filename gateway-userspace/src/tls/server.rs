//! The rustls configurations of all terminating chains of a snapshot, made once for each credential and policy and
//! kept over generations. Session tickets are sealed by keys of the agent's, not of a configuration's: they survive it.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;

use super::certificate::{self, CertificateError};
use super::chooser::{Candidate, Chooser};
use super::protocol;
use super::tickets::{Context, TicketKeys, Ticketer};
use super::verifier::Verifier;
use crate::model::{
    Credential, CredentialProblem, CredentialSource, FilterChain, HostPattern, ListenerKey, ListenerKind,
    ServerTls, Snapshot, TlsMode,
};

/// A chain whose credential does not work; its clients are reset, all else is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFault {
    /// The Secret or file that is wrong.
    pub credential: CredentialSource,
    /// The filter chain.
    pub chain: Arc<str>,
    /// What is wrong with it.
    pub error: CertificateError,
}

type ChainId = (ListenerKey, Arc<str>);

/// Configurations by chain.
#[derive(Debug, Default)]
pub struct ServerConfigs {
    by_chain: HashMap<ChainId, Built>,
    ticket_keys: Arc<TicketKeys>,
}

/// A configuration, and what it was made from.
#[derive(Debug, Clone)]
struct Built {
    tls: Arc<ServerTls>,
    names: Vec<HostPattern>,
    config: Arc<ServerConfig>,
}

impl ServerConfigs {
    /// None yet; whatever is built with these as the ones before gives and takes tickets by the same keys.
    pub fn sharing(ticket_keys: Arc<TicketKeys>) -> Self {
        Self { by_chain: HashMap::new(), ticket_keys }
    }

    /// Builds what a snapshot needs, taking over from `previous` whatever is unchanged, and the keys of tickets.
    pub fn build(snapshot: &Snapshot, previous: &Self) -> (Self, Vec<CredentialFault>) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (mut configs, mut faults) = (Self::sharing(previous.ticket_keys.clone()), Vec::new());
        for (key, chain, tls) in terminating_chains(snapshot) {
            let id = (key, chain.name.clone());
            let before = previous.by_chain.get(&id);
            // As Istio's gateway goes on with the certificate it had when a new one cannot be used or the Secret is gone.
            let kept = before.filter(|before| before.tls.asks_the_same_as(tls)).cloned();
            let built = match &tls.credential {
                Ok(_) if before.is_some_and(|before| before.tls == *tls && before.names == chain.sni) => kept,
                Ok(credential) => {
                    match server_config((&chain.sni, tls, credential), &configs.ticket_keys, &provider) {
                        Ok(config) => Some(Built { tls: tls.clone(), names: chain.sni.clone(), config }),
                        Err((credential, error)) => {
                            faults.push(CredentialFault { credential, chain: chain.name.clone(), error });
                            kept
                        }
                    }
                }
                Err(
                    CredentialProblem::NotFound { .. }
                    | CredentialProblem::Unread { .. }
                    | CredentialProblem::Unusable { .. },
                ) => kept,
                Err(CredentialProblem::Refused { .. }) => None,
            };
            configs.by_chain.extend(built.map(|built| (id, built)));
        }
        (configs, faults)
    }

    /// The configuration of a chain; `None` resets the client.
    pub fn get(&self, listener: ListenerKey, chain: &Arc<str>) -> Option<Arc<ServerConfig>> {
        self.by_chain.get(&(listener, chain.clone())).map(|built| built.config.clone())
    }
}

fn terminating_chains(
    snapshot: &Snapshot,
) -> impl Iterator<Item = (ListenerKey, &FilterChain, &Arc<ServerTls>)> {
    snapshot.listeners.iter().flat_map(|listener| {
        let chains = match &listener.kind {
            ListenerKind::Tls(tls) => tls.chains.as_slice(),
            _ => &[],
        };
        chains.iter().filter_map(|chain| Some((listener.key, &**chain, chain.action.server_tls()?)))
    })
}

/// What is wrong, and where.
type Fault = (CredentialSource, CertificateError);

fn server_config(
    (names, tls, credential): (&[HostPattern], &ServerTls, &Credential),
    ticket_keys: &Arc<TicketKeys>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, Fault> {
    let chooser = chooser(credential, provider)?;
    let verifier = client_verifier(tls, credential, provider)?;
    // Whatever else is wrong is not one credential's; the first stands for all.
    let first = |error| (first_source(credential), error);
    let context = Context::of(names, tls, credential);
    let context = context.map_err(|error| first(CertificateError::BadSettings(error.to_string())))?;
    let ticketer = Ticketer::new(ticket_keys.clone(), context, verifier.clone());
    configured(tls, chooser, verifier, ticketer, provider).map_err(first)
}

fn configured(
    tls: &ServerTls,
    chooser: Chooser,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    ticketer: Ticketer,
    provider: &CryptoProvider,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let bad = |error: rustls::Error| CertificateError::BadSettings(error.to_string());
    let builder = ServerConfig::builder_with_provider(protocol::provider(&tls.protocol, provider))
        .with_protocol_versions(&protocol::versions(&tls.protocol))
        .map_err(bad)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(chooser));
    // An order that somebody wrote down is meant, as BoringSSL takes it.
    config.ignore_client_order = tls.protocol.cipher_suites.is_some();
    // Istio advertises both on every terminated server, even where the bytes within are opaque.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Stateless tickets instead of a session store, which would belong to one worker and grow with the clients.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(ticketer);
    Ok(Arc::new(config))
}

fn first_source(credential: &Credential) -> CredentialSource {
    let first = credential.certificates.first().map(|certificate| certificate.source.clone());
    first.unwrap_or_else(|| CredentialSource::File("".into()))
}

fn chooser(credential: &Credential, provider: &CryptoProvider) -> Result<Chooser, Fault> {
    let mut candidates = Vec::new();
    for shown in &credential.certificates {
        let of = |error| (shown.source.clone(), error);
        let key = certificate::certified_key(&shown.chain, &shown.private_key, provider).map_err(of)?;
        candidates.push(Candidate::new(key, shown.ocsp_staple.as_deref()).map_err(of)?);
    }
    Ok(Chooser::new(candidates))
}

fn client_verifier(
    tls: &ServerTls,
    credential: &Credential,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Fault> {
    let Some(authority) = &credential.client_authority else { return Ok(None) };
    let is_optional = tls.mode == TlsMode::OptionalMutual;
    match Verifier::new(authority, &tls.clients, is_optional, provider) {
        Ok(verifier) => Ok(Some(Arc::new(verifier))),
        Err(error) => Err((authority.source.clone(), error)),
    }
}
