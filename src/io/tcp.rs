//! Stream connections (RFC 3261 §18): accepted and opened, framed, reused, and closed when they keep us waiting.
//!
//! A connection belongs to one shard. The process-wide [`Directory`] tells all shards which connection leads to an address
//! (§18.1.1 and RFC 5923: a connection is reused for requests to the address it came from, or to an alias of it).
//! What could not be sent whole and not even begun goes back to the core; what the kernel has taken is the peer's.

mod directory;

pub(crate) use directory::Directory;

use super::ring::{Completion, Op, STREAMS, Submissions, cancel};
use super::settings::StreamSettings;
use super::socket;
use super::stats::Counters;
use agent::{ConnectionId, Flow, ListenerId, Outgoing, Received};
use arrayvec::ArrayVec;
use bumpalo::{Bump, collections::Vec as BumpVec};
use dashmap::Entry;
use io_uring::{opcode, types};
use sip::Transport;
use sip::framing::{Frame, FrameError, Framer};
use socket2::{SockAddr, Socket};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// How often some connections are examined, and into how many parts the table is cut for it: a limit is noticed within
/// a second, and no turn examines many connections.
const TICK: Duration = Duration::from_millis(100);
const PARTS: usize = 10;
/// Addresses for which one connection may be reused besides its own.
const ALIASES: usize = 4;
/// Octets of buffer that a silent connection keeps.
const KEPT: usize = 4096;
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

/// The connection of a send.
pub(crate) enum Place {
    /// Is ours; the message is queued, or returned.
    Here,
    /// Belongs to that shard, which is to send on this flow.
    Shard(u16, Flow),
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

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

struct Connection {
    socket: Socket,
    flow: Flow,
    state: State,
    asked: Asked,
    framer: Framer,
    /// Octets of a message that is not whole yet.
    unread: Vec<u8>,
    /// Since when we wait for a message to become whole.
    unread_since: Option<Duration>,
    /// What the kernel is sending; it stays in place until that completes.
    writing: Queue,
    writing_since: Duration,
    /// What goes next.
    waiting: Queue,
    active_at: Duration,
    aliases: ArrayVec<SocketAddr, ALIASES>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting {
        since: Duration,
    },
    Open,
    /// Is read no more, and closes when all is written.
    Ending,
    /// Goes when the kernel has completed what it was asked for.
    Closing,
}

/// What the kernel has been asked for and has not completed.
#[derive(Default)]
struct Asked {
    receive: bool,
    send: bool,
    /// Boxed: the kernel reads the address at the next enter.
    connect: Option<Box<SockAddr>>,
}

/// Messages behind one another.
#[derive(Default)]
struct Queue {
    octets: Vec<u8>,
    ends: Vec<usize>,
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
            Op::ReceiveDatagram { .. } | Op::SendDatagram { .. } | Op::Cancel | Op::Wake => Ok(()),
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

    /// Queues a message on the connection to its peer, which is opened if there is none.
    pub(crate) fn send(
        &mut self,
        ring: &mut Submissions<'_>,
        message: &Outgoing<'_>,
        now: Duration,
        count: &mut Counters,
    ) -> io::Result<Place> {
        let live = match message.flow.connection {
            Some(id) if id.shard != self.shard => return Ok(Place::Shard(id.shard, message.flow)),
            Some(id) => self.live(id),
            None => None,
        };
        // §18.2.2: where the connection is gone, one to the peer's address takes its place. It is forgotten, so that the
        // shard which has that does not send the message back here.
        let flow = Flow { connection: None, ..message.flow };
        let slot = match live {
            Some(slot) => Some(slot),
            None => match self.route(ring, flow, now, count)? {
                Route::Slot(slot) => Some(slot),
                Route::Shard(shard) => return Ok(Place::Shard(shard, flow)),
                Route::None => None,
            },
        };
        let Some(slot) = slot else {
            self.give_back(message);
            return Ok(Place::Here);
        };
        let (longest, connection) = (self.limits.queue_octets, self.connection(slot));
        if connection.waiting.octets.len() + message.octets() <= longest {
            connection.waiting.push(message.slices);
            count.sent += 1;
            self.to_write.push(slot);
            return Ok(Place::Here);
        }
        if connection.state == State::Open {
            count.cut_slow += 1;
            self.close(ring, slot)?;
        }
        self.give_back(message);
        Ok(Place::Here)
    }

    /// Returns a message to the core: it cannot be sent.
    pub(crate) fn give_back(&mut self, message: &Outgoing<'_>) {
        self.returned.push(Returned::new(message));
    }

    fn route(
        &mut self,
        ring: &mut Submissions<'_>,
        flow: Flow,
        now: Duration,
        count: &mut Counters,
    ) -> io::Result<Route> {
        let directory = self.directory.clone();
        let vacant = match directory.by_peer.entry((flow.transport, flow.peer)) {
            Entry::Occupied(known) if known.get().shard != self.shard => return Ok(Route::Shard(known.get().shard)),
            Entry::Occupied(known) => {
                let slot = self.live(*known.get()).expect("a closing connection leaves the directory");
                return Ok(Route::Slot(slot));
            }
            Entry::Vacant(vacant) => vacant,
        };
        let ours = match self.listeners.get(usize::from(flow.listener.0)) {
            Some(&Some((Transport::Tcp, ours))) if ours.is_ipv4() == flow.peer.is_ipv4() => ours,
            _ => return Ok(Route::None),
        };
        if !directory.admit(flow.peer.ip()) {
            count.refused += 1;
            return Ok(Route::None);
        }
        let Ok(socket) = socket::open_towards(flow.peer, ours.ip()) else {
            count.connect_failed += 1;
            directory.leave(flow.peer.ip());
            return Ok(Route::None);
        };
        let slot = self.insert(socket, flow, State::Connecting { since: now }, now);
        let connection = self.connection(slot);
        vacant.insert(connection.flow.connection.expect("a connection's flow names it"));
        let address = connection.asked.connect.insert(Box::new(flow.peer.into()));
        let descriptor = types::Fd(connection.socket.as_raw_fd());
        let entry = opcode::Connect::new(descriptor, address.as_ptr().cast(), address.len())
            .build()
            .user_data(Op::Connect { slot }.user_data());
        // SAFETY: the address is boxed and kept until the operation completes, and the socket with it.
        unsafe { ring.push(entry) }?;
        Ok(Route::Slot(slot))
    }

