//! Pipes that splice(2) moves bytes through, from a socket's receive queue to another's send queue without a look at
//! them. A worker's connections share them: one that holds no bytes at the moment has none.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Bytes that a pipe takes, as long as each of its pages is full, and that are moved at once: what a receiver that stalls
/// makes us hold, and what a worker's other connections wait for. On loopback a stream costs 0.30 CPU seconds for each GiB
/// by pipes of 64 KiB, 0.16 by 256 KiB, 0.15 by 1 MiB (`benches/relay.rs`).
const SIZE: usize = 256 * 1024;

/// Empty pipes that a worker keeps for later.
const KEPT: usize = 16;

/// Pipes that a worker has at most, each of two descriptors. Connections beyond that copy.
const MOST: usize = 512;

thread_local! {
    static FREE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static ALIVE: Cell<usize> = const { Cell::new(0) };
}

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    filled: usize,
    _alive: Alive,
}

impl Pipe {
    /// An empty one; none when this worker has too many, or the process too many descriptors.
    pub(super) fn take() -> Option<Self> {
        FREE.with_borrow_mut(Vec::pop).or_else(Self::make)
    }

    fn make() -> Option<Self> {
        let alive = Alive::one_more()?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Refused to users who have many pipes; a smaller one is as right.
        let _ = fcntl_setpipe_size(&write, SIZE);
        Some(Self { read, write, filled: 0, _alive: alive })
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Takes in what a socket has received, and returns how much. Only for an empty pipe: then `WouldBlock` speaks of
    /// the socket, and 0 is its end.
    pub(super) fn fill(&mut self, from: &impl AsFd) -> io::Result<usize> {
        debug_assert!(self.is_empty());
        self.filled = moved(from, &self.write, SIZE)?;
        Ok(self.filled)
    }

    /// Sends what is in it, and returns how much went.
    pub(super) fn drain(&mut self, to: &impl AsFd) -> io::Result<usize> {
        let count = moved(&self.read, to, self.filled)?;
        self.filled -= count;
        if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
    }

    /// Keeps it for the next connection. One with bytes in it is closed: nobody else may get them; and one that saw an
    /// error is to be dropped instead.
    pub(super) fn give_back(self) {
        if self.is_empty() {
            FREE.with_borrow_mut(|free| {
                if free.len() < KEPT {
                    free.push(self);
                }
            });
        }
    }
}

fn moved(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(retry_on_intr(|| splice(from, None, to, None, most, flags))?)
}

/// Counts a pipe as long as it is there.
#[derive(Debug)]
struct Alive(());

impl Alive {
    fn one_more() -> Option<Self> {
        let alive = ALIVE.get();
        if alive == MOST {
            return None;
        }
        ALIVE.set(alive + 1);
        Some(Self(()))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // A thread that ends has given up its count.
        let _ = ALIVE.try_with(|alive| alive.set(alive.get() - 1));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_empty_pipe_is_used_again_and_a_full_one_is_not() {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let (theirs, mut backend) = UnixStream::pair().unwrap();
        client.write_all(b"hello").unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(pipe.fill(&ours).unwrap(), 5);
        assert!(!pipe.is_empty());
        pipe.give_back();
        assert_eq!((FREE.with_borrow(Vec::len), ALIVE.get()), (0, 0));
        client.write_all(b"world").unwrap();
        let mut pipe = Pipe::take().unwrap();
        pipe.fill(&ours).unwrap();
        assert_eq!(pipe.drain(&theirs).unwrap(), 5);
        pipe.give_back();
        assert_eq!((FREE.with_borrow(Vec::len), ALIVE.get()), (1, 1));
        let mut word = [0; 5];
        backend.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"world");
    }

    #[test]
    fn a_worker_has_so_many_pipes_and_no_more() {
        let all: Vec<_> = std::iter::from_fn(Pipe::take).collect();
        assert_eq!(all.len(), MOST);
        assert!(Pipe::take().is_none());
        all.into_iter().for_each(Pipe::give_back);
        assert_eq!((FREE.with_borrow(Vec::len), ALIVE.get()), (KEPT, KEPT));
    }
}
