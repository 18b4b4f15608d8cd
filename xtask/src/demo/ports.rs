//! Which ports the demo listens on: those of the documents where they are free and allowed, others where not. The
//! gateway's own Service maps the one to the other, as it does in a cluster.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result};

/// Ports of the quickstart's Gateways, and stand-ins.
const WANTED: [(&str, u16, u16); 4] =
    [("http", 80, 8080), ("https", 443, 8443), ("tcp", 31400, 31410), ("tls", 31401, 31411)];

/// The ports in use, by their names in the Service.
pub(crate) struct Ports {
    chosen: Vec<(&'static str, u16, u16)>,
}

impl Ports {
    /// Looks which ports are free; says which are not.
    pub(crate) fn choose() -> Result<Self> {
        let mut chosen = Vec::new();
        for (name, wanted, other) in WANTED {
            let port = match free(wanted) {
                Ok(port) => port,
                Err(reason) => {
                    let port = free(other).or_else(|_| free(0)).context("no free port")?;
                    println!(
                        "note: port {wanted} cannot be used ({reason}); the gateway's Service maps it to {port}"
                    );
                    port
                }
            };
            chosen.push((name, wanted, port));
        }
        Ok(Self { chosen })
    }

    /// The port listened on for a name.
    pub(crate) fn of(&self, name: &str) -> u16 {
        self.chosen.iter().find(|(known, ..)| *known == name).map_or(0, |(_, _, port)| *port)
    }

    /// Writes the gateway's own Service.
    pub(crate) fn write_service(&self, directory: &Path) -> Result<()> {
        let mut yaml = "apiVersion: v1\nkind: Service\nmetadata:\n  name: istio-ingressgateway\n  namespace: istio-system\n\
                        spec:\n  selector:\n    istio: ingressgateway\n  ports:\n"
            .to_owned();
        for (name, wanted, port) in &self.chosen {
            writeln!(yaml, "  - name: {name}\n    port: {wanted}\n    targetPort: {port}")?;
        }
        Ok(fs::write(directory.join("gateway-service.yaml"), yaml)?)
    }
}

fn free(port: u16) -> std::io::Result<u16> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?.local_addr().map(|address| address.port())
}
