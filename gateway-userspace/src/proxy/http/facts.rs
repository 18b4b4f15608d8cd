//! What header operations may tell: of the connection, the request and its response.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::request::Parts;
use http::{Response, StatusCode};

use super::headers::Asker;
use super::outgoing::Target;
use super::serve::Connection;
use crate::model::route::{AddressPart, HeaderField, Made, Part, TimeForm};
use crate::model::{HeaderOps, RequestHead, Route};
use crate::telemetry::clock;

/// What is known from the start.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) connection: &'a Connection,
    pub(super) asker: Asker,
    pub(super) route: &'a Route,
    /// `HTTP/1.1` or `HTTP/2`.
    pub(super) protocol: &'static str,
    pub(super) started: SystemTime,
}

impl Facts<'_> {
    /// Executes the operations of a destination, if there are any, then the route's, on a request for a target.
    pub(super) fn apply_to_request(&self, first: Option<&HeaderOps>, head: &mut Parts, target: &Target) {
        let Parts { headers, uri, method, .. } = head;
        for operations in first.into_iter().chain(self.route.request_headers.as_deref()) {
            operations.apply(headers, |made, headers| {
                let head = RequestHead {
                    path: &target.path,
                    query: uri.query(),
                    method: method.as_str(),
                    scheme: self.asker.scheme,
                    authority: &target.authority,
                    headers,
                };
                let lines =
                    |field: &HeaderField| field.values(&head).into_iter().map(Cow::into_owned).collect();
                self.make(made, lines, None)
            });
        }
    }

    /// Likewise on a response.
    pub(super) fn apply_to_response<B>(&self, first: Option<&HeaderOps>, response: &mut Response<B>) {
        for operations in first.into_iter().chain(self.route.response_headers.as_deref()) {
            self.execute(operations, response);
        }
    }

    fn execute<B>(&self, operations: &HeaderOps, response: &mut Response<B>) {
        let status = response.status();
        operations.apply(response.headers_mut(), |made, headers| {
            let lines = |field: &HeaderField| match field {
                HeaderField::Name(name) => {
                    let lines = headers.get_all(name).iter();
                    lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
                }
                _ => Vec::new(),
            };
            self.make(made, lines, Some(status))
        });
    }

    fn make(
        &self,
        made: &Made,
        lines: impl Fn(&HeaderField) -> Vec<String>,
        status: Option<StatusCode>,
    ) -> Option<http::HeaderValue> {
        let first = |field: &HeaderField| lines(field).into_iter().next();
        let ends = self.connection.ends;
        made.value(|part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Remote(part) => Some(address(self.asker.address, *part)),
            Part::DirectRemote(part) => Some(address(ends.peer, *part)),
            Part::Local(part) => Some(address(ends.local, *part)),
            Part::Protocol => Some(self.protocol.to_owned()),
            Part::ServerName => self.connection.server_name.as_deref().map(str::to_owned),
            Part::RouteName => Some(self.route.name.to_string()),
            Part::StartTime(form) => Some(time(self.started, *form)),
            Part::Header { name, or, length } => {
                let line = first(name).or_else(|| first(or.as_ref()?))?;
                let most = length.unwrap_or(line.len()).min(line.len());
                Some(line[..line.floor_char_boundary(most)].to_owned())
            }
            Part::ResponseCode => status.map(|status| status.as_u16().to_string()),
        })
    }
}

fn address(address: SocketAddr, part: AddressPart) -> String {
    match part {
        AddressPart::Whole => address.to_string(),
        AddressPart::Address => address.ip().to_string(),
        AddressPart::Port => address.port().to_string(),
    }
}

fn time(at: SystemTime, form: TimeForm) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    match form {
        TimeForm::Rfc3339 => clock::milliseconds(at),
        TimeForm::Seconds => since.as_secs().to_string(),
        TimeForm::Milliseconds => since.as_millis().to_string(),
        TimeForm::Fraction => format!("{}.{:03}", since.as_secs(), since.subsec_millis()),
    }
}
