//! How endpoints are connected to: below a policy of a DestinationRule.

use crate::api::validate::unsupported::Outcome::{Ignored, Refused};
use crate::api::validate::unsupported::Row;

/// Below a policy.
pub(super) const POLICY: &[Row] = &[
    Row("tls.mode=SIMPLE", Refused, "requests would go to the backends in the clear"),
    Row("tls.mode=MUTUAL", Refused, "requests would go to the backends in the clear"),
    Row("tls.mode=ISTIO_MUTUAL", Refused, "it needs the mesh's certificates"),
    Row("tunnel", Refused, "connections would go past the tunnel"),
    Row("connectionPool.tcp.tcpKeepalive", Ignored, "a vanished peer is noticed within minutes"),
    Row("connectionPool.tcp.maxConnectionDuration", Ignored, ""),
];
