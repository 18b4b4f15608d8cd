//! What is known of a connection, or of a request on one, when it is over, or of a connection that has found its backend.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderName, Method};

use super::super::ResponseFlag;

/// A TCP connection that is over, or a request on one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// It has only just found its backend, and will have another record at its end.
    pub is_start: bool,
    /// When it began.
    pub started: SystemTime,
    /// To its last byte.
    pub duration: Duration,
    /// Bytes of the stream from the client.
    pub received: u64,
    /// Bytes to the client, likewise.
    pub sent: u64,
    /// What went wrong; empty: nothing.
    pub flags: Cow<'static, [ResponseFlag]>,
    /// The backend.
    pub upstream_host: Option<SocketAddr>,
    /// The backend's cluster, `outbound|<port>|<subset>|<fqdn>`.
    pub upstream_cluster: Option<String>,
    /// Why no connection to the backend came about, with underscores for spaces.
    pub transport_failure: Option<Box<str>>,
    /// The gateway's end towards the backend.
    pub upstream_local: Option<SocketAddr>,
    /// The gateway's end towards the client.
    pub downstream_local: SocketAddr,
    /// The client, as trusted proxies tell it; then without a port.
    pub downstream_remote: SocketAddr,
    /// Whoever the connection is with.
    pub downstream_direct: SocketAddr,
    /// TLS: the server name that was asked for.
    pub server_name: Option<String>,
    /// TLS that ends at the gateway: what was agreed on.
    pub handshake: Option<Handshake>,
    /// The request, whose bytes are then those of the bodies.
    pub request: Option<Box<Request>>,
}

/// What a client and the gateway have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// `TLSv1.3`.
    pub version: &'static str,
    /// OpenSSL's name.
    pub cipher: &'static str,
    /// Whether the client has shown a certificate.
    pub is_mutual: bool,
}

/// Envoy's word in [`Request::details`] for a backend that could not be reached, behind which it has the reason.
const UNREACHED: &str = "{remote_connection_failure";

impl Connection {
    /// One that has just begun, with the gateway's end towards the client, the client, and whoever the connection is with.
    pub fn begun(
        local: SocketAddr,
        (remote, direct): (SocketAddr, SocketAddr),
        server_name: Option<&str>,
    ) -> Self {
        Self {
            is_start: false,
            started: SystemTime::now(),
            duration: Duration::ZERO,
            received: 0,
            sent: 0,
            flags: Cow::default(),
            upstream_host: None,
            upstream_cluster: None,
            transport_failure: None,
            upstream_local: None,
            downstream_local: local,
            downstream_remote: remote,
            downstream_direct: direct,
            server_name: server_name.map(str::to_owned),
            handshake: None,
            request: None,
        }
    }

    /// What is known so far; what had to be allocated for it goes with it.
    pub fn take(&mut self) -> Self {
        Self {
            flags: std::mem::take(&mut self.flags),
            upstream_cluster: self.upstream_cluster.take(),
            transport_failure: self.transport_failure.take(),
            server_name: self.server_name.take(),
            request: self.request.take(),
            ..*self
        }
    }

    /// Bytes that it has, about.
    pub(super) fn weight(&self) -> usize {
        let of_request = self.request.as_deref().map_or(0, Request::weight);
        let texts = [&self.upstream_cluster, &self.server_name].into_iter().flatten();
        let failure = self.transport_failure.as_deref().map_or(0, str::len);
        size_of::<Self>() + texts.map(String::len).sum::<usize>() + failure + of_request
    }

    /// Envoy's word for what the line is about (`%ACCESS_LOG_TYPE%`).
    pub(super) fn kind(&self) -> &'static str {
        match self.request.as_deref() {
            None if self.is_start => "TcpConnectionStart",
            None => "TcpConnectionEnd",
            // No filter chain took the connection.
            Some(Request { status: 0, path: None, .. }) => "NotSet",
            Some(_) => "DownstreamEnd",
        }
    }

    /// Where the response comes from, with the reason why a backend could not be reached.
    pub(super) fn details(&self) -> Option<Cow<'static, str>> {
        let details = self.request.as_deref()?.details?;
        let Some(reason) = &self.transport_failure else { return Some(details.into()) };
        Some(match details.split_once(UNREACHED) {
            Some((before, _)) => format!("{before}{UNREACHED}|{reason}}}").into(),
            None => details.into(),
        })
    }
}

