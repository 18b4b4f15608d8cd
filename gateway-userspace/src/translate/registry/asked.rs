//! Which hosts something was made of, and whether one of them has changed: asked of ten thousand lists of hosts with each
//! change, of which it concerns few.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Hosts, each once.
#[derive(Debug, Default)]
pub(in crate::translate) struct Asked {
    hosts: Box<[Arc<str>]>,
    marks: u64,
}

impl Asked {
    pub(super) fn new(mut hosts: Vec<Arc<str>>) -> Self {
        hosts.sort_unstable();
        hosts.dedup();
        Self { marks: marks(&hosts), hosts: hosts.into() }
    }
}

/// Hosts that changed.
#[derive(Debug, Default)]
pub(super) struct Changed {
    hosts: HashSet<Arc<str>>,
    marks: u64,
}

impl Changed {
    pub(super) fn new(hosts: HashSet<Arc<str>>) -> Self {
        Self { marks: marks(&hosts), hosts }
    }

    /// Whether one of them was asked for.
    pub(super) fn any_of(&self, asked: &Asked) -> bool {
        self.marks & asked.marks != 0 && asked.hosts.iter().any(|host| self.hosts.contains(host))
    }
}

/// One of 64 bits for each host: those without a bit in common have no host in common.
fn marks<'h>(hosts: impl IntoIterator<Item = &'h Arc<str>>) -> u64 {
    let mark = |host: &Arc<str>| {
        let mut hasher = DefaultHasher::new();
        host.hash(&mut hasher);
        1 << (hasher.finish() % u64::from(u64::BITS))
    };
    hosts.into_iter().fold(0, |marks, host| marks | mark(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_concerns_those_who_asked_for_it() {
        let host = |at: u32| Arc::from(format!("s{at}.default.svc.cluster.local"));
        for changed in [vec![], vec![3], vec![3, 77], (0..100).collect()] {
            let of = changed.iter().map(|at| host(*at)).collect();
            let known = Changed::new(of);
            for asked in [vec![], vec![3], vec![4, 4], vec![77, 5, 1], vec![200]] {
                let want = asked.iter().any(|at| changed.contains(at));
                let asked = Asked::new(asked.into_iter().map(host).collect());
                assert_eq!(known.any_of(&asked), want, "{changed:?} {asked:?}");
            }
        }
    }
}
