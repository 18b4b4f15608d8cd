//! Versions, cipher suites and groups of a policy, as rustls has them.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use crate::model::{CipherSuite, KeyGroup, ProtocolPolicy, TlsVersion};

/// The provider with those of its algorithms that a policy allows, in the policy's order.
pub(super) fn provider(policy: &ProtocolPolicy, provider: &CryptoProvider) -> Arc<CryptoProvider> {
    let mut provider = provider.clone();
    if let Some(suites) = &policy.cipher_suites {
        // Those of TLS 1.3 are not for documents to choose.
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider.cipher_suites.extend(suites.iter().map(|suite| tls12(*suite)));
    }
    if let Some(groups) = &policy.key_groups {
        provider.kx_groups = groups.iter().map(|group| key_group(*group)).collect();
    }
    Arc::new(provider)
}

/// The versions that a policy leaves: TLS 1.2 only where it has a suite.
pub(super) fn versions(policy: &ProtocolPolicy) -> Vec<&'static SupportedProtocolVersion> {
    let has_suites = policy.cipher_suites.as_ref().is_none_or(|suites| !suites.is_empty());
    [
        (TlsVersion::V1_3, true, &rustls::version::TLS13),
        (TlsVersion::V1_2, has_suites, &rustls::version::TLS12),
    ]
    .into_iter()
    .filter(|(version, possible, _)| *possible && (policy.min_version..=policy.max_version).contains(version))
    .map(|(_, _, version)| version)
    .collect()
}

fn tls12(suite: CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::EcdsaAes128 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes128 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaAes256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChacha20 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaChacha20 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn key_group(group: KeyGroup) -> &'static dyn SupportedKxGroup {
    match group {
        KeyGroup::X25519 => kx_group::X25519,
        KeyGroup::P256 => kx_group::SECP256R1,
        KeyGroup::P384 => kx_group::SECP384R1,
        KeyGroup::X25519MlKem768 => kx_group::X25519MLKEM768,
    }
}
