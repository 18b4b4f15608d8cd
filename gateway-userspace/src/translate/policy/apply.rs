//! What the blocks of a policy make of a cluster, in Envoy's defaults where they say nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::api::destination_rule::{
    H2UpgradePolicy, HttpSettings, OutlierDetection as Written, ProxyProtocolVersion, TcpKeepalive,
};
use crate::api::mesh_config::MeshH2Upgrade;
use crate::api::{FieldPath, MeshConfig};
use crate::model::{Cluster, Keepalive, OutlierDetection, ProxyVersion, UpstreamProtocol};

use super::blocks::{Blocks, PlacedPolicy};
use super::tls::Facts;
use super::{PlacedSubset, ServiceRule, balance, health, limits, locality, tls};
use crate::translate::registry::Distribution;
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
        blocks.put_in_force(cluster, service);
        cluster.health_check = health::check(self.documents, port).map(Arc::new);
        if let Some(placed) = placed {
            // Where the client's version is spoken, connections for HTTP/2 offer that by themselves.
            cluster.tls = tls::upstream(&placed, cluster.speaks(false), service, report).map(Arc::new);
        }
    }
}

/// Puts what the mesh says in force for a cluster without a rule.
pub(in crate::translate) fn apply_mesh(cluster: &mut Cluster, service: Facts<'_>) {
    Blocks::default().put_in_force(cluster, service);
}

impl Blocks<'_> {
    fn put_in_force(self, cluster: &mut Cluster, facts: Facts<'_>) {
        let Facts { mesh, identity, distribution, .. } = facts;
        let setting = self.load_balancer.and_then(|balancer| balancer.locality_lb_setting.as_ref());
        self.apply(cluster, mesh);
        cluster.placement = match (setting, distribution) {
            (None, Distribution::SameZone | Distribution::SameNode) => {
                locality::near(distribution, cluster, identity)
            }
            _ => locality::placement(setting.or(mesh.locality_lb_setting.as_ref()), cluster, identity),
        };
    }

    fn apply(self, cluster: &mut Cluster, mesh: &MeshConfig) {
        if let Some(settings) = self.load_balancer {
            cluster.balance = balance::balance(settings);
            cluster.affinity = settings.consistent_hash.as_ref().map(balance::affinity).unwrap_or_default();
            cluster.warmup = balance::warmup(settings);
        }
        let tcp = self.connection_pool.and_then(|pool| pool.tcp.as_ref());
        if let Some(tcp) = tcp {
            cluster.max_connections = u32::try_from(tcp.max_connections).ok().filter(|most| *most > 0);
            cluster.connect_timeout = tcp.connect_timeout.map_or(cluster.connect_timeout, |time| time.0);
            cluster.idle_timeout =
                tcp.idle_timeout.map(|time| if time.0.is_zero() { NEVER } else { time.0.min(NEVER) });
            cluster.max_connection_duration = tcp.max_connection_duration.map(|time| time.0);
        }
        let own = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref());
        cluster.keepalive = keepalive(own, mesh.tcp_keepalive.as_ref());
        let http = self.connection_pool.and_then(|pool| pool.http.as_ref());
        cluster.follows_client = http.is_some_and(|http| http.use_client_protocol);
        if upgrades(http, mesh, cluster.protocol) {
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

/// Whether HTTP/2 is spoken where the port does not say so. A rule knows what it speaks of; the mesh means ports whose name
/// says HTTP.
fn upgrades(http: Option<&HttpSettings>, mesh: &MeshConfig, protocol: UpstreamProtocol) -> bool {
    let written = http.map_or(H2UpgradePolicy::Default, |http| http.h2_upgrade_policy);
    match written {
        _ if http.is_some_and(|http| http.use_client_protocol) => false,
        H2UpgradePolicy::Upgrade => true,
        H2UpgradePolicy::DoNotUpgrade => false,
        H2UpgradePolicy::Default => {
            mesh.h2_upgrade_policy == MeshH2Upgrade::Upgrade && protocol == UpstreamProtocol::Http1
        }
    }
}

/// What a rule says, and of the rest what the mesh says; `None` where neither speaks of it.
fn keepalive(own: Option<&TcpKeepalive>, mesh: Option<&TcpKeepalive>) -> Option<Keepalive> {
    let probes = |written: &TcpKeepalive| Some(written.probes).filter(|probes| *probes > 0);
    let both = || [own, mesh].into_iter().flatten();
    both().next()?;
    Some(Keepalive {
        probes: both().find_map(probes),
        time: both().find_map(|written| written.time).map(|time| time.0),
        interval: both().find_map(|written| written.interval).map(|interval| interval.0),
    })
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
        error_codes: written
            .outlier_detection_http_error_codes
            .iter()
            .filter_map(|code| u16::try_from(*code).ok())
            .collect(),
    }
}
