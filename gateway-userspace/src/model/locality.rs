//! Where an endpoint or a gateway runs.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Region, zone and subzone; what is not known is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// Such as `eu-west-1`; the node's label `topology.kubernetes.io/region`.
    pub region: Arc<str>,
    /// Such as `eu-west-1a`; the node's label `topology.kubernetes.io/zone`.
    pub zone: Arc<str>,
    /// Such as a rack; the node's label `topology.istio.io/subzone`.
    pub subzone: Arc<str>,
}

impl Locality {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.subzone.is_empty()
    }
}

impl fmt::Display for Locality {
    /// As Istio writes it: `region/zone/subzone`, without what is empty at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}/{}/{}", self.region, self.zone, self.subzone);
        f.write_str(text.trim_end_matches('/'))
    }
}

impl Serialize for Locality {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localities_are_written_without_what_is_not_known() {
        for (parts, want) in [
            (["", "", ""], ""),
            (["a", "", ""], "a"),
            (["a", "b", ""], "a/b"),
            (["a", "b", "c"], "a/b/c"),
            (["", "b", ""], "/b"),
        ] {
            let [region, zone, subzone] = parts.map(Arc::from);
            let locality = Locality { region, zone, subzone };
            assert_eq!(locality.to_string(), want);
            assert_eq!(locality.is_unknown(), want.is_empty());
        }
    }
}
