//! Spans.

use crate::api::validate::unsupported::Outcome::Ignored;
use crate::api::validate::unsupported::Row;

pub(super) const ROWS: &[Row] =
    &[Row("spec.tracing", Ignored, "no spans are sent; headers of traces are passed on as they are")];
