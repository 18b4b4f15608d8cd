//! Many connections that say their server name and then nothing.
//!
//! A process may have so many open files and no more, so both ends of the connections are shared out to processes of
//! their own, one for each of the arena's addresses: it listens at a backend's and connects from a client's. They are
//! told how many connections to open on standard input, answer on standard output, and end when the input does.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::client::Way;
use super::{Choice, Kind, backend};
use crate::arena::{self, Arena};
use crate::load::backend::Backend;
use crate::peers::sni::Contender;
use crate::{cpu, limits, namespace, wait};

/// The subcommand of the measuring program that [`hold`] is behind.
pub const SUBCOMMAND: &str = "hold";
/// Files that a process needs beside its connections.
const OTHERS: u64 = 300;

/// What a process is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Share {
    /// Namespaces of clients and of backends.
    namespaces: [PathBuf; 2],
    from: IpAddr,
    at: SocketAddr,
    is_second: bool,
    targets: [Vec<SocketAddr>; 2],
}

/// Processes that hold both ends. They end when this is dropped.
#[derive(Debug)]
pub struct Holders {
    holders: Vec<Holder>,
    open: usize,
}

#[derive(Debug)]
struct Holder {
    child: Child,
    /// Until it is to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Holders {
    /// Starts them. Once that is done, the backends listen.
    pub fn start(contender: Contender, arena: &Arena) -> Result<Self> {
        let way = Way::new(contender, arena, Kind::Answers);
        let mut holders = Vec::new();
        for choice in Choice::ALL {
            for at in choice.addresses(arena, Kind::Answers.port()) {
                let share = Share {
                    namespaces: [arena.lab.client.path(), arena.lab.backends[0].path()],
                    from: arena::client(holders.len() as u64).ip(),
                    at,
                    is_second: choice == Choice::B,
                    targets: way.targets().clone(),
                };
                holders.push(Holder::start(&share)?);
            }
        }
        for holder in &mut holders {
            ensure!(holder.answer()? == (0, None), "a process that holds connections is not ready");
        }
        Ok(Self { holders, open: 0 })
    }

    /// Connections that both ends have room for: half of each process's are of clients. A tenth is left over, because
    /// no gateway shares out connections quite evenly.
    pub fn room() -> usize {
        let each = limits::descriptors().saturating_sub(OTHERS) * 9 / 20;
        each as usize * usize::from(arena::ADDRESSES)
    }

    /// Connections that are open.
    pub fn open_now(&self) -> usize {
        self.open
    }

    /// Opens so many more, all processes at once, and waits until each has been answered. The error is why some are not
    /// there; all others stay.
    pub fn open(&mut self, count: usize) -> Result<()> {
        let each = count.div_ceil(self.holders.len());
        let mut left = count;
        for holder in &mut self.holders {
            holder.order(each.min(left))?;
            left -= each.min(left);
        }
        let answers = self.holders.iter_mut().map(Holder::answer).collect::<Result<Vec<_>>>()?;
        self.open = answers.iter().map(|(held, _)| held).sum();
        match answers.into_iter().find_map(|(_, failure)| failure) {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }
}

impl Holder {
    fn start(share: &Share) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([SUBCOMMAND, &serde_json::to_string(share)?]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take().context("no standard output")?);
        Ok(Self { child, orders, answers: BufReader::new(answers) })
    }

    fn order(&mut self, count: usize) -> Result<()> {
        let orders = self.orders.as_mut().context("it is to end")?;
        writeln!(orders, "{count}").context("a process that holds connections has ended")
    }

    /// How many connections it holds, and why no more.
    fn answer(&mut self) -> Result<(usize, Option<String>)> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let (held, failure) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let held = held.parse().context("a process that holds connections has ended")?;
        Ok((held, (!failure.is_empty()).then(|| failure.to_owned())))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.orders.take());
        let ended = wait::within(wait::PATIENCE, || self.child.try_wait().transpose());
        if ended.is_none() {
            let _ = (self.child.kill(), self.child.wait());
        }
    }
}

/// What each of the processes does.
pub fn hold(share: &str) -> Result<()> {
    let share: Share = serde_json::from_str(share).context("what to hold")?;
    limits::descriptors();
    cpu::pin(cpu::LOAD)?;
    let [client, served] = &share.namespaces;
    let choice = if share.is_second { Choice::B } else { Choice::A };
    let _backend = Backend::serve(File::open(served)?, vec![backend::answering(choice, share.at)])?;
    namespace::join(&File::open(client)?);
    let way = Way::known(Kind::Answers, share.targets);
    println!("0");
    let mut held = Vec::new();
    for line in std::io::stdin().lines() {
        let count: usize = line?.trim().parse().context("a number of connections")?;
        let failure = (0..count).find_map(|_| match way.open(held.len() as u64, Some(share.from)) {
            Ok(stream) => {
                held.push(stream);
                None
            }
            Err(error) => Some(format!(" {error:#}")),
        });
        println!("{}{}", held.len(), failure.unwrap_or_default());
    }
    Ok(())
}
