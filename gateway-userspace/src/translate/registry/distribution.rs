//! Which endpoints of a service come first where no DestinationRule says so: `trafficDistribution` of a Service, or Istio's
//! annotation for it, which ServiceEntries may have too.

use std::collections::BTreeMap;

use crate::api::{Code, FieldPath, Severity, Source};
use crate::translate::report::Report;

const ANNOTATION: &str = "networking.istio.io/traffic-distribution";

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::translate) enum Distribution {
    /// Not said, or all are alike.
    #[default]
    Any,
    /// Those of the gateway's zone, then those of its region.
    SameZone,
    /// Likewise, those of its subzone first. Of nodes nothing is known here.
    SameNode,
}

impl Distribution {
    /// What a document says: `field` of a Service, unless its annotation says something else.
    pub(super) fn of(
        (field, annotations): (&str, &BTreeMap<String, String>),
        source: &Source,
        report: &mut Report,
    ) -> Self {
        let (word, place) = match annotations.get(ANNOTATION) {
            Some(word) => (word.as_str(), FieldPath::metadata().field("annotations").field(ANNOTATION)),
            None => (field, FieldPath::spec().field("trafficDistribution")),
        };
        match word.to_ascii_lowercase().as_str() {
            "" | "any" => Self::Any,
            "preferclose" | "prefersamezone" => Self::SameZone,
            "prefersamenode" => Self::SameNode,
            _ => {
                let message =
                    format!("unknown distribution \"{word}\": endpoints of all zones are used alike");
                let help = "expected PreferClose, PreferSameZone, PreferSameNode or Any";
                report.add(
                    source.diagnostic(Severity::Warning, Code::NotSupported, &place, message).help(help),
                );
                Self::Any
            }
        }
    }
}
