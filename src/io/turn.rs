//! A shard and its turn.
//!
//! A turn reads as a packet lives: take what has completed, read the clock, hand the whole batch to the core, queue
//! what it sends, enter the ring. That enter runs the sends, then waits for the next turn's completions; after it the
//! received buffers and the arena are given back. Nothing else in a shard enters the kernel, and nothing blocks it.

use super::alarm::Alarm;
use super::backlog::{Backlog, Gauge};
use super::edge::Stop;
use super::fragments::Fragments;
use super::journal::JournalLink;
use super::mesh::{Errand, Inward, Outward};
use super::ring::{Completion, Op, Ring, Submissions, Wait};
use super::share;
use super::stats::{Counters, EdgeStats};
use super::tcp::{Arrivals, Directory, Place, Returned, Streams};
use super::trains::Trains;
use super::udp::Datagrams;
use super::waker::Waker;
use super::window::Window;
use agent::{Flow, Now, Outbox, Outgoing, Received, Ticket};
use bumpalo::Bump;
use io_uring::{opcode, types};
use sip::{Transport, framing::FrameError};
use socket2::Socket;
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A shard that nothing happens to takes a turn this often, so that its figures stay fresh.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long a drain takes at most that another process waits for.
const BRIEF_DRAIN: Duration = Duration::from_millis(250);

/// How often a shard that drains looks whether the others still have something for it.
const DRAIN_STEP: Duration = Duration::from_millis(2);

/// Messages that a turn takes up, or those of its last receive more: what has come beyond them waits for the next one. An enter that
/// finds a backlog brings thousands. As many in one turn would push each other out of the processor's caches, leave late, and
/// keep timers and the next look at the backlog waiting.
const BATCH: usize = 128;

/// Octets that the messages of a full turn take, or nearly so.
const ARENA: usize = 2 << 20;

/// What a shard runs: the agents, as one state machine. It does no I/O; all that it wants done goes to `out`.
pub trait Core: 'static {
    /// Takes up what other threads have left for this shard. Each turn begins with it.
    fn handle_orders<'t>(&mut self, _now: Now, _out: &mut Outbox<'t>) {}

    /// Takes note of what waits in the sockets, in the first of the turns of some ten milliseconds, before their messages. A shard that sleeps is not
    /// told anything.
    fn handle_backlog(&mut self, _now: Now, _backlog: Backlog) {}

    /// Handles all messages of one turn. They are in the order of their arrival, by source.
    fn handle_batch<'t>(&mut self, now: Now, batch: &[Received<'t>], out: &mut Outbox<'t>);

    /// Handles a message that could not be sent on `flow`: no route, a connection refused or timed out, or closed
    /// before the message went (RFC 3261 §18.4). With streams it may come to another shard than the one that sent it.
    fn handle_undeliverable<'t>(&mut self, now: Now, flow: Flow, octets: &'t [u8], out: &mut Outbox<'t>);

    /// Handles octets of a stream that cannot be framed. They may be answered, as [`FrameError::response`] says; then the
    /// connection is closed.
    fn handle_unframed<'t>(&mut self, _now: Now, _received: Received<'t>, _error: FrameError, _out: &mut Outbox<'t>) {}

    /// Handles what became of the records of all tickets up to `up_to`, since the call before: on the disk, or not.
    fn handle_settled<'t>(&mut self, now: Now, up_to: Ticket, ok: bool, out: &mut Outbox<'t>);

    /// When [`handle_timeout`](Self::handle_timeout) is due, on the monotonic clock.
    fn next_timeout(&self) -> Option<Duration>;

    /// Handles the timers that are due.
    fn handle_timeout<'t>(&mut self, now: Now, out: &mut Outbox<'t>);

    /// The turn is over: the moment to publish figures.
    fn handle_turn_end(&mut self) {}
}

/// What becomes a core on the shard's thread, where that cannot come from another thread.
pub trait Seed: Send + 'static {
    /// What it becomes.
    type Core: Core;

    /// Becomes it.
    fn grow(self) -> Self::Core;
}

