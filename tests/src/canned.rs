//! Backends that say the same to everybody, or only listen.

use std::sync::mpsc::{Receiver, channel};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::serve::{Place, Server};

/// Says these bytes on every connection, once it has read a head, and closes its side; then it reads on.
pub fn answer(bytes: &'static [u8]) -> Server {
    answer_and(bytes, true)
}

/// Likewise, and leaves the end to the client.
pub fn answer_openly(bytes: &'static [u8]) -> Server {
    answer_and(bytes, false)
}

fn answer_and(bytes: &'static [u8], closes: bool) -> Server {
    Server::start(Place::loopback(), move |mut stream| async move {
        let mut heard = Vec::new();
        while !heard.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => heard.push(byte),
                Err(_) => return,
            }
        }
        let _ = stream.write_all(bytes).await;
        if closes {
            let _ = stream.shutdown().await;
        }
        let _ = stream.read_to_end(&mut heard).await;
    })
}

/// Says nothing, and tells what it heard up to the end of its client's words.
pub fn listen() -> (Server, Receiver<Vec<u8>>) {
    let (heard, hears) = channel();
    let server = Server::start(Place::loopback(), move |mut stream| {
        let heard = heard.clone();
        async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("receiving");
            heard.send(all).expect("the test waits");
        }
    });
    (server, hears)
}
