//! What runs in pods of tests. With the word `serve`: HTTP on port 8080, which says the pod's name and what it was asked for, and
//! on 9000 an echo of TCP; ends at once on SIGTERM, as programs do that know nothing of Kubernetes. Without it: nothing, until
//! it is killed, as a pod's sandbox wants it.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use harness::echo;
use harness::faults::Faulty;
use harness::serve::Place;
use tokio::signal::unix::{SignalKind, signal};

const HTTP: u16 = 8080;
const ECHO: u16 = 9000;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        Some(other) => bail!("{other}: the only word is `serve`"),
        None => loop {
            std::thread::park();
        },
    }
}

fn serve() -> Result<()> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("the pod's name")?;
    let place = |port| Place::at((Ipv4Addr::UNSPECIFIED, port).into());
    let _http = Faulty::start(name.trim(), place(HTTP));
    let _echo = echo::start_silent(place(ECHO));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // The first process of a container gets no signal that it does not ask for.
        signal(SignalKind::terminate())?.recv().await;
        Ok(())
    })
}
