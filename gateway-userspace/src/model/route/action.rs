//! What a matching route does: forward, redirect or answer.

use http::StatusCode;
use serde::{Serialize, Serializer};

use super::forward::Forward;

/// What a matching route does.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteAction {
    /// To a cluster.
    Forward(Forward),
    /// 3xx.
    Redirect(Redirect),
    /// An answer of our own.
    Direct(DirectResponse),
}

/// `HTTPRedirect`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// Replaces the whole path; the request's query stays unless this has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Replaces the matched prefix; not together with `uri`. The request's query stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_rewrite: Option<String>,
    /// Replaces the authority, with or without a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// `port` or `derivePort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<RedirectPort>,
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "status")]
    pub code: StatusCode,
}

/// `port` or `derivePort` of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectPort {
    /// `port: N`; says nothing where it is the scheme's default.
    Number(u16),
    /// `FROM_PROTOCOL_DEFAULT`: no port.
    ProtocolDefault,
    /// `FROM_REQUEST_PORT`: the Gateway server's port number, carried here by `translate`.
    Request(u16),
}

/// `HTTPDirectResponse`.
#[derive(Debug, Clone, Serialize)]
pub struct DirectResponse {
    /// 200–599.
    #[serde(serialize_with = "status")]
    pub status: StatusCode,
    /// Up to 1 MiB.
    #[serde(serialize_with = "body")]
    pub body: bytes::Bytes,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn status<S: Serializer>(code: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(code.as_u16())
}

fn body<S: Serializer>(bytes: &bytes::Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}
