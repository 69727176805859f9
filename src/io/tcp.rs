//! Stream connections (RFC 3261 §18): accepted and opened, framed, reused, and closed when they keep us waiting.
//!
//! A connection belongs to one shard. The process-wide [`Directory`] tells all shards which connection leads to an address
//! (§18.1.1 and RFC 5923: a connection is reused for requests to the address it came from, or to an alias of it).
//! What could not be sent whole and not even begun goes back to the core; what the kernel has taken is the peer's.

mod directory;
mod routes;
mod slots;

pub(crate) use directory::Directory;
pub(crate) use routes::Place;

use super::ring::{Completion, Op, STREAMS, Submissions, cancel};
use super::settings::StreamSettings;
use super::socket;
use super::stats::Counters;
use agent::{Flow, ListenerId, Outgoing, Received};
use bumpalo::{Bump, collections::Vec as BumpVec};
use io_uring::{opcode, types};
use sip::Transport;
use sip::framing::{Frame, FrameError, Framer};
use slots::{KEPT, Slot, State};
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// How often some connections are examined, and into how many parts the table is cut for it: a limit is noticed within
/// a second, and no turn examines many connections.
const TICK: Duration = Duration::from_millis(100);
const PARTS: usize = 10;
/// The answer to a keep-alive (RFC 5626 §4.4.1).
const PONG: &[u8] = b"\r\n";

/// What a turn has received.
pub(crate) struct Arrivals<'t> {
    arena: &'t Bump,
    /// Whole messages.
    pub(crate) batch: BumpVec<'t, Received<'t>>,
    /// What streams that end have left.
    pub(crate) unframed: BumpVec<'t, (Received<'t>, FrameError)>,
}

impl<'t> Arrivals<'t> {
    pub(crate) fn new(arena: &'t Bump, expected: usize) -> Self {
        Self { arena, batch: BumpVec::with_capacity_in(expected, arena), unframed: BumpVec::new_in(arena) }
    }

    fn message(&mut self, flow: Flow, octets: &'t [u8]) {
        self.batch.push(Received { flow, octets, passed: false });
    }
}

/// A message that could not be sent.
pub(crate) struct Returned {
    pub(crate) flow: Flow,
    pub(crate) octets: Vec<u8>,
}

impl Returned {
    pub(crate) fn new(message: &Outgoing<'_>) -> Self {
        Self { flow: message.flow, octets: message.to_vec() }
    }
}

/// The stream side of one shard.
pub(crate) struct Streams {
    shard: u16,
    listeners: Vec<Option<(Transport, SocketAddr)>>,
    directory: Arc<Directory>,
    limits: StreamSettings,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Connections to write to at the end of the turn.
    to_write: Vec<u32>,
    returned: Vec<Returned>,
    /// Listeners whose accept has failed, and goes on at the next tick: were there no descriptor left, to go on at once
    /// would only fail again.
    paused: Vec<u16>,
    accepting: bool,
    next_tick: Duration,
    next_examined: usize,
}

impl Streams {
    /// `listeners` are all listeners as numbered, with their addresses.
    pub(crate) fn new(shard: u16, listeners: Vec<Option<(Transport, SocketAddr)>>, directory: Arc<Directory>) -> Self {
        Self {
            shard,
            listeners,
            limits: directory.limits,
            directory,
            slots: Vec::new(),
            free: Vec::new(),
            to_write: Vec::new(),
            returned: Vec::new(),
            paused: Vec::new(),
            accepting: true,
            next_tick: Duration::ZERO,
            next_examined: 0,
        }
    }

    /// Starts to accept on every listener.
    pub(crate) fn listen(&self, ring: &mut Submissions<'_>) -> io::Result<()> {
        self.ours().try_for_each(|listener| accept(ring, listener))
    }

    /// Accepts no more.
    pub(crate) fn stop_accepting(&mut self, ring: &mut Submissions<'_>) -> io::Result<()> {
        self.accepting = false;
        self.paused.clear();
        self.ours().try_for_each(|listener| cancel(ring, Op::Accept { listener }))
    }

    fn ours(&self) -> impl Iterator<Item = u16> {
        let of_streams = |listener: &_| matches!(listener, Some((Transport::Tcp, _)));
        (0..).zip(&self.listeners).filter(move |(_, listener)| of_streams(listener)).map(|(number, _)| number)
    }

