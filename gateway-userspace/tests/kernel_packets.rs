//! The programs, packet by packet, on a real kernel (BPF_PROG_TEST_RUN, root): what goes in, which verdict is counted,
//! and every byte that comes out.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod kernel;

#[path = "kernel_packets/balancing.rs"]
mod balancing;
#[path = "kernel_packets/bench.rs"]
mod bench;
#[path = "kernel_packets/cookie.rs"]
mod cookie;
#[path = "kernel_packets/following.rs"]
mod following;
#[path = "kernel_packets/forged.rs"]
mod forged;
#[path = "kernel_packets/guard.rs"]
mod guard;
#[path = "kernel_packets/handover.rs"]
mod handover;
#[path = "kernel_packets/handshake.rs"]
mod handshake;
#[path = "kernel_packets/icmp.rs"]
mod icmp;
#[path = "kernel_packets/limits.rs"]
mod limits;
#[path = "kernel_packets/live.rs"]
mod live;
#[path = "kernel_packets/mss.rs"]
mod mss;
#[path = "kernel_packets/opening.rs"]
mod opening;
#[path = "kernel_packets/options.rs"]
mod options;
#[path = "kernel_packets/passing.rs"]
mod passing;
#[path = "kernel_packets/raw.rs"]
mod raw;
#[path = "kernel_packets/reset.rs"]
mod reset;
#[path = "kernel_packets/rows.rs"]
mod rows;
#[path = "kernel_packets/shapes.rs"]
mod shapes;
#[path = "kernel_packets/strange.rs"]
mod strange;
#[path = "kernel_packets/streams.rs"]
mod streams;
#[path = "kernel_packets/sums.rs"]
mod sums;
#[path = "kernel_packets/transparent.rs"]
mod transparent;
#[path = "kernel_packets/verifier.rs"]
mod verifier;
#[path = "kernel_packets/xdp.rs"]
mod xdp;
