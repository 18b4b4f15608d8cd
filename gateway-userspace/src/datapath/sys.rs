//! The `bpf(2)` commands that aya does not wrap: reading and writing many elements of a map in one call.
#![expect(unsafe_code, reason = "a raw system call on buffers of plain bytes")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya::Pod;

/// `BPF_MAP_LOOKUP_BATCH` (Linux 5.6).
const LOOKUP_BATCH: libc::c_int = 24;
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

/// Where a walk through a hash map stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor(Option<u32>);

impl Cursor {
    /// Whether the walk is at the beginning.
    pub(super) fn is_start(self) -> bool {
        self.0.is_none()
    }
}

/// Reads up to `count` further elements of a hash map; the cursor is at the start again after the last ones. An
/// element that moves while the walk goes on may be missed or come twice.
pub(super) fn lookup_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    cursor: &mut Cursor,
    count: usize,
) -> io::Result<Vec<(K, V)>> {
    let mut keys: Vec<K> = Vec::with_capacity(count);
    let mut values: Vec<V> = Vec::with_capacity(count);
    let mut next = 0_u32;
    let mut batch = Batch {
        start: cursor.0.as_ref().map_or(0, |position| std::ptr::from_ref(position) as u64),
        next: std::ptr::from_mut(&mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        map: raw(map),
        ..Batch::default()
    };
    let end = match command(LOOKUP_BATCH, &mut batch) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    let read = (batch.count as usize).min(count);
    // SAFETY: the kernel wrote `read` elements, at most as many as there was room for, of the sizes that the map
    // was verified to have when it was opened as a map of K and V.
    unsafe {
        keys.set_len(read);
        values.set_len(read);
    }
    *cursor = Cursor((!end).then_some(next));
    Ok(keys.into_iter().zip(values).collect())
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
