//! What the process that sends can still do once it is confined: with files and with TCP nothing (landlock(7)), and of the system calls
//! those that are listed here (seccomp(2)); any other one ends it.
//!
//! CAP_NET_RAW would let it open raw sockets and sockets that see every packet. The list has UDP sockets only, so all that is left of
//! it is IP_TRANSPARENT: a datagram with a foreign source, whose headers the kernel writes.

use anyhow::Context;
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule};
use std::collections::BTreeMap;

/// What landlock is asked for: all of it. A kernel with less gives what it has.
const ABI_WANTED: ABI = ABI::V7;

/// Denies every file, TCP, and signals and abstract sockets beyond those that are confined with us. Tells how much of that the kernel
/// knows.
pub(super) fn deny_files_and_tcp() -> anyhow::Result<RulesetStatus> {
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI_WANTED))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI_WANTED)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI_WANTED)))
        .and_then(|ruleset| ruleset.create()?.restrict_self());
    Ok(restricted.context("landlock")?.ruleset)
}

/// Who is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The process that sends.
    Sender,
    /// The one that starts it and waits for its end: what that does, and what the sender still needs to become one.
    Keeper,
}

/// The system calls of `who`; `other` is what becomes of others.
pub(super) fn filter(who: Who, other: SeccompAction) -> anyhow::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().context("seccomp knows no filter for this machine")?;
    let filter =
        SeccompFilter::new(rules(who)?, other, SeccompAction::Allow, arch).context("the filter for seccomp")?;
    filter.try_into().context("the filter for seccomp")
}

