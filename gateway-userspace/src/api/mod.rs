//! Documents as written.
