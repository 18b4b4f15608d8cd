//! What happens to a request at run time: tries and limits.

use crate::api::validate::unsupported::Outcome::Ignored;
use crate::api::validate::unsupported::Row;

/// VirtualService.
pub(super) const ROWS: &[Row] = &[Row(
    "spec.http[].retries.retryRemoteLocalities",
    Ignored,
    "endpoints of all localities are tried alike",
)];

/// DestinationRule, below a policy.
pub(super) const POLICY: &[Row] = &[
    Row("connectionPool.http.useClientProtocol", Ignored, ""),
    Row("connectionPool.http.http2KeepAlive", Ignored, ""),
];