    /// Lets `connection` be reused for `address`.
    pub(crate) fn alias(&mut self, connection: ConnectionId, address: SocketAddr) {
        let Some(slot) = self.live(connection) else {
            return;
        };
        let directory = self.directory.clone();
        let connection = self.connection(slot);
        let transport = connection.flow.transport;
        if let (false, Entry::Vacant(vacant)) =
            (connection.aliases.is_full(), directory.by_peer.entry((transport, address)))
        {
            connection.aliases.push(address);
            vacant.insert(connection.flow.connection.expect("a connection's flow names it"));
        }
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

    fn examine(
        &mut self,
        ring: &mut Submissions<'_>,
        slot: u32,
        now: Duration,
        count: &mut Counters,
    ) -> io::Result<()> {
        let limits = self.limits;
        let Some(connection) = self.slots[slot as usize].connection.as_ref() else {
            return Ok(());
        };
        let passed = |since: Duration, limit: Duration| now.saturating_sub(since) > limit;
        let cut = match connection.state {
            // Its failure is counted when the cancelled connect completes.
            State::Connecting { since } if passed(since, limits.connect) => return self.close(ring, slot),
            State::Connecting { .. } | State::Closing => return Ok(()),
            State::Open | State::Ending if connection.asked.send && passed(connection.writing_since, limits.stall) => {
                &mut count.cut_slow
            }
            State::Open if connection.unread_since.is_some_and(|since| passed(since, limits.message)) => {
                &mut count.cut_incomplete
            }
            State::Open if passed(connection.active_at, limits.idle) => &mut count.cut_idle,
            State::Open | State::Ending => return Ok(()),
        };
        *cut += 1;
        self.close(ring, slot)
    }

    fn insert(&mut self, socket: Socket, flow: Flow, state: State, now: Duration) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: self.directory.first_generation, connection: None });
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        let id = ConnectionId { shard: self.shard, slot, generation: place.generation };
        place.connection = Some(Connection {
            socket,
            flow: Flow { connection: Some(id), ..flow },
            state,
            asked: Asked::default(),
            framer: Framer::new(self.limits.longest),
            unread: Vec::new(),
            unread_since: None,
            writing: Queue::default(),
            writing_since: now,
            waiting: Queue::default(),
            active_at: now,
            aliases: ArrayVec::new(),
        });
        slot
    }

    fn connection(&mut self, slot: u32) -> &mut Connection {
        self.slots[slot as usize]
            .connection
            .as_mut()
            .expect("a connection stays while the kernel is asked for something")
    }

    /// The slot of a connection that can be sent on.
    fn live(&self, id: ConnectionId) -> Option<u32> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.connection.as_ref().is_some_and(|connection| connection.state != State::Closing).then_some(id.slot)
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

    /// Ends a connection: it is found no more, and what it has not begun to send goes back to the core.
    fn close(&mut self, ring: &mut Submissions<'_>, slot: u32) -> io::Result<()> {
        let directory = self.directory.clone();
        let connection = self.slots[slot as usize].connection.as_mut().expect("only what is open is closed");
        if connection.state == State::Closing {
            return Ok(());
        }
        connection.state = State::Closing;
        let Flow { transport, peer, connection: id, .. } = connection.flow;
        for address in connection.aliases.drain(..).chain([peer]) {
            directory.by_peer.remove_if(&(transport, address), |_, known| Some(*known) == id);
        }
        self.returned.extend(connection.waiting.unsent(0, connection.flow));
        connection.waiting.clear();
        if connection.asked.connect.is_some() {
            cancel(ring, Op::Connect { slot })?;
        } else {
            // Completes the receive and the send. It fails when the peer has reset the connection, which has done that.
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        self.forget_if_done(slot);
        Ok(())
    }

    fn forget_if_done(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        let done = |c: &mut Connection| {
            c.state == State::Closing && !c.asked.receive && !c.asked.send && c.asked.connect.is_none()
        };
        if let Some(connection) = place.connection.take_if(done) {
            place.generation = place.generation.wrapping_add(1);
            self.free.push(slot);
            self.directory.leave(connection.flow.peer.ip());
        }
    }
}

enum Route {
    Slot(u32),
    Shard(u16),
    None,
}

impl Queue {
    fn push(&mut self, slices: &[&[u8]]) {
        slices.iter().for_each(|slice| self.octets.extend_from_slice(slice));
        self.ends.push(self.octets.len());
    }

    fn clear(&mut self) {
        self.octets.clear();
        self.octets.shrink_to(KEPT);
        self.ends.clear();
    }

    /// The messages of which none of the first `sent` octets is a part. A pong nobody misses.
    fn unsent(&self, sent: usize, flow: Flow) -> impl Iterator<Item = Returned> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let messages = starts.zip(&self.ends).skip_while(move |(start, _)| *start < sent);
        messages
            .map(|(start, end)| &self.octets[start..*end])
            .filter(|octets| *octets != PONG)
            .map(move |octets| Returned { flow, octets: octets.to_vec() })
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
