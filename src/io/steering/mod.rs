//! Steering: the kernel puts each datagram into the socket of the shard that owns its Call-ID.
//!
//! By itself SO_REUSEPORT chooses by the addresses, so that a trunk, which is one pair of them, loads one shard, and that one
//! passes on what it does not own. A [program](mod@program) in the kernel, attached to the sockets of a listener, looks for the
//! Call-ID and chooses as [`agent::ShardHash`] does. Where it cannot tell it leaves the choice to the kernel, and the shards pass on as they do without it:
//! it changes where a message comes in, and never whether.
//!
//! Program and maps live as long as the sockets do, in whichever process these are. A socket that is closed leaves its map by itself.

mod assembler;
#[cfg(test)]
mod cost;
mod kernel;
mod program;
#[cfg(test)]
mod tests;

use super::socket::Sockets;
use crate::capabilities;
use agent::ShardHash;
use kernel::{Kind, Map, Program, Refusal};
use program::Maps;
use rustix::thread::CapabilitySet;
use sip::Transport;
use socket2::Socket;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, RawFd};
use thiserror::Error;

/// Whether datagrams are steered, and how many were.
#[derive(Debug)]
pub enum Steering {
    /// They are.
    On(Tally),
    /// The operator does not want it.
    Off,
    /// There is nothing to choose: one shard, or no listener for datagrams.
    Needless,
    /// The kernel does not do it.
    Lacking(Lack),
}

/// Datagrams of a switch since its sockets were bound.
#[derive(Debug)]
pub struct Tally(Map);

/// Why the kernel does not steer. The operator reads it.
#[derive(Debug, Error)]
pub enum Lack {
    /// Without these it takes no such program.
    #[error("the switch lacks {0}: set AmbientCapabilities=CAP_BPF CAP_PERFMON in the unit, or start it as root")]
    Capabilities(&'static str),
    /// It answers EPERM, and the capabilities are there.
    #[error("bpf(2) is forbidden to this process: a container's or a unit's seccomp profile must allow bpf")]
    Forbidden,
    /// It answers ENOSYS.
    #[error("this kernel was built without bpf(2), which steering needs")]
    Unknown,
    /// Its verifier refuses the program.
    #[error("the kernel refuses the program: {reason} ({source})")]
    Refused {
        /// What the verifier says.
        reason: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// Anything else.
    #[error("{what}: {source}")]
    Other {
        /// What was being done.
        what: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(_) => f.write_str("on"),
            Self::Off => f.write_str("off"),
            Self::Needless => f.write_str("not needed"),
            Self::Lacking(lack) => write!(f, "not possible: {lack}"),
        }
    }
}

impl Tally {
    /// Those whose owner the kernel has found, and those that it could not tell the owner of.
    ///
    /// # Errors
    /// As the kernel says. It has no reason to.
    pub fn read(&self) -> io::Result<(u64, u64)> {
        Ok((self.0.sum(program::STEERED)?, self.0.sum(program::LEFT)?))
    }
}

impl Sockets {
    /// Has the kernel steer what comes in on listeners for datagrams, as far as the thread has the capabilities for it. What is on the way comes in
    /// as before.
    pub fn steer(&self, hash: &ShardHash) -> Steering {
        let listeners: Vec<Vec<&Socket>> = (0..self.listeners.len())
            .filter(|&n| matches!(self.listeners[n], Some((Transport::Udp, _))))
            .map(|n| self.of_shards.iter().filter_map(|of_shard| of_shard[n].as_ref()).collect())
            .collect();
        if self.of_shards.len() < 2 || listeners.is_empty() {
            return Steering::Needless;
        }
        match steer(&listeners, hash) {
            Ok(tally) => Steering::On(tally),
            Err(lack) => Steering::Lacking(lack),
        }
    }
}

/// Each listener has its sockets in the order of the shards.
fn steer(listeners: &[Vec<&Socket>], hash: &ShardHash) -> Result<Tally, Lack> {
    let tally = tally().map_err(Lack::at("making a map"))?;
    // All are there before the first one is attached: the kernel steers for all listeners or for none.
    let programs = listeners.iter().map(|sockets| prepare(sockets, hash, &tally)).collect::<Result<Vec<_>, _>>()?;
    for (n, (program, sockets)) in programs.iter().zip(listeners).enumerate() {
        if let Err(refusal) = program.attach(sockets[0]) {
            listeners[..n].iter().for_each(|sockets| Program::detach(sockets[0]));
            return Err(Lack::at("attaching the program")(refusal));
        }
    }
    Ok(Tally(tally))
}

fn tally() -> io::Result<Map> {
    Map::new(Kind::PerProcessorArray, size_of::<u64>() as u32, program::TALLIED)
}

/// The program of one listener.
fn prepare(sockets: &[&Socket], hash: &ShardHash, tally: &Map) -> Result<Program, Lack> {
    let shards = sockets.len() as u16;
    let map = |kind, octets: usize, entries| Map::new(kind, octets as u32, entries).map_err(Lack::at("making a map"));
    let scratch = map(Kind::PerProcessorArray, program::SCRATCH_OCTETS, 1)?;
    let by_shard = map(Kind::ReuseportSockets, size_of::<RawFd>(), shards.into())?;
    for (shard, socket) in (0..).zip(sockets) {
        by_shard.put(shard, socket).map_err(Lack::at("listing the shards' sockets"))?;
    }
    let maps = Maps { sockets: by_shard.as_fd(), scratch: scratch.as_fd(), tally: tally.as_fd() };
    Ok(Program::load(&program::program(maps, hash.key(), shards))?)
}

impl Lack {
    fn at(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::known(&source).unwrap_or(Self::Other { what, source })
    }

    /// What can be told from the errno.
    fn known(source: &io::Error) -> Option<Self> {
        match (source.raw_os_error()?, missing_capabilities()) {
            // EACCES is the verifier's: it takes less from who lacks one of them.
            (libc::EPERM | libc::EACCES, Some(missing)) => Some(Self::Capabilities(missing)),
            (libc::EPERM, None) => Some(Self::Forbidden),
            (libc::ENOSYS, _) => Some(Self::Unknown),
            _ => None,
        }
    }
}

impl From<Refusal> for Lack {
    fn from(Refusal { reason, source }: Refusal) -> Self {
        Self::known(&source).unwrap_or(match reason.is_empty() {
            true => Self::Other { what: "loading the program", source },
            false => Self::Refused { reason, source },
        })
    }
}

/// What the thread lacks to load a program. CAP_SYS_ADMIN has had all of it since before the others were (capabilities(7)).
fn missing_capabilities() -> Option<&'static str> {
    let has = |wanted| capabilities::has(wanted) || capabilities::has(CapabilitySet::SYS_ADMIN);
    match (has(CapabilitySet::BPF), has(CapabilitySet::PERFMON)) {
        (true, true) => None,
        (true, false) => Some("CAP_PERFMON"),
        (false, true) => Some("CAP_BPF"),
        (false, false) => Some("CAP_BPF and CAP_PERFMON"),
    }
}