    /// Takes a completion of an operation on a stream.
    pub(crate) fn completed<'t>(
        &mut self,
        ring: &mut Submissions<'_>,
        completion: &Completion,
        octets: &'t [u8],
        now: Duration,
        arrivals: &mut Arrivals<'t>,
        count: &mut Counters,
    ) -> io::Result<()> {
        match completion.op {
            Op::Accept { listener } => self.accepted(ring, listener, completion, now, count),
            Op::Connect { slot } => self.connected(ring, slot, completion, now, count),
            Op::ReceiveStream { slot } => {
                let asked = &mut self.connection(slot).asked;
                asked.receive &= completion.more;
                match &completion.result {
                    Ok(1..) => self.received(slot, octets, now, arrivals, count),
                    // All buffers are in use; this turn gives them back.
                    Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                    Ok(0) | Err(_) => self.close(ring, slot)?,
                }
                self.receive(ring, slot)?;
                self.forget_if_done(slot);
                Ok(())
            }
            Op::SendStream { slot } => self.sent(ring, slot, completion, now),
            Op::ReceiveDatagram { .. } | Op::SendDatagram { .. } | Op::Cancel | Op::Wake | Op::Alarm => Ok(()),
        }
    }

    fn accepted(
        &mut self,
        ring: &mut Submissions<'_>,
        listener: u16,
        completion: &Completion,
        now: Duration,
        count: &mut Counters,
    ) -> io::Result<()> {
        if !completion.more && self.accepting {
            match completion.result {
                Ok(_) => accept(ring, listener)?,
                Err(_) => self.paused.push(listener),
            }
        }
        let Ok(descriptor) = completion.result else {
            return Ok(());
        };
        // SAFETY: the kernel has just made this descriptor for us, and a completion is seen once.
        let socket = unsafe { Socket::from_raw_fd(descriptor as RawFd) };
        // A peer that has gone already has no name.
        let Some(peer) = socket.peer_addr().ok().and_then(|name| name.as_socket()) else {
            return Ok(());
        };
        if socket::tune_stream(&socket).is_err() || !self.accepting || !self.directory.admit(peer.ip()) {
            count.refused += 1;
            return Ok(());
        }
        count.accepted += 1;
        let (transport, _) = self.listeners[usize::from(listener)].expect("what is left out accepts nothing");
        let flow = Flow { listener: ListenerId(listener), transport, peer, connection: None };
        let slot = self.insert(socket, flow, State::Open, now);
        let connection = self.connection(slot);
        connection.unread_since = Some(now);
        let id = connection.flow.connection.expect("a connection's flow names it");
        self.directory.by_peer.insert((transport, peer), id);
        self.receive(ring, slot)
    }

    fn connected(
        &mut self,
        ring: &mut Submissions<'_>,
        slot: u32,
        completion: &Completion,
        now: Duration,
        count: &mut Counters,
    ) -> io::Result<()> {
        let connection = self.connection(slot);
        connection.asked.connect = None;
        if completion.result.is_err() {
            count.connect_failed += 1;
            self.close(ring, slot)?;
        } else if connection.state != State::Closing {
            count.connected += 1;
            connection.state = State::Open;
            connection.active_at = now;
            self.to_write.push(slot);
            self.receive(ring, slot)?;
        }
        self.forget_if_done(slot);
        Ok(())
    }

    fn received<'t>(
        &mut self,
        slot: u32,
        octets: &'t [u8],
        now: Duration,
        arrivals: &mut Arrivals<'t>,
        count: &mut Counters,
    ) {
        let connection = self.connection(slot);
        if connection.state != State::Open {
            return;
        }
        let (flow, before) = (connection.flow, arrivals.batch.len());
        let frames = if connection.unread.is_empty() {
            let frames = take_frames(&mut connection.framer, octets, |octets| arrivals.message(flow, octets));
            connection.unread.extend_from_slice(&octets[frames.octets..]);
            frames
        } else {
            connection.unread.extend_from_slice(octets);
            let frames = take_frames(&mut connection.framer, &connection.unread, |octets| {
                let kept = arrivals.arena.alloc_slice_copy(octets);
                arrivals.message(flow, kept);
            });
            connection.unread.drain(..frames.octets);
            frames
        };
        let messages = arrivals.batch.len() - before;
        count.received += messages as u64;
        count.keepalives += u64::from(frames.keepalives);
        if messages > 0 || frames.keepalives > 0 {
            connection.active_at = now;
            connection.unread_since = None;
        }
        if connection.unread.is_empty() {
            connection.unread.shrink_to(KEPT);
        } else {
            connection.unread_since.get_or_insert(now);
        }
        (0..frames.pings).for_each(|_| connection.waiting.push(&[PONG]));
        if let Some(error) = frames.error {
            count.cut_malformed += 1;
            connection.state = State::Ending;
            let octets = arrivals.arena.alloc_slice_copy(&std::mem::take(&mut connection.unread));
            arrivals.unframed.push((Received { flow, octets, passed: false }, error));
        }
        if frames.pings > 0 || frames.error.is_some() {
            self.to_write.push(slot);
        }
    }

    fn sent(
        &mut self,
        ring: &mut Submissions<'_>,
        slot: u32,
        completion: &Completion,
        now: Duration,
    ) -> io::Result<()> {
        let connection = self.connection(slot);
        connection.asked.send = false;
        let octets = *completion.result.as_ref().unwrap_or(&0) as usize;
        if octets < connection.writing.octets.len() {
            // MSG_WAITALL sends all or finds the connection broken.
            let (flow, writing) = (connection.flow, std::mem::take(&mut connection.writing));
            self.returned.extend(writing.unsent(octets, flow));
            self.close(ring, slot)?;
        } else {
            connection.writing.clear();
            connection.active_at = now;
            self.to_write.push(slot);
        }
        self.forget_if_done(slot);
        Ok(())
    }

    /// Writes what the turn has queued.
    pub(crate) fn write(&mut self, ring: &mut Submissions<'_>, now: Duration) -> io::Result<()> {
        let mut to_write = std::mem::take(&mut self.to_write);
        for slot in to_write.drain(..) {
            let Some(connection) = self.slots[slot as usize].connection.as_mut() else {
                continue;
            };
            if connection.asked.send || !matches!(connection.state, State::Open | State::Ending) {
                continue;
            }
            if connection.waiting.octets.is_empty() {
                if connection.state == State::Ending {
                    self.close(ring, slot)?;
                }
                continue;
            }
            std::mem::swap(&mut connection.writing, &mut connection.waiting);
            connection.asked.send = true;
            connection.writing_since = now;
            let octets = &connection.writing.octets;
            let entry =
                opcode::Send::new(types::Fd(connection.socket.as_raw_fd()), octets.as_ptr(), octets.len() as u32)
                    .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                    .build()
                    .user_data(Op::SendStream { slot }.user_data());
            // SAFETY: `writing` is not touched and its connection not forgotten while `asked.send` is set.
            unsafe { ring.push(entry) }?;
        }
        self.to_write = to_write;
        Ok(())
    }

    /// What could not be sent since the last call.
    pub(crate) fn take_returned(&mut self) -> Vec<Returned> {
        std::mem::take(&mut self.returned)
    }

    /// Whether something waits for [`take_returned`](Self::take_returned).
    pub(crate) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// Number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether a message is not sent yet.
    pub(crate) fn is_pending(&self) -> bool {
        let connections = self.slots.iter().filter_map(|slot| slot.connection.as_ref());
        connections.into_iter().any(|c| c.asked.send || !c.waiting.octets.is_empty())
    }

    /// When [`tick`](Self::tick) is due.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        (self.connections() > 0 || !self.paused.is_empty()).then_some(self.next_tick)
    }

    /// Examines a part of the connections, and closes those that keep us waiting.
    pub(crate) fn tick(&mut self, ring: &mut Submissions<'_>, now: Duration, count: &mut Counters) -> io::Result<()> {
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + TICK;
        std::mem::take(&mut self.paused).into_iter().try_for_each(|listener| accept(ring, listener))?;
        for _ in 0..self.slots.len().div_ceil(PARTS) {
            self.next_examined = (self.next_examined + 1) % self.slots.len();
            self.examine(ring, self.next_examined as u32, now, count)?;
        }
        Ok(())
    }

    fn receive(&mut self, ring: &mut Submissions<'_>, slot: u32) -> io::Result<()> {
        let connection = self.slots[slot as usize].connection.as_mut();
        let Some(connection) = connection.filter(|c| c.state == State::Open && !c.asked.receive) else {
            return Ok(());
        };
        connection.asked.receive = true;
        let entry = opcode::RecvMulti::new(types::Fd(connection.socket.as_raw_fd()), STREAMS)
            .build()
            .user_data(Op::ReceiveStream { slot }.user_data());
        // SAFETY: the operation points nowhere; its buffers are the ring's.
        unsafe { ring.push(entry) }
    }
}

