//! Our own annotations on a Gateway: what Istio's documents have no field for. Those on a DestinationRule are in `health_check`.

use std::collections::BTreeMap;

use super::path::FieldPath;

/// All of our annotations begin with it.
pub const PREFIX: &str = "sluice.dev/";
/// Which address backends of TCP and passthrough see: `snat` or `preserve`.
pub const SOURCE_ADDRESS: &str = "sluice.dev/source-address";
/// Header that TCP and passthrough connections to the backends begin with: `v1` or `v2`.
pub const PROXY_PROTOCOL: &str = "sluice.dev/proxy-protocol";
/// Connections that each port takes at once.
pub const MAX_CONNECTIONS: &str = "sluice.dev/max-connections";
/// New connections that each port takes in a second.
pub const MAX_NEW_CONNECTIONS: &str = "sluice.dev/max-new-connections-per-second";

/// Whether requests of gRPC-Web become gRPC: `true` or `false`; without it, at servers of the protocol GRPC-WEB.
pub const GRPC_WEB: &str = "sluice.dev/grpc-web";

/// The annotations of a Gateway, read. Each holds for every port of the Gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewayAnnotations {
    /// [`SOURCE_ADDRESS`].
    pub source_address: Option<SourceAddress>,
    /// [`PROXY_PROTOCOL`].
    pub proxy_protocol: Option<ProxyProtocol>,
    /// [`MAX_CONNECTIONS`]; never 0.
    pub max_connections: Option<u32>,
    /// [`MAX_NEW_CONNECTIONS`]; never 0.
    pub max_new_connections: Option<u32>,
    /// [`GRPC_WEB`].
    pub grpc_web: Option<bool>,
}

/// Value of [`SOURCE_ADDRESS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceAddress {
    /// The gateway's.
    Snat,
    /// The client's.
    Preserve,
}

/// Value of [`PROXY_PROTOCOL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// What is wrong with an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationError {
    /// Its key.
    pub key: String,
    /// What.
    pub message: String,
    /// What to do.
    pub help: &'static str,
}

impl GatewayAnnotations {
    /// Reads `metadata.annotations`; those of others are none of our business.
    pub fn read(annotations: &BTreeMap<String, String>) -> (Self, Vec<AnnotationError>) {
        let mut read = Self::default();
        let errors = read_each(annotations, |key, value| read.set(key, value));
        (read, errors)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            SOURCE_ADDRESS => {
                self.source_address = Some(match value {
                    "snat" => SourceAddress::Snat,
                    "preserve" => SourceAddress::Preserve,
                    _ => return Err("expected `snat` (the default) or `preserve`"),
                });
            }
            PROXY_PROTOCOL => {
                self.proxy_protocol = Some(match value {
                    "v1" => ProxyProtocol::V1,
                    "v2" => ProxyProtocol::V2,
                    _ => return Err("expected `v1` or `v2`; without the annotation no header is sent"),
                });
            }
            MAX_CONNECTIONS => self.max_connections = Some(positive(value)?),
            MAX_NEW_CONNECTIONS => self.max_new_connections = Some(positive(value)?),
            GRPC_WEB => {
                self.grpc_web = Some(match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err("expected `\"true\"` or `\"false\"`, in quotes"),
                });
            }
            _ => return Err(KNOWN),
        }
        Ok(())
    }
}

/// What there is to be known of which kind.
pub(super) const KNOWN: &str = "a Gateway has sluice.dev/source-address, proxy-protocol, max-connections, max-new-connections-per-second and grpc-web, \
     a DestinationRule sluice.dev/health-check, and with it health-check-statuses, -interval, -timeout, -healthy-threshold, \
     -unhealthy-threshold and -ports";

/// Gives each of our annotations to `set`, whose error is what to do ([`KNOWN`]: there is no such annotation).
pub(super) fn read_each(
    annotations: &BTreeMap<String, String>,
    mut set: impl FnMut(&str, &str) -> Result<(), &'static str>,
) -> Vec<AnnotationError> {
    let mut errors = Vec::new();
    for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)) {
        if let Err(help) = set(key, value) {
            let message = if help == KNOWN {
                format!("unknown annotation \"{key}\"")
            } else {
                format!("unknown value \"{value}\" of the annotation {key}")
            };
            errors.push(AnnotationError { key: key.clone(), message, help });
        }
    }
    errors
}

fn positive(value: &str) -> Result<u32, &'static str> {
    value.parse().ok().filter(|number| *number > 0).ok_or(
        "expected a whole number from 1 to 4294967295, in quotes; without the annotation there is no limit",
    )
}

/// The place of an annotation.
pub fn field(key: &str) -> FieldPath {
    FieldPath::metadata().field("annotations").field(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_read_or_named() {
        let read = |key: &str, value: &str| {
            let (read, errors) =
                GatewayAnnotations::read(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
            if errors.is_empty() { Ok(read) } else { Err(errors[0].message.clone()) }
        };
        let none = GatewayAnnotations::default();
        for (key, value, want) in [
            (
                SOURCE_ADDRESS,
                "snat",
                GatewayAnnotations { source_address: Some(SourceAddress::Snat), ..none },
            ),
            (
                SOURCE_ADDRESS,
                "preserve",
                GatewayAnnotations { source_address: Some(SourceAddress::Preserve), ..none },
            ),
            (PROXY_PROTOCOL, "v1", GatewayAnnotations { proxy_protocol: Some(ProxyProtocol::V1), ..none }),
            (PROXY_PROTOCOL, "v2", GatewayAnnotations { proxy_protocol: Some(ProxyProtocol::V2), ..none }),
            (MAX_CONNECTIONS, "100", GatewayAnnotations { max_connections: Some(100), ..none }),
            (MAX_NEW_CONNECTIONS, "7", GatewayAnnotations { max_new_connections: Some(7), ..none }),
            (GRPC_WEB, "true", GatewayAnnotations { grpc_web: Some(true), ..none }),
            (GRPC_WEB, "false", GatewayAnnotations { grpc_web: Some(false), ..none }),
            ("example.com/source-address", "anything", none),
        ] {
            assert_eq!(read(key, value), Ok(want), "{key}: {value}");
        }
        for (key, value) in [
            (SOURCE_ADDRESS, "Preserve"),
            (SOURCE_ADDRESS, ""),
            (PROXY_PROTOCOL, "3"),
            (GRPC_WEB, "yes"),
            (MAX_CONNECTIONS, "0"),
            (MAX_CONNECTIONS, "-1"),
            (MAX_CONNECTIONS, "1k"),
            (MAX_NEW_CONNECTIONS, "4294967296"),
        ] {
            assert_eq!(read(key, value), Err(format!("unknown value \"{value}\" of the annotation {key}")));
        }
        assert_eq!(
            read("sluice.dev/proxyprotocol", "v1"),
            Err("unknown annotation \"sluice.dev/proxyprotocol\"".into())
        );
    }
}
