//! Entry points of Sluice's kernel programs. Everything else is in the modules; the order of the steps is in
//! `pipeline`.
#![no_std]
#![no_main]

mod balance;
mod flow;
mod maps;
mod packet;
mod parse;
mod pipeline;
mod rewrite;
mod stats;

use aya_ebpf::{macros::classifier, programs::TcContext};

/// Ingress of every interface that clients or backends are reached by (tcx, Linux 6.6).
#[classifier]
pub(crate) fn sluice_tc(context: TcContext) -> i32 {
    pipeline::run(&mut packet::Packet::new(&context))
}

/// The linker wants one; the programs have no panic left in them, or the verifier would refuse the endless loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
