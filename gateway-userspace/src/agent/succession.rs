//! How one agent takes the place of another without losing a connection. The new one asks on the admin socket, gets copies of
//! all listening sockets and of the keys of session tickets, and accepts beside the old one; once it serves, it says so, and
//! only then does the old one let go. Whichever dies on the way, the other one has all sockets and serves.
//!
//! ```text
//! new: POST /hand-over              old: 101
//!                                   old: length (u32, big endian) and JSON (Offer), descriptors in its order
//! new: T, when it serves            old: B, and drains
//! ```

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::admin::server::{AdminListener, HAND_OVER, Scope};
use crate::model::ListenerKey;
use crate::net::passing;
use crate::proxy::Lent;
use crate::tls::{HandedKey, TicketKeys};

/// Each step is a matter of microseconds; an agent that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a new agent may take until it serves: its documents may name names that have to be resolved.
const START: Duration = Duration::from_mins(5);
/// Of the head of an answer, and of an offer: 64 Ki listeners would fit.
const MOST_HEAD: usize = 8 * 1024;
const MOST_OFFER: u32 = 4 * 1024 * 1024;
/// Of an offer without sockets, and for each of these.
const ROOM: usize = 4 * 1024;
const ROOM_OF_SOCKET: usize = 128;

const TAKEN: u8 = b'T';
const BYE: u8 = b'B';

/// What is given: the sockets in order, then keys.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    sockets: Vec<Role>,
    /// What an agent of another version does not know it passes over: keys of another form are to have another name.
    #[serde(default)]
    ticket_keys: Vec<HandedKey>,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Role {
    Listener { bind: Option<IpAddr>, port: u16 },
    Admin,
    Ready,
    Metrics,
}

/// Sockets of an agent.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) listeners: Vec<(ListenerKey, OwnedFd)>,
    pub(super) admin: Vec<(Scope, OwnedFd)>,
}

impl Sockets {
    /// Copies of all that listens.
    pub(super) fn of(lent: Vec<Lent>, admin: &[AdminListener]) -> Self {
        let listeners = lent.into_iter().map(|Lent { listener, socket }| (listener, socket)).collect();
        let copy = |it: &AdminListener| Some((it.scope, it.socket.as_fd().try_clone_to_owned().ok()?));
        Self { listeners, admin: admin.iter().filter_map(copy).collect() }
    }

    /// Takes one of the admin interface's that listens there.
    pub(super) fn take_admin(&mut self, wanted: Scope, address: SocketAddr) -> Option<OwnedFd> {
        let is_it = |(scope, socket): &(Scope, OwnedFd)| {
            *scope == wanted && rustix::net::getsockname(socket).is_ok_and(|it| it.try_into() == Ok(address))
        };
        let index = self.admin.iter().position(is_it)?;
        Some(self.admin.swap_remove(index).1)
    }

    fn roles(&self) -> Vec<Role> {
        let listeners =
            self.listeners.iter().map(|(key, _)| Role::Listener { bind: key.bind, port: key.port });
        let admin = self.admin.iter().map(|(scope, _)| match scope {
            Scope::Readiness => Role::Ready,
            Scope::Metrics => Role::Metrics,
            Scope::Owner | Scope::Everything => Role::Admin,
        });
        listeners.chain(admin).collect()
    }

    fn taken(roles: Vec<Role>, descriptors: Vec<OwnedFd>) -> Self {
        let mut taken = Self::default();
        for (role, socket) in roles.into_iter().zip(descriptors) {
            match role {
                Role::Listener { bind, port } => taken.listeners.push((ListenerKey { bind, port }, socket)),
                Role::Admin => taken.admin.push((Scope::Everything, socket)),
                Role::Ready => taken.admin.push((Scope::Readiness, socket)),
                Role::Metrics => taken.admin.push((Scope::Metrics, socket)),
            }
        }
        taken
    }
}

