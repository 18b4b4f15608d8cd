//! What is written out of the code: the definitions by which an API server takes the documents (`definition`), after the shapes of
//! the types that they are read into (`shape`), and pages of reference (`reference`).

pub mod definition;
pub mod reference;
pub mod shape;
pub mod written;
