//! What became of steering on this machine: found out by `datapath`, shown by `admin`.

use std::collections::BTreeMap;

use super::listener::{
    ChainAction, Listener, ListenerKey, ListenerKind, SourceAddress, Steering, UserSpaceReason,
};
use super::tier::Tier;

/// The kernel plane as it stands.
#[derive(Debug, Clone, Default)]
pub struct KernelPlaneState {
    /// Why there is no kernel plane; `None`: there is one.
    pub off: Option<String>,
    /// Interfaces that programs are attached to.
    pub interfaces: Vec<String>,
    /// Listeners that could be steered but are not, here and now, and why.
    pub refused: BTreeMap<ListenerKey, String>,
    /// Listeners whose connections in user space do not come from their clients' addresses, against their documents, and
    /// why.
    pub unpreserved: BTreeMap<ListenerKey, String>,
}

impl KernelPlaneState {
    /// Whether the kernel carries a listener's new flows.
    pub fn steers(&self, listener: &Listener) -> bool {
        listener.steering == Steering::Kernel
            && self.off.is_none()
            && !self.refused.contains_key(&listener.key)
    }

    /// Whether backends of a listener's opaque connections see their clients' addresses, in words; `None` if nobody asked
    /// for that.
    pub fn preserves(&self, listener: &Listener) -> Option<String> {
        if listener.source_address == SourceAddress::Snat {
            return None;
        }
        let reason = match (&listener.kind, &listener.steering) {
            (ListenerKind::Http(_), _) => UserSpaceReason::NeedsHttp.to_string(),
            (_, Steering::UserSpace(UserSpaceReason::LoopbackBind)) => {
                UserSpaceReason::LoopbackBind.to_string()
            }
            _ if self.off.is_some() => "no kernel plane".to_owned(),
            _ => match self.unpreserved.get(&listener.key) {
                Some(reason) => reason.clone(),
                None => return Some("source preserved".to_owned()),
            },
        };
        Some(format!("source not preserved ({reason})"))
    }

    /// The best tier that opaque connections of a listener may reach, below a limit for those that user space accepts;
    /// `None` for a listener that has none.
    pub fn highest_tier(&self, listener: &Listener, limit: Tier) -> Option<Tier> {
        if self.steers(listener) {
            return Some(Tier::Kernel);
        }
        match &listener.kind {
            ListenerKind::Http(_) => None,
            ListenerKind::Tcp(_) => Some(self.best(listener, limit)),
            ListenerKind::Tls(tls) => {
                tls.chains.iter().filter_map(|chain| self.tier_of(listener, &chain.action, limit)).max()
            }
        }
    }

    /// Likewise, of one chain of a TLS listener.
    pub fn tier_of(&self, listener: &Listener, action: &ChainAction, limit: Tier) -> Option<Tier> {
        match action {
            ChainAction::TerminateHttp { .. } => None,
            ChainAction::TerminateTcp { .. } => Some(Tier::Copy),
            ChainAction::Passthrough(_) => Some(self.best(listener, limit)),
        }
    }

    /// Between plain sockets.
    fn best(&self, listener: &Listener, limit: Tier) -> Tier {
        let on_loopback = matches!(
            listener.steering,
            Steering::UserSpace(UserSpaceReason::LoopbackBackend | UserSpaceReason::LoopbackBind)
        );
        // No packet between other machines passes loopback.
        let best = if self.off.is_some() || on_loopback { Tier::Splice } else { Tier::Handoff };
        best.min(limit)
    }

