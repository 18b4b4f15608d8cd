//! The `openssl` command as either end of an exchange. It cannot close one direction alone, so plans for it say that the
//! other end closes, when all has come.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context as _, Result, bail, ensure};

use super::backends::{Program, Running, spawn};
use super::{HEADER, Ledger, Plan, fill, first_wrong};
use crate::namespace::Namespace;
use crate::{program, wait};

const BLOCK: usize = 64 * 1024;
/// It takes no port of the system's choice that it would tell us of; the namespace is the test's own.
const PORTS: [u16; 2] = [4433, 4434];

/// Starts `openssl s_server`, which serves one connection after another: what is sent goes in as its input, what it
/// receives comes as its output, and the next connection's follows at once.
pub(super) fn start_server(
    namespace: &Namespace,
    place: SocketAddr,
    credentials: &Path,
    ledger: Ledger,
) -> (Running, SocketAddr) {
    let address = SocketAddr::new(place.ip(), PORTS[usize::from(place.is_ipv6())]);
    let mut command = namespace.command("openssl");
    command.args(["s_server", "-quiet", "-accept", &address.to_string()]);
    command.arg("-cert").arg(credentials.join("server.crt"));
    command.arg("-key").arg(credentials.join("server.key"));
    let mut child = spawn(&mut command);
    let mut input = child.stdin.take().expect("standard input is piped");
    let mut output = child.stdout.take().expect("standard output is piped");
    let serving = std::thread::spawn(move || {
        while let Ok(Some(plan)) = read_plan(&mut output) {
            let end = exchange(&mut input, &mut output, (!plan.seed, plan.down), (plan.seed, plan.up));
            ledger.note(plan.seed, end.map_err(|fault| format!("{fault:#}")));
        }
    });
    let filter = format!("sport = :{}", address.port());
    wait::until("openssl to listen", || {
        let said = program::run(namespace.command("ss").args(["-Hltn", &filter])).expect_success();
        (!said.out.is_empty()).then_some(())
    });
    (Running::program(Program::heard_by(child, serving)), address)
}

fn read_plan(output: &mut impl Read) -> Result<Option<Plan>> {
    let mut header = [0; HEADER];
    output.read_exact(&mut header)?;
    Ok(Plan::read(&header))
}

/// The client that runs now, so that it can be killed.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    child: Option<Child>,
    stopped: bool,
}

impl Slot {
    /// Kills the client that runs, and any that comes.
    pub(super) fn stop(&self) {
        let mut held = self.lock();
        held.stopped = true;
        if let Some(child) = &mut held.child {
            // One that has ended in the meantime cannot be killed, and need not be.
            let _ = child.kill();
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    fn put(&self, mut child: Child) {
        let mut held = self.lock();
        if held.stopped {
            let _ = child.kill();
        }
        held.child = Some(child);
    }

    fn wait(&self, kills: bool) {
        // Without the lock, which whoever stops it needs.
        let taken = self.lock().child.take();
        if let Some(mut child) = taken {
            if kills {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().expect("nobody panics with it")
    }
}

/// Where a client connects to.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) address: SocketAddr,
    pub(super) name: &'a str,
    pub(super) authority: &'a Path,
}

/// A connection by `openssl s_client`, to its end.
pub(super) fn call(command: &mut Command, place: &Place<'_>, plan: &Plan, slot: &Slot) -> Result<()> {
    command.args(["s_client", "-quiet", "-verify_return_error", "-connect", &place.address.to_string()]);
    command.args(["-servername", place.name, "-CAfile"]).arg(place.authority).stderr(Stdio::null());
    let mut child = spawn(command);
    let mut input = child.stdin.take().expect("standard input is piped");
    let mut output = child.stdout.take().expect("standard output is piped");
    slot.put(child);
    let end = converse(&mut input, &mut output, plan);
    drop(input);
    slot.wait(end.is_err());
    end
}

fn converse(input: &mut ChildStdin, output: &mut impl Read, plan: &Plan) -> Result<()> {
    send_header(input, plan)?;
    exchange(input, output, (plan.seed, plan.up), (!plan.seed, plan.down))?;
    // The server closes, and then it ends.
    ensure!(output.read(&mut [0; 1])? == 0, "more came than {} bytes", plan.down);
    Ok(())
}

fn send_header(input: &mut ChildStdin, plan: &Plan) -> Result<()> {
    input.write_all(&plan.header()).context("sending the header")
}

/// Both ways at once; each is a seed and a length.
fn exchange(input: &mut ChildStdin, output: &mut impl Read, out: (u64, u64), back: (u64, u64)) -> Result<()> {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(input, out));
        let received = receive(output, back);
        let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        received.and(sent)
    })
}

fn send(input: &mut ChildStdin, (seed, length): (u64, u64)) -> Result<()> {
    let mut buffer = vec![0; BLOCK];
    let mut offset = 0;
    while offset < length {
        let piece = &mut buffer[..(length - offset).min(BLOCK as u64) as usize];
        fill(piece, seed, offset);
        input.write_all(piece).with_context(|| format!("sending after {offset} of {length} bytes"))?;
        offset += piece.len() as u64;
    }
    Ok(())
}

fn receive(output: &mut impl Read, (seed, length): (u64, u64)) -> Result<()> {
    let (mut buffer, mut scratch) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut offset = 0;
    while offset < length {
        let most = (length - offset).min(BLOCK as u64) as usize;
        let count = output.read(&mut buffer[..most])?;
        ensure!(count > 0, "ended after {offset} of {length} bytes");
        if let Some(wrong) = first_wrong(&buffer[..count], seed, offset, &mut scratch) {
            bail!("byte {wrong} of {length} is not the one that was sent");
        }
        offset += count as u64;
    }
    Ok(())
}