/// What was at the front of a stream.
#[derive(Default)]
struct Frames {
    octets: usize,
    keepalives: u32,
    /// Keep-alives that ask for an answer.
    pings: u32,
    error: Option<FrameError>,
}

fn take_frames<'a>(framer: &mut Framer, octets: &'a [u8], mut message: impl FnMut(&'a [u8])) -> Frames {
    let mut frames = Frames::default();
    loop {
        let unread = &octets[frames.octets..];
        match framer.next(unread) {
            Ok(Frame::Incomplete) => return frames,
            Ok(Frame::KeepAlive { octets, ping }) => {
                frames.octets += octets;
                frames.keepalives += 1;
                frames.pings += u32::from(ping);
            }
            Ok(Frame::Message { octets }) => {
                frames.octets += octets;
                message(&unread[..octets]);
            }
            Err(error) => return Frames { error: Some(error), ..frames },
        }
    }
}

fn accept(ring: &mut Submissions<'_>, listener: u16) -> io::Result<()> {
    let entry = opcode::AcceptMulti::new(types::Fixed(listener.into()))
        .flags(libc::SOCK_CLOEXEC)
        .build()
        .user_data(Op::Accept { listener }.user_data());
    // SAFETY: the operation points nowhere.
    unsafe { ring.push(entry) }
}
