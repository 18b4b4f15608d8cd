//! What names outside the cluster stand for: an input of the translation, which asks no server itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Addresses by name. Names are compared without case and without a dot at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved(BTreeMap<String, Vec<IpAddr>>);

impl Resolved {
    /// Keeps what a name stands for, sorted and without duplicates, so that answers in another order are the same. Whether
    /// it stood for something else before.
    pub fn insert(&mut self, name: &str, mut addresses: Vec<IpAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        let is_new = self.addresses(name) != addresses;
        self.0.insert(Self::folded(name), addresses);
        is_new
    }

    /// Forgets the names that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| keep(name));
    }

    /// The addresses of a name; none while it is not resolved.
    pub fn addresses(&self, name: &str) -> &[IpAddr] {
        self.0.get(&Self::folded(name)).map_or(&[], Vec::as_slice)
    }

    /// A name as it is compared.
    pub fn folded(name: &str) -> String {
        name.trim_end_matches('.').to_ascii_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_another_order_are_the_same() {
        let resolve = |name: &str, addresses: &[&str]| {
            let mut resolved = Resolved::default();
            resolved.insert(name, addresses.iter().map(|address| address.parse().unwrap()).collect());
            resolved
        };
        let first = resolve("A.test.", &["10.0.0.2", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(first, resolve("a.test", &["10.0.0.1", "10.0.0.2"]));
        assert_eq!(first.addresses("a.TEST").len(), 2);
        assert!(first.addresses("b.test").is_empty());
    }
}
