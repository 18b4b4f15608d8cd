//! Which plane may serve a listener, as far as documents decide it.

use crate::model::{ChainAction, ListenerKey, ListenerKind, Steering, TcpRoute, UserSpaceReason};

pub(super) fn steering(key: ListenerKey, kind: &ListenerKind) -> Steering {
    match reason(key, kind) {
        Some(reason) => Steering::UserSpace(reason),
        None => Steering::Kernel,
    }
}

fn reason(key: ListenerKey, kind: &ListenerKind) -> Option<UserSpaceReason> {
    match kind {
        ListenerKind::Http(_) => Some(UserSpaceReason::NeedsHttp),
        ListenerKind::Tls(tls) => {
            let passes = |action: &ChainAction| matches!(action, ChainAction::Passthrough(_));
            let all_pass = tls.chains.iter().all(|chain| passes(&chain.action));
            Some(if all_pass { UserSpaceReason::NeedsSni } else { UserSpaceReason::TerminatesTls })
        }
        ListenerKind::Tcp(_) if key.bind.is_some_and(|ip| ip.is_loopback()) => {
            Some(UserSpaceReason::LoopbackBind)
        }
        ListenerKind::Tcp(route) => backends(route),
    }
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