/// The old one's side: gives its sockets and keys, and tells `taken` when the new one serves. A new one that goes away before
/// has changed nothing.
pub(super) fn offer(
    mut stream: UnixStream,
    sockets: impl Future<Output = Sockets> + Send + 'static,
    ticket_keys: Arc<TicketKeys>,
    taken: mpsc::Sender<UnixStream>,
) {
    tokio::spawn(async move {
        let given = async {
            timeout(PATIENCE, async { give(&mut stream, sockets.await, &ticket_keys).await }).await??;
            timeout(START, stream.read_u8()).await?
        };
        match given.await {
            Ok(TAKEN) => drop(taken.send(stream).await),
            Ok(_) => tracing::warn!("whoever asked for the sockets does not speak as agents do"),
            Err(error) => tracing::warn!(%error, "whoever asked for the sockets has not taken over"),
        }
    });
}

async fn give(stream: &mut UnixStream, sockets: Sockets, ticket_keys: &TicketKeys) -> io::Result<()> {
    let ticket_keys = if is_ours(stream) { ticket_keys.hand_over() } else { Vec::new() };
    let offer = Offer { sockets: sockets.roles(), ticket_keys };
    // With room: one that grows leaves copies behind.
    let mut written = Zeroizing::new(Vec::with_capacity(ROOM + offer.sockets.len() * ROOM_OF_SOCKET));
    serde_json::to_writer(&mut *written, &offer)?;
    stream.write_u32(u32::try_from(written.len()).map_err(io::Error::other)?).await?;
    stream.write_all(&written).await?;
    let listeners = sockets.listeners.iter().map(|(_, socket)| socket.as_fd());
    let admin = sockets.admin.iter().map(|(_, socket)| socket.as_fd());
    passing::send(stream, &listeners.chain(admin).collect::<Vec<_>>()).await
}

/// Whether the other end is of our user, as the socket's mode has it unless somebody has changed that: who may have the agent
/// replaced need not be able to read what clients send.
fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw())
}

/// Tells the new one that this one lets go.
pub(super) async fn confirm(mut stream: UnixStream) {
    // It goes on without, too.
    let _ = timeout(PATIENCE, stream.write_u8(BYE)).await;
}

/// The new one's side: an agent whose place this one is to take.
pub(super) struct Predecessor {
    stream: UnixStream,
    pub(super) sockets: Sockets,
    /// None from an agent that does not know of them, or is another user's.
    pub(super) ticket_keys: Vec<HandedKey>,
}

