//! The rustls configurations of clusters that are spoken to by TLS, made once for each policy and kept over generations, so
//! that sessions can be resumed. Whatever is wrong with one costs that cluster's connections alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;

use super::certificate;
use super::endpoint::{EndpointVerifier, Judge};
use crate::model::{
    ClientIdentity, Cluster, CredentialProblem, Pem, Snapshot, TlsMaterial, Trust, UpstreamTls,
};

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

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
    #[error("the system has no authorities that certificates could be verified against{0}")]
    NoSystemRoots(String),
}

/// Configurations by policy.
#[derive(Debug, Default)]
pub struct ClientConfigs {
    by_policy: HashMap<Arc<UpstreamTls>, Made>,
}

/// What was made of a policy.
#[derive(Debug, Clone)]
struct Made {
    /// What its files held.
    read: Vec<Arc<[u8]>>,
    configs: Configs,
}

/// Both ways of asking an endpoint.
#[derive(Debug, Clone)]
pub struct Configs {
    /// For a Host: asked for in the ClientHello, and verified if the policy says so.
    pub by_host: Arc<ClientConfig>,
    /// For the endpoint itself, whatever its name.
    pub anonymous: Arc<ClientConfig>,
}

impl ClientConfigs {
    /// Makes what a snapshot needs, taking over from `previous` whatever is unchanged, and what stood in place of a file
    /// that cannot be used any more.
    pub fn build(snapshot: &Snapshot, previous: &Self) -> (Self, Vec<(Arc<UpstreamTls>, ClientFault)>) {
        let (mut all, mut faults) = (Self::default(), Vec::new());
        for policy in snapshot.clusters.values().filter_map(|cluster: &Arc<Cluster>| cluster.tls.as_ref()) {
            if all.by_policy.contains_key(policy) || faults.iter().any(|(faulty, _)| faulty == policy) {
                continue;
            }
            let before = previous.by_policy.get(policy);
            match make(policy, before) {
                Ok(made) => drop(all.by_policy.insert(policy.clone(), made)),
                Err(fault) => {
                    all.by_policy.extend(before.map(|made| (policy.clone(), made.clone())));
                    faults.push((policy.clone(), fault));
                }
            }
        }
        (all, faults)
    }

    /// What a policy needs. One that the snapshot in force has no more is made anew for whoever still holds it.
    pub fn get(&self, policy: &Arc<UpstreamTls>) -> Result<Configs, ClientFault> {
        match self.by_policy.get(policy) {
            Some(made) => Ok(made.configs.clone()),
            None => make(policy, None).map(|made| made.configs),
        }
    }
}

