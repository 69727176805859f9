//! The edge of a process: it checks what it needs, binds the sockets, connects the shards, and runs each on a thread.

use super::journal::JournalLink;
use super::mesh::{Inward, Outward, mesh};
use super::ring::Ring;
use super::settings::Settings;
use super::socket::{self, Bound};
use super::start::{self, StartError};
use super::stats::EdgeStats;
use super::tcp::Directory;
use super::turn::{Core, Parts, Shard};
use super::waker::Waker;
use rustix::thread::{CpuSet, sched_setaffinity};
use sip::Transport;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// The edge with its sockets bound and nothing running yet.
pub struct Edge {
    settings: Settings,
    bound: Bound,
    links: Vec<(Outward, Inward)>,
    wakers: Vec<Arc<Waker>>,
    stats: Vec<Arc<EdgeStats>>,
}

/// The running shards.
pub struct Running<C> {
    threads: Vec<JoinHandle<io::Result<C>>>,
    wakers: Vec<Arc<Waker>>,
    stop: Arc<Stop>,
}

/// Asks the shards to end.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicU8);

impl Stop {
    const ASKED: u8 = 1;
    const IMMEDIATE: u8 = 2;

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire) >= Self::ASKED
    }

    pub(crate) fn is_immediate(&self) -> bool {
        self.0.load(Ordering::Acquire) >= Self::IMMEDIATE
    }
}

impl Edge {
    /// Checks the kernel and the limits, binds every listener for every shard, and makes the rings between shards.
    pub fn open(settings: Settings) -> Result<Self, StartError> {
        assert!(settings.shards > 0, "the configuration has at least one shard");
        start::check(&settings)?;
        let bound = socket::bind_all(&settings)?;
        let wakers: Vec<Arc<Waker>> = (0..settings.shards)
            .map(|_| Waker::new().map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(|source| StartError::Other { what: "making an eventfd", source })?;
        let links = mesh(&wakers, settings.mesh_messages as usize);
        let stats = wakers.iter().map(|_| Arc::default()).collect();
        Ok(Self { settings, bound, links, wakers, stats })
    }

    /// What is served, each listener at its number; none is an optional one that was left out. A port that was 0 is told
    /// as the kernel chose it.
    pub fn listeners(&self) -> &[Option<(Transport, SocketAddr)>] {
        &self.bound.listeners
    }

    /// What wakes each shard, for those who leave it something to find.
    pub fn wakers(&self) -> &[Arc<Waker>] {
        &self.wakers
    }

    /// Each shard's figures.
    pub fn stats(&self) -> &[Arc<EdgeStats>] {
        &self.stats
    }

    /// Starts one thread a core, in order. A core without a journal keeps its records to itself.
    pub fn start<C: Core>(self, cores: Vec<(C, Option<JournalLink>)>) -> Result<Running<C>, StartError> {
        assert_eq!(cores.len(), usize::from(self.settings.shards), "each shard has a core");
        let settings = Arc::new(self.settings);
        let mut first_generation = [0; 4];
        #[expect(clippy::disallowed_methods, reason = "the edge draws what tells this run's connections")]
        getrandom::fill(&mut first_generation).map_err(|error| StartError::Other {
            what: "drawing entropy",
            source: io::Error::other(error.to_string()),
        })?;
        let directory = Arc::new(Directory::new(settings.streams, u32::from_ne_bytes(first_generation)));
        let stop = Arc::new(Stop::default());
        #[expect(clippy::disallowed_methods, reason = "the origin of the monotonic clock")]
        let started = Instant::now();
        let mut running = Running { threads: Vec::new(), wakers: self.wakers.clone(), stop: stop.clone() };
        let shards =
            self.bound.sockets.into_iter().zip(self.links).zip(self.wakers.into_iter().zip(self.stats)).zip(cores);
        for (number, (((sockets, (outward, inward)), (waker, stats)), (core, journal))) in (0u16..).zip(shards) {
            let parts = Parts {
                number,
                sockets,
                listeners: self.bound.listeners.clone(),
                directory: directory.clone(),
                outward,
                inward,
                journal,
                waker,
                batch_window: settings.batch_window,
                drain: settings.drain,
                started,
                stop: stop.clone(),
                stats,
            };
            let (settings, (ready, is_ready)) = (settings.clone(), mpsc::sync_channel(1));
            let serve = move || {
                let shard = prepare(&settings, number, &parts.sockets)
                    .and_then(|ring| Shard::new(ring, parts, core).map_err(start::explain_here));
                let (told, shard) = match shard {
                    Ok(shard) => (Ok(()), Some(shard)),
                    Err(error) => (Err(error), None),
                };
                ready.send(told).expect("the starter waits for this");
                shard.map_or(Err(io::ErrorKind::Other.into()), Shard::run)
            };
            let thread = thread::Builder::new().name(format!("shard-{number}")).spawn(serve);
            running
                .threads
                .push(thread.map_err(|source| StartError::Other { what: "starting a shard's thread", source })?);
            let told = is_ready.recv().expect("a shard tells whether it is ready before anything can fail");
            if let Err(error) = told {
                running.stopper().stop_now();
                return Err(error);
            }
        }
        Ok(running)
    }
}

/// Makes the calling thread the shard's: on its core, with its ring.
fn prepare(settings: &Settings, number: u16, sockets: &[Option<Socket>]) -> Result<Ring, StartError> {
    if !settings.cores.is_empty() {
        let mut only = CpuSet::new();
        only.set(settings.cores[usize::from(number) % settings.cores.len()]);
        sched_setaffinity(None, &only)
            .map_err(|e| StartError::Other { what: "pinning a shard to its core", source: e.into() })?;
    }
    let ring = Ring::new(settings)?;
    // -1 leaves a place empty.
    let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)).collect();
    if !descriptors.is_empty() {
        ring.register_files(&descriptors)?;
    }
    Ok(ring)
}

/// Ends running shards.
#[derive(Clone)]
pub struct Stopper {
    wakers: Vec<Arc<Waker>>,
    stop: Arc<Stop>,
}

impl Stopper {
    /// Lets the shards accept no more, finish what is pending, and end.
    pub fn drain(&self) {
        self.ask(Stop::ASKED);
    }

    /// Lets the shards end after their current turn.
    pub fn stop_now(&self) {
        self.ask(Stop::IMMEDIATE);
    }

    fn ask(&self, how: u8) {
        self.stop.0.fetch_max(how, Ordering::AcqRel);
        self.wakers.iter().for_each(|waker| waker.wake());
    }
}

impl<C> Running<C> {
    /// What ends the shards, for another thread to keep.
    pub fn stopper(&self) -> Stopper {
        Stopper { wakers: self.wakers.clone(), stop: self.stop.clone() }
    }

    /// Waits until every shard has ended; returns the cores, or what failed.
    ///
    /// # Panics
    /// When a shard has panicked.
    pub fn join(self) -> io::Result<Vec<C>> {
        let ended =
            self.threads.into_iter().map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        ended.collect()
    }
}
