//! What a program costs, as the kernel counts it: for tests.

use super::kernel::{Program, bpf};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// enum bpf_cmd.
const OBJ_GET_INFO_BY_FD: u32 = 15;
const ENABLE_STATS: u32 = 32;

/// BPF_STATS_RUN_TIME.
const RUN_TIME: u32 = 0;

#[repr(C)]
struct GetInfo {
    descriptor: u32,
    info_octets: u32,
    info: u64,
}

// `struct bpf_prog_info`, 64 bits each, up to what is read here.
const INFO: usize = 26;
const RUN_NANOSECONDS: usize = 24;
const RUNS: usize = 25;

/// Has the kernel count until what this gives is dropped.
pub(super) fn count() -> io::Result<OwnedFd> {
    // SAFETY: the attributes are the number of the statistics.
    let descriptor = unsafe { bpf(ENABLE_STATS, &mut { RUN_TIME }) }?;
    // SAFETY: the kernel has just made it, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// How often the program has run, and for how many nanoseconds.
pub(super) fn of(program: &Program) -> io::Result<(u64, u64)> {
    let mut info = [0u64; INFO];
    let mut attributes = GetInfo {
        descriptor: program.descriptor.as_raw_fd() as u32,
        info_octets: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: there is as much room as the attributes say.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok((info[RUNS], info[RUN_NANOSECONDS]))
}
