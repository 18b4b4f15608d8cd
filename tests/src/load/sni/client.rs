//! Clients that say a server name and check who answers.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Choice, Kind, Name, hello};
use crate::arena::{Arena, SNI};
use crate::client::LIMIT;
use crate::namespace::Namespace;
use crate::peers::{Contender as _, Program, sni::Contender};

/// Where clients connect to for each backend of a kind of work, and what they say there.
#[derive(Debug, Clone)]
pub struct Way {
    kind: Kind,
    /// By [`Choice`].
    targets: [Vec<SocketAddr>; 2],
    hellos: [Arc<[u8]>; 2],
}

impl Way {
    /// To the gateway, or to the backends where there is none.
    pub fn new(contender: Contender, arena: &Arena, kind: Kind) -> Self {
        let names = Choice::ALL.map(|choice| Name { kind, choice });
        let target = |name: Name| match contender.program() {
            Program::None => name.addresses(arena),
            _ => vec![arena.gateway(SNI)],
        };
        Self { kind, targets: names.map(target), hellos: names.map(|name| hello(name).into()) }
    }

    /// Of addresses that are known, in this order of [`Choice`]s.
    pub fn known(kind: Kind, targets: [Vec<SocketAddr>; 2]) -> Self {
        Self { kind, targets, hellos: Choice::ALL.map(|choice| hello(Name { kind, choice }).into()) }
    }

    /// The addresses, by [`Choice`].
    pub fn targets(&self) -> &[Vec<SocketAddr>; 2] {
        &self.targets
    }

    /// Of the `number`-th connection: the backends take turns, and so do the addresses of each.
    pub fn turn(&self, number: u64) -> (Name, SocketAddr) {
        let choice = Choice::nth(number);
        let targets = &self.targets[usize::from(choice == Choice::B)];
        (Name { kind: self.kind, choice }, targets[(number / 2) as usize % targets.len()])
    }

    /// The ClientHello for a backend.
    pub fn hello(&self, choice: Choice) -> Arc<[u8]> {
        self.hellos[usize::from(choice == Choice::B)].clone()
    }

    /// Opens the `number`-th connection from the calling thread's namespace, from any port of an address if one is
    /// given: sends the ClientHello, and checks that the backend that it names answers.
    pub fn open(&self, number: u64, from: Option<IpAddr>) -> Result<TcpStream> {
        let (name, target) = self.turn(number);
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(address) = from {
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        socket.connect_timeout(&target.into(), LIMIT).with_context(|| format!("connecting to {target}"))?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.hello(name.choice))?;
        let mut letter = [0];
        stream.read_exact(&mut letter).with_context(|| format!("nobody answers for {}", name.host()))?;
        ensure!(letter[0] == name.choice.letter(), "backend {} answers for {}", letter[0], name.host());
        Ok(stream)
    }

    /// Opens several from a namespace.
    pub fn open_all(&self, within: &Namespace, count: usize) -> Result<Vec<TcpStream>> {
        let way = self.clone();
        within.enter(move || (0..count as u64).map(|number| way.open(number, None)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_take_turns_and_so_do_their_addresses() {
        let at = |host: u8| SocketAddr::from(([198, 18, 1, host], 1));
        let way = Way::known(Kind::Bulk, [vec![at(1), at(2)], vec![at(3), at(4)]]);
        let turns: Vec<_> = (0..5).map(|number| way.turn(number).1).collect();
        assert_eq!(turns, [at(1), at(3), at(2), at(4), at(1)]);
        assert_eq!(way.turn(1).0.choice, Choice::B);
    }
}
