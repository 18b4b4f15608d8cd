//! `mirror` and `mirrors`: who gets copies of requests, and of how many.

use crate::api::FieldPath;
use crate::api::virtual_service::{Destination, HttpRoute};
use crate::model::{Fraction, Mirror};

use super::Compiler;
use crate::translate::destination;
use crate::translate::report::Report;

/// Percent of the requests where nothing is said.
const ALL: f64 = 100.0;

impl Compiler<'_> {
    pub(super) fn mirrors(&self, report: &mut Report) -> Vec<Mirror> {
        let rule = self.rule;
        let field = FieldPath::spec().field("http").index(self.index);
        let one = rule.mirror.as_deref().map(|to| (to, share(rule), field.field("mirror")));
        let several = rule.mirrors.iter().enumerate().filter_map(|(at, mirror)| {
            let field = field.field("mirrors").index(at).field("destination");
            let percent = mirror.percentage.map_or(ALL, |percentage| percentage.value);
            Some((mirror.destination.as_ref()?, Fraction::of_percent(percent), field))
        });
        let all: Vec<(&Destination, Fraction, FieldPath)> = one.into_iter().chain(several).collect();
        all.into_iter()
            .map(|(to, share, field)| Mirror {
                destination: destination::of_mirror(
                    self.context,
                    self.bound,
                    &field,
                    (to, self.server.number),
                    report,
                ),
                share,
            })
            .filter(|mirror| !mirror.share.is_none())
            .collect()
    }
}

/// Of `mirror`: `mirrorPercentage`, else the whole percents of `mirrorPercent`, else all.
fn share(rule: &HttpRoute) -> Fraction {
    let whole = rule.mirror_percent.map(f64::from);
    let percent = rule.mirror_percentage.map(|percentage| percentage.value).or(whole);
    Fraction::of_percent(percent.unwrap_or(ALL))
}
