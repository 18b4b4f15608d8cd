//! Which plane may serve a listener, as far as documents decide it.

use crate::model::{
    ChainAction, Cluster, ListenerKey, ListenerKind, ProxyVersion, Steering, TcpRoute, UserSpaceReason,
};

/// `proxy` says whether connections begin with a header of the PROXY protocol, and whether those to backends do.
pub(super) fn steering(
    key: ListenerKey,
    kind: &ListenerKind,
    proxy: (bool, Option<ProxyVersion>),
) -> Steering {
    match reason(key, kind, proxy) {
        Some(reason) => Steering::UserSpace(reason),
        None => Steering::Kernel,
    }
}

fn reason(
    key: ListenerKey,
    kind: &ListenerKind,
    (behind_proxy, proxy): (bool, Option<ProxyVersion>),
) -> Option<UserSpaceReason> {
    match kind {
        ListenerKind::Http(_) => Some(UserSpaceReason::NeedsHttp),
        ListenerKind::Tls(tls) => {
            let passes = |action: &ChainAction| matches!(action, ChainAction::Passthrough(_));
            let all_pass = tls.chains.iter().all(|chain| passes(&chain.action));
            Some(match proxy {
                _ if !all_pass => UserSpaceReason::TerminatesTls,
                Some(_) => UserSpaceReason::ProxyProtocol,
                None => UserSpaceReason::NeedsSni,
            })
        }
        ListenerKind::Tcp(_) if key.bind.is_some_and(|ip| ip.is_loopback()) => {
            Some(UserSpaceReason::LoopbackBind)
        }
        ListenerKind::Tcp(_) if behind_proxy => Some(UserSpaceReason::BehindProxy),
        ListenerKind::Tcp(_) if proxy.is_some() => Some(UserSpaceReason::ProxyProtocol),
        ListenerKind::Tcp(route) => policies(route).or_else(|| backends(route)),
    }
}

/// What a DestinationRule asks for on top of carrying bytes.
fn policies(route: &TcpRoute) -> Option<UserSpaceReason> {
    let any = |asks: fn(&Cluster) -> bool| {
        route.destinations.iter().filter_map(|destination| destination.cluster.as_ref()).any(|it| asks(it))
    };
    if any(|cluster| cluster.tls.is_some()) {
        return Some(UserSpaceReason::UpstreamTls);
    }
    if any(|cluster| cluster.proxy_protocol.is_some()) {
        return Some(UserSpaceReason::ProxyProtocol);
    }
    if any(|cluster| cluster.keepalive.is_some()) {
        return Some(UserSpaceReason::Keepalive);
    }
    if route.max_duration.is_some() {
        return Some(UserSpaceReason::MaxDuration);
    }
    if any(|cluster| cluster.warmup.is_some()) {
        return Some(UserSpaceReason::Warmup);
    }
    any(|cluster| cluster.max_connections.is_some()).then_some(UserSpaceReason::MaxConnections)
}

/// The kernel can only carry a flow to an endpoint: a share that leads to none needs someone who closes it.
fn backends(route: &TcpRoute) -> Option<UserSpaceReason> {
    let mut loopback = false;
    for destination in &route.destinations {
        let mut healthy = destination.cluster.iter().flat_map(|cluster| cluster.healthy()).peekable();
        if healthy.peek().is_none() {
            return Some(UserSpaceReason::NoHealthyBackend);
        }
        loopback |= healthy.any(|endpoint| endpoint.address.ip().is_loopback());
    }
    loopback.then_some(UserSpaceReason::LoopbackBackend)
}
