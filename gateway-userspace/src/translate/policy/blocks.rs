//! The blocks of a policy that hold for a port or a subset: `portLevelSettings` replace the whole policy, a subset's
//! policy block by block.

use crate::api::destination_rule::{
    ClientTlsSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, OutlierDetection,
    ProxyProtocol, RetryBudget, TrafficPolicy,
};
use crate::api::{FieldPath, Sourced};

/// A policy where it is written.
#[derive(Debug, Clone)]
pub(super) struct PlacedPolicy<'a> {
    pub(super) document: &'a Sourced<DestinationRule>,
    pub(super) field: FieldPath,
    pub(super) policy: &'a TrafficPolicy,
}

/// TLS settings where they are written.
#[derive(Debug, Clone)]
pub(super) struct PlacedTls<'a> {
    pub(super) document: &'a Sourced<DestinationRule>,
    pub(super) field: FieldPath,
    pub(super) settings: &'a ClientTlsSettings,
}

/// The blocks of a policy for one port.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocks<'a> {
    pub(super) load_balancer: Option<&'a LoadBalancerSettings>,
    pub(super) connection_pool: Option<&'a ConnectionPoolSettings>,
    pub(super) outlier_detection: Option<&'a OutlierDetection>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    pub(super) retry_budget: Option<&'a RetryBudget>,
    pub(super) tls: Option<PlacedTls<'a>>,
}

impl<'a> Blocks<'a> {
    /// Of a port, and whether it has settings of its own.
    pub(super) fn of(placed: &PlacedPolicy<'a>, port: u16) -> (Self, bool) {
        let PlacedPolicy { document, field, policy } = placed;
        let tls = |settings: &'a Option<ClientTlsSettings>, field: &FieldPath| {
            let settings = settings.as_ref()?;
            Some(PlacedTls { document, field: field.field("tls"), settings })
        };
        let is_port = |number: u32| number == u32::from(port);
        let own = policy
            .port_level_settings
            .iter()
            .position(|settings| settings.port.as_ref().is_some_and(|port| is_port(port.number)));
        let blocks = match own.map(|at| (at, &policy.port_level_settings[at])) {
            Some((at, own)) => Self {
                load_balancer: own.load_balancer.as_ref(),
                connection_pool: own.connection_pool.as_ref(),
                outlier_detection: own.outlier_detection.as_ref(),
                proxy_protocol: None,
                retry_budget: None,
                tls: tls(&own.tls, &field.field("portLevelSettings").index(at)),
            },
            None => Self {
                load_balancer: policy.load_balancer.as_ref(),
                connection_pool: policy.connection_pool.as_ref(),
                outlier_detection: policy.outlier_detection.as_ref(),
                proxy_protocol: policy.proxy_protocol,
                retry_budget: policy.retry_budget.as_ref(),
                tls: tls(&policy.tls, field),
            },
        };
        (blocks, own.is_some())
    }

    /// A subset's port-level settings leave nothing of the service's policy.
    pub(super) fn overridden_by(self, (subset, has_own): (Self, bool)) -> Self {
        if has_own {
            return subset;
        }
        Self {
            load_balancer: subset.load_balancer.or(self.load_balancer),
            connection_pool: subset.connection_pool.or(self.connection_pool),
            outlier_detection: subset.outlier_detection.or(self.outlier_detection),
            proxy_protocol: subset.proxy_protocol.or(self.proxy_protocol),
            retry_budget: subset.retry_budget.or(self.retry_budget),
            tls: subset.tls.or(self.tls),
        }
    }
}
