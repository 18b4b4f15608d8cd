//! What a route means besides its destinations.

use crate::api::validate::unsupported::Outcome::{Ignored, Refused};
use crate::api::validate::unsupported::Row;

/// VirtualService.
pub(super) const ROWS: &[Row] = &[
    Row("spec.http[].delegate", Refused, "write the delegate's rules into this document"),
    Row("spec.http[].fault.abort", Refused, "requests that it turns away would get through"),
    Row("spec.http[].fault.delay", Ignored, ""),
    Row("spec.http[].redirect.prefixRewrite", Refused, "redirects would lead elsewhere; use `uri`"),
    Row("spec.http[].corsPolicy", Ignored, ""),
    Row("spec.http[].match[].statPrefix", Ignored, ""),
];
