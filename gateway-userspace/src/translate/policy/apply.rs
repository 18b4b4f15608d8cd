//! What the blocks of a policy make of a cluster, in Envoy's defaults where they say nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::api::FieldPath;
use crate::api::destination_rule::{
    H2UpgradePolicy, OutlierDetection as Written, ProxyProtocolVersion, TcpKeepalive,
};
use crate::model::{Cluster, Keepalive, OutlierDetection, ProxyVersion, UpstreamProtocol};

use super::blocks::{Blocks, PlacedPolicy};
use super::tls::Facts;
use super::{PlacedSubset, ServiceRule, balance, limits, locality, tls};
use crate::translate::report::Report;

/// `idleTimeout: 0s` is none; this is as good, and clocks hold it.
const NEVER: Duration = Duration::from_hours(24 * 365);

impl<'a> ServiceRule<'_, 'a> {
    /// Puts the policy of a cluster's port, and of its subset, in force.
    pub(in crate::translate) fn apply(
        &self,
        cluster: &mut Cluster,
        (subset, service): (Option<PlacedSubset<'a>>, Facts<'_>),
        report: &mut Report,
    ) {
        cluster.destination_rule = Some(self.label().into());
        let base = self.documents.iter().find_map(|document| {
            let policy = document.spec.traffic_policy.as_ref()?;
            let field = FieldPath::spec().field("trafficPolicy");
            Some(PlacedPolicy { document, field, policy })
        });
        let own = subset.and_then(|placed| {
            let policy = placed.subset.traffic_policy.as_ref()?;
            let field = placed.field().field("trafficPolicy");
            Some(PlacedPolicy { document: placed.document, field, policy })
        });
        let port = cluster.name.port;
        let mut blocks = base.as_ref().map_or_else(Blocks::default, |base| Blocks::of(base, port).0);
        if let Some(own) = &own {
            blocks = blocks.overridden_by(Blocks::of(own, port));
        }
        let placed = blocks.tls.take();
        // What is offered by TLS depends on the rest.
        let setting = blocks.load_balancer.and_then(|balancer| balancer.locality_lb_setting.as_ref());
        blocks.apply(cluster);
        cluster.placement = locality::placement(setting, cluster, service.identity);
        if let Some(placed) = placed {
            cluster.tls = tls::upstream(&placed, cluster.protocol, service, report).map(Arc::new);
        }
    }
}

impl Blocks<'_> {
    fn apply(self, cluster: &mut Cluster) {
        if let Some(settings) = self.load_balancer {
            cluster.balance = balance::balance(settings);
            cluster.affinity = settings.consistent_hash.as_ref().map(balance::affinity).unwrap_or_default();
        }
        if let Some(tcp) = self.connection_pool.and_then(|pool| pool.tcp.as_ref()) {
            cluster.max_connections = u32::try_from(tcp.max_connections).ok().filter(|most| *most > 0);
            cluster.connect_timeout = tcp.connect_timeout.map_or(cluster.connect_timeout, |time| time.0);
            cluster.idle_timeout =
                tcp.idle_timeout.map(|time| if time.0.is_zero() { NEVER } else { time.0.min(NEVER) });
        }
        let tcp = self.connection_pool.and_then(|pool| pool.tcp.as_ref());
        cluster.keepalive = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()).map(keepalive);
        let http = self.connection_pool.and_then(|pool| pool.http.as_ref());
        let upgrades = http.is_some_and(|http| http.h2_upgrade_policy == H2UpgradePolicy::Upgrade);
        if upgrades && cluster.protocol == UpstreamProtocol::Http1 {
            cluster.protocol = UpstreamProtocol::Http2;
        }
        cluster.http = limits::http(http, self.retry_budget);
        cluster.outlier = self.outlier_detection.map(outlier);
        cluster.proxy_protocol = self.proxy_protocol.map(|proxy| match proxy.version {
            ProxyProtocolVersion::V1 => ProxyVersion::V1,
            ProxyProtocolVersion::V2 => ProxyVersion::V2,
        });
    }
}

fn keepalive(written: &TcpKeepalive) -> Keepalive {
    Keepalive {
        probes: Some(written.probes).filter(|probes| *probes > 0),
        time: written.time.map(|time| time.0),
        interval: written.interval.map(|interval| interval.0),
    }
}

/// What is not said is Envoy's default; a `maxEjectionPercent` of 0 is not said.
fn outlier(written: &Written) -> OutlierDetection {
    let default = OutlierDetection::default();
    let percent = |value: i32| u32::try_from(value).unwrap_or(0);
    let local = written.consecutive_local_origin_failures.filter(|count| *count > 0);
    OutlierDetection {
        consecutive_5xx: written.consecutive_5xx_errors.unwrap_or(default.consecutive_5xx),
        consecutive_gateway: written.consecutive_gateway_errors.unwrap_or(default.consecutive_gateway),
        consecutive_local_origin: local.unwrap_or(default.consecutive_local_origin),
        split_local_origin: written.split_external_local_origin_errors,
        interval: written.interval.map_or(default.interval, |time| time.0),
        base_ejection_time: written.base_ejection_time.map_or(default.base_ejection_time, |time| time.0),
        max_ejection_percent: match percent(written.max_ejection_percent) {
            0 => default.max_ejection_percent,
            percent => percent,
        },
        min_health_percent: percent(written.min_health_percent),
    }
}
