//! System calls that nobody wraps: writing many elements of an array in one, emptying a map of
//! unknown keys, and asking for an interface's MTU.
#![expect(unsafe_code, reason = "raw system calls on buffers of plain bytes")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya::Pod;

/// `BPF_MAP_UPDATE_BATCH` (Linux 5.6).
const UPDATE_BATCH: libc::c_int = 26;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Batch {
    start: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Writes elements of an array from index `first` on.
pub(super) fn update_array<V: Pod>(map: BorrowedFd<'_>, first: u32, values: &[V]) -> io::Result<()> {
    let keys: Vec<u32> = (first..).take(values.len()).collect();
    let mut batch = Batch {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(values.len()).map_err(io::Error::other)?,
        map: raw(map),
        ..Batch::default()
    };
    command(UPDATE_BATCH, &mut batch)
}

/// `BPF_MAP_DELETE_ELEM` and `BPF_MAP_GET_NEXT_KEY`.
const DELETE: libc::c_int = 3;
const GET_NEXT_KEY: libc::c_int = 4;

/// The members of `union bpf_attr` that commands on one element have.
#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value_or_next_key: u64,
    flags: u64,
}

/// Removes every element of a hash map whose keys have so many bytes, whatever they mean.
pub(super) fn clear(map: BorrowedFd<'_>, key_size: usize) -> io::Result<()> {
    let mut key = vec![0_u8; key_size];
    loop {
        // No key asks for the first one.
        let mut first =
            Element { map: raw(map), value_or_next_key: key.as_mut_ptr() as u64, ..Element::default() };
        match element(GET_NEXT_KEY, &mut first) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            found => found?,
        }
        let mut delete = Element { map: raw(map), key: key.as_ptr() as u64, ..Element::default() };
        element(DELETE, &mut delete)?;
    }
}

fn element(command: libc::c_int, element: &mut Element) -> io::Result<()> {
    // SAFETY: `element` is laid out as the kernel reads it, and its pointers are to buffers of the map's key size.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(element), size_of::<Element>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn raw(map: BorrowedFd<'_>) -> u32 {
    map.as_raw_fd().unsigned_abs()
}

fn command(command: libc::c_int, batch: &mut Batch) -> io::Result<()> {
    // SAFETY: `batch` is laid out as the kernel reads it, and the buffers that it points to are alive and as long
    // as its count says.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(batch), size_of::<Batch>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Largest IP packet of an interface, in bytes. Not from sysfs, which shows the namespace that it was mounted in.
pub(super) fn mtu(interface: &str) -> io::Result<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
    // SAFETY: all zero is a value of this structure of integers and arrays.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *place = byte.cast_signed();
    }
    // SAFETY: an open socket, and a request laid out as the kernel reads and fills it.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the member that this request fills.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned())
}
