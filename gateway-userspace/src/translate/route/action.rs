//! Redirects and answers of our own.

use base64::Engine as _;
use bytes::Bytes;
use http::StatusCode;

use crate::api::virtual_service::{DerivePort, HttpDirectResponse, HttpRedirect};
use crate::model::{DirectResponse, Redirect, RedirectPort};

use super::{Compiler, non_empty};

impl Compiler<'_> {
    pub(super) fn redirect(&self, redirect: &HttpRedirect) -> Option<Redirect> {
        let port = match (redirect.port, redirect.derive_port) {
            // No port is a port that is not said, as in Envoy.
            (Some(0), _) => None,
            (Some(port), _) => Some(RedirectPort::Number(u16::try_from(port).ok()?)),
            (None, Some(DerivePort::FromProtocolDefault)) => Some(RedirectPort::ProtocolDefault),
            (None, Some(DerivePort::FromRequestPort)) => Some(RedirectPort::Request(self.server.number)),
            (None, None) => None,
        };
        let code = match redirect.redirect_code {
            0 => StatusCode::MOVED_PERMANENTLY,
            code => StatusCode::from_u16(u16::try_from(code).ok()?).ok()?,
        };
        Some(Redirect {
            uri: non_empty(&redirect.uri),
            prefix_rewrite: non_empty(&redirect.prefix_rewrite),
            authority: non_empty(&redirect.authority),
            scheme: non_empty(&redirect.scheme),
            port,
            code,
        })
    }
}

pub(super) fn direct_response(response: &HttpDirectResponse) -> Option<DirectResponse> {
    let status = StatusCode::from_u16(u16::try_from(response.status).ok()?).ok()?;
    let body = response.body.as_ref();
    let text = body.and_then(|body| body.string.clone()).map(Bytes::from);
    let bytes = || {
        let encoded = body.and_then(|body| body.bytes.as_ref())?;
        base64::engine::general_purpose::STANDARD.decode(encoded).ok().map(Bytes::from)
    };
    Some(DirectResponse { status, body: text.or_else(bytes).unwrap_or_default() })
}
