//! All metrics as a body that is made while it is read, on a thread of its own: neither the agent nor a worker waits for that,
//! and no more than some pieces of it are held, however long it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::streamed::Streamed;
use super::view::View;
use crate::telemetry::metrics::{Encoder, Form};

/// Who may read at once: each has a thread.
const READERS: usize = 8;
/// Pieces that wait for their reader.
const PIECES: usize = 4;
/// A reader that takes no piece for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

static PLACES: Semaphore = Semaphore::const_new(READERS);

/// Begins to make it; `None` if too many are being read.
pub(super) async fn expose(view: Arc<View>, form: Form) -> Option<Streamed> {
    let place = PLACES.try_acquire().ok()?;
    let kernel = view.kernel_plane.status().await;
    let (pieces, mut body) = mpsc::channel(PIECES);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut give = |piece| {
            let sending = async { timeout(PATIENCE, pieces.send(piece)).await };
            matches!(runtime.block_on(sending), Ok(Ok(())))
        };
        let mut encoder = Encoder::new(form, &mut give);
        view.measure(&mut encoder, kernel.as_ref());
        encoder.end();
    });
    Some(Streamed::pieces(move |context| body.poll_recv(context)))
}
