//! The rings between the shards of a process: each sends to each other on a ring of its own, nobody waits.
//!
//! A message is copied once, into the slot; the receiver's cores read it there, and its sends gather it from there.

use super::spsc::{self, Full, Receiver, Sender};
use super::waker::Waker;
use agent::{ConnectionId, Flow, Outgoing, Received};
use std::net::SocketAddr;
use std::sync::Arc;

/// Octets of buffer that a slot keeps for good; the buffer of a longer message is given back when the slot is next used.
const KEPT: usize = 4096;
/// Parcels taken from one shard in one turn, so that one busy shard cannot fill another's turn alone.
const TAKEN: usize = 256;

/// What goes from one shard to another.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    pub(crate) errand: Option<Errand>,
    pub(crate) octets: Vec<u8>,
}

/// What is to be done with a parcel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Errand {
    /// Its owner handles it as a received message.
    Handle(Flow),
    /// The shard that owns the connection sends it.
    Send(Flow),
    /// The shard that owns the connection lets it be reused for this address, too.
    Alias(ConnectionId, SocketAddr),
}

/// One shard's sending ends, by receiver.
pub(crate) struct Outward(Vec<Option<Link>>);

struct Link {
    sender: Sender<Parcel>,
    waker: Arc<Waker>,
    filled: bool,
}

/// One shard's receiving ends.
#[derive(Default)]
pub(crate) struct Inward(Vec<Source>);

struct Source {
    receiver: Receiver<Parcel>,
    /// Parcels that this turn takes.
    taken: usize,
}

/// Both ends of each of the shards that `wakers` wake, with `capacity` parcels a ring.
pub(crate) fn mesh(wakers: &[Arc<Waker>], capacity: usize) -> Vec<(Outward, Inward)> {
    let mut inward: Vec<Inward> = wakers.iter().map(|_| Inward::default()).collect();
    let outward: Vec<Outward> = (0..wakers.len())
        .map(|from| {
            let link = |(to, waker): (usize, &Arc<Waker>)| {
                (from != to).then(|| {
                    let (sender, receiver) = spsc::channel(capacity);
                    inward[to].0.push(Source { receiver, taken: 0 });
                    Link { sender, waker: waker.clone(), filled: false }
                })
            };
            Outward(wakers.iter().enumerate().map(link).collect())
        })
        .collect();
    outward.into_iter().zip(inward).collect()
}

impl Outward {
    /// How many parcels the ring to each shard takes; none to ourselves.
    pub(crate) fn room(&mut self, room: &mut Vec<u32>) {
        room.clear();
        room.extend(self.0.iter_mut().map(|to| to.as_mut().map_or(0, |to| to.sender.room() as u32)));
    }

    /// Passes a received message on.
    pub(crate) fn pass_on(&mut self, owner: u16, message: &Received<'_>) -> Result<(), Full> {
        self.fill(owner, Errand::Handle(message.flow), &[message.octets])
    }

    /// Hands a send to the shard that owns its connection.
    pub(crate) fn send(&mut self, owner: u16, message: &Outgoing<'_>) -> Result<(), Full> {
        self.fill(owner, Errand::Send(message.flow), message.slices)
    }

    /// Tells an alias to the shard that owns the connection.
    pub(crate) fn alias(&mut self, connection: ConnectionId, address: SocketAddr) -> Result<(), Full> {
        self.fill(connection.shard, Errand::Alias(connection, address), &[])
    }

    fn fill(&mut self, to: u16, errand: Errand, slices: &[&[u8]]) -> Result<(), Full> {
        let to = self.0.get_mut(usize::from(to)).and_then(Option::as_mut).ok_or(Full)?;
        to.sender.fill(|parcel| {
            parcel.errand = Some(errand);
            parcel.octets.clear();
            parcel.octets.shrink_to(KEPT);
            slices.iter().for_each(|slice| parcel.octets.extend_from_slice(slice));
        })?;
        to.filled = true;
        Ok(())
    }

    /// Wakes the shards that have got something in this turn.
    pub(crate) fn wake(&mut self) {
        for to in self.0.iter_mut().flatten().filter(|to| to.filled) {
            to.waker.wake();
            to.filled = false;
        }
    }
}

impl Inward {
    /// Whether the next turn must come at once: something waits that this turn has not taken, or what it has taken fills
    /// more than half of a ring. That is released only behind the wait, and a sender who finds the ring full wakes nobody.
    pub(crate) fn has_more(&self) -> bool {
        let mut rings = self.0.iter().map(|from| (from.taken, &from.receiver));
        rings.any(|(taken, ring)| ring.len() > taken || taken > ring.capacity() / 2)
    }

    /// Settles which parcels this turn takes.
    pub(crate) fn take(&mut self) {
        for from in &mut self.0 {
            from.taken = from.receiver.len().min(TAKEN);
        }
    }

    /// The parcels of this turn.
    pub(crate) fn parcels(&self) -> impl Iterator<Item = (Errand, &[u8])> {
        let of_turn = self.0.iter().flat_map(|from| from.receiver.iter().take(from.taken));
        of_turn.filter_map(|parcel| parcel.errand.map(|errand| (errand, &*parcel.octets)))
    }

    /// Releases the parcels of this turn.
    pub(crate) fn release(&mut self) {
        for from in &mut self.0 {
            from.receiver.release(std::mem::take(&mut from.taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::ListenerId;
    use sip::Transport;

    fn meshes(shards: usize, capacity: usize) -> Vec<(Outward, Inward)> {
        let wakers: Vec<_> = (0..shards).map(|_| Arc::new(Waker::new().unwrap())).collect();
        mesh(&wakers, capacity)
    }

    fn message(octets: &[u8]) -> Received<'_> {
        let peer = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow { listener: ListenerId(0), transport: Transport::Udp, peer, connection: None };
        Received { flow, octets, passed: true }
    }

    #[test]
    fn every_shard_reaches_every_other_and_not_itself() {
        let mut all = meshes(3, 4);
        let mut room = Vec::new();
        all[1].0.room(&mut room);
        assert_eq!(room, [4, 0, 4]);
        all[1].0.pass_on(2, &message(b"one")).unwrap();
        all[0].0.pass_on(2, &message(b"two")).unwrap();
        assert_eq!(all[1].0.pass_on(1, &message(b"self")), Err(Full));
        assert_eq!(all[1].0.pass_on(3, &message(b"nobody")), Err(Full));
        let inward = &mut all[2].1;
        inward.take();
        let mut octets: Vec<_> = inward.parcels().map(|(_, octets)| octets.to_vec()).collect();
        octets.sort();
        assert_eq!(octets, [b"one", b"two"]);
        assert!(!inward.has_more(), "all are taken");
        inward.release();
        assert!(!inward.has_more());
    }

    #[test]
    fn a_full_ring_refuses_and_has_room_again_after_the_release() {
        let mut all = meshes(2, 2);
        let [(outward, _), (_, inward)] = &mut all[..] else { unreachable!() };
        outward.pass_on(1, &message(b"1")).unwrap();
        inward.take();
        assert!(!inward.has_more(), "there is room for one that wakes us");
        outward.pass_on(1, &message(b"2")).unwrap();
        assert_eq!(outward.pass_on(1, &message(b"3")), Err(Full));
        inward.take();
        assert!(inward.has_more(), "nothing that wakes us can come in a full ring");
        inward.release();
        outward.pass_on(1, &message(b"2")).unwrap();
        outward.pass_on(1, &message(b"3")).unwrap();
        inward.take();
        assert_eq!(inward.parcels().map(|(_, octets)| octets[0]).collect::<Vec<_>>(), [b'2', b'3']);
    }
}
