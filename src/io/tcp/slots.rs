//! The slots of a shard's connections: how one is taken, what it holds, and how it is given back.
//!
//! A slot stays while the kernel has been asked for something, and has another generation for its next connection: who names one
//! that has gone finds none.

use super::{PONG, Returned, Streams};
use crate::io::ring::{Op, Submissions, cancel};
use crate::io::stats::Counters;
use agent::{ConnectionId, Flow};
use arrayvec::ArrayVec;
use sip::framing::Framer;
use socket2::{SockAddr, Socket};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

/// Addresses for which one connection may be reused besides its own.
const ALIASES: usize = 4;
/// Octets of buffer that a silent connection keeps.
pub(super) const KEPT: usize = 4096;

/// A place in the table of connections.
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) connection: Option<Connection>,
}

/// A connection, open or on its way.
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) flow: Flow,
    pub(super) state: State,
    pub(super) asked: Asked,
    pub(super) framer: Framer,
    /// Octets of a message that is not whole yet.
    pub(super) unread: Vec<u8>,
    /// Since when we wait for a message to become whole.
    pub(super) unread_since: Option<Duration>,
    /// What the kernel is sending; it stays in place until that completes.
    pub(super) writing: Queue,
    pub(super) writing_since: Duration,
    /// What goes next.
    pub(super) waiting: Queue,
    pub(super) active_at: Duration,
    pub(super) aliases: ArrayVec<SocketAddr, ALIASES>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
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
pub(super) struct Asked {
    pub(super) receive: bool,
    pub(super) send: bool,
    /// Boxed: the kernel reads the address at the next enter.
    pub(super) connect: Option<Box<SockAddr>>,
}

/// Messages behind one another.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) octets: Vec<u8>,
    pub(super) ends: Vec<usize>,
}

impl Streams {
    /// Takes a slot for a connection.
    pub(super) fn insert(&mut self, socket: Socket, flow: Flow, state: State, now: Duration) -> u32 {
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

    pub(super) fn connection(&mut self, slot: u32) -> &mut Connection {
        self.slots[slot as usize]
            .connection
            .as_mut()
            .expect("a connection stays while the kernel is asked for something")
    }

    /// The slot of a connection that can be sent on.
    pub(super) fn live(&self, id: ConnectionId) -> Option<u32> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.connection.as_ref().is_some_and(|connection| connection.state != State::Closing).then_some(id.slot)
    }

    /// Ends a connection that keeps us waiting.
    pub(super) fn examine(
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

    /// Ends a connection: it is found no more, and what it has not begun to send goes back to the core.
    pub(super) fn close(&mut self, ring: &mut Submissions<'_>, slot: u32) -> io::Result<()> {
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

    /// Gives the slot back, unless the kernel still has something to complete.
    pub(super) fn forget_if_done(&mut self, slot: u32) {
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

impl Queue {
    pub(super) fn push(&mut self, slices: &[&[u8]]) {
        slices.iter().for_each(|slice| self.octets.extend_from_slice(slice));
        self.ends.push(self.octets.len());
    }

    pub(super) fn clear(&mut self) {
        self.octets.clear();
        self.octets.shrink_to(KEPT);
        self.ends.clear();
    }

    /// The messages of which none of the first `sent` octets is a part. A pong nobody misses.
    pub(super) fn unsent(&self, sent: usize, flow: Flow) -> impl Iterator<Item = Returned> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let messages = starts.zip(&self.ends).skip_while(move |(start, _)| *start < sent);
        messages
            .map(|(start, end)| &self.octets[start..*end])
            .filter(|octets| *octets != PONG)
            .map(move |octets| Returned { flow, octets: octets.to_vec() })
    }
}
