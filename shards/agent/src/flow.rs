//! Where a message came from and where one goes: listener, transport, peer, connection.

use sip::{Rport, Transport, Via};
use std::net::SocketAddr;

/// Index of a `[[listen]]` entry after expansion, in the order of the configuration. Every shard of every process
/// numbers them alike, so the number may travel in a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

/// A stream connection: the shard that owns it, its slot there, and a generation which tells a reused slot from the
/// connection that had it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The owning shard.
    pub shard: u16,
    /// Slot in the owner's table.
    pub slot: u32,
    /// Differs each time the slot is used again, and from those of a run before.
    pub generation: u32,
}

/// One direction-less path to a peer (RFC 5626 §3.3 calls it a flow).
///
/// A received message tells the flow it came on; a message to send names the flow to take. With a `connection` it goes
/// there while that lives; without one, a stream transport reuses any connection to `peer` or opens one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The socket of ours.
    pub listener: ListenerId,
    /// What runs between.
    pub transport: Transport,
    /// The far end.
    pub peer: SocketAddr,
    /// The connection, on stream transports.
    pub connection: Option<ConnectionId>,
}

impl Flow {
    /// The path that the response to a request takes which came on this one with `via` on top (RFC 3261 §18.2.2).
    ///
    /// `maddr` is not honoured: it would let anybody aim our answers at whom he likes.
    pub fn for_response(&self, via: &Via<'_>) -> Self {
        let mut flow = *self;
        // RFC 3581 §4: to where it came from, if asked. Else to the port that the sender says he listens at. A stream's
        // response goes over its connection.
        if !self.transport.is_reliable() && via.rport == Rport::Absent {
            flow.peer.set_port(via.port_or_default());
        }
        flow
    }
}

/// A whole message as the edge hands it to a shard: one datagram, or one frame of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Received<'t> {
    /// The path it came on.
    pub flow: Flow,
    /// Its octets, in the receive buffer.
    pub octets: &'t [u8],
    /// Another shard received it and passed it on to its owner; it is never passed on again.
    pub passed: bool,
}
