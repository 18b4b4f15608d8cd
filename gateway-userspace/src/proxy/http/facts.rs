//! What header operations may tell: of the connection, the request and its response.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};

use super::exchange::Exchange;
use super::headers::Asker;
use super::outgoing::Target;
use super::serve::Connection;
use crate::model::route::{AddressPart, HeaderField, HeaderPart, Made, Part, TimeForm};
use crate::model::{HeaderOps, RequestHead, Route};
use crate::telemetry::clock;

/// What is known from the start, but for what the request becomes.
pub(super) struct Facts<'a> {
    pub(super) connection: &'a Connection,
    pub(super) exchange: &'a Exchange,
    pub(super) asker: Asker,
    pub(super) route: &'a Route,
    /// `HTTP/1.1` or `HTTP/2`.
    pub(super) protocol: &'static str,
    pub(super) started: SystemTime,
    /// The request, where an operation on its response asks for it.
    pub(super) asked: RefCell<Option<Asked>>,
}

/// A request as it was at some point of its way.
pub(super) struct Asked {
    method: Method,
    scheme: &'static str,
    path: String,
    query: Option<String>,
    authority: String,
    headers: HeaderMap,
}

impl Asked {
    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            path: &self.path,
            query: self.query.as_deref(),
            method: self.method.as_str(),
            scheme: self.scheme,
            authority: &self.authority,
            headers: &self.headers,
        }
    }
}

impl Facts<'_> {
    /// Keeps the request as it is now for the operations on its response, a destination's among them, if they ask for it.
    pub(super) fn keep(
        &self,
        of_destination: Option<&HeaderOps>,
        (method, headers): (&Method, &HeaderMap),
        (path, query, authority): (&str, Option<&str>, &str),
    ) {
        let operations = of_destination.into_iter().chain(self.route.response_headers.as_deref());
        if operations.into_iter().any(HeaderOps::asks_for_request) {
            *self.asked.borrow_mut() = Some(Asked {
                method: method.clone(),
                scheme: self.asker.scheme,
                path: path.to_owned(),
                query: query.map(str::to_owned),
                authority: authority.to_owned(),
                headers: headers.clone(),
            });
        }
    }

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
                self.make(made, |field| lines(field, &head), None)
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
        let asked = self.asked.borrow();
        let asked = |field: &HeaderField| self::lines(field, &asked.as_ref()?.head()).into_iter().next();
        let first = |field: &HeaderField| lines(field).into_iter().next();
        let ends = self.connection.ends;
        made.value(|part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Remote(part) => Some(address(self.asker.address, *part)),
            Part::DirectRemote(part) => Some(address(ends.peer, *part)),
            Part::Local(part) => Some(address(ends.destination(), *part)),
            Part::Protocol => Some(self.protocol.to_owned()),
            Part::ServerName => self.connection.server_name().map(str::to_owned),
            Part::RouteName => Some(self.route.name.to_string()),
            Part::StartTime(form) => Some(time(self.started, *form)),
            Part::Header(part) => header(part, first),
            Part::Asked(part) => header(part, asked),
            Part::ResponseCode => status.map(|status| status.as_u16().to_string()),
        })
    }
}

fn lines(field: &HeaderField, head: &RequestHead<'_>) -> Vec<String> {
    field.values(head).into_iter().map(Cow::into_owned).collect()
}

/// The first line of a header, or of the other one, as long as is asked for.
fn header(part: &HeaderPart, first: impl Fn(&HeaderField) -> Option<String>) -> Option<String> {
    let line = first(&part.name).or_else(|| first(part.or.as_ref()?))?;
    let most = part.length.unwrap_or(line.len()).min(line.len());
    Some(line[..line.floor_char_boundary(most)].to_owned())
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