fn make(policy: &UpstreamTls, before: Option<&Made>) -> Result<Made, ClientFault> {
    let material = policy.material.as_ref().map_err(Clone::clone)?;
    let mut reader = Reader::default();
    let read = Read::of(material, &mut reader)?;
    if let Some(before) = before.filter(|before| before.read == reader.files) {
        return Ok(before.clone());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let judge = Arc::new(judge(material, &read, policy, &provider)?);
    let config = |verifies_host| -> Result<Arc<ClientConfig>, ClientFault> {
        let verifier = EndpointVerifier { judge: judge.clone(), verifies_host };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS", &error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (&material.identity, &read.identity) {
            (Some(ClientIdentity { private_key, .. }), Some((chain, key))) => {
                let certified = certificate::certified_key(chain, key, &provider)
                    .map_err(|error| unusable(private_key, &error))?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            _ => builder.with_no_client_auth(),
        };
        if policy.offers_http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(Arc::new(config))
    };
    let configs = Configs { by_host: config(policy.verifies_host)?, anonymous: config(false)? };
    Ok(Made { read: reader.files, configs })
}

/// The texts of all that a policy names.
struct Read {
    authorities: Option<Arc<[u8]>>,
    revoked: Option<Arc<[u8]>>,
    identity: Option<(Arc<[u8]>, Arc<[u8]>)>,
}

impl Read {
    fn of(material: &TlsMaterial, reader: &mut Reader) -> Result<Self, ClientFault> {
        let (authorities, revoked) = match &material.trust {
            Trust::System | Trust::Anyone => (None, None),
            Trust::Bundle { authorities, revoked } => (Some(authorities), revoked.as_ref()),
        };
        let mut read = |pem: Option<&Pem>| pem.map(|pem| reader.read(pem)).transpose();
        let identity = match &material.identity {
            None => None,
            Some(ClientIdentity { certificate_chain, private_key }) => {
                read(Some(certificate_chain))?.zip(read(Some(private_key))?)
            }
        };
        Ok(Self { authorities: read(authorities)?, revoked: read(revoked)?, identity })
    }
}

/// Reads, and remembers what files held.
#[derive(Default)]
struct Reader {
    files: Vec<Arc<[u8]>>,
}

impl Reader {
    fn read(&mut self, pem: &Pem) -> Result<Arc<[u8]>, ClientFault> {
        match pem {
            Pem::Secret { pem, .. } => Ok(pem.clone()),
            Pem::File(path) => {
                let mut bytes = Vec::new();
                let read =
                    File::open(&**path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
                match read {
                    Ok(length) if length as u64 > MAX_FILE => {
                        Err(unusable(pem, &format!("is larger than {} MiB", MAX_FILE / 1024 / 1024)))
                    }
                    Ok(_) => {
                        let bytes: Arc<[u8]> = bytes.into();
                        self.files.push(bytes.clone());
                        Ok(bytes)
                    }
                    Err(error) => Err(unusable(pem, &error)),
                }
            }
        }
    }
}

fn unusable(what: &(impl ToString + ?Sized), why: &(impl ToString + ?Sized)) -> ClientFault {
    ClientFault::Unusable { pem: what.to_string(), why: why.to_string() }
}

fn judge(
    material: &TlsMaterial,
    read: &Read,
    policy: &UpstreamTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Judge, ClientFault> {
    let algorithms = provider.signature_verification_algorithms;
    let names = policy.subject_alt_names.clone();
    let (chains, pinned) = match &material.trust {
        Trust::Anyone => {
            return Ok(Judge { chains: None, pinned: Vec::new(), names: Vec::new(), algorithms });
        }
        Trust::System => {
            let roots = system_roots()?;
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            (verifier.map_err(|error| unusable("the system's authorities", &error))?, Vec::new())
        }
        Trust::Bundle { authorities, revoked } => {
            let pem = read.authorities.as_deref().unwrap_or_default();
            let pinned = certificate::chain(pem).map_err(|error| unusable(authorities, &error))?;
            let roots = certificate::roots(&pinned).map_err(|error| unusable(authorities, &error))?;
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let lists = match revoked {
                Some(revoked) => revocations(revoked, read.revoked.as_deref().unwrap_or_default())?,
                None => Vec::new(),
            };
            let verifier = builder.with_crls(lists).build().map_err(|error| unusable(authorities, &error))?;
            (verifier, pinned)
        }
    };
    Ok(Judge { chains: Some(chains), pinned, names, algorithms })
}

fn revocations(pem: &Pem, text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, ClientFault> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(pem, &error))?;
    if lists.is_empty() { Err(unusable(pem, "holds no revocation list in PEM form")) } else { Ok(lists) }
}

/// The authorities that the machine trusts, read once.
fn system_roots() -> Result<Arc<RootCertStore>, ClientFault> {
    static ROOTS: OnceLock<Result<Arc<RootCertStore>, ClientFault>> = OnceLock::new();
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let errors = found.errors.iter().map(|error| format!("; {error}")).collect();
            return Err(ClientFault::NoSystemRoots(errors));
        }
        Ok(Arc::new(roots))
    };
    ROOTS.get_or_init(load).clone()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
