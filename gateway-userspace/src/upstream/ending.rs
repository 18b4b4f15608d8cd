//! How an exchange with a backend ended that brought no response, or not all of it, told from its error.

use std::error::Error as _;
use std::io;

use super::http1::Fault;

/// What went wrong, in the version that was spoken.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] Fault),
    /// HTTP/2.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The connection was closed or broke.
    Closed,
    /// Likewise, one that was kept from other requests, before this one had come to the endpoint.
    Stale,
    /// The backend reset the stream (HTTP/2 `RST_STREAM`).
    Reset,
    /// Likewise, and says that it did nothing (`REFUSED_STREAM`; RFC 9113, 8.7).
    Refused,
    /// What came is not HTTP, or what the backend says of what it got.
    NotHttp,
}

impl Ending {
    /// Of an exchange on a connection that may have ended before the request came there.
    pub(super) fn on(error: &ExchangeError, is_stale: bool) -> Self {
        match Self::of(error) {
            Self::Closed if is_stale => Self::Stale,
            ending => ending,
        }
    }

    /// Of a response's body that breaks off. A connection that is closed before the length that was announced is no word of
    /// HTTP's, as at Envoy; one that is reset is closed.
    pub(super) fn amid_body(error: &ExchangeError) -> Self {
        let io = match error {
            ExchangeError::Http1(Fault::Io(io)) => Some(io),
            ExchangeError::Http1(_) => None,
            ExchangeError::Http2(error) => {
                error.source().and_then(|source| source.downcast_ref::<io::Error>())
            }
        };
        match (Self::of(error), io.map(io::Error::kind)) {
            (Self::Closed, Some(kind)) if speaks_badly(kind) => Self::NotHttp,
            (ending, _) => ending,
        }
    }

    fn of(error: &ExchangeError) -> Self {
        let error = match error {
            ExchangeError::Http1(fault) if fault.is_bad_speech() => return Self::NotHttp,
            ExchangeError::Http1(_) => return Self::Closed,
            ExchangeError::Http2(error) => error,
        };
        match error.source().and_then(|source| source.downcast_ref::<h2::Error>()) {
            Some(error) if error.is_remote() && error.is_reset() => match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => Self::Refused,
                Some(h2::Reason::PROTOCOL_ERROR) => Self::NotHttp,
                _ => Self::Reset,
            },
            Some(error) if error.is_library() => Self::NotHttp,
            _ if error.is_parse() => Self::NotHttp,
            _ => Self::Closed,
        }
    }
}

/// A length that does not hold, or TLS that ends without saying so (RFC 8446, 6.1).
fn speaks_badly(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Flawed, HeadError, WrongLength};
    use crate::upstream::replay::RequestBodyError;

    #[test]
    fn a_backend_that_speaks_badly_is_told_from_one_that_is_gone() {
        use Ending::{Closed, NotHttp, Stale};
        let io = |kind: io::ErrorKind| Fault::Io(kind.into());
        for (fault, before, amid_body) in [
            (Fault::Closed, Stale, Closed),
            (io(io::ErrorKind::ConnectionReset), Stale, Closed),
            (io(io::ErrorKind::UnexpectedEof), Stale, NotHttp),
            (Fault::Head(HeadError::TooLarge), NotHttp, NotHttp),
            (Fault::Interim, NotHttp, NotHttp),
            (Fault::Body(Flawed::Incomplete), NotHttp, NotHttp),
            (Fault::Request(RequestBodyError::TooLong), Stale, Closed),
            (Fault::Length(WrongLength), Stale, Closed),
        ] {
            let error = ExchangeError::Http1(fault);
            assert_eq!(Ending::on(&error, true), before, "{error:?}");
            let fresh = if before == Stale { Closed } else { before };
            assert_eq!(Ending::on(&error, false), fresh, "{error:?}");
            assert_eq!(Ending::amid_body(&error), amid_body, "{error:?}");
        }
    }
}