impl<C: Core + Send> Seed for C {
    type Core = C;

    fn grow(self) -> C {
        self
    }
}

/// What a shard is made of, besides its core.
pub(crate) struct Parts {
    pub(crate) number: u16,
    /// Its listeners' sockets, as numbered.
    pub(crate) sockets: Arc<[Option<Socket>]>,
    /// Their transports and addresses.
    pub(crate) listeners: Vec<Option<(Transport, SocketAddr)>>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) outward: Outward,
    pub(crate) inward: Inward,
    pub(crate) journal: Option<JournalLink>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) batch_window: Duration,
    pub(crate) trains: bool,
    pub(crate) train_blanks: u8,
    pub(crate) drain: Duration,
    pub(crate) started: Instant,
    pub(crate) stop: Arc<Stop>,
    pub(crate) stats: Arc<EdgeStats>,
}

/// One shard: the thread's ring, its side of everything shared, and the core.
pub(crate) struct Shard<C: Core> {
    /// Declared first, so dropped first: after it the kernel touches nothing of ours.
    ring: Ring,
    core: C,
    parts: Parts,
    datagrams: Datagrams,
    streams: Streams,
    window: Window,
    alarm: Alarm,
    gauge: Gauge,
    arena: Bump,
    room: Vec<u32>,
    records: Vec<u8>,
    next_ticket: u64,
    /// What the enters have brought and no turn has taken up, and the datagrams that the last one could not send.
    completions: Vec<Completion>,
    failed: Vec<(u32, io::Error)>,
    /// What the streams could not send in the turn before.
    returned: Vec<Returned>,
    count: Counters,
    drain_began: Option<Duration>,
    /// Whether the others know that this shard receives no more.
    told: bool,
}

/// An arena that has its memory: where it grew in the first burst, that would wait while the kernel clears it.
fn arena() -> Bump {
    let mut arena = Bump::with_capacity(ARENA);
    arena.alloc_slice_fill_copy(ARENA, 0u8);
    arena.reset();
    arena
}

impl<C: Core> Shard<C> {
    /// Takes up the calling thread's ring and starts to listen.
    pub(crate) fn new(mut ring: Ring, parts: Parts, core: C) -> io::Result<Self> {
        let window = if ring.waits_for_batches() { parts.batch_window } else { Duration::ZERO };
        let (_, mut submissions) = ring.split();
        let fragments = Fragments::forbid(parts.sockets.clone(), &parts.listeners);
        let mut datagrams = Datagrams::new(&parts.listeners, Trains::new(parts.trains, parts.train_blanks), fragments);
        let streams = Streams::new(parts.number, parts.listeners.clone(), parts.directory.clone());
        datagrams.listen(&mut submissions)?;
        streams.listen(&mut submissions)?;
        watch(&mut submissions, &parts.waker)?;
        submissions.submit()?;
        let of_datagrams = |number: usize| matches!(parts.listeners.get(number), Some(Some((Transport::Udp, _))));
        let gauge = Gauge::new(&parts.sockets, of_datagrams);
        Ok(Self {
            ring,
            core,
            parts,
            datagrams,
            streams,
            window: Window::new(window),
            alarm: Alarm::new(),
            gauge,
            arena: arena(),
            room: Vec::new(),
            records: Vec::new(),
            next_ticket: 1,
            completions: Vec::new(),
            failed: Vec::new(),
            returned: Vec::new(),
            count: Counters::default(),
            drain_began: None,
            told: false,
        })
    }

