//! HTTP/2 in octets (RFC 9113): so far what its heads are compressed with, and nothing of who talks.

pub mod hpack;
