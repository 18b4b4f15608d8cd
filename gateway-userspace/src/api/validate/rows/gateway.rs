//! Fields of a Gateway.

use crate::api::validate::unsupported::Outcome::{Ignored, Refused};
use crate::api::validate::unsupported::Row;

/// Gateway.
pub(super) const ROWS: &[Row] = &[
    Row("spec.servers[].tls.mode=ISTIO_MUTUAL", Refused, "it needs the mesh's certificates; use MUTUAL"),
    Row(
        "spec.servers[].tls.mode=AUTO_PASSTHROUGH",
        Refused,
        "it is for traffic between clusters; use PASSTHROUGH",
    ),
    Row(
        "spec.servers[].tls.serverCertificate",
        Refused,
        "put certificate and key in a Secret: `credentialName`",
    ),
    Row("spec.servers[].tls.privateKey", Refused, "put certificate and key in a Secret: `credentialName`"),
    Row("spec.servers[].tls.caCertificates", Refused, "put the CA in the Secret: key `ca.crt`"),
    Row(
        "spec.servers[].tls.tlsCertificates",
        Refused,
        "put certificate and key in a Secret: `credentialName`",
    ),
    Row("spec.servers[].tls.caCrl", Refused, "revoked clients would get in"),
    Row("spec.servers[].tls.subjectAltNames", Refused, "every client of the CA would get in"),
    Row("spec.servers[].tls.verifyCertificateSpki", Refused, "every client of the CA would get in"),
    Row("spec.servers[].tls.verifyCertificateHash", Refused, "every client of the CA would get in"),
    Row(
        "spec.servers[].tls.insecureSkipVerify",
        Refused,
        "clients are always verified where they are asked to be",
    ),
    Row("spec.servers[].tls.cipherSuites", Ignored, "the TLS library's own safe choice is used"),
    Row("spec.servers[].tls.ecdhCurves", Ignored, "the TLS library's own safe choice is used"),
    Row("spec.servers[].tls.credentialNames[1]", Ignored, "only the first credential is offered"),
    Row("spec.servers[].defaultEndpoint", Ignored, "gateways ignore it, in Istio too"),
];
