//! Whether an agent is this container's. Pods that take over from one another share the directory of the admin socket, and on a
//! node's network the readiness port, too: what answers there may be another pod's agent.

use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Whether whoever listens at the other end has a process id here: processes of other containers have none, as each has a
/// namespace of its own for them (pid_namespaces(7)), and the kernel says 0 (`SO_PEERCRED`, unix(7)).
pub(super) fn is_own(agent: &UnixStream) -> std::io::Result<bool> {
    Ok(getsockopt(agent, PeerCredentials)?.pid() != 0)
}