/// Allows the calling thread, and what it starts, the system calls of `who` alone.
pub(super) fn allow_only(who: Who) -> anyhow::Result<()> {
    seccompiler::apply_filter(&filter(who, SeccompAction::KillProcess)?).context("seccomp")
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(who: Who) -> anyhow::Result<Rules> {
    let mut rules = Rules::new();
    let mut allow = |call: i64, conditions: Vec<SeccompCondition>| -> anyhow::Result<()> {
        let allowed: &mut Vec<SeccompRule> = rules.entry(call).or_default();
        // No rule at all allows the call whatever its arguments are.
        if !conditions.is_empty() {
            allowed.push(SeccompRule::new(conditions)?);
        }
        Ok(())
    };
    let is = |argument: u8, value: i32| SeccompCondition::new(argument, Dword, Eq, value as u32 as u64);
    let has_bits =
        |argument: u8, mask: i32, bits: i32| SeccompCondition::new(argument, Dword, MaskedEq(mask as u64), bits as u64);

    for call in [
        // Its orders, its events and its packets.
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_bind,
        libc::SYS_close,
        libc::SYS_clock_gettime,
        libc::SYS_getrandom,
        // What memory, signals and an end take.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ] {
        allow(call, Vec::new())?;
    }
    for family in [libc::AF_INET, libc::AF_INET6] {
        // Flags are above the type.
        let conditions = vec![is(0, family)?, has_bits(1, 0xf, libc::SOCK_DGRAM)?, is(2, libc::IPPROTO_UDP)?];
        allow(libc::SYS_socket, conditions)?;
    }
    for (level, option) in [
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        (libc::IPPROTO_IP, libc::IP_TTL),
        (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    ] {
        allow(libc::SYS_setsockopt, vec![is(1, level)?, is(2, option)?])?;
    }
    // Memory that code could be put into is not to be had.
    allow(libc::SYS_mmap, vec![has_bits(2, libc::PROT_EXEC, 0)?])?;
    allow(libc::SYS_mprotect, vec![has_bits(2, libc::PROT_EXEC, 0)?])?;
    allow(libc::SYS_prctl, vec![is(0, libc::PR_SET_VMA)?])?;
    // A build with debug assertions looks whether what it closes is open.
    allow(libc::SYS_fcntl, vec![is(1, libc::F_GETFD)?])?;
    // The words of a panic.
    allow(libc::SYS_write, vec![is(0, libc::STDERR_FILENO)?])?;

    if who == Who::Keeper {
        // What it says once it is confined.
        allow(libc::SYS_write, vec![is(0, libc::STDOUT_FILENO)?])?;
        for call in [
            libc::SYS_wait4,
            libc::SYS_getppid,
            libc::SYS_set_robust_list,
            libc::SYS_rt_sigprocmask,
            libc::SYS_capget,
            libc::SYS_capset,
            libc::SYS_seccomp,
        ] {
            allow(call, Vec::new())?;
        }
        // A process, no thread: fork(2).
        allow(libc::SYS_clone, vec![has_bits(0, libc::CLONE_VM | libc::CLONE_THREAD | NAMESPACES, 0)?])?;
        for option in [libc::PR_SET_PDEATHSIG, libc::PR_SET_NO_NEW_PRIVS, libc::PR_SET_DUMPABLE] {
            allow(libc::SYS_prctl, vec![is(0, option)?])?;
        }
    }
    Ok(rules)
}

const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test opens what it must not")]
mod tests {
    use super::*;
    use socket2::{Domain, Protocol, Socket, Type};
    use std::io::{self, ErrorKind};

    /// Runs `then` on a thread of its own: both kinds of confinement are a thread's.
    fn apart(then: impl FnOnce() + Send) {
        std::thread::scope(|scope| scope.spawn(then).join().unwrap());
    }

    #[test]
    fn landlock_denies_files_and_tcp() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        std::fs::write(&old, "x").unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        apart(move || {
            let enforced = deny_files_and_tcp().unwrap();
            assert_ne!(
                enforced,
                RulesetStatus::NotEnforced,
                "this kernel has no landlock: boot it with lsm=landlock,…"
            );
            let denied = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
            denied(std::fs::read(&old).map(drop));
            denied(std::fs::read("/proc/self/status").map(drop));
            denied(std::fs::write(&new, "x"));
            denied(std::fs::remove_file(&old));
            denied(std::net::TcpStream::connect(address).map(drop));
            denied(std::net::TcpListener::bind("127.0.0.1:0").map(drop));
        });
    }

    #[test]
    fn the_filter_allows_udp_sockets_with_a_foreign_source_and_no_other_call() {
        apart(|| {
            let open = |domain, kind, protocol| {
                Socket::new(Domain::from(domain), Type::from(kind), Some(Protocol::from(protocol)))
            };
            let nothing = std::process::Command::new("true");
            // As the sender has it, but that a call which is not listed fails.
            seccompiler::apply_filter(&filter(Who::Sender, SeccompAction::Errno(libc::EPERM as u32)).unwrap()).unwrap();
            let denied =
                |error: io::Error, what: &str| assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{what}: {error}");
            for (domain, kind, protocol) in [
                (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW),
                (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_UDP),
                (libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW),
                (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP),
                (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
                (libc::AF_PACKET, libc::SOCK_RAW, 0),
                (libc::AF_UNIX, libc::SOCK_DGRAM, 0),
                (libc::AF_NETLINK, libc::SOCK_DGRAM, 0),
            ] {
                denied(open(domain, kind, protocol).unwrap_err(), &format!("{domain} {kind} {protocol}"));
            }
            denied(std::fs::read("/proc/self/status").unwrap_err(), "a file");
            let mut nothing = nothing;
            denied(nothing.status().unwrap_err(), "a program");
            denied(
                rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap_err().into(),
                "prctl",
            );
            for (domain, address) in [(libc::AF_INET, "127.0.0.1:0"), (libc::AF_INET6, "[::1]:0")] {
                let socket = open(domain, libc::SOCK_DGRAM, libc::IPPROTO_UDP).unwrap();
                let address: std::net::SocketAddr = address.parse().unwrap();
                socket.bind(&address.into()).unwrap();
                socket.set_reuse_address(true).unwrap();
                denied(socket.set_broadcast(true).unwrap_err(), "an option");
            }
        });
    }
}
