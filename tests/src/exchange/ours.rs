//! Both ends of an exchange in process, over any stream.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use super::{Closing, HEADER, Ledger, Plan, fill, first_wrong};

/// Largest piece written or read at once.
const BLOCK: usize = 128 * 1024;

/// How far an end's receiving is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Received {
    Some,
    All,
    End,
}

/// One way of a connection, as one end sees it.
#[derive(Debug, Clone, Copy)]
struct Way {
    seed: u64,
    length: u64,
}

/// The client's end, up to the end of both directions.
pub async fn call<S: AsyncRead + AsyncWrite>(stream: S, plan: &Plan) -> Result<()> {
    let waits_for = match plan.closing {
        Closing::Both | Closing::ClientFirst => Received::Some,
        Closing::ServerFirst | Closing::ServerAfterAll => Received::End,
        Closing::ClientAfterAll => Received::All,
    };
    let (reader, mut writer) = tokio::io::split(stream);
    writer.write_all(&plan.header()).await.context("sending the header")?;
    let out = Way { seed: plan.seed, length: plan.up };
    let back = Way { seed: !plan.seed, length: plan.down };
    exchange((reader, back), (writer, out), waits_for).await
}

/// The server's end; how it went is noted.
pub async fn serve<S: AsyncRead + AsyncWrite>(stream: S, ledger: &Ledger) {
    let (mut reader, writer) = tokio::io::split(stream);
    let plan = match read_plan(&mut reader).await {
        Ok(plan) => plan,
        Err(fault) => return ledger.note(0, Err(format!("{fault:#}"))),
    };
    let waits_for = match plan.closing {
        Closing::Both | Closing::ServerFirst => Received::Some,
        Closing::ClientFirst | Closing::ClientAfterAll => Received::End,
        Closing::ServerAfterAll => Received::All,
    };
    let out = Way { seed: !plan.seed, length: plan.down };
    let back = Way { seed: plan.seed, length: plan.up };
    let end = exchange((reader, back), (writer, out), waits_for).await;
    ledger.note(plan.seed, end.map_err(|fault| format!("{fault:#}")));
}

async fn read_plan(reader: &mut (impl AsyncRead + Unpin)) -> Result<Plan> {
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).await.context("receiving the header")?;
    Plan::read(&header).with_context(|| format!("no header: {header:02x?}"))
}

async fn exchange(
    (reader, back): (impl AsyncRead + Unpin, Way),
    (writer, out): (impl AsyncWrite + Unpin, Way),
    waits_for: Received,
) -> Result<()> {
    let (tell, told) = watch::channel(Received::Some);
    let sending = send(writer, out, told, waits_for);
    let receiving = receive(reader, back, tell);
    tokio::try_join!(sending, receiving).map(drop)
}

async fn send(
    mut writer: impl AsyncWrite + Unpin,
    Way { seed, length }: Way,
    mut told: watch::Receiver<Received>,
    waits_for: Received,
) -> Result<()> {
    let mut buffer = vec![0; BLOCK];
    let mut pace = Pace::new(seed);
    let mut offset = 0;
    while offset < length {
        let size = pace.piece().min(length - offset) as usize;
        let piece = &mut buffer[..size];
        fill(piece, seed, offset);
        let failed = || format!("sending after {offset} of {length} bytes");
        writer.write_all(piece).await.with_context(failed)?;
        writer.flush().await.with_context(failed)?;
        offset += size as u64;
        pace.rest().await;
    }
    told.wait_for(|received| *received >= waits_for).await.context("the other direction failed")?;
    writer.shutdown().await.context("closing the direction")
}

async fn receive(
    mut reader: impl AsyncRead + Unpin,
    Way { seed, length }: Way,
    tell: watch::Sender<Received>,
) -> Result<()> {
    let (mut buffer, mut scratch) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut pace = Pace::new(!seed.rotate_left(1));
    let mut offset = 0;
    loop {
        if offset == length {
            tell.send_replace(Received::All);
        }
        let failed = || format!("receiving after {offset} of {length} bytes");
        let count = reader.read(&mut buffer).await.with_context(failed)?;
        if count == 0 {
            ensure!(offset == length, "ended after {offset} of {length} bytes");
            tell.send_replace(Received::End);
            return Ok(());
        }
        let bytes = &buffer[..count];
        if let Some(wrong) = first_wrong(bytes, seed, offset, &mut scratch) {
            bail!("byte {wrong} of {length} is not the one that was sent");
        }
        offset += count as u64;
        ensure!(offset <= length, "{offset} bytes came where {length} were sent");
        pace.rest().await;
    }
}

