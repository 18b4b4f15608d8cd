//! What goes wrong between a request of HTTP/1.1 and the end of its response.

use std::io;

use crate::http1::{Flawed, HeadError, WrongLength};
use crate::upstream::replay::RequestBodyError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The endpoint has said that it says nothing more.
    #[error("the connection was closed")]
    Closed,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no head of a response.
    #[error("the response: {0}")]
    Head(#[from] HeadError),
    /// One answer to come is announced after the other (1xx; RFC 9110, 15.2).
    #[error("too many interim responses")]
    Interim,
    /// The response's body cannot be read.
    #[error("the response: {0}")]
    Body(#[from] Flawed),
    /// The request's body broke off.
    #[error("the request: {0}")]
    Request(#[from] RequestBodyError),
    /// The request's body is not as long as its head says.
    #[error("the request: {0}")]
    Length(#[from] WrongLength),
}

impl Fault {
    /// Whether it is the connection's end.
    pub(in crate::upstream) fn is_end(&self) -> bool {
        matches!(self, Self::Closed | Self::Io(_))
    }

    /// Whether the endpoint speaks, and not as HTTP has it.
    pub(in crate::upstream) fn is_bad_speech(&self) -> bool {
        match self {
            Self::Head(_) | Self::Interim | Self::Body(_) => true,
            Self::Closed | Self::Io(_) | Self::Request(_) | Self::Length(_) => false,
        }
    }
}
