//! What a route means besides its destinations.

use crate::api::validate::unsupported::Outcome::Ignored;
use crate::api::validate::unsupported::Row;

/// VirtualService.
pub(super) const ROWS: &[Row] = &[Row("spec.http[].match[].statPrefix", Ignored, "")];
