//! What a server speaks, and which clients it lets in.

use std::sync::Arc;

use crate::api::MeshConfig;
use crate::api::gateway::{Protocol, ServerTlsSettings};
use crate::api::validate::{CipherChoice, certificate_hash, key_groups, spki_hash};
use crate::model::{CipherSuite, ClientPolicy, KeyGroup, ProtocolPolicy, TlsVersion};

/// The server's own word, then the mesh's, then the default.
pub(super) fn protocol(tls: &ServerTlsSettings, mesh: &MeshConfig) -> ProtocolPolicy {
    let defaults = ProtocolPolicy::default();
    let mesh = mesh.tls_defaults.as_ref();
    let mesh_min = mesh.and_then(|mesh| version(mesh.min_protocol_version));
    ProtocolPolicy {
        min_version: version(tls.min_protocol_version).or(mesh_min).unwrap_or(defaults.min_version),
        max_version: version(tls.max_protocol_version).unwrap_or(defaults.max_version),
        cipher_suites: suites(&tls.cipher_suites).or_else(|| suites(&mesh?.cipher_suites)),
        key_groups: groups(&tls.ecdh_curves)
            .or_else(|| groups(&mesh?.ecdh_curves))
            .filter(|groups| !groups.is_empty()),
    }
}

/// Towards backends: of the mesh's defaults, its algorithms alone, as in Istio.
pub(super) fn towards_backends(mesh: &MeshConfig) -> ProtocolPolicy {
    let mesh = mesh.tls_defaults.as_ref();
    ProtocolPolicy {
        cipher_suites: mesh.and_then(|mesh| suites(&mesh.cipher_suites)),
        key_groups: mesh.and_then(|mesh| groups(&mesh.ecdh_curves)).filter(|groups| !groups.is_empty()),
        ..ProtocolPolicy::default()
    }
}

fn suites(names: &[String]) -> Option<Vec<CipherSuite>> {
    let chosen = CipherChoice::new(names).suites?;
    Some(chosen.into_iter().filter_map(CipherSuite::named).collect())
}

fn groups(names: &[String]) -> Option<Vec<KeyGroup>> {
    Some(key_groups(names)?.into_iter().filter_map(KeyGroup::named).collect())
}

/// Below 1.2 there is nothing to speak: an older minimum is 1.2, as in Istio without old ciphers.
fn version(protocol: Protocol) -> Option<TlsVersion> {
    match protocol {
        Protocol::Auto => None,
        Protocol::V1_0 | Protocol::V1_1 | Protocol::V1_2 => Some(TlsVersion::V1_2),
        Protocol::V1_3 => Some(TlsVersion::V1_3),
    }
}

/// What clients must be. Istio heeds the hashes where there is a credential, not where certificates are files.
pub(super) fn clients(tls: &ServerTlsSettings) -> ClientPolicy {
    if !tls.mode.verifies_clients() {
        return ClientPolicy::default();
    }
    let has_credential = tls.credentials().next().is_some();
    let pins = |list: &[String], read: fn(&str) -> Option<[u8; 32]>| {
        let heeded = if has_credential { list } else { &[] };
        heeded.iter().filter_map(|text| read(text)).collect()
    };
    ClientPolicy {
        names: tls.subject_alt_names.iter().map(|name| Arc::from(name.as_str())).collect(),
        public_keys: pins(&tls.verify_certificate_spki, spki_hash),
        certificates: pins(&tls.verify_certificate_hash, certificate_hash),
        accept_any: tls.insecure_skip_verify,
    }
}
