//! What MeshConfig says of HTTP at every listener.

use crate::api::MeshConfig;
use crate::api::mesh_config::{ForwardClientCertDetails, Normalization};
use crate::model::{ClientCertificates, HttpSettings, PathForm};

pub(super) fn settings(mesh: &MeshConfig) -> HttpSettings {
    let topology = mesh.default_config.gateway_topology.unwrap_or_default();
    HttpSettings {
        path: match mesh.path_normalization.normalization {
            Normalization::None => PathForm::None,
            Normalization::Default | Normalization::Base => PathForm::Base,
            Normalization::MergeSlashes => PathForm::MergeSlashes,
            Normalization::DecodeAndMergeSlashes => PathForm::DecodeAndMergeSlashes,
        },
        trusted_proxies: topology.num_trusted_proxies,
        client_certificates: match topology.forward_client_cert_details {
            ForwardClientCertDetails::Undefined | ForwardClientCertDetails::SanitizeSet => {
                ClientCertificates::SanitizeSet
            }
            ForwardClientCertDetails::Sanitize => ClientCertificates::Sanitize,
            ForwardClientCertDetails::ForwardOnly => ClientCertificates::ForwardOnly,
            ForwardClientCertDetails::AppendForward => ClientCertificates::AppendForward,
            ForwardClientCertDetails::AlwaysForwardOnly => ClientCertificates::AlwaysForwardOnly,
        },
    }
}
