//! `mirror` and `mirrors`: who gets copies of requests, and of how many.

use crate::api::FieldPath;
use crate::api::virtual_service::{Destination, HttpRoute, Percent};
use crate::model::Mirror;

use super::Compiler;
use crate::translate::destination;
use crate::translate::report::Report;

/// A share of 1.
const ALL: u32 = 1_000_000;

impl Compiler<'_> {
    pub(super) fn mirrors(&self, report: &mut Report) -> Vec<Mirror> {
        let rule = self.rule;
        let field = FieldPath::spec().field("http").index(self.index);
        let one = rule.mirror.as_deref().map(|to| (to, share(rule), field.field("mirror")));
        let several = rule.mirrors.iter().enumerate().filter_map(|(at, mirror)| {
            let field = field.field("mirrors").index(at).field("destination");
            Some((mirror.destination.as_ref()?, mirror.percentage.map_or(ALL, per_million), field))
        });
        let all: Vec<(&Destination, u32, FieldPath)> = one.into_iter().chain(several).collect();
        all.into_iter()
            .map(|(to, per_million, field)| Mirror {
                destination: destination::of_mirror(
                    self.context,
                    self.bound,
                    &field,
                    (to, self.server.number),
                    report,
                ),
                per_million,
            })
            .filter(|mirror| mirror.per_million > 0)
            .collect()
    }
}

/// Of `mirror`: `mirrorPercentage`, else the whole percents of `mirrorPercent`, else all.
fn share(rule: &HttpRoute) -> u32 {
    match (rule.mirror_percentage, rule.mirror_percent) {
        (Some(percentage), _) => per_million(percentage),
        (None, Some(percent)) => per_million(Percent { value: f64::from(percent) }),
        (None, None) => ALL,
    }
}

/// Fractions of Envoy's are millionths.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100 percent, as validated")]
fn per_million(percentage: Percent) -> u32 {
    (percentage.value * 10_000.0) as u32
}
