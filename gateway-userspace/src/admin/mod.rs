//! What the agent says about itself: readiness, status and the dumps behind `sluice proxy-config`. Reads what was
//! published, decides nothing.

pub mod dump;
pub mod kernel;
pub mod orders;
pub mod server;
pub mod trace;
pub mod view;

pub use kernel::Kernel;
pub use orders::{Order, Orders};
pub use view::View;
