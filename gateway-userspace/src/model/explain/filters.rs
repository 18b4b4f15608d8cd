//! What comes before a route's destination: faults, then CORS. Which requests a fault of a share hits nobody can say; what
//! happens to all of them is decided here.

use http::{HeaderMap, Method};

use crate::model::route::{AbortStatus, CorsVerdict, Filters, Fraction};

/// What the route does besides.
pub(super) fn notes(filters: &Filters) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(fault) = &filters.fault {
        let delayed =
            |(time, share): &(_, Fraction)| format!("a fault delays {share} of requests by {time:?}");
        let aborted =
            |(status, share): &(_, _)| format!("a fault answers {share} of requests with {}", words(*status));
        notes.extend(fault.delay.as_ref().map(delayed));
        notes.extend(fault.abort.as_ref().map(aborted));
    }
    if let Some(cors) = &filters.cors {
        let others = if cors.forward_unmatched { "go to the backend" } else { "are answered too" };
        notes.push(format!("CORS answers preflights of allowed origins; those of others {others}"));
    }
    notes
}

/// The answer that the filters give to a request for certain, if they do.
pub(super) fn answer(filters: &Filters, method: &str, headers: &HeaderMap) -> Option<String> {
    let abort = filters.fault.as_ref().and_then(|fault| fault.abort);
    if let Some((status, share)) = abort
        && share.is_whole()
    {
        return Some(format!("the route's fault answers every request with {}", words(status)));
    }
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    match filters.cors.as_ref()?.judge(&method, headers) {
        CorsVerdict::Preflight(_) => Some("CORS answers the preflight with 200".to_owned()),
        CorsVerdict::Refuse => Some(
            "CORS answers the preflight with 200 and allows nothing: the origin is not among its own"
                .to_owned(),
        ),
        CorsVerdict::Pass | CorsVerdict::Allow(_) => None,
    }
}

fn words(status: AbortStatus) -> String {
    match status {
        AbortStatus::Http(status) => status.as_u16().to_string(),
        AbortStatus::Grpc(status) => format!("gRPC status {status}"),
    }
}
