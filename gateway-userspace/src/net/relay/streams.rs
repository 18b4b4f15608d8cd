//! The relay between streams that are not plain sockets, such as those whose TLS is terminated here: by copying.

use std::cell::Cell;
use std::io;
use std::pin::pin;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::{Carried, Lifetime, RelayEnd, Side};

/// Bytes a direction holds at most. Measured on loopback, 64 KiB is where larger buffers stop helping.
const BUFFER: usize = 64 * 1024;

/// Relays until the end; a half-close is passed on and the other direction goes on. Calls `answered` when the first
/// bytes come from the backend, and tells `watch` what has been carried whenever it is more.
pub async fn relay<D, U>(
    downstream: D,
    upstream: U,
    lifetime: impl Into<Lifetime>,
    answered: impl Fn(),
    watch: impl Fn(Carried),
) -> (Carried, RelayEnd)
where
    D: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let lifetime = lifetime.into();
    let (down_read, down_write) = tokio::io::split(downstream);
    let (up_read, up_write) = tokio::io::split(upstream);
    let last = Cell::new(Instant::now());
    let (up, down) = (Cell::new(0), Cell::new(0));
    let tell = || watch(Carried { up: up.get(), down: down.get() });
    let end = {
        let both = async {
            let upwards =
                copy((Side::Downstream, down_read), (Side::Upstream, up_write), (&last, &up), || {}, &tell);
            let downwards = copy(
                (Side::Upstream, up_read),
                (Side::Downstream, down_write),
                (&last, &down),
                answered,
                &tell,
            );
            tokio::try_join!(upwards, downwards)
        };
        let mut both = pin!(both);
        loop {
            tokio::select! {
                result = &mut both => match result {
                    Ok(_) => break RelayEnd::Closed,
                    Err((side, error)) => break RelayEnd::Failed { side, error },
                },
                () = tokio::time::sleep_until(lifetime.end(last.get()).0) => {
                    let (at, end) = lifetime.end(last.get());
                    if at <= Instant::now() {
                        break end;
                    }
                }
            }
        }
    };
    (Carried { up: up.get(), down: down.get() }, end)
}

async fn copy<R, W>(
    (source, mut from): (Side, R),
    (sink, mut to): (Side, W),
    (last, carried): (&Cell<Instant>, &Cell<u64>),
    first: impl Fn(),
    tell: impl Fn(),
) -> Result<(), (Side, io::Error)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER].into_boxed_slice();
    loop {
        let count = from.read(&mut buffer).await.map_err(|error| (source, error))?;
        last.set(Instant::now());
        if count == 0 {
            return to.shutdown().await.map_err(|error| (sink, error));
        }
        if carried.get() == 0 {
            first();
        }
        to.write_all(&buffer[..count]).await.map_err(|error| (sink, error))?;
        to.flush().await.map_err(|error| (sink, error))?;
        carried.set(carried.get() + count as u64);
        tell();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_half_close_is_passed_on_and_the_other_direction_goes_on() {
        let (answers, watched) = (Cell::new(0), Cell::default());
        let (mut client, downstream) = tokio::io::duplex(16);
        let (upstream, mut backend) = tokio::io::duplex(16);
        let answered = || answers.set(answers.get() + 1);
        let relaying =
            relay(downstream, upstream, Duration::from_mins(1), answered, |carried| watched.set(carried));
        let talking = async {
            client.write_all(b"request that is longer than the pipe").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answering = async {
            let mut request = String::new();
            backend.read_to_string(&mut request).await.unwrap();
            backend.write_all(format!("{} bytes", request.len()).as_bytes()).await.unwrap();
            backend.shutdown().await.unwrap();
        };
        let ((carried, end), answer, ()) = tokio::join!(relaying, talking, answering);
        assert_eq!(answer, "36 bytes");
        assert_eq!((carried, answers.get()), (Carried { up: 36, down: 8 }, 1));
        assert_eq!(watched.get(), carried);
        assert!(matches!(end, RelayEnd::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_both_ways_ends_the_relay() {
        let (_client, downstream) = tokio::io::duplex(16);
        let (upstream, _backend) = tokio::io::duplex(16);
        let started = Instant::now();
        let (_, end) = relay(downstream, upstream, Duration::from_hours(1), || {}, |_| {}).await;
        assert!(matches!(end, RelayEnd::Idle));
        assert_eq!(started.elapsed(), Duration::from_hours(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_ends_at_its_time_however_busy() {
        let (mut client, downstream) = tokio::io::duplex(16);
        let (upstream, mut backend) = tokio::io::duplex(16);
        let started = Instant::now();
        let lifetime =
            Lifetime { idle: Duration::from_secs(10), until: Some(started + Duration::from_secs(25)) };
        let talking = async {
            while client.write_all(b"x").await.is_ok() {
                let _ = backend.read_u8().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            (carried, end) = relay(downstream, upstream, lifetime, || {}, |_| {}) => {
                assert!(matches!(end, RelayEnd::Expired) && carried.up >= 24, "{end:?} {carried:?}");
            }
            () = talking => unreachable!("the relay outlives its ends"),
        }
        assert_eq!(started.elapsed(), Duration::from_secs(25));
    }
}
