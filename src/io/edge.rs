//! The edge of a process: it checks what it needs, binds the sockets, connects the shards, and runs each on a thread.

use super::journal::JournalLink;
use super::mesh::{Inward, Outward, mesh};
use super::ring::Ring;
use super::settings::Settings;
use super::share;
use super::socket::{Sockets, receive_trains};
use super::start::{self, StartError};
use super::stats::EdgeStats;
use super::tcp::Directory;
use super::turn::{Parts, Seed, Shard};
use super::waker::Waker;
use rustix::thread::{CpuSet, sched_setaffinity};
use sip::Transport;
use socket2::{Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// Octets of the longest train that is received.
const LONGEST_TRAIN: usize = 65_507;

/// The edge with its sockets bound and nothing running yet.
pub struct Edge {
    settings: Settings,
    sockets: Sockets,
    links: Vec<(Outward, Inward)>,
    wakers: Vec<Arc<Waker>>,
    stats: Vec<Arc<EdgeStats>>,
}

/// The running shards.
pub struct Running {
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Each shard's number when its thread ends.
    ended: mpsc::Receiver<u16>,
    wakers: Vec<Arc<Waker>>,
    stop: Arc<Stop>,
}

/// Asks the shards to end.
#[derive(Debug)]
pub(crate) struct Stop {
    how: AtomicU8,
    /// Shards that receive datagrams, which they may pass on.
    receiving: AtomicUsize,
}

impl Stop {
    const ASKED: u8 = 1;
    const BRIEF: u8 = 2;
    const IMMEDIATE: u8 = 3;

    fn new(shards: usize) -> Self {
        Self { how: AtomicU8::new(0), receiving: AtomicUsize::new(shards) }
    }

    /// Whether some shard receives datagrams.
    pub(crate) fn is_receiving(&self) -> bool {
        self.receiving.load(Ordering::Acquire) > 0
    }

    /// Says, once, that the calling shard does no more.
    pub(crate) fn receives_no_more(&self) {
        self.receiving.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.how.load(Ordering::Acquire) >= Self::ASKED
    }

    pub(crate) fn is_brief(&self) -> bool {
        self.how.load(Ordering::Acquire) >= Self::BRIEF
    }

    pub(crate) fn is_immediate(&self) -> bool {
        self.how.load(Ordering::Acquire) >= Self::IMMEDIATE
    }
}

impl Edge {
    /// Checks the kernel and the limits, binds every listener for every shard, and makes the rings between shards.
    pub fn open(settings: Settings) -> Result<Self, StartError> {
        assert!(settings.shards > 0, "the configuration has at least one shard");
        start::check(&settings)?;
        let sockets = Sockets::bind(&settings)?;
        Self::connect(settings, sockets)
    }

    /// The same on sockets that are bound already. There are as many shards, and listeners, as they have.
    pub fn on(settings: Settings, sockets: Sockets) -> Result<Self, StartError> {
        let settings = Settings { shards: sockets.of_shards.len() as u16, ..settings };
        start::check(&settings)?;
        Self::connect(settings, sockets)
    }

    fn connect(settings: Settings, sockets: Sockets) -> Result<Self, StartError> {
        let wakers: Vec<Arc<Waker>> = (0..settings.shards)
            .map(|_| Waker::new().map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(|source| StartError::Other { what: "making an eventfd", source })?;
        let links = mesh(&wakers, settings.mesh_messages as usize);
        let stats = wakers.iter().map(|_| Arc::default()).collect();
        Ok(Self { settings, sockets, links, wakers, stats })
    }

    /// What is served, each listener at its number; none is an optional one that was left out. A port that was 0 is told
    /// as the kernel chose it.
    pub fn listeners(&self) -> &[Option<(Transport, SocketAddr)>] {
        self.sockets.listeners()
    }

    /// The sockets, for what is to be done with them before anything runs.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// What wakes each shard, for those who leave it something to find.
    pub fn wakers(&self) -> &[Arc<Waker>] {
        &self.wakers
    }

    /// Each shard's figures.
    pub fn stats(&self) -> &[Arc<EdgeStats>] {
        &self.stats
    }

    /// Starts one thread a core, in order, and lets the seed grow there. A core without a journal keeps its records to itself.
    pub fn start<S: Seed>(self, seeds: Vec<(S, Option<JournalLink>)>) -> Result<Running, StartError> {
        assert_eq!(seeds.len(), usize::from(self.settings.shards), "each shard has a core");
        let settings = Arc::new(self.settings);
        let mut first_generation = [0; 4];
        #[expect(clippy::disallowed_methods, reason = "the edge draws what tells this run's connections")]
        getrandom::fill(&mut first_generation).map_err(|error| StartError::Other {
            what: "drawing entropy",
            source: io::Error::other(error.to_string()),
        })?;
        let directory = Arc::new(Directory::new(settings.streams, u32::from_ne_bytes(first_generation)));
        let stop = Arc::new(Stop::new(self.wakers.len()));
        #[expect(clippy::disallowed_methods, reason = "the origin of the monotonic clock")]
        let started = Instant::now();
        let (ends, ended) = mpsc::channel();
        let mut running = Running { threads: Vec::new(), ended, wakers: self.wakers.clone(), stop: stop.clone() };
        let shards =
            self.sockets.of_shards.into_iter().zip(self.links).zip(self.wakers.into_iter().zip(self.stats)).zip(seeds);
        for (number, (((sockets, (outward, inward)), (waker, stats)), (seed, journal))) in (0u16..).zip(shards) {
            let parts = Parts {
                number,
                sockets: sockets.into(),
                listeners: self.sockets.listeners.clone(),
                directory: directory.clone(),
                outward,
                inward,
                journal,
                waker,
                batch_window: settings.batch_window,
                trains: settings.trains,
                train_blanks: settings.train_blanks,
                drain: settings.drain,
                started,
                stop: stop.clone(),
                stats,
            };
            let (settings, (ready, is_ready)) = (settings.clone(), mpsc::sync_channel(1));
            let end = End { number, ends: ends.clone() };
            let serve = move || {
                let _end = end;
                let shard = prepare(&settings, number, &parts.sockets)
                    .and_then(|ring| Shard::new(ring, parts, seed.grow()).map_err(start::explain_here));
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

/// Tells that a shard's thread ends, however that comes.
struct End {
    number: u16,
    ends: mpsc::Sender<u16>,
}

impl Drop for End {
    fn drop(&mut self) {
        // Where nobody waits for it, nobody wants to know.
        let _ = self.ends.send(self.number);
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
    share::be_let_in(settings.nice);
    // The longest train takes as much as the longest datagram. All of it comes in at one socket, and its datagrams may be of many calls:
    // with several shards each is to come in where it is handled.
    let takes_trains = settings.trains && settings.shards == 1 && settings.datagram_octets >= LONGEST_TRAIN;
    let datagrams = sockets.iter().flatten().filter(|socket| socket.r#type().is_ok_and(|kind| kind == Type::DGRAM));
    // Where trains may be queued already they stay: what comes as one is always taken apart.
    if takes_trains || settings.datagram_octets < LONGEST_TRAIN {
        datagrams.for_each(|socket| receive_trains(socket, takes_trains));
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
    /// Lets the shards receive no more datagrams and accept no more connections, finish what is pending, and end.
    pub fn drain(&self) {
        self.ask(Stop::ASKED);
    }

    /// The same, when another process waits for the sockets and the journal: it waits a moment only for streams that
    /// are read slowly.
    pub fn hand_over(&self) {
        self.ask(Stop::BRIEF);
    }

    /// Lets the shards end after their current turn.
    pub fn stop_now(&self) {
        self.ask(Stop::IMMEDIATE);
    }

    fn ask(&self, how: u8) {
        self.stop.how.fetch_max(how, Ordering::AcqRel);
        self.wakers.iter().for_each(|waker| waker.wake());
    }
}

impl Running {
    /// What ends the shards, for another thread to keep.
    pub fn stopper(&self) -> Stopper {
        Stopper { wakers: self.wakers.clone(), stop: self.stop.clone() }
    }

    /// Waits until every shard has ended; or says what failed. A shard that fails ends the others: what it
    /// owned is owned by nobody.
    ///
    /// # Panics
    /// When a shard has panicked.
    pub fn join(self) -> io::Result<()> {
        let stopper = self.stopper();
        let mut threads: Vec<_> = self.threads.into_iter().map(Some).collect();
        let mut results: Vec<_> = threads.iter().map(|_| None).collect();
        for number in self.ended.into_iter().take(threads.len()) {
            let thread = threads[usize::from(number)].take().expect("a thread ends once");
            let result = thread.join();
            if !matches!(result, Ok(Ok(()))) {
                stopper.stop_now();
            }
            results[usize::from(number)] = Some(result);
        }
        let mut results = results.into_iter().map(|result| result.expect("every thread has ended"));
        results.try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}
