//! Faults that a route asks for: requests wait, or are answered in place of being forwarded.

use tokio::time::sleep;

use super::record::Notes;
use super::serve::Connection;
use crate::model::{Fault, Fraction};
use crate::proxy::error::RequestError;
use crate::telemetry::ResponseFlag;

/// Delays a request, then aborts it, each by its own lot. The delay is outside of the route's timeout.
pub(super) async fn inject(
    connection: &Connection,
    fault: &Fault,
    notes: &Notes,
) -> Result<(), RequestError> {
    let hits = |share: Fraction| share.takes(fastrand::u32(..Fraction::WHOLE));
    let delay = fault.delay.filter(|(_, share)| hits(*share));
    let abort = fault.abort.filter(|(_, share)| hits(*share));
    if let Some((duration, _)) = delay {
        tracing::debug!(peer = %connection.ends.peer, flags = "DI", ?duration, "delayed by a fault");
        notes.flag(ResponseFlag::DelayInjected);
        sleep(duration).await;
    }
    match abort {
        Some((status, _)) => Err(RequestError::FaultAbort { status, delayed: delay.is_some() }),
        None => Ok(()),
    }
}