    /// Takes turns until the shard is stopped and drained.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.is_drained() {
            self.turn()?;
            if self.drain_began.is_some() && !self.told && !self.datagrams.is_receiving() {
                self.parts.stop.receives_no_more();
                self.told = true;
            }
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        let Some(began) = self.drain_began else { return false };
        let limit = if self.parts.stop.is_brief() { BRIEF_DRAIN } else { self.parts.drain };
        // Who still receives may pass something on to us.
        let pending = self.parts.stop.is_receiving()
            || self.parts.inward.has_more()
            || self.streams.is_pending()
            || !self.returned.is_empty()
            || !self.records.is_empty()
            || self.parts.journal.as_ref().is_some_and(JournalLink::is_pending);
        !pending || self.parts.started.elapsed() >= began + limit || self.parts.stop.is_immediate()
    }

    fn turn(&mut self) -> io::Result<()> {
        let Self { core, parts, datagrams, streams, count, .. } = self;
        let now = read_clock(parts.started);
        // When an enter fails, what is queued is handed in as the ring is dropped. Whatever sends borrow from stays as long; this, too.
        let returned = ManuallyDrop::new(std::mem::take(&mut self.returned));
        let (buffers, mut ring) = self.ring.split();
        parts.outward.room(&mut self.room);
        let mut out = Outbox::new(&self.arena, &mut self.room, &mut self.records, &mut self.next_ticket);

        // Receive.
        let mut arrivals = Arrivals::new(&self.arena, self.completions.len().min(BATCH));
        let mut taken_up = 0;
        for completion in &self.completions {
            if arrivals.batch.len() >= BATCH {
                break;
            }
            taken_up += 1;
            let octets = buffers.octets(completion);
            match completion.op {
                Op::ReceiveDatagram { listener } => {
                    datagrams.received(&mut ring, listener, completion, octets, &mut arrivals.batch, count)?;
                }
                Op::Wake if !completion.more => watch(&mut ring, &parts.waker)?,
                Op::Wake => {}
                Op::Alarm => self.alarm.rang(),
                _ => streams.completed(&mut ring, completion, octets, now.monotonic, &mut arrivals, count)?,
            }
        }
        parts.inward.take();
        for (errand, octets) in parts.inward.parcels() {
            count.taken_over += 1;
            if let Errand::Handle(flow) = errand {
                arrivals.batch.push(Received { flow, octets, passed: true });
            }
        }

        // Handle.
        core.handle_orders(now, &mut out);
        // What a drain leaves in the sockets is another process's.
        if self.drain_began.is_none()
            && let Some(backlog) = self.gauge.look(now.monotonic, &parts.sockets, datagrams.taken(), count)
        {
            core.handle_backlog(now, backlog);
        }
        if !arrivals.batch.is_empty() {
            core.handle_batch(now, &arrivals.batch, &mut out);
        }
        for &(received, error) in &arrivals.unframed {
            core.handle_unframed(now, received, error, &mut out);
        }
        count.undeliverable += returned.len() as u64;
        for Returned { flow, octets } in &*returned {
            core.handle_undeliverable(now, *flow, octets, &mut out);
        }
        while let Some((up_to, ok)) = parts.journal.as_mut().and_then(JournalLink::settled) {
            core.handle_settled(now, up_to, ok, &mut out);
        }
        if core.next_timeout().is_some_and(|due| due <= now.monotonic) {
            core.handle_timeout(now, &mut out);
        }
        if self.drain_began.is_none() && parts.stop.is_asked() {
            self.drain_began = Some(now.monotonic);
            datagrams.stop_receiving(&mut ring)?;
            streams.stop_accepting(&mut ring)?;
        }

        // Act.
        for (owner, message) in out.passed_on() {
            let passed = parts.outward.pass_on(*owner, message);
            passed.expect("the outbox counts the room, and nothing else has used it in this turn");
            count.passed_on += 1;
        }
        for (errand, octets) in parts.inward.parcels() {
            match errand {
                Errand::Handle(_) => {}
                Errand::Send(flow) => {
                    let message = Outgoing { flow, slices: &[octets], slack: None };
                    send_on_stream(&mut ring, streams, &mut parts.outward, &message, now.monotonic, count)?;
                }
                Errand::Alias(connection, address) => streams.alias(connection, address),
            }
        }
        for &(connection, address) in out.aliases() {
            if connection.shard == parts.number {
                streams.alias(connection, address);
            } else if parts.outward.alias(connection, address).is_err() {
                count.ring_full += 1;
            }
        }
        for message in out.outgoing() {
            match message.flow.transport {
                // The enter below sends it.
                Transport::Udp => count.sent += 1,
                _ => send_on_stream(&mut ring, streams, &mut parts.outward, message, now.monotonic, count)?,
            }
        }
        streams.tick(&mut ring, now.monotonic, count)?;
        streams.write(&mut ring, now.monotonic)?;
        if let Some(journal) = &mut parts.journal {
            let (records, next_ticket) = out.records();
            count.journal_batches += u64::from(journal.push(records, next_ticket));
        }
        parts.outward.wake();
        core.handle_turn_end();
        count.turns += 1;
        count.connections = streams.connections() as u64;
        parts.stats.publish(count);

        // Send, and wait.
        self.window.note(now.monotonic, taken_up);
        let longest = if self.drain_began.is_some() { DRAIN_STEP } else { LONGEST_WAIT };
        let latest = Some(now.monotonic + longest);
        let due =
            [core.next_timeout(), streams.next_timeout(), latest].into_iter().flatten().min().expect("one is there");
        let is_due = due <= now.monotonic;
        parts.waker.prepare_to_sleep();
        let has_more = is_due
            || streams.has_returned()
            || parts.inward.has_more()
            || parts.journal.as_ref().is_some_and(JournalLink::has_settlement)
            || self.drain_began.is_none() && parts.stop.is_asked()
            || parts.stop.is_immediate();
        let wait = if taken_up < self.completions.len() {
            Wait::SendOnly
        } else if has_more {
            Wait::No
        } else {
            self.alarm.set(&mut ring, now.monotonic, due)?;
            self.window.wait()
        };
        let (completions, failed) = (&mut self.completions, &mut self.failed);
        datagrams.send_and_enter(&mut ring, out.outgoing(), wait, completions, failed, count)?;
        parts.waker.stay_awake();
        if is_due {
            share::offer();
        }

        // Give back.
        self.returned = streams.take_returned();
        for (index, error) in failed.drain(..) {
            count.dropped_send += 1;
            // A full queue is loss, as datagrams know it. Anything else is the sender's to know (§18.4).
            if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) {
                self.returned.push(Returned::new(&out.outgoing()[index as usize]));
            }
        }
        drop((out, arrivals));
        drop(ManuallyDrop::into_inner(returned));
        self.arena.reset();
        parts.inward.release();
        self.ring.give_back(self.completions.drain(..taken_up));
        Ok(())
    }
}

/// Sends on a connection of ours, or hands the message to the shard whose it is.
fn send_on_stream(
    ring: &mut Submissions<'_>,
    streams: &mut Streams,
    outward: &mut Outward,
    message: &Outgoing<'_>,
    now: Duration,
    count: &mut Counters,
) -> io::Result<()> {
    if let Place::Shard(shard, flow) = streams.send(ring, message, now, count)?
        && outward.send(shard, &Outgoing { flow, ..*message }).is_err()
    {
        count.ring_full += 1;
        streams.give_back(message);
    }
    Ok(())
}

/// Lets every wake-up of the shard complete.
fn watch(ring: &mut Submissions<'_>, waker: &Waker) -> io::Result<()> {
    let event = types::Fd(waker.as_fd().as_raw_fd());
    let entry = opcode::PollAdd::new(event, libc::POLLIN as u32).multi(true).build().user_data(Op::Wake.user_data());
    // SAFETY: the operation points nowhere.
    unsafe { ring.push(entry) }
}

#[expect(clippy::disallowed_methods, reason = "the one place where a shard reads the clocks")]
fn read_clock(started: Instant) -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Now { monotonic: started.elapsed(), unix: unix.expect("the clock is past 1970") }
}
