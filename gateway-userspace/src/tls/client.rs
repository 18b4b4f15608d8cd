//! The rustls configurations of clusters that are spoken to by TLS, made once for each policy and kept over generations, so
//! that sessions can be resumed. Whatever is wrong with one costs that cluster's connections alone.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::certificate;
use super::endpoint::{EndpointVerifier, Judge};
use super::protocol;
use super::version_one::VersionOne;
use crate::model::{ClientIdentity, Cluster, CredentialProblem, Snapshot, TlsMaterial, Trust, UpstreamTls};

/// HTTP/2 in ALPN (RFC 9113, 3.2).
const HTTP2: &[u8] = b"h2";

/// Why a cluster cannot be spoken to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    /// The Secret is not there or lacks what is needed: `translate` has said so at its place.
    #[error(transparent)]
    Credential(#[from] CredentialProblem),
    /// A file or Secret cannot be used.
    #[error("{pem}: {why}")]
    Unusable {
        /// Which.
        pem: String,
        /// Without a byte of a key.
        why: String,
    },
    /// The machine has no authorities of its own.
    #[error("the system has no authorities that certificates could be verified against ({0})")]
    NoSystemRoots(String),
}

/// Configurations by policy.
#[derive(Debug, Default)]
pub struct ClientConfigs {
    by_policy: HashMap<Arc<UpstreamTls>, Configs>,
}

/// Both ways of asking an endpoint.
#[derive(Debug, Clone)]
pub struct Configs {
    /// For a Host: asked for in the ClientHello, and verified if the policy says so.
    pub by_host: Arc<ClientConfig>,
    /// Likewise, for what is said in HTTP/2.
    pub by_host_http2: Arc<ClientConfig>,
    /// For the endpoint itself, whatever its name.
    pub anonymous: Arc<ClientConfig>,
}

impl ClientConfigs {
    /// Makes what a snapshot needs, taking over from `previous` whatever is unchanged, and what stood in place of what is
    /// gone or cannot be used any more.
    pub fn build(snapshot: &Snapshot, previous: &Self) -> (Self, Vec<(Arc<UpstreamTls>, ClientFault)>) {
        let (mut all, mut faults) = (Self::default(), Vec::new());
        for policy in snapshot.clusters.values().filter_map(|cluster: &Arc<Cluster>| cluster.tls.as_ref()) {
            if all.by_policy.contains_key(policy)
                || faults.iter().any(|(faulty, _)| Arc::ptr_eq(faulty, policy) || faulty == policy)
            {
                continue;
            }
            let before = previous.by_policy.get(policy).cloned();
            match before.map_or_else(|| make(policy), Ok) {
                Ok(configs) => drop(all.by_policy.insert(policy.clone(), configs)),
                Err(fault) => {
                    let stood = previous.by_policy.iter().find(|(other, _)| other.asks_the_same_as(policy));
                    all.by_policy.extend(stood.map(|(_, configs)| (policy.clone(), configs.clone())));
                    faults.push((policy.clone(), fault));
                }
            }
        }
        (all, faults)
    }

    /// What a policy needs. One that the snapshot in force has no more is made anew for whoever still holds it.
    pub fn get(&self, policy: &Arc<UpstreamTls>) -> Result<Configs, ClientFault> {
        self.by_policy.get(policy).map_or_else(|| make(policy), |configs| Ok(configs.clone()))
    }
}

fn make(policy: &UpstreamTls) -> Result<Configs, ClientFault> {
    let material = policy.material.as_ref().map_err(Clone::clone)?;
    let provider = protocol::provider(&policy.protocol, &aws_lc_rs::default_provider());
    let judge = Arc::new(judge(material, policy, &provider)?);
    let config = |verifies_host| -> Result<Arc<ClientConfig>, ClientFault> {
        let verifier = EndpointVerifier { judge: judge.clone(), verifies_host };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&protocol::versions(&policy.protocol))
            .map_err(|error| unusable("TLS", &error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &material.identity {
            Some(ClientIdentity { certificate_chain, private_key }) => {
                let certified =
                    certificate::certified_key(&certificate_chain.text, &private_key.text, &provider)
                        .map_err(|error| unusable(private_key, &error))?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        if policy.offers_http2 {
            config.alpn_protocols = vec![HTTP2.to_vec()];
        }
        Ok(Arc::new(config))
    };
    let by_host = config(policy.verifies_host)?;
    let mut http2 = (*by_host).clone();
    http2.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Configs { by_host, by_host_http2: Arc::new(http2), anonymous: config(false)? })
}

fn unusable(what: &(impl ToString + ?Sized), why: &(impl ToString + ?Sized)) -> ClientFault {
    ClientFault::Unusable { pem: what.to_string(), why: why.to_string() }
}

fn judge(
    material: &TlsMaterial,
    policy: &UpstreamTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Judge, ClientFault> {
    let algorithms = provider.signature_verification_algorithms;
    let names = policy.subject_alt_names.clone();
    let nobodys = VersionOne { authorities: Vec::new(), revoked: None, algorithms };
    let (chains, version_one) = match &material.trust {
        Trust::Anyone => return Ok(Judge { chains: None, version_one: nobodys, names: Vec::new() }),
        Trust::System => {
            let roots = system_roots()?;
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            (verifier.map_err(|error| unusable("the system's authorities", &error))?, nobodys)
        }
        Trust::Bundle { authorities, revoked } => {
            let bundle =
                certificate::chain(&authorities.text).map_err(|error| unusable(authorities, &error))?;
            let roots = certificate::roots(&bundle).map_err(|error| unusable(authorities, &error))?;
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let lists = match revoked {
                Some(revoked) => {
                    certificate::revocation_lists(&revoked.text).map_err(|error| unusable(revoked, &error))?
                }
                None => Vec::new(),
            };
            let listed = revoked.is_some().then(|| lists.clone());
            let verifier = builder.with_crls(lists).build().map_err(|error| unusable(authorities, &error))?;
            (verifier, VersionOne { authorities: bundle, revoked: listed, algorithms })
        }
    };
    Ok(Judge { chains: Some(chains), version_one, names })
}

/// The authorities that the machine trusts, read once.
fn system_roots() -> Result<Arc<RootCertStore>, ClientFault> {
    static ROOTS: OnceLock<Result<Arc<RootCertStore>, ClientFault>> = OnceLock::new();
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(ClientFault::NoSystemRoots(errors.join(", ")));
        }
        Ok(Arc::new(roots))
    };
    ROOTS.get_or_init(load).clone()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
