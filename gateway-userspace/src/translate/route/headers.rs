//! Operations on headers.

use http::{HeaderName, HeaderValue};

use crate::api::validate::{is_authority, literal};
use crate::api::virtual_service::HeaderOperations;
use crate::model::HeaderOps;

/// `headers.request` or `.response`; `host` among set and add becomes the authority. An empty value does nothing, as Envoy
/// leaves a header alone that it would write nothing into.
pub(super) fn operations(written: &HeaderOperations) -> HeaderOps {
    let mut operations = HeaderOps::default();
    for (pairs, is_set) in [(&written.set, true), (&written.add, false)] {
        for (name, value) in pairs {
            let Ok(value) = literal(value) else { continue };
            if value.is_empty() {
                continue;
            }
            if is_authority(name) {
                operations.authority = Some(value);
                continue;
            }
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&value).ok());
            if let Some(pair) = parsed {
                if is_set { operations.set.push(pair) } else { operations.add.push(pair) }
            }
        }
    }
    operations.remove =
        written.remove.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
    operations
}

/// A lone destination's operations come after the route's, so that its `set` wins; but the route's Host wins.
pub(super) fn merge(route: &mut HeaderOps, destination: HeaderOps) {
    route.remove.extend(destination.remove);
    route.set.extend(destination.set);
    route.add.extend(destination.add);
    route.authority = route.authority.take().or(destination.authority);
}
