//! What the targets fuzz, and what they hold it against. Of the agent these are the files themselves and not the package:
//! instrumenting its hundred other crates would find nothing and take minutes.

#![allow(dead_code, unused_imports, reason = "each target calls little of what is included here")]

#[path = "../../gateway-userspace/src/api/mod.rs"]
pub mod api;
#[path = "../../gateway-userspace/src/tls/client_hello.rs"]
pub mod client_hello;
#[path = "../../gateway-userspace/src/http1/mod.rs"]
pub mod http1;
#[path = "../../gateway-userspace/src/http2/mod.rs"]
pub mod http2;
#[path = "../../gateway-userspace/src/model/mod.rs"]
pub mod model;
#[path = "../../gateway-userspace/src/net/mod.rs"]
pub mod net;
#[path = "../../gateway-userspace/src/notation/mod.rs"]
pub mod notation;
#[path = "../../gateway-userspace/src/telemetry/mod.rs"]
pub mod telemetry;
#[path = "../../gateway-userspace/src/translate/mod.rs"]
pub mod translate;
#[path = "../../gateway-userspace/src/wire/mod.rs"]
pub mod wire;

pub mod reading;
pub mod served;
pub mod talked;
