//! One process of a switch that has several: what it and the supervisor say to each other, and the child's side of it.
//!
//! The supervisor ([`crate::supervisor`]) binds every socket and starts the children; a child inherits its sockets and one
//! end of a socket pair, on which both speak by frames ([`channel`]). The first frame is a [`Start`]; then the child says
//! [`ToSupervisor`] and hears [`ToChild`]. The supervisor may be of an older or newer version than a child, so a field that
//! one of them does not know is passed over, and [`PROTOCOL`] counts what is not compatible.
//!
//! A child never outlives its supervisor, and it heeds no signal that is meant for that: SIGHUP, SIGINT and SIGTERM.

mod app;
mod calls;
pub mod channel;
mod child;

pub use child::{Charge, run};

use crate::control::{Answer, Request};
use crate::io::Sockets;
use serde::{Deserialize, Serialize};
use sip::Transport;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// The version of what is said here.
pub const PROTOCOL: u32 = 1;

/// What the supervisor's own process is called, and the one of proxy and registrar.
pub const SWITCH: &str = "switch";

/// The first frame to a child: what it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// [`PROTOCOL`] of the supervisor.
    pub protocol: u32,
    /// [`SWITCH`], or the name of an application server.
    pub name: String,
    /// The configuration's file, for what is said about it; none is the default place.
    pub file: Option<PathBuf>,
    /// The configuration.
    pub text: String,
    /// Whether the log goes to systemd's journal although stderr is not connected to it.
    pub journald: bool,
    /// The sockets to serve.
    pub sockets: Inherited,
    /// Whether another process has the journal still: it is opened after [`ToChild::Go`].
    pub waits: bool,
    /// Where application servers are, for the switch.
    pub apps: Vec<AppPlace>,
    /// Where the shards of the switch are, for an application server.
    pub switch: Vec<SocketAddr>,
    /// The descriptor of an application server's socket to the process that sends for callbacks, if there is one.
    #[serde(default)]
    pub raw: Option<RawFd>,
    /// The directory of an application server's journal; what others have left beside it is taken up.
    pub journal: Option<PathBuf>,
}

/// Sockets by their descriptors, which are the same in a child as in the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inherited {
    /// Each listener at its number; the hop between processes is the last one.
    listeners: Vec<Option<(String, SocketAddr)>>,
    /// By shard, then by listener.
    descriptors: Vec<Vec<Option<RawFd>>>,
}

impl Inherited {
    /// What a child is to inherit.
    pub fn of(sockets: &Sockets) -> Self {
        let named = |&(transport, address): &(Transport, SocketAddr)| (transport.param().to_owned(), address);
        let listeners = sockets.listeners().iter().map(|listener| listener.as_ref().map(named)).collect();
        Self { listeners, descriptors: sockets.descriptors() }
    }

    /// All of them.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.descriptors.iter().flatten().copied().flatten()
    }

    /// Takes them up.
    ///
    /// # Safety
    /// Nothing else in this process owns one of them: it is a child, and has just been started.
    pub unsafe fn take(self) -> io::Result<Sockets> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "a socket of a transport that is not known here");
        let known = |(transport, address): (String, SocketAddr)| {
            let transport = [Transport::Udp, Transport::Tcp].into_iter().find(|t| t.param() == transport);
            transport.map(|transport| (transport, address)).ok_or_else(unknown)
        };
        let listeners = self.listeners.into_iter().map(|listener| listener.map(known).transpose());
        // SAFETY: the caller's promise.
        unsafe { Sockets::inherit(listeners.collect::<io::Result<_>>()?, &self.descriptors) }
    }
}

/// An application server, as the switch must know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPlace {
    /// Its name in the configuration.
    pub name: String,
    /// Where each of its shards receives, by number.
    pub addresses: Vec<SocketAddr>,
    /// What it takes.
    pub state: AppState,
}

/// What an application server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// Everything.
    Serving,
    /// What belongs to the calls that it has.
    Draining,
    /// Nothing: what comes for it is answered 503.
    Down,
}

/// What the supervisor says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum ToChild {
    /// The journal is yours; serve.
    Go,
    /// Where the application servers are from now on. Answered.
    Apps {
        /// Names the answer.
        id: u64,
        /// All of them.
        apps: Vec<AppPlace>,
    },
    /// Could you take up this configuration? Answered.
    Check {
        /// Names the answer.
        id: u64,
        /// The configuration.
        text: String,
    },
    /// Take up this configuration. Answered by a [`Reload`](crate::control::Reload).
    Reload {
        /// Names the answer.
        id: u64,
        /// The configuration.
        text: String,
    },
    /// An operator's request. Answered.
    Ask {
        /// Names the answer.
        id: u64,
        /// What he asks.
        request: Request,
    },
    /// Take on nothing new and finish what you have; pass what is new on to `successor`, by shard.
    Drain {
        /// Where each shard of the successor receives; empty where there is none.
        successor: Vec<SocketAddr>,
    },
    /// The process before you has ended: take up the calls that it has left. Answered.
    Adopt {
        /// Names the answer.
        id: u64,
    },
    /// Are you well? Answered by [`ToSupervisor::Beat`].
    Beat,
    /// Stop reading, finish the turn, settle the journal, and end: another process takes your place.
    HandOver,
    /// Finish what is under way, and end.
    Stop,
    /// End after this turn.
    StopNow,
}

/// What a child says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum ToSupervisor {
    /// All is there but the journal; it waits for [`ToChild::Go`].
    Prepared,
    /// It serves.
    Serving,
    /// To what was asked.
    Answer {
        /// Of the question.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// It is well.
    Beat {
        /// How many turns each shard has taken.
        turns: Vec<u64>,
    },
    /// Nothing is left of what it had, after [`ToChild::Drain`].
    Drained,
    /// It ends, and why.
    Failed {
        /// A sentence for the operator.
        reason: String,
    },
}
