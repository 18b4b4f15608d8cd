//! Two network namespaces beside the host, one for a client and one for the backends, so that flows cross the host and
//! the kernel plane can be seen at work. Removed when dropped; leftovers of a demo that was killed are removed first.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::process::{command, run};

const CLIENT: &str = "sluice-demo-client";
const SERVER: &str = "sluice-demo-backend";
/// The host's end of the link to the client.
pub(crate) const CLIENT_LINK: &str = "sluice-client";
const BACKEND_LINK: &str = "sluice-backend";
/// The gateway, as the client sees it (RFC 2544's range, which nothing else uses).
pub(crate) const GATEWAY: &str = "198.18.53.1";
/// The backends.
pub(crate) const BACKEND: &str = "198.18.54.2";

/// See the module.
pub(crate) struct Lab(());

impl Lab {
    /// Makes both namespaces and joins them to the host.
    pub(crate) fn build() -> Result<Self> {
        remove();
        let lab = Self(());
        join(CLIENT, CLIENT_LINK, "198.18.53.1/30", "198.18.53.2/30")?;
        join(SERVER, BACKEND_LINK, "198.18.54.1/30", "198.18.54.2/30")?;
        Ok(lab)
    }

    /// A program in the backends' namespace.
    pub(crate) fn in_backend(program: impl AsRef<OsStr>) -> Command {
        let mut enter = command("nsenter");
        enter.arg(format!("--net=/run/netns/{SERVER}")).arg(program);
        enter
    }

    /// What to type in front of a command so that it comes from the client.
    pub(crate) fn as_client() -> String {
        format!("nsenter --net=/run/netns/{CLIENT}")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove();
    }
}

/// Makes a namespace and joins it to the host.
fn join(namespace: &str, link: &str, here: &str, there: &str) -> Result<()> {
    ip(&["netns", "add", namespace])?;
    ip(&["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace])?;
    ip(&["address", "add", here, "dev", link])?;
    ip(&["link", "set", link, "up"])?;
    ip(&["-n", namespace, "address", "add", there, "dev", "eth0"])?;
    ip(&["-n", namespace, "link", "set", "eth0", "up"])?;
    ip(&["-n", namespace, "link", "set", "lo", "up"])
}

/// A namespace takes its end of a link along, and with it the other end.
fn remove() {
    for arguments in [
        ["netns", "delete", CLIENT],
        ["netns", "delete", SERVER],
        ["link", "delete", CLIENT_LINK],
        ["link", "delete", BACKEND_LINK],
    ] {
        // Not being there is what is wanted.
        let _ = command("ip").args(arguments).stderr(Stdio::null()).status();
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(command("ip").args(arguments))
}