    /// The path of a listener's flows, in words: `kernel`, or user space and why.
    pub fn path(&self, key: ListenerKey, steering: &Steering) -> String {
        let reason = match (steering, &self.off) {
            (Steering::UserSpace(reason), _) => reason.to_string(),
            (Steering::Kernel, Some(off)) => format!("no kernel plane: {off}"),
            (Steering::Kernel, None) => match self.refused.get(&key) {
                Some(refused) => refused.clone(),
                None => return "kernel".to_owned(),
            },
        };
        format!("user space ({reason})")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::listener::TlsListener;
    use crate::model::{FilterChain, Limits, RouteTable, TcpRoute};

    #[test]
    fn the_path_names_the_reason_that_decides() {
        let key = ListenerKey { bind: None, port: 31400 };
        let mut plane = KernelPlaneState::default();
        assert_eq!(plane.path(key, &Steering::Kernel), "kernel");
        plane.refused.insert(key, "no route to 10.0.0.1".into());
        assert_eq!(plane.path(key, &Steering::Kernel), "user space (no route to 10.0.0.1)");
        plane.off = Some("not root".into());
        assert_eq!(plane.path(key, &Steering::Kernel), "user space (no kernel plane: not root)");
        let tls = Steering::UserSpace(UserSpaceReason::TerminatesTls);
        assert_eq!(plane.path(key, &tls), "user space (terminates TLS)");
    }

    fn route() -> Arc<TcpRoute> {
        let idle_timeout = Duration::from_hours(1);
        Arc::new(TcpRoute {
            virtual_service: "a.b".into(),
            destinations: Vec::new(),
            idle_timeout,
            max_duration: None,
            origin: None,
        })
    }

    fn listener(kind: ListenerKind, steering: Steering) -> Listener {
        Listener {
            name: "0.0.0.0_443".into(),
            key: ListenerKey { bind: None, port: 443 },
            kind,
            steering,
            source_address: SourceAddress::Snat,
            proxy_protocol: None,
            behind_proxy: false,
            limits: Limits::default(),
            servers: Vec::new(),
        }
    }

    fn passing_through() -> ListenerKind {
        let chain =
            |name: &str, action| FilterChain { name: name.into(), sni: Vec::new(), action, origin: None };
        ListenerKind::Tls(TlsListener::new(vec![chain("through", ChainAction::Passthrough(route()))]))
    }

    #[test]
    fn whether_the_source_is_preserved_is_said_with_the_reason() {
        let key = ListenerKey { bind: None, port: 443 };
        let there = KernelPlaneState::default();
        let off = KernelPlaneState { off: Some("not root".into()), ..KernelPlaneState::default() };
        let unpreserved = [(key, "backend 10.0.0.1:80: no route".to_owned())].into();
        let failing = KernelPlaneState { unpreserved, ..KernelPlaneState::default() };
        let sni = Steering::UserSpace(UserSpaceReason::NeedsSni);
        let looped = Steering::UserSpace(UserSpaceReason::LoopbackBind);
        for (plane, kind, steering, want) in [
            (&there, passing_through(), sni.clone(), "source preserved"),
            (&there, ListenerKind::Tcp(route()), Steering::Kernel, "source preserved"),
            (&there, ListenerKind::Tcp(route()), looped, "source not preserved (bound to loopback)"),
            (&off, passing_through(), sni.clone(), "source not preserved (no kernel plane)"),
            (&failing, passing_through(), sni, "source not preserved (backend 10.0.0.1:80: no route)"),
        ] {
            let mut listener = listener(kind, steering);
            assert_eq!(plane.preserves(&listener), None);
            listener.source_address = SourceAddress::Preserve;
            assert_eq!(plane.preserves(&listener).as_deref(), Some(want));
        }
    }

    #[test]
    fn the_highest_tier_is_the_least_of_what_machine_listener_and_flag_allow() {
        let user_space = |reason| Steering::UserSpace(reason);
        let tcp = || ListenerKind::Tcp(route());
        let there = KernelPlaneState::default();
        let off = KernelPlaneState { off: Some("not root".into()), ..KernelPlaneState::default() };
        let key = ListenerKey { bind: None, port: 443 };
        let refusing = KernelPlaneState {
            refused: [(key, "no route".to_owned())].into(),
            ..KernelPlaneState::default()
        };
        for (plane, kind, steering, limit, want) in [
            (&there, tcp(), Steering::Kernel, Tier::Copy, Tier::Kernel),
            (&refusing, tcp(), Steering::Kernel, Tier::Handoff, Tier::Handoff),
            (&off, tcp(), Steering::Kernel, Tier::Handoff, Tier::Splice),
            (&off, tcp(), Steering::Kernel, Tier::Copy, Tier::Copy),
            (&there, tcp(), user_space(UserSpaceReason::ProxyProtocol), Tier::Handoff, Tier::Handoff),
            (&there, tcp(), user_space(UserSpaceReason::ProxyProtocol), Tier::Splice, Tier::Splice),
            (&there, tcp(), user_space(UserSpaceReason::LoopbackBackend), Tier::Handoff, Tier::Splice),
            (&there, tcp(), user_space(UserSpaceReason::LoopbackBind), Tier::Handoff, Tier::Splice),
            (&there, passing_through(), user_space(UserSpaceReason::NeedsSni), Tier::Handoff, Tier::Handoff),
            (&off, passing_through(), user_space(UserSpaceReason::NeedsSni), Tier::Handoff, Tier::Splice),
        ] {
            let listener = listener(kind, steering);
            assert_eq!(plane.highest_tier(&listener, limit), Some(want), "{:?}", listener.steering);
        }
        let http = listener(
            ListenerKind::Http(Arc::new(RouteTable::new("http.80".into(), Vec::new()))),
            user_space(UserSpaceReason::NeedsHttp),
        );
        assert_eq!(there.highest_tier(&http, Tier::Handoff), None);
    }
}
