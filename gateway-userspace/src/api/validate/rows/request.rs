//! What happens to a request at run time: copies of it, tries, limits.

use crate::api::validate::unsupported::Outcome::Ignored;
use crate::api::validate::unsupported::Row;

/// VirtualService.
pub(super) const ROWS: &[Row] = &[
    Row("spec.http[].mirror", Ignored, ""),
    Row("spec.http[].mirrors", Ignored, ""),
    Row("spec.http[].mirrorPercent", Ignored, ""),
    Row("spec.http[].mirrorPercentage", Ignored, ""),
    Row("spec.http[].retries", Ignored, ""),
];

/// DestinationRule, below a policy.
pub(super) const POLICY: &[Row] = &[
    Row("retryBudget", Ignored, ""),
    Row("connectionPool.http.http1MaxPendingRequests", Ignored, ""),
    Row("connectionPool.http.http2MaxRequests", Ignored, ""),
    Row("connectionPool.http.maxRequestsPerConnection", Ignored, ""),
    Row("connectionPool.http.maxRetries", Ignored, ""),
    Row("connectionPool.http.idleTimeout", Ignored, ""),
    Row("connectionPool.http.h2UpgradePolicy=UPGRADE", Ignored, ""),
    Row("connectionPool.http.useClientProtocol", Ignored, ""),
    Row("connectionPool.http.maxConcurrentStreams", Ignored, ""),
    Row("connectionPool.http.http2KeepAlive", Ignored, ""),
];
