//! The TCP echo service of the tutorials (cjimti/go-echo): greets, then answers each line with the same line.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::serve::{Place, Server};

/// What a client of the tutorial sees first.
pub fn greeting(name: &str) -> String {
    format!(
        "Welcome, you are connected to node {name}.\r\nRunning on Pod tcp-echo-deployment.\r\n\
         In namespace istioinaction.\r\nService default.\r\n"
    )
}

/// Starts one that calls itself `name`.
pub fn start(name: &str, place: Place) -> Server {
    let greeting: Arc<str> = greeting(name).into();
    Server::start(place, move |stream| converse(stream, greeting.clone()))
}

/// Starts one that says nothing but what it hears.
pub fn start_silent(place: Place) -> Server {
    Server::start(place, |stream| converse(stream, "".into()))
}

/// Starts one that calls itself `name`, within TLS.
pub fn start_sealed(name: &str, config: Arc<ServerConfig>, place: Place) -> Server {
    let (greeting, acceptor): (Arc<str>, _) = (greeting(name).into(), TlsAcceptor::from(config));
    Server::start(place, move |stream| {
        let (greeting, acceptor) = (greeting.clone(), acceptor.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(stream, greeting).await;
            }
        }
    })
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, greeting: Arc<str>) {
    if stream.write_all(greeting.as_bytes()).await.is_err() {
        return;
    }
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}
