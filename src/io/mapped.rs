//! Memory that outlives its process: a file that is mapped. What is written there is in the page cache at once, so that
//! `kill -9` loses none of it; only a machine that stops does.
#![expect(clippy::disallowed_methods, reason = "the edge: it opens the file")]

use std::fs::OpenOptions;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;

/// A mapped file of a fixed length.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<u8>,
    octets: usize,
}

// SAFETY: the mapping is this value's alone, like a box's memory.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Makes the file anew, for this user alone, `octets` of zeros that take no room on the disk until they are written.
    pub fn create(path: &Path, octets: usize) -> io::Result<Self> {
        // Another process may still have the one before mapped: its file goes, and stays whole for that one.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(octets as u64)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), octets, protection, flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: NonNull::new(start.cast()).expect("mmap never maps address zero unasked"), octets })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped by `create` with this length, and no other process is told to write there.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.octets) }
    }
}

impl DerefMut for Mapped {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.octets) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped by `create` with this length, and nobody holds a slice of it: those borrow from us.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.octets) };
    }
}
