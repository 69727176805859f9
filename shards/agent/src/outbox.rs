//! What agents want done: messages to send, records to keep. The edge does it at the end of the turn.

use crate::{ConnectionId, Flow, Posted, Received, Way};
use bumpalo::{Bump, collections::Vec as BumpVec};
use std::net::SocketAddr;

/// Names a record handed to the journal: the how-many-eth of this shard. Tickets are settled in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A message to send: slices which, one after another, are its octets. They borrow from received buffers and from the
/// turn's arena; nothing that was received is copied to be edited.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'t> {
    /// The path to take.
    pub flow: Flow,
    /// The octets.
    pub slices: &'t [&'t [u8]],
    /// The slice before which blanks may be put, so that the message gets as long as others (RFC 3261 §7.3.1: behind a
    /// header's colon there may be any number of them, though one is usual). None where it is sent as it is.
    pub slack: Option<u32>,
}

impl Outgoing<'_> {
    /// Length of the message in octets.
    pub fn octets(&self) -> usize {
        self.slices.iter().map(|s| s.len()).sum()
    }

    /// The message in one piece, for those who must keep or compare it.
    pub fn to_vec(&self) -> Vec<u8> {
        self.slices.concat()
    }
}

/// A message of our own under construction in the turn's arena.
pub type Draft<'t> = BumpVec<'t, u8>;

/// The ring to that shard has no room left in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFull;

/// Collects what agents want done in one turn. Lives as long as the turn: its arena is reset after it.
pub struct Outbox<'t> {
    arena: &'t Bump,
    outgoing: BumpVec<'t, Outgoing<'t>>,
    posted: BumpVec<'t, Posted<'t>>,
    passed_on: BumpVec<'t, (u16, Received<'t>)>,
    aliases: BumpVec<'t, (ConnectionId, SocketAddr)>,
    room: &'t mut [u32],
    journal: &'t mut Vec<u8>,
    next_ticket: &'t mut u64,
}

impl<'t> Outbox<'t> {
    /// An empty outbox. `room` says how many messages the ring to each shard still takes. `journal` gathers the turn's
    /// records behind one another; `next_ticket` counts them.
    pub fn new(arena: &'t Bump, room: &'t mut [u32], journal: &'t mut Vec<u8>, next_ticket: &'t mut u64) -> Self {
        Self {
            arena,
            outgoing: BumpVec::with_capacity_in(64, arena),
            posted: BumpVec::new_in(arena),
            passed_on: BumpVec::new_in(arena),
            aliases: BumpVec::new_in(arena),
            room,
            journal,
            next_ticket,
        }
    }

    /// The turn's arena, for whatever a message needs that was not received.
    pub fn arena(&self) -> &'t Bump {
        self.arena
    }

    /// An empty buffer in the arena.
    pub fn draft(&self) -> Draft<'t> {
        BumpVec::with_capacity_in(512, self.arena)
    }

    /// Sends `slices` on `flow`.
    pub fn send(&mut self, flow: Flow, slices: &'t [&'t [u8]]) {
        self.outgoing.push(Outgoing { flow, slices, slack: None });
    }

    /// Sends a message that may be made longer: by blanks before the slice of number `slack`, if there is one.
    pub fn send_with_slack(&mut self, flow: Flow, (slices, slack): (&'t [&'t [u8]], Option<u32>)) {
        self.outgoing.push(Outgoing { flow, slices, slack });
    }

    /// Sends a message of our own on `flow`.
    pub fn send_draft(&mut self, flow: Flow, draft: Draft<'t>) {
        let slices = self.arena.alloc([draft.into_bump_slice() as &[u8]]);
        self.send(flow, slices);
    }

    /// Gives a message to the proxy, which sends it that way with our address in it.
    pub fn post(&mut self, way: Way, octets: &'t [u8]) {
        self.posted.push(Posted { way, octets });
    }

    /// What has been posted and not been taken yet, in order, for the proxy to take.
    pub fn take_posted(&mut self) -> BumpVec<'t, Posted<'t>> {
        std::mem::replace(&mut self.posted, BumpVec::new_in(self.arena))
    }

    /// Passes a received message on to the shard that owns its Call-ID.
    pub fn pass_on(&mut self, owner: u16, message: Received<'t>) -> Result<(), RingFull> {
        let room = self.room.get_mut(usize::from(owner)).ok_or(RingFull)?;
        *room = room.checked_sub(1).ok_or(RingFull)?;
        self.passed_on.push((owner, Received { passed: true, ..message }));
        Ok(())
    }

    /// Lets later sends to `address` reuse `connection` (RFC 5923 §5), unless another connection has that address. Whether
    /// its peer may ask for that is the caller's to know.
    pub fn alias(&mut self, connection: ConnectionId, address: SocketAddr) {
        self.aliases.push((connection, address));
    }

    /// Hands one record to the journal. `write` appends it, framed by the store; the ticket tells it later.
    pub fn persist(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Ticket {
        write(self.journal);
        let ticket = Ticket(*self.next_ticket);
        *self.next_ticket += 1;
        ticket
    }

    /// What is to be sent so far, in order.
    pub fn outgoing(&self) -> &[Outgoing<'t>] {
        &self.outgoing
    }

    /// What goes to other shards so far, with the shard.
    pub fn passed_on(&self) -> &[(u16, Received<'t>)] {
        &self.passed_on
    }

    /// The aliases asked for so far.
    pub fn aliases(&self) -> &[(ConnectionId, SocketAddr)] {
        &self.aliases
    }

    /// The records so far, for the edge to take, and the ticket after theirs.
    pub fn records(&mut self) -> (&mut Vec<u8>, Ticket) {
        (self.journal, Ticket(*self.next_ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ListenerId;
    use sip::Transport;

    #[test]
    fn messages_keep_their_order_and_records_their_tickets() {
        let (arena, mut journal, mut next) = (Bump::new(), Vec::new(), 5);
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            peer: "127.0.0.1:5060".parse().unwrap(),
            connection: None,
        };
        let mut room = [0, 1];
        let mut out = Outbox::new(&arena, &mut room, &mut journal, &mut next);
        out.send(flow, arena.alloc([b"one ".as_slice(), b"piece"]));
        let mut draft = out.draft();
        draft.extend_from_slice(b"two");
        out.send_draft(flow, draft);
        assert_eq!(out.persist(|j| j.push(1)), Ticket(5));
        assert_eq!(out.persist(|j| j.push(2)), Ticket(6));
        assert_eq!(out.records(), (&mut vec![1, 2], Ticket(7)));
        assert_eq!(
            out.outgoing().iter().map(|o| o.to_vec()).collect::<Vec<_>>(),
            [b"one piece".to_vec(), b"two".to_vec()]
        );
        assert_eq!(out.outgoing()[0].octets(), 9);
        let message = Received { flow, octets: b"three", passed: false };
        assert_eq!(out.pass_on(1, message), Ok(()));
        assert_eq!(out.pass_on(1, message), Err(RingFull));
        assert_eq!(out.pass_on(0, message), Err(RingFull));
        assert!(out.passed_on()[0].1.passed);
        out.post(Way::Uri, b"four");
        assert_eq!(out.take_posted()[0].octets, b"four");
        assert!(out.take_posted().is_empty());
        drop(out);
        assert_eq!((journal, next), (vec![1, 2], 7));
    }
}
