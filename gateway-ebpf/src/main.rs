//! Entry points of Sluice's kernel programs. Everything else is in the modules; the order of the steps is in
//! `pipeline`.
#![no_std]
#![no_main]
// Atomic operations: the stable ones are not there for this target, which lacks some of them on old kernels.
#![feature(core_intrinsics)]
#![feature(asm_experimental_arch)]
#![expect(internal_features, reason = "as above")]

mod answer;
mod balance;
mod boundary;
mod challenge;
mod cookie;
mod flow;
mod guard;
mod handshake;
mod icmp;
mod index;
mod limit;
mod maps;
#[cfg(feature = "measure")]
mod measure;
mod mss;
mod options;
mod packet;
mod parse;
mod pipeline;
mod record;
mod reset;
mod rewrite;
mod shared;
mod skb;
mod socket;
mod stats;
mod trace;
mod translate;
mod transparent;
mod xdp;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// Ingress of every interface that clients or backends are reached by (tcx, Linux 6.6).
#[classifier]
pub(crate) fn sluice_tc(context: TcContext) -> i32 {
    pipeline::run(&mut skb::Skb::new(&context))
}

/// Egress of the same interfaces: what this node's own sockets send.
#[classifier]
pub(crate) fn sluice_guard(context: TcContext) -> i32 {
    guard::run(&mut skb::Skb::new(&context))
}

/// In front of it, where a device's driver offers that.
#[xdp]
pub(crate) fn sluice_xdp(context: XdpContext) -> u32 {
    pipeline::run_early(&mut xdp::Xdp::new(&context)).cast_unsigned()
}

/// The linker wants one; the programs have no panic left in them, or the verifier would refuse the endless loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