/// What was asked by HTTP and what became of it. What could not be read is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`.
    pub method: Option<Method>,
    /// With the query, as it was before rewrites.
    pub path: Option<String>,
    /// The same as the backend gets it, if that is something else.
    pub rewritten: Option<String>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: Option<&'static str>,
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// Of the response; 0 without one.
    pub status: u16,
    /// Envoy's word for where the response comes from.
    pub details: Option<&'static str>,
    /// Milliseconds until the backend's head of a response, as its client is told.
    pub service_time: Option<String>,
    /// `x-forwarded-for` as the backend gets it.
    pub forwarded_for: Option<String>,
    /// `user-agent`.
    pub user_agent: Option<String>,
    /// `x-request-id` as the backend gets it.
    pub request_id: Option<String>,
    /// The Host that the backend gets.
    pub authority: Option<String>,
    /// The route's name, if it has one.
    pub route_name: Option<String>,
    /// How often it was sent to a backend.
    pub attempts: u32,
    /// From its beginning to the head of the response, if the rules in force look at it.
    pub answered: Option<Duration>,
    /// What backends are told of the certificate that the client has shown, likewise.
    pub certificate: Option<Box<str>>,
    /// Further headers, of those that the rules in force look at: first lines.
    pub headers: Vec<(HeaderName, String)>,
    /// Likewise of the response.
    pub response_headers: Vec<(HeaderName, String)>,
    /// Likewise behind the response's body.
    pub trailers: Vec<(HeaderName, String)>,
}

impl Request {
    fn weight(&self) -> usize {
        let Self { method, path, rewritten, service_time, forwarded_for, .. } = self;
        let Self { user_agent, request_id, authority, route_name, .. } = self;
        let texts =
            [path, rewritten, service_time, forwarded_for, user_agent, request_id, authority, route_name];
        let texts = texts.map(|text| text.as_ref().map_or(0, String::len)).iter().sum::<usize>();
        let method = method.as_ref().map_or(0, |method| method.as_str().len());
        let texts = texts + method + self.certificate.as_deref().map_or(0, str::len);
        let listed = [&self.headers, &self.response_headers, &self.trailers].into_iter().flatten();
        size_of::<Self>() + texts + listed.map(|(_, value)| value.len()).sum::<usize>()
    }

    /// From its beginning to its end: as long as the head of the response took, less what that took from the end on.
    pub(super) fn until_whole(&self) -> Option<Duration> {
        let since: u64 = self.service_time.as_deref()?.parse().ok()?;
        Some(self.answered?.saturating_sub(Duration::from_millis(since)))
    }

    /// Whether it is a backend's response, and a whole one.
    pub(super) fn is_answered(&self) -> bool {
        self.details == Some("via_upstream")
    }

    /// The path as the backend gets it.
    pub(super) fn sent_path(&self) -> Option<&str> {
        self.rewritten.as_deref().or(self.path.as_deref())
    }

    /// A header as the backend gets it; HTTP/2's own, such as `:path`, too.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        match name {
            ":method" => self.method.as_ref().map(Method::as_str),
            ":path" => self.sent_path(),
            ":authority" | "host" => self.authority.as_deref(),
            ":scheme" => self.scheme,
            "x-envoy-original-path" => self.path.as_deref().filter(|_| self.rewritten.is_some()),
            "x-forwarded-for" => self.forwarded_for.as_deref(),
            "user-agent" => self.user_agent.as_deref(),
            "x-request-id" => self.request_id.as_deref(),
            _ => first(&self.headers, name),
        }
    }

    /// A header of the response.
    pub(super) fn response_header(&self, name: &str) -> Option<&str> {
        match name {
            "x-envoy-upstream-service-time" => self.service_time.as_deref(),
            _ => first(&self.response_headers, name),
        }
    }

    /// A header behind the response's body.
    pub(super) fn trailer(&self, name: &str) -> Option<&str> {
        first(&self.trailers, name)
    }

    /// What gRPC says of the outcome: behind the body, or at once where there is none.
    pub(super) fn grpc_status(&self) -> Option<u32> {
        self.trailer(GRPC_STATUS).or_else(|| self.response_header(GRPC_STATUS))?.parse().ok()
    }
}

