//! Which endpoint gets a request: below a policy of a DestinationRule.

use crate::api::validate::unsupported::Outcome::Ignored;
use crate::api::validate::unsupported::Row;

/// Below a policy.
pub(super) const POLICY: &[Row] = &[
    Row("loadBalancer.simple=ROUND_ROBIN", Ignored, "the less busy of two random endpoints is chosen"),
    Row("loadBalancer.simple=RANDOM", Ignored, "the less busy of two random endpoints is chosen"),
    Row("loadBalancer.simple=PASSTHROUGH", Ignored, "the less busy of two random endpoints is chosen"),
    Row(
        "loadBalancer.consistentHash.httpHeaderName",
        Ignored,
        "requests are balanced one by one; TCP knows no headers, in Istio too: `useSourceIp` works for both",
    ),
    Row(
        "loadBalancer.consistentHash.httpCookie",
        Ignored,
        "requests are balanced one by one; TCP knows no cookies, in Istio too: `useSourceIp` works for both",
    ),
    Row(
        "loadBalancer.consistentHash.httpQueryParameterName",
        Ignored,
        "requests are balanced one by one; TCP knows no queries, in Istio too: `useSourceIp` works for both",
    ),
    Row("loadBalancer.consistentHash.ringHash", Ignored, "the gateway's own consistent hash is used"),
    Row("loadBalancer.consistentHash.maglev", Ignored, "the gateway's own consistent hash is used"),
    Row("loadBalancer.consistentHash.minimumRingSize", Ignored, "the gateway's own consistent hash is used"),
    Row("loadBalancer.localityLbSetting", Ignored, "endpoints of all localities are used alike"),
    Row("loadBalancer.zoneAwareLbSetting", Ignored, "endpoints of all zones are used alike"),
    Row("loadBalancer.warmupDurationSecs", Ignored, "new endpoints get their share at once"),
    Row("loadBalancer.warmup", Ignored, "new endpoints get their share at once"),
    Row("outlierDetection.outlierDetectionHttpErrorCodes", Ignored, "5xx statuses count, and no others"),
];
