//! A validating admission webhook: the API server asks before it takes a document, and is told what `sluice check` would say
//! of the document by itself. Refused is what would not be in force; what is merely doubtful is a warning that kubectl shows.

mod review;
mod server;

pub use server::serve;
