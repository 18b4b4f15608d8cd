//! What became of steering on this machine: found out by `datapath`, shown by `admin`.

use std::collections::BTreeMap;

use super::listener::{Listener, ListenerKey, Steering};

/// The kernel plane as it stands.
#[derive(Debug, Clone, Default)]
pub struct KernelPlaneState {
    /// Why there is no kernel plane; `None`: there is one.
    pub off: Option<String>,
    /// Interfaces that programs are attached to.
    pub interfaces: Vec<String>,
    /// Listeners that could be steered but are not, here and now, and why.
    pub refused: BTreeMap<ListenerKey, String>,
}

impl KernelPlaneState {
    /// Whether the kernel carries a listener's new flows.
    pub fn steers(&self, listener: &Listener) -> bool {
        listener.steering == Steering::Kernel
            && self.off.is_none()
            && !self.refused.contains_key(&listener.key)
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
    use super::*;
    use crate::model::UserSpaceReason;

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
}
