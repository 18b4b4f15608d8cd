//! The hosts of a server, and which of them a VirtualService's host meets. Gateways with thousands of hosts and
//! as many VirtualServices are real: exact names are looked up, not searched.

use std::collections::HashMap;

use crate::model::HostPattern;

/// An entry of `servers[].hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ServerHost {
    /// Only VirtualServices of this namespace may bind; `None`: of any.
    pub(super) namespace: Option<String>,
    pub(super) pattern: HostPattern,
}

impl ServerHost {
    fn allows(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|only| only == namespace)
    }
}

/// `servers[].hosts`.
#[derive(Debug)]
pub(super) struct ServerHosts {
    entries: Vec<ServerHost>,
    exact: HashMap<HostPattern, Vec<usize>>,
    wild: Vec<usize>,
}

impl ServerHosts {
    /// `./h` is the Gateway's own namespace, `*/h` any; `*/*` stands for the whole list.
    pub(super) fn new(written: &[String], own_namespace: &str) -> Self {
        if written.iter().any(|entry| entry == "*/*") {
            return Self::index(vec![ServerHost { namespace: None, pattern: HostPattern::Any }]);
        }
        let host = |entry: &String| {
            let (namespace, name) = match entry.split_once('/') {
                None => (None, entry.as_str()),
                Some(("*", name)) => (None, name),
                Some((".", name)) => (Some(own_namespace.to_owned()), name),
                Some((namespace, name)) => (Some(namespace.to_owned()), name),
            };
            ServerHost { namespace, pattern: HostPattern::new(name) }
        };
        Self::index(written.iter().map(host).collect())
    }

    fn index(entries: Vec<ServerHost>) -> Self {
        let (mut exact, mut wild) = (HashMap::<HostPattern, Vec<usize>>::new(), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            match &entry.pattern {
                HostPattern::Exact(_) => exact.entry(entry.pattern.clone()).or_default().push(at),
                HostPattern::Suffix(_) | HostPattern::Any => wild.push(at),
            }
        }
        Self { entries, exact, wild }
    }

    /// In document order.
    pub(super) fn entries(&self) -> &[ServerHost] {
        &self.entries
    }

    /// What the entries have in common with the host of a VirtualService of a namespace: the narrower names.
    pub(super) fn meet(&self, host: &HostPattern, namespace: &str) -> impl Iterator<Item = HostPattern> {
        let candidates: Vec<usize> = match host {
            HostPattern::Exact(_) => {
                let same = self.exact.get(host).map_or(&[][..], Vec::as_slice);
                same.iter().chain(&self.wild).copied().collect()
            }
            HostPattern::Suffix(_) | HostPattern::Any => (0..self.entries.len()).collect(),
        };
        let allowed =
            candidates.into_iter().map(|at| &self.entries[at]).filter(move |entry| entry.allows(namespace));
        allowed.filter_map(move |entry| entry.pattern.intersect(host))
    }

    /// Whether there is anything in common.
    pub(super) fn meets(&self, host: &HostPattern, namespace: &str) -> bool {
        self.meet(host, namespace).next().is_some()
    }
}
