//! What a process of ours does between fork(2) and exec(2).

use rustix::process::{Pid, Signal};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// Has the kernel end the calling process with `parent`, which has forked it, and leaves `descriptors` to the program that it executes.
/// Makes system calls only.
///
/// # Errors
/// The parent has ended already; or one of `descriptors`, which the parent has open, is not.
pub(crate) fn follow_parent(parent: Pid, descriptors: &[RawFd]) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // If it has ended since the fork, nobody will end this one.
    if rustix::process::getppid() != Some(parent) {
        return Err(io::ErrorKind::Other.into());
    }
    for &descriptor in descriptors {
        // SAFETY: the parent keeps it open, and this copy of it too, until exec(2).
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
    }
    Ok(())
}

/// Has the calling process, and what it executes, ignore what ends whole groups of processes.
pub(crate) fn ignore_stops() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        // SAFETY: to ignore a signal runs nothing.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
