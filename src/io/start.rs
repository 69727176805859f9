//! What a start can lack, each said in one sentence with its remedy; and the checks that find it out before a socket
//! is bound.

use super::Settings;
use super::ring::Ring;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sip::Transport;
use std::io;
use std::net::SocketAddr;
use thiserror::Error;

/// The oldest kernel that a shard runs on: DEFER_TASKRUN is of 6.1, multishot recvmsg and recv of 6.0, rings of
/// provided buffers and multishot accept of 5.19.
pub const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// Files a process has open besides its listeners and connections: rings, eventfds, the journal, the accounts.
const OTHER_FILES: u64 = 128;

/// Why the edge cannot start. The operator reads it.
#[derive(Debug, Error)]
pub enum StartError {
    /// The kernel answers ENOSYS.
    #[error(
        "this kernel offers no io_uring: run Linux {}.{} or later; in a container, use a seccomp profile that allows \
         io_uring_setup, io_uring_enter and io_uring_register",
        OLDEST_KERNEL.0, OLDEST_KERNEL.1
    )]
    NoIoUring,
    /// The kernel answers EPERM and the sysctl is the reason.
    #[error(
        "io_uring is switched off by the sysctl kernel.io_uring_disabled={0}: run `sysctl kernel.io_uring_disabled=0`"
    )]
    Disabled(u32),
    /// The kernel answers EPERM and the sysctl is not the reason.
    #[error(
        "io_uring is forbidden to this process: a container's or a unit's seccomp profile must allow io_uring_setup, \
         io_uring_enter and io_uring_register"
    )]
    Forbidden,
    /// The kernel has io_uring without what a shard needs of it.
    #[error("kernel {release} is too old: run Linux {}.{} or later", OLDEST_KERNEL.0, OLDEST_KERNEL.1)]
    OldKernel {
        /// As uname(2) tells it.
        release: String,
    },
    /// The kernel answers ENOMEM.
    #[error(
        "{} of memory may be locked (RLIMIT_MEMLOCK), too little for io_uring: raise it to 64 MiB, with \
         LimitMEMLOCK=64M in the unit or `ulimit -l 65536` in the shell", limit.map_or("no bound".into(), |l| format!("only {} KiB", l >> 10))
    )]
    LockedMemory {
        /// The limit in octets; none is unlimited.
        limit: Option<u64>,
    },
    /// RLIMIT_NOFILE's hard limit is below what the settings ask for.
    #[error(
        "{wanted} files may be needed and only {limit} may be open (RLIMIT_NOFILE): raise it with LimitNOFILE={wanted} in \
         the unit or `ulimit -n {wanted}` in the shell, or allow fewer connections"
    )]
    OpenFiles {
        /// The hard limit.
        limit: u64,
        /// What the settings ask for.
        wanted: u64,
    },
    /// A listener's address cannot be bound.
    #[error("cannot listen on {} {address}: {}", transport.param(), bind_remedy(source))]
    Bind {
        /// The listener's transport.
        transport: Transport,
        /// Its address.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// A transport without an implementation in this edge.
    #[error("cannot listen on {} {address}: this transport is not served", transport.param())]
    Unserved {
        /// The listener's transport.
        transport: Transport,
        /// Its address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot start: {what}: {source}")]
    Other {
        /// What was being done.
        what: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

fn bind_remedy(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => "another program has it: stop that, or choose another port".into(),
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has this address".into(),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: set AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit"
                .into()
        }
        _ => source.to_string(),
    }
}

/// Finds out whether the kernel and the limits serve `settings`: makes a ring as a shard would, and raises
/// RLIMIT_NOFILE to what may be needed.
pub fn check(settings: &Settings) -> Result<(), StartError> {
    Ring::new(settings)?;
    let limit = getrlimit(Resource::Nofile);
    let wanted = files_wanted(settings);
    let raised = raise(limit, wanted)?;
    setrlimit(Resource::Nofile, raised)
        .map_err(|e| StartError::Other { what: "raising RLIMIT_NOFILE", source: e.into() })
}

fn files_wanted(settings: &Settings) -> u64 {
    let listeners = settings.listeners.len() as u64 * u64::from(settings.shards);
    u64::from(settings.streams.connections) + listeners + OTHER_FILES
}

fn raise(limit: Rlimit, wanted: u64) -> Result<Rlimit, StartError> {
    match limit.maximum {
        Some(maximum) if maximum < wanted => Err(StartError::OpenFiles { limit: maximum, wanted }),
        maximum => Ok(Rlimit { current: limit.current.map(|current| current.max(wanted)), maximum }),
    }
}

/// Says what a failed io_uring_setup(2) or io_uring_register(2) lacks. `disabled` is the sysctl
/// kernel.io_uring_disabled, where it can be read.
pub fn explain(source: io::Error, disabled: Option<u32>, release: &str, memlock: Option<u64>) -> StartError {
    match source.raw_os_error() {
        Some(libc::ENOSYS) => StartError::NoIoUring,
        Some(libc::EPERM | libc::EACCES) => match disabled {
            Some(level @ 1..) => StartError::Disabled(level),
            _ => StartError::Forbidden,
        },
        // The flags of a later kernel are EINVAL to an older one.
        Some(libc::EINVAL) => StartError::OldKernel { release: release.into() },
        Some(libc::ENOMEM) => StartError::LockedMemory { limit: memlock },
        _ => StartError::Other { what: "making a ring", source },
    }
}

/// [`explain`] with what this machine says.
pub(crate) fn explain_here(source: io::Error) -> StartError {
    #[expect(clippy::disallowed_methods, reason = "a sysctl, read once when the start has failed")]
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    explain(
        source,
        disabled.and_then(|level| level.trim().parse().ok()),
        &rustix::system::uname().release().to_string_lossy(),
        getrlimit(Resource::Memlock).current,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(errno: i32, disabled: Option<u32>) -> String {
        explain(io::Error::from_raw_os_error(errno), disabled, "5.15.0-91-generic", Some(8 << 20)).to_string()
    }

    #[test]
    fn every_lack_of_io_uring_is_one_sentence_with_its_remedy() {
        assert!(explained(libc::ENOSYS, None).contains("run Linux 6.1 or later"));
        assert_eq!(
            explained(libc::EPERM, Some(2)),
            "io_uring is switched off by the sysctl kernel.io_uring_disabled=2: run `sysctl kernel.io_uring_disabled=0`"
        );
        assert!(explained(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(explained(libc::EPERM, None).contains("seccomp"));
        assert_eq!(explained(libc::EINVAL, Some(0)), "kernel 5.15.0-91-generic is too old: run Linux 6.1 or later");
        assert!(explained(libc::ENOMEM, None).contains("only 8192 KiB of memory may be locked"));
        for errno in [libc::ENOSYS, libc::EPERM, libc::EINVAL, libc::ENOMEM, libc::EIO] {
            assert!(!explained(errno, None).contains('\n'));
        }
    }

    #[test]
    fn the_limit_of_open_files_is_raised_or_refused_with_the_figure() {
        let limit = |current, maximum| Rlimit { current: Some(current), maximum: Some(maximum) };
        let raised = raise(limit(1024, 4096), 2000).unwrap();
        assert_eq!((raised.current, raised.maximum), (Some(2000), Some(4096)));
        assert_eq!(raise(limit(4096, 4096), 2000).unwrap().current, Some(4096), "it is never lowered");
        let refused = raise(limit(1024, 4096), 10_000).unwrap_err().to_string();
        assert!(refused.contains("LimitNOFILE=10000"), "{refused}");
    }

    #[test]
    fn a_port_in_use_and_a_privileged_port_tell_their_remedies() {
        let told = |errno| {
            let address = "192.0.2.1:80".parse().unwrap();
            let source = io::Error::from_raw_os_error(errno);
            StartError::Bind { transport: Transport::Tcp, address, source }.to_string()
        };
        assert_eq!(
            told(libc::EADDRINUSE),
            "cannot listen on tcp 192.0.2.1:80: another program has it: stop that, or choose another port"
        );
        assert!(told(libc::EACCES).contains("CAP_NET_BIND_SERVICE"));
    }
}
