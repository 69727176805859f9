//! Which connection serves a flow: its own, one that leads to the peer's address, or one that is opened (RFC 3261 §18.1.1, §18.2.2).

use super::slots::State;
use super::{Returned, Streams};
use crate::io::ring::{Op, Submissions};
use crate::io::socket;
use crate::io::stats::Counters;
use agent::{ConnectionId, Flow, Outgoing};
use dashmap::Entry;
use io_uring::{opcode, types};
use sip::Transport;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The connection of a send.
pub(crate) enum Place {
    /// Is ours; the message is queued, or returned.
    Here,
    /// Belongs to that shard, which is to send on this flow.
    Shard(u16, Flow),
}

impl Streams {
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
}

enum Route {
    Slot(u32),
    Shard(u16),
    None,
}
