//! `mirror` and `mirrors` of an `http` rule.

use crate::api::path::FieldPath;
use crate::api::virtual_service::{HttpRoute, Percent};

use super::Findings;
use super::virtual_service::check_destination_host;

pub(super) fn check_mirrors(found: &mut Findings<'_>, field: &FieldPath, rule: &HttpRoute) {
    if let Some(mirror) = &rule.mirror {
        check_destination_host(found, &field.field("mirror"), mirror);
    }
    if let Some(percent) = rule.mirror_percent.filter(|percent| *percent > 100) {
        let message = format!("mirror_percent must have a max value of 100 (it has {percent})");
        found.error(&field.field("mirrorPercent"), message);
    }
    check_share(found, &field.field("mirrorPercentage"), rule.mirror_percentage);
    for (at, mirror) in rule.mirrors.iter().enumerate() {
        let field = field.field("mirrors").index(at);
        match &mirror.destination {
            Some(destination) => check_destination_host(found, &field.field("destination"), destination),
            None => {
                found.error(&field, "destination is required for mirrors");
            }
        }
        check_share(found, &field.field("percentage"), mirror.percentage);
    }
}

fn check_share(found: &mut Findings<'_>, field: &FieldPath, percentage: Option<Percent>) {
    let Some(Percent { value }) = percentage else { return };
    if value > 100.0 {
        found.error(field, format!("mirror_percentage must have a max value of 100 (it has {value:.6})"));
    } else if value < 0.0 {
        found.error(field, format!("mirror_percentage must have a min value of 0 (it has {value:.6})"));
    }
}
