//! How endpoints are connected to: below a policy of a DestinationRule.

use crate::api::validate::unsupported::Outcome::Refused;
use crate::api::validate::unsupported::Row;

/// Below a policy.
pub(super) const POLICY: &[Row] = &[
    Row(
        "tls.mode=ISTIO_MUTUAL",
        Refused,
        "it needs the mesh's own certificates: `MUTUAL` with a certificate of yours, or no `tls` for backends that also \
         speak in the clear",
    ),
    Row("tunnel", Refused, "connections would go past the tunnel"),
];
