//! What the agent says about itself: readiness, metrics, status and the dumps behind `sluice proxy-config`. Reads what was
//! published, decides nothing.

pub mod counters;
pub mod dashboard;
pub mod dump;
mod exposition;
pub mod kernel;
mod metrics;
pub mod orders;
pub mod process;
pub mod reading;
pub mod server;
mod streamed;
pub mod trace;
pub mod view;

pub use kernel::Kernel;
pub use orders::{Order, Orders};
pub use reading::Reading;
pub use view::View;
