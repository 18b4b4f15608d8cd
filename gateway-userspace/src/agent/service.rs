//! What the service manager is told (sd_notify(3)): that the agent serves, and as which process; nothing where there is none.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::{env, io};

/// It serves; a unit that has been started as another process is this one from now on.
pub(super) fn serving() {
    tell(&format!("READY=1\nMAINPID={}\n", std::process::id()));
}

/// It stops, and nobody takes its place.
pub(super) fn stopping() {
    tell("STOPPING=1\n");
}

fn tell(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(socket.as_bytes(), state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn send(socket: &[u8], state: &str) -> io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("sluice-test-{}", std::process::id());
        let on_disk = UnixDatagram::bind(&path).unwrap();
        let hidden = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, heard) in
            [(path.as_os_str().as_bytes().to_vec(), on_disk), (format!("@{name}").into_bytes(), hidden)]
        {
            send(&socket, "READY=1\n").unwrap();
            let mut said = [0; 64];
            let length = heard.recv(&mut said).unwrap();
            assert_eq!(&said[..length], b"READY=1\n");
        }
    }
}
