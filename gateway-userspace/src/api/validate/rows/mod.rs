//! What Istio has and this version does not do yet, in tables: whoever makes a field work deletes its row.

mod balance;
mod gateway;
mod pool_tls;
mod route_filters;
mod telemetry;

use super::unsupported::Row;

/// Gateway.
pub(super) const GATEWAY: &[&[Row]] = &[gateway::ROWS];

/// VirtualService.
pub(super) const VIRTUAL_SERVICE: &[&[Row]] = &[route_filters::ROWS];

/// Telemetry.
pub(super) const TELEMETRY: &[&[Row]] = &[telemetry::ROWS];

/// DestinationRule: `trafficPolicy`, and each of `portLevelSettings`.
pub(super) const TRAFFIC_POLICY: &[&[Row]] = &[pool_tls::POLICY, balance::POLICY];
