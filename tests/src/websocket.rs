//! WebSockets (RFC 6455), both ends by a library that knows nothing of gateways: a service that says every message again,
//! and its clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::client;
use crate::serve::{Place, Server};

/// What the service is told to close by.
pub const BYE: &str = "bye";

/// Starts the service.
pub fn start(place: Place) -> Server {
    Server::start(place, |stream| async move {
        if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
            converse(socket).await;
        }
    })
}

/// The same within TLS.
pub fn start_sealed(config: Arc<ServerConfig>, place: Place) -> Server {
    let acceptor = TlsAcceptor::from(config);
    Server::start(place, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await
                && let Ok(socket) = tokio_tungstenite::accept_async(stream).await
            {
                converse(socket).await;
            }
        }
    })
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut socket: tokio_tungstenite::WebSocketStream<S>) {
    // Pings and closes are answered by the library.
    while let Some(Ok(message)) = socket.next().await {
        let done = match message {
            Message::Text(text) if text.as_str() == BYE => socket.close(None).await,
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            _ => Ok(()),
        };
        if done.is_err() {
            return;
        }
    }
}

/// A client whose handshake is through, in which the key was answered to.
#[track_caller]
pub fn connect(address: SocketAddr, host: &str) -> WebSocket<TcpStream> {
    shake_hands(client::connect(address), host)
}

/// The same on a stream that there is.
#[track_caller]
pub fn shake_hands<S: Read + Write>(stream: S, host: &str) -> WebSocket<S> {
    match tungstenite::client::client(format!("ws://{host}/chat"), stream) {
        Ok((socket, _)) => socket,
        Err(error) => panic!("no handshake: {error}"),
    }
}

/// Sends a message of so many bytes, made from a seed, and expects the same back.
#[track_caller]
pub fn exchange<S: Read + Write>(socket: &mut WebSocket<S>, seed: u64, length: usize) {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    socket.send(Message::binary(bytes.clone())).expect("sending");
    let heard = socket.read().expect("an answer").into_data();
    assert!(heard == bytes, "{length} bytes with seed {seed} are others now, {} of them", heard.len());
}

/// Reads up to the end that both have agreed on.
#[track_caller]
pub fn expect_closed<S: Read + Write>(socket: &mut WebSocket<S>) {
    loop {
        match socket.read() {
            Ok(Message::Close(_)) => {}
            Ok(message) => panic!("a message where the end was expected: {message}"),
            Err(tungstenite::Error::ConnectionClosed) => return,
            Err(error) => panic!("no end that both agreed on: {error}"),
        }
    }
}