pub(super) const GRPC_STATUS: &str = "grpc-status";

/// Headers of a request that every record has.
pub(super) const KEPT: &[&str] =
    &["host", "x-envoy-original-path", "x-forwarded-for", "user-agent", "x-request-id"];

fn first<'a>(headers: &'a [(HeaderName, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(header, _)| header.as_str() == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_of_a_record_weighs() {
        let long = || Some("x".repeat(1000));
        let header = || vec![(HeaderName::from_static("x-team"), "x".repeat(1000))];
        let request = Request {
            method: Method::from_bytes(&[b'x'; 1000]).ok(),
            path: long(),
            rewritten: long(),
            service_time: long(),
            forwarded_for: long(),
            user_agent: long(),
            request_id: long(),
            authority: long(),
            route_name: long(),
            certificate: long().map(String::into),
            headers: header(),
            response_headers: header(),
            trailers: header(),
            ..Request::default()
        };
        let mut record = Connection {
            server_name: long(),
            upstream_cluster: long(),
            transport_failure: long().map(String::into),
            ..samples::connection()
        };
        record.request = Some(Box::new(request));
        let texts = 16 * 1000;
        assert_eq!(record.weight(), texts + size_of::<Connection>() + size_of::<Request>());
        assert_eq!(record.take().weight(), texts + size_of::<Connection>() + size_of::<Request>());
        assert_eq!(record.weight(), size_of::<Connection>());
    }
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    /// A connection that was served.
    pub(in super::super) fn connection() -> Connection {
        Connection {
            is_start: false,
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_706_702_400_123),
            duration: Duration::from_millis(1500),
            received: 550,
            sent: 92,
            flags: Cow::default(),
            upstream_host: Some(([10, 0, 0, 2], 8080).into()),
            upstream_cluster: Some("outbound|9000||echo.default.svc.cluster.local".to_owned()),
            transport_failure: None,
            upstream_local: Some(([10, 0, 0, 1], 40_000).into()),
            downstream_local: ([198, 18, 0, 1], 31_400).into(),
            downstream_remote: ([198, 18, 0, 2], 50_000).into(),
            downstream_direct: ([198, 18, 0, 3], 50_001).into(),
            server_name: None,
            handshake: None,
            request: None,
        }
    }

    /// A request on it, of which the gateway has rewritten the path.
    pub(in super::super) fn request() -> Connection {
        let asked = Request {
            method: Some(Method::GET),
            path: Some("/a?b".to_owned()),
            rewritten: Some("/new/a?b".to_owned()),
            protocol: Some("HTTP/1.1"),
            scheme: Some("https"),
            status: 200,
            details: Some("via_upstream"),
            service_time: Some("7".to_owned()),
            forwarded_for: Some("198.18.0.2".to_owned()),
            user_agent: Some("curl/8 \"x\"".to_owned()),
            request_id: Some("id".to_owned()),
            authority: Some("a.test".to_owned()),
            route_name: Some("rule.match".to_owned()),
            attempts: 2,
            answered: Some(Duration::from_millis(1200)),
            certificate: None,
            headers: vec![(HeaderName::from_static("x-team"), "blue".to_owned())],
            response_headers: vec![(HeaderName::from_static("content-type"), "text/html".to_owned())],
            trailers: vec![(HeaderName::from_static(GRPC_STATUS), "5".to_owned())],
        };
        let handshake =
            Some(Handshake { version: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256", is_mutual: true });
        Connection { handshake, request: Some(Box::new(asked)), ..connection() }
    }
}
