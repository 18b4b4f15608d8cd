//! Asks name servers: over UDP, and over TCP where an answer does not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{self, Reply};
use super::system::{self, System};
use super::{Answer, ResolveError};

/// How long a server has for an answer; resolv.conf's default.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often all servers are asked; resolv.conf's default.
const ATTEMPTS: usize = 2;

/// Asks for the addresses of a name. `servers`: those of the machine, where none are given.
pub(super) async fn ask(name: &str, servers: &[SocketAddr]) -> Result<Answer, ResolveError> {
    let known = if servers.is_empty() { system::hosts(name) } else { Vec::new() };
    if !known.is_empty() {
        return Ok(Answer { addresses: known, ttl: None });
    }
    let mut system = System::read();
    if !servers.is_empty() {
        system.servers = servers.to_vec();
    }
    let mut outcome = Ok(Answer::default());
    for candidate in system.candidates(name) {
        match judge(ask_all(&candidate, &system.servers).await, outcome) {
            ControlFlow::Break(last) => return last,
            ControlFlow::Continue(so_far) => outcome = so_far,
        }
    }
    outcome
}

/// What is said of a name.
type Told = Result<Answer, ResolveError>;

/// Whether what is told of one candidate is the answer, or else the next one has to be asked for. A server that cannot tell of
/// one may know the next; but then nobody knows whether there are no addresses, unless all candidates were answered.
fn judge(told: Told, so_far: Told) -> ControlFlow<Told, Told> {
    match told {
        Ok(answer) if !answer.addresses.is_empty() => ControlFlow::Break(Ok(answer)),
        Ok(_) => ControlFlow::Continue(so_far),
        // Another candidate would get no word either.
        Err(error) if says_nothing(&error) => ControlFlow::Break(Err(error)),
        Err(error) => ControlFlow::Continue(so_far.and(Err(error))),
    }
}

/// Asks one server after the other until one answers. Where none does, what a server has said counts before the silence of
/// others: it may tell of another name.
async fn ask_all(name: &str, servers: &[SocketAddr]) -> Result<Answer, ResolveError> {
    let mut failure = ResolveError::BadName;
    for server in servers.iter().cycle().take(servers.len() * ATTEMPTS) {
        let told = timeout(PATIENCE, ask_one(name, *server)).await;
        match told.unwrap_or(Err(ResolveError::Silent { server: *server })) {
            Ok(answer) => return Ok(answer),
            Err(error) if says_nothing(&error) && has_spoken(&failure) => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn has_spoken(error: &ResolveError) -> bool {
    matches!(error, ResolveError::Refused { .. } | ResolveError::Senseless { .. })
}

fn says_nothing(error: &ResolveError) -> bool {
    matches!(error, ResolveError::Silent { .. } | ResolveError::Socket { .. })
}

async fn ask_one(name: &str, server: SocketAddr) -> Result<Answer, ResolveError> {
    // The number and the port that the kernel chooses are what a forger has to guess (RFC 5452).
    let id = fastrand::u16(..);
    let query = message::query(id, name).ok_or(ResolveError::BadName)?;
    let failed = |source| ResolveError::Socket { server, source };
    let mut reply = over_udp(&query, (id, name), server).await.map_err(failed)?;
    if reply == Reply::Truncated {
        reply = over_tcp(&query, (id, name), server).await.map_err(failed)?;
    }
    match reply {
        Reply::Answer(answer) => Ok(answer),
        Reply::Refused(code) => Err(ResolveError::Refused { server, code }),
        Reply::Foreign | Reply::Truncated => Err(ResolveError::Senseless { server }),
    }
}

async fn over_udp(query: &[u8], (id, name): (u16, &str), server: SocketAddr) -> io::Result<Reply> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match message::read(&buffer[..length], id, name) {
            Reply::Foreign => {}
            reply => return Ok(reply),
        }
    }
}

/// Each message is preceded by its length (RFC 1035, 4.2.2).
async fn over_tcp(query: &[u8], (id, name): (u16, &str), server: SocketAddr) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = u16::try_from(query.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    framed.extend(query);
    stream.write_all(&framed).await?;
    let mut bytes = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(message::read(&bytes, id, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "one of several that may fail")]
    fn found() -> Told {
        Ok(Answer { addresses: vec![[192, 0, 2, 1].into()], ttl: None })
    }

    #[expect(clippy::unnecessary_wraps, reason = "one of several that may fail")]
    fn nothing() -> Told {
        Ok(Answer::default())
    }

    fn refused() -> Told {
        Err(ResolveError::Refused { server: ([192, 0, 2, 53], 53).into(), code: "ServerFailure".to_owned() })
    }

    fn silent() -> Told {
        Err(ResolveError::Silent { server: ([192, 0, 2, 53], 53).into() })
    }

    /// What is told of three candidates, how many of them are asked for, and what comes of it.
    #[test]
    fn a_server_that_fails_for_one_search_domain_may_know_the_next() {
        type Says = fn() -> Told;
        let rows: [([Says; 3], usize, &str); 6] = [
            ([nothing, found, silent], 2, "found"),
            ([refused, found, silent], 2, "found"),
            ([refused, refused, found], 3, "found"),
            ([refused, nothing, nothing], 3, "error"),
            ([nothing, nothing, nothing], 3, "none"),
            ([nothing, silent, found], 2, "error"),
        ];
        for (at, (says, asked, want)) in rows.into_iter().enumerate() {
            let mut count = 0;
            let end = says.iter().try_fold(nothing(), |so_far, says| {
                count += 1;
                judge(says(), so_far)
            });
            let (ControlFlow::Break(outcome) | ControlFlow::Continue(outcome)) = end;
            let told = match outcome {
                Ok(answer) if answer.addresses.is_empty() => "none",
                Ok(_) => "found",
                Err(_) => "error",
            };
            assert_eq!((told, count), (want, asked), "row {at}");
        }
    }
}
