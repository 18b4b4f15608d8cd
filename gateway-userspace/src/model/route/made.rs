//! Values of headers that are made of what is known of a request when it comes.

use std::sync::Arc;

use http::HeaderValue;

use super::matching::HeaderField;

/// The value of a header operation.
#[derive(Debug, Clone)]
pub enum HeaderText {
    /// The same for every request.
    Plain(HeaderValue),
    /// Made anew for each.
    Made(Arc<Made>),
}

/// A value in parts.
#[derive(Debug, Clone)]
pub struct Made {
    /// As the document says.
    pub written: String,
    /// In order.
    pub parts: Vec<Part>,
}

/// A part of a value.
#[derive(Debug, Clone)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// The client's end, as trusted proxies tell it.
    Remote(AddressPart),
    /// The end of whoever the connection is with.
    DirectRemote(AddressPart),
    /// The gateway's end towards the client.
    Local(AddressPart),
    /// `HTTP/1.1` or `HTTP/2`.
    Protocol,
    /// TLS: the name that was asked for.
    ServerName,
    /// The route's name.
    RouteName,
    /// When the request came.
    StartTime(TimeForm),
    /// A header of the request or of the response, whichever the operation is on.
    Header(HeaderPart),
    /// A header of the request, as its backend got it, in an operation on the response.
    Asked(HeaderPart),
    /// The response's status.
    ResponseCode,
}

/// What is said of a header.
#[derive(Debug, Clone)]
pub struct HeaderPart {
    /// Which one.
    pub name: HeaderField,
    /// Taken where the first is absent.
    pub or: Option<HeaderField>,
    /// Bytes of it at most.
    pub length: Option<usize>,
}

/// What is said of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPart {
    /// `address:port`.
    Whole,
    /// Without the port.
    Address,
    /// The port alone.
    Port,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeForm {
    /// RFC 3339 with milliseconds, UTC.
    Rfc3339,
    /// Since 1970.
    Seconds,
    /// Since 1970.
    Milliseconds,
    /// Seconds with three digits behind the point.
    Fraction,
}

impl Made {
    /// The value by what is known of each part; one that is made of nothing is none, and does nothing.
    pub fn value(&self, known: impl Fn(&Part) -> Option<String>) -> Option<HeaderValue> {
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            other => known(other),
        };
        let value = self.parts.iter().filter_map(part).collect::<String>();
        HeaderValue::from_bytes(value.as_bytes()).ok().filter(|value| !value.is_empty())
    }
}
