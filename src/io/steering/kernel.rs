//! What bpf(2) and setsockopt(2) are asked: maps, the program, its group of sockets.

use super::assembler::Instruction;
use socket2::Socket;
use std::ffi::CStr;
use std::io;
use std::iter;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Octets for what the verifier says. On a program that it takes that is its statistics.
const LOG_OCTETS: usize = 1 << 14;

/// Only figures, and why a program is refused (BPF_LOG_STATS).
const LOG_STATISTICS: u32 = 4;

/// How often a program is loaded that the verifier was interrupted at.
const ATTEMPTS: usize = 10;

/// More processors than any kernel can be built for (CONFIG_NR_CPUS).
const MOST_PROCESSORS: usize = 1 << 14;

const LICENSE: &CStr = c"MIT OR Apache-2.0";

// enum bpf_cmd.
const MAP_CREATE: u32 = 0;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const PROG_LOAD: u32 = 5;

/// Kinds of maps (enum bpf_map_type).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Kind {
    PerProcessorArray = 6,
    ReuseportSockets = 20,
}

/// enum bpf_prog_type, and enum bpf_attach_type.
const SK_REUSEPORT: u32 = 21;
const SK_REUSEPORT_SELECT: u32 = 39;

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapElement {
    map: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// A map of the kernel's whose keys are numbers.
#[derive(Debug)]
pub(super) struct Map {
    descriptor: OwnedFd,
    value_octets: u32,
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Map {
    pub(super) fn new(kind: Kind, value_octets: u32, entries: u32) -> io::Result<Self> {
        let mut attributes = MapCreate {
            kind: kind as u32,
            key_size: size_of::<u32>() as u32,
            value_size: value_octets,
            max_entries: entries,
            flags: 0,
            inner_map: 0,
            numa_node: 0,
            name: *b"ringswitch\0\0\0\0\0\0",
        };
        // SAFETY: nothing in the attributes points anywhere.
        let descriptor = unsafe { bpf(MAP_CREATE, &mut attributes) }?;
        // SAFETY: the kernel has just made it, for us.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) }, value_octets })
    }

    /// Puts a socket of a group into a map of [`Kind::ReuseportSockets`].
    pub(super) fn put(&self, key: u32, socket: &Socket) -> io::Result<()> {
        let descriptor = socket.as_raw_fd();
        assert_eq!(self.value_octets as usize, size_of_val(&descriptor), "it is a map of sockets");
        // SAFETY: the kernel reads a value of that size.
        unsafe { self.element(MAP_UPDATE_ELEM, key, (&raw const descriptor).cast_mut().cast()) }
    }

    /// The sum over all processors, of a map of [`Kind::PerProcessorArray`] whose values are counts.
    pub(super) fn sum(&self, key: u32) -> io::Result<u64> {
        assert_eq!(self.value_octets as usize, size_of::<u64>(), "it is a map of counts");
        let mut counts = vec![0u64; MOST_PROCESSORS];
        // SAFETY: the kernel writes one value for each processor that there may be, and there is room for more than it knows.
        unsafe { self.element(MAP_LOOKUP_ELEM, key, counts.as_mut_ptr().cast()) }?;
        Ok(counts.iter().sum())
    }

    /// # Safety
    /// The value is as large as the command asks for, and may be written to if that reads.
    unsafe fn element(&self, command: u32, key: u32, value: *mut u8) -> io::Result<()> {
        let mut attributes = MapElement {
            map: self.descriptor.as_raw_fd() as u32,
            _pad: 0,
            key: (&raw const key) as u64,
            value: value as u64,
            flags: 0,
        };
        // SAFETY: the key is as large as that of every map here; of the value the caller has promised it.
        unsafe { bpf(command, &mut attributes) }.map(drop)
    }
}

/// A program that the kernel has verified.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) descriptor: OwnedFd,
    /// What the verifier says of it: figures, one a word.
    #[cfg(test)]
    pub(super) log: String,
}

/// Why there is no program.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) source: io::Error,
    /// The verifier's last word; empty where it had none.
    pub(super) reason: String,
}

impl Program {
    pub(super) fn load(instructions: &[Instruction]) -> Result<Self, Refusal> {
        let mut log = vec![0u8; LOG_OCTETS];
        let mut attributes = ProgramLoad {
            kind: SK_REUSEPORT,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log_level: LOG_STATISTICS,
            log_size: LOG_OCTETS as u32,
            log: log.as_mut_ptr() as u64,
            kernel_version: 0,
            flags: 0,
            name: *b"ringswitch\0\0\0\0\0\0",
            interface: 0,
            expected_attach_type: SK_REUSEPORT_SELECT,
        };
        // SAFETY: instructions, license and log are there until it returns, and so many as the attributes say.
        let load = || unsafe { bpf(PROG_LOAD, &mut attributes) };
        // The verifier breaks off (EAGAIN) for whatever waits for the thread: a signal, or what is left of a ring that was closed.
        let is_final =
            |loaded: &io::Result<i32>| !loaded.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        let loaded =
            iter::repeat_with(load).take(ATTEMPTS).find(is_final).unwrap_or(Err(io::ErrorKind::WouldBlock.into()));
        let log: Vec<u8> = log.into_iter().take_while(|&octet| octet != 0).collect();
        let log = String::from_utf8_lossy(&log).into_owned();
        match loaded {
            Ok(descriptor) => Ok(Self {
                // SAFETY: the kernel has just made it, for us.
                descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) },
                #[cfg(test)]
                log,
            }),
            Err(source) => {
                // Figures come last, and say nothing of the reason.
                let is_figure =
                    |line: &&str| ["verification time", "stack depth", "processed"].iter().any(|w| line.starts_with(w));
                let reason = log.lines().rfind(|line| !is_figure(line)).unwrap_or_default().to_owned();
                Err(Refusal { source, reason })
            }
        }
    }

    /// Lets the kernel choose by itself again for the group that the socket is of.
    pub(super) fn detach(socket: &Socket) {
        let none: libc::c_int = 0;
        // SAFETY: the option takes an int, which is there for the call. There is nothing to do about a refusal: the program goes on to choose.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_DETACH_REUSEPORT_BPF,
                (&raw const none).cast(),
                size_of_val(&none) as libc::socklen_t,
            )
        };
    }

    /// Lets the program choose for the group that the socket is of. The group keeps it, and what it refers to.
    pub(super) fn attach(&self, socket: &Socket) -> io::Result<()> {
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the option's value is a descriptor, and is there for the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_EBPF,
                (&raw const descriptor).cast(),
                size_of_val(&descriptor) as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// # Safety
/// What the attributes point to is what the command expects there.
pub(super) unsafe fn bpf<T>(command: u32, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes are there for the call, which reads them and may write to them; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
