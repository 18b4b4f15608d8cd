//! BPF_PROG_TEST_RUN with what aya does not offer: a packet whose sum the device has found.
#![expect(unsafe_code, reason = "a raw system call on buffers of plain bytes")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::bench::Bench;

const TEST_RUN: libc::c_int = 10;

/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE` (Linux 6.11): the packet comes with the sum over all of it, and the run fails if
/// the two do not fit together any more when it leaves.
const CHECKSUM_COMPLETE: u32 = 1 << 2;

/// The `test` member of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Test {
    program: u32,
    value: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    reserved: u32,
}

/// Runs a packet with the device's sum; the action and what comes out.
pub(crate) fn run_summed(bench: &mut Bench, packet: &[u8]) -> io::Result<(u32, Vec<u8>)> {
    let program = bench.loaded.classifier().unwrap().fd().unwrap().as_fd().as_raw_fd();
    let mut out = vec![0_u8; packet.len()];
    let mut test = Test {
        program: program.unsigned_abs(),
        size_in: packet.len() as u32,
        size_out: out.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        flags: CHECKSUM_COMPLETE,
        ..Test::default()
    };
    // SAFETY: laid out as the kernel reads it, and the buffers are alive and as long as it says.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, TEST_RUN, std::ptr::from_mut(&mut test), size_of::<Test>()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    out.truncate(test.size_out as usize);
    Ok((test.value, out))
}