impl Predecessor {
    /// Asks whoever answers on an admin socket for its sockets; `None` if nobody does.
    pub(super) async fn find(socket: &Path) -> anyhow::Result<Option<Self>> {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("--take-over: {}", socket.display())),
        };
        let asked = timeout(PATIENCE, Self::ask(stream)).await;
        let found = asked.unwrap_or_else(|_| bail!("no answer within {PATIENCE:?}"));
        found.map(Some).with_context(|| {
            let socket = socket.display();
            format!("--take-over: the agent at {socket} does not hand its sockets over; stop it first")
        })
    }

    async fn ask(mut stream: UnixStream) -> anyhow::Result<Self> {
        let request = format!(
            "POST {HAND_OVER} HTTP/1.1\r\nhost: sluice\r\nconnection: upgrade\r\nupgrade: sluice\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < MOST_HEAD {
            head.push(stream.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            bail!("it answers {}", String::from_utf8_lossy(&head).lines().next().unwrap_or_default());
        }
        let length = stream.read_u32().await?;
        if length > MOST_OFFER {
            bail!("its offer cannot be read");
        }
        let mut offer = Zeroizing::new(vec![0; length as usize]);
        stream.read_exact(&mut offer).await?;
        let offer: Offer = serde_json::from_slice(&offer).context("its offer cannot be read")?;
        let descriptors = passing::receive(&stream, offer.sockets.len()).await?;
        Ok(Self {
            stream,
            sockets: Sockets::taken(offer.sockets, descriptors),
            ticket_keys: offer.ticket_keys,
        })
    }

    /// Has it let go: everything is served here.
    pub(super) async fn relieve(mut self) {
        let said = async {
            self.stream.write_u8(TAKEN).await?;
            self.stream.read_u8().await
        };
        if let Ok(Ok(BYE)) = timeout(PATIENCE, said).await {
            tracing::info!("took over from the agent before this one, which drains");
        } else {
            // If it is dead there is nothing to let go of.
            tracing::warn!("the agent before this one does not say that it drains");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    fn sockets() -> (Sockets, Vec<SocketAddr>) {
        let listening: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listening.iter().map(|it| it.local_addr().unwrap()).collect();
        let key = |port| ListenerKey { bind: None, port };
        let mut next = listening.into_iter().map(OwnedFd::from);
        let mut one = || next.next().unwrap();
        let listeners = vec![(key(80), one()), (key(443), one())];
        let admin = vec![(Scope::Everything, one()), (Scope::Readiness, one())];
        (Sockets { listeners, admin }, addresses)
    }

    /// Answers the request for a hand-over, as the admin interface does.
    async fn switched(mut old: UnixStream) -> UnixStream {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(old.read_u8().await.unwrap());
        }
        old.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
        old
    }

    /// Keys, as many as are in use.
    fn keys(count: u32) -> Arc<TicketKeys> {
        let keys = TicketKeys::default();
        let made = (0..count).map(|at| json!({"name": ([at; 16]), "secret": ([at; 32]), "age": at}));
        keys.inherit(serde_json::from_value(made.collect()).unwrap());
        Arc::new(keys)
    }

    /// An agent that is asked by another one, what that got, where the first one is told, and where the sockets listen.
    async fn asked() -> (Predecessor, mpsc::Receiver<UnixStream>, Vec<SocketAddr>) {
        let ((sockets, addresses), (old, new)) = (sockets(), UnixStream::pair().unwrap());
        let (taken, is_taken) = mpsc::channel(1);
        let offering = async { offer(switched(old).await, async { sockets }, keys(2), taken) };
        let (asking, ()) = tokio::join!(Predecessor::ask(new), offering);
        (asking.unwrap(), is_taken, addresses)
    }

    #[tokio::test]
    async fn sockets_arrive_as_what_they_are_and_are_let_go_when_they_are_served() {
        let (mut asking, mut is_taken, addresses) = asked().await;
        assert!(is_taken.try_recv().is_err(), "nobody serves yet");
        let found: Vec<_> = asking.sockets.listeners.iter().map(|(key, _)| key.port).collect();
        assert_eq!(found, [80, 443]);
        let keys = serde_json::to_value(&asking.ticket_keys).unwrap();
        let wanted: Vec<_> = (0..2).map(|at| json!([([at; 16]), ([at; 32])])).collect();
        let found: Vec<_> =
            keys.as_array().unwrap().iter().map(|it| json!([it["name"], it["secret"]])).collect();
        assert_eq!(found, wanted);
        assert!(asking.sockets.take_admin(Scope::Everything, addresses[3]).is_none(), "readiness alone");
        assert!(asking.sockets.take_admin(Scope::Readiness, addresses[3]).is_some());
        let relieved = tokio::spawn(asking.relieve());
        confirm(is_taken.recv().await.unwrap()).await;
        relieved.await.unwrap();
    }

    #[tokio::test]
    async fn whoever_goes_before_it_serves_has_changed_nothing() {
        let (asking, mut is_taken, _) = asked().await;
        drop(asking);
        assert!(is_taken.recv().await.is_none());
    }

    #[test]
    fn offers_of_other_versions_are_read() {
        for (text, keys) in [
            (r#"{"sockets":["admin"]}"#, 0),
            (r#"{"sockets":["admin"],"ticketKeys":[],"ofTheFuture":{"secret":"x"}}"#, 0),
        ] {
            let offer: Offer = serde_json::from_str(text).unwrap();
            assert_eq!((offer.sockets.as_slice(), offer.ticket_keys.len()), (&[Role::Admin][..], keys));
        }
    }

    #[test]
    fn keys_are_in_no_debug_output_of_an_offer() {
        let offer = Offer { sockets: vec![Role::Admin], ticket_keys: keys(3).hand_over() };
        let debug = format!("{offer:?} {:?}", keys(3));
        assert!(debug.contains("age: 2") && debug.matches("Key").count() > 3, "{debug}");
        assert!(!debug.contains("[2, 2"), "{debug}");
    }

    #[tokio::test]
    async fn an_agent_that_hands_nothing_over_says_so() {
        let (mut old, new) = UnixStream::pair().unwrap();
        old.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await.unwrap();
        let error = Predecessor::ask(new).await.err().unwrap().to_string();
        assert!(error.contains("405"), "{error}");
        let none = Path::new("/nonexistent/socket");
        assert!(Predecessor::find(none).await.unwrap().is_none());
    }
}
