//! Demo backends.
fn main() {}
