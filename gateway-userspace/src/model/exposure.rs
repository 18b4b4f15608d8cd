//! Where clients outside of a cluster find the gateway: what its own Services say of that.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Service in front of the gateway that the outside can reach, or is to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// `namespace/name`.
    pub service: String,
    /// `type` of the Service.
    pub kind: String,
    /// Addresses and names of its load balancer, then its `externalIPs`.
    pub addresses: Vec<String>,
    /// Its ports.
    pub ports: Vec<ExposedPort>,
}

/// A port of such a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExposedPort {
    /// At its addresses.
    pub port: u16,
    /// At every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, kind, addresses, ports } = self;
        let at = match (addresses.as_slice(), kind.as_str()) {
            ([], "LoadBalancer") => "no address yet".to_owned(),
            ([], _) => "nodes".to_owned(),
            (addresses, _) => addresses.join(", "),
        };
        let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
        write!(f, "{at}, port {} ({kind} {service})", ports.join(", "))
    }
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node_port {
            Some(node_port) => write!(f, "{} (of nodes {node_port})", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_where_clients_go() {
        let exposure = |kind: &str, addresses: &[&str], node_port| Exposure {
            service: "ns/gateway".to_owned(),
            kind: kind.to_owned(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            ports: vec![ExposedPort { port: 80, node_port }, ExposedPort { port: 443, node_port: None }],
        };
        for (exposure, want) in [
            (
                exposure("LoadBalancer", &["203.0.113.7", "lb.test"], Some(30_080)),
                "203.0.113.7, lb.test, port 80 (of nodes 30080), 443 (LoadBalancer ns/gateway)",
            ),
            (exposure("LoadBalancer", &[], None), "no address yet, port 80, 443 (LoadBalancer ns/gateway)"),
            (
                exposure("NodePort", &[], Some(30_080)),
                "nodes, port 80 (of nodes 30080), 443 (NodePort ns/gateway)",
            ),
        ] {
            assert_eq!(exposure.to_string(), want);
        }
    }
}
