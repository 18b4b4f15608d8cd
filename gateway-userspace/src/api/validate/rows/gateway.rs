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
    Row("spec.servers[].defaultEndpoint", Ignored, "gateways ignore it, in Istio too"),
];