/// Sizes of pieces and rests between them. A rest is part of what is tested, and as such not waiting for anything: it
/// lets queues run empty on the sending side and full on the receiving side, down to a window of zero.
struct Pace {
    random: Rng,
    rests: u32,
}

impl Pace {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let rests = random.u32(..4);
        Self { random, rests }
    }

    /// From one byte to a block, by its logarithm.
    fn piece(&mut self) -> u64 {
        let size = 1 << self.random.u32(..=BLOCK.ilog2()) | u64::from(self.random.bool());
        size.min(BLOCK as u64)
    }

    async fn rest(&mut self) {
        if self.rests == 0 || self.random.u8(..4) != 0 {
            return;
        }
        self.rests -= 1;
        let milliseconds = match self.random.u8(..64) {
            // Long enough for a gateway to take the connection for a quiet one.
            0..2 => 1_000..1_500,
            // Longer than the kernel takes for a retransmission.
            2..6 => 0..400,
            _ => 0..20,
        };
        tokio::time::sleep(Duration::from_millis(self.random.u64(milliseconds))).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    /// What a gateway might do to a way's bytes: it gets a piece, and the offset at which it begins.
    type Harm = fn(&mut Vec<u8>, u64);

    const PLAN: Plan = Plan { seed: 5, up: 300_000, down: 200_000, closing: Closing::Both };

    /// Offset that falls into the bytes behind the header in either direction.
    const SPOT: u64 = 150_000;

    async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, harm: Harm) {
        let mut offset = 0;
        let mut buffer = vec![0; 1000];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let mut piece = buffer[..count].to_vec();
            harm(&mut piece, offset);
            offset += count as u64;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    }

    /// How both ends find what a carrier does to them; `None` for one that does not end.
    async fn outcome(up: Harm, down: Harm) -> [Option<Result<(), String>>; 2] {
        let (near, near_far) = tokio::io::duplex(5_000);
        let (far, far_near) = tokio::io::duplex(5_000);
        let (ledger, own) = (Ledger::default(), Ledger::default());
        let carrier = tokio::spawn(carry_both(near_far, far_near, up, down));
        let serving = tokio::spawn({
            let ledger = ledger.clone();
            async move { serve(far, &ledger).await }
        });
        let calling = tokio::spawn({
            let own = own.clone();
            async move {
                let end = call(near, &PLAN).await;
                own.note(PLAN.seed, end.map_err(|fault| format!("{fault:#}")));
            }
        });
        // Time is the runtime's own, and passes when nothing else can happen.
        tokio::time::sleep(Duration::from_mins(1)).await;
        for task in [carrier, serving, calling] {
            task.abort();
        }
        [own, ledger].map(|ends| ends.end_of(PLAN.seed))
    }

    async fn carry_both(near: DuplexStream, far: DuplexStream, up: Harm, down: Harm) {
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        tokio::join!(carry(near_read, far_write, up), carry(far_read, near_write, down));
    }

    fn is_spot(piece: &[u8], offset: u64) -> bool {
        (offset..offset + piece.len() as u64).contains(&SPOT)
    }

    fn nothing(_: &mut Vec<u8>, _: u64) {}

    #[tokio::test(start_paused = true)]
    async fn an_honest_carrier_is_believed() {
        assert_eq!(outcome(nothing, nothing).await, [Some(Ok(())), Some(Ok(()))]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_harm_to_bytes_goes_unseen() {
        let harms: [(&str, Harm); 6] = [
            ("a bit turned", |piece, offset| {
                if is_spot(piece, offset) {
                    piece[0] ^= 1;
                }
            }),
            ("a byte lost", |piece, offset| {
                if is_spot(piece, offset) {
                    piece.remove(0);
                }
            }),
            ("a piece lost", |piece, offset| {
                if is_spot(piece, offset) {
                    piece.clear();
                }
            }),
            ("a piece doubled", |piece, offset| {
                if is_spot(piece, offset) {
                    piece.extend_from_within(..);
                }
            }),
            ("bytes swapped", |piece, offset| {
                if is_spot(piece, offset) {
                    piece.reverse();
                }
            }),
            ("the rest cut off", |piece, offset| {
                if offset > SPOT {
                    piece.clear();
                }
            }),
        ];
        for (what, harm) in harms {
            let [_, at_server] = outcome(harm, nothing).await;
            assert!(matches!(at_server, Some(Err(_))), "{what} upwards: {at_server:?}");
            let [at_client, _] = outcome(nothing, harm).await;
            assert!(matches!(at_client, Some(Err(_))), "{what} downwards: {at_client:?}");
        }
    }
}
