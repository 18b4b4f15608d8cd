//! Which endpoint gets a request: below a policy of a DestinationRule.

use crate::api::validate::unsupported::Outcome::Ignored;
use crate::api::validate::unsupported::Row;

/// Below a policy.
pub(super) const POLICY: &[Row] = &[
    Row(
        "loadBalancer.simple=PASSTHROUGH",
        Ignored,
        "it sends connections where they were going, and those of a gateway were going to the gateway: its endpoints are \
         chosen as by LEAST_REQUEST",
    ),
    Row("loadBalancer.zoneAwareLbSetting", Ignored, "endpoints of all zones are used alike"),
];
