//! Trains: datagrams of one turn that go from one socket to one peer and have one size leave in one send (UDP GSO), which costs the
//! kernel one walk through its network stack instead of one for each. On the wire and for the receiver they are what they were.
//!
//! Messages differ by some octets: a number with a digit more, a longer name. Those of ours that may get longer by blanks
//! ([`Outgoing::slack`]) are made as long as the longest of their train, where few are enough. The last car of a train may be
//! shorter. A datagram that does not fit its peer's train begins another one, so datagrams of one peer keep their order, but for
//! what the kernel refuses and is sent again.

use agent::{ListenerId, Outgoing};
use std::io;
use std::net::SocketAddr;

/// Cars that the kernel takes (UDP_MAX_SEGMENTS was 64 until 6.9).
const MAX_CARS: usize = 64;
/// Octets of all cars: what the length field of IPv4 holds besides the headers.
const MAX_OCTETS: usize = 65_507;
/// Octets of the longest car: what an Ethernet frame holds besides the headers of IPv6. The kernel does not fragment cars.
const MAX_CAR: u16 = 1452;
/// Peers whose last train can be found. What is not found begins a train of its own.
const PEERS: usize = 256;
/// Turns after which what was learnt of paths is forgotten: they change.
const MEMORY: u32 = 1 << 16;
/// Ends the chain of a train's cars.
const END: u32 = u32::MAX;

/// The trains of one turn.
pub(super) struct Trains {
    trains: Vec<Train>,
    /// For each datagram of the turn the one behind it in its train.
    next: Vec<u32>,
    /// The last train to a peer that was put there.
    peers: Box<[u32; PEERS]>,
    /// The longest car to a peer that is put there, as far as the kernel has not refused it; 0 for no trains.
    max_cars: Box<[u16; PEERS]>,
    /// What it is for a peer of which nothing is known.
    max_car: u16,
    /// Blanks that a datagram gets at most.
    max_blanks: u8,
    turns: u32,
}

/// Datagrams that leave in one send.
#[derive(Clone, Copy)]
pub(super) struct Train {
    pub(super) listener: ListenerId,
    pub(super) peer: SocketAddr,
    first: u32,
    last: u32,
    /// How many datagrams.
    pub(super) cars: u32,
    /// Octets of each but the last, which has at most as many.
    pub(super) car_octets: u32,
    /// Octets of all, with their blanks.
    pub(super) octets: u32,
    /// Octets of the shortest car before it got blanks.
    shortest: u32,
    /// Whether all cars may get blanks.
    is_elastic: bool,
    is_complete: bool,
}

impl Trains {
    /// None yet; and none ever of more than one datagram unless `enabled`.
    pub(super) fn new(enabled: bool, max_blanks: u8) -> Self {
        let max_car = if enabled { MAX_CAR } else { 0 };
        let (peers, max_cars) = (Box::new([0; PEERS]), Box::new([max_car; PEERS]));
        Self { trains: Vec::new(), next: Vec::new(), peers, max_cars, max_car, max_blanks, turns: 0 }
    }

    /// Begins a turn.
    pub(super) fn clear(&mut self) {
        self.trains.clear();
        self.next.clear();
        self.turns += 1;
        if self.turns == MEMORY {
            self.turns = 0;
            self.max_cars.fill(self.max_car);
        }
    }

    /// Adds a datagram, the `index`-th message of the turn. They come in order.
    pub(super) fn add(&mut self, index: u32, message: &Outgoing<'_>) {
        self.next.resize(index as usize + 1, END);
        let (listener, peer) = (message.flow.listener, message.flow.peer);
        let slot = slot_of(peer);
        let number = self.peers[slot] as usize;
        // What a turn before has left in the table is of no peer's, or by chance of this one's: it fits, or it does not.
        if let Some(train) = self.trains.get_mut(number)
            && (train.listener, train.peer) == (listener, peer)
            && let Some(longer) = train.with(index, message, self.max_cars[slot], self.max_blanks)
        {
            self.next[train.last as usize] = index;
            *train = longer;
            return;
        }
        self.peers[slot] = self.trains.len() as u32;
        self.trains.push(Train::of(index, message));
    }

    /// All of them, in the order of their first datagrams.
    pub(super) fn all(&self) -> &[Train] {
        &self.trains
    }

    /// The places of a train's datagrams in the turn, in order.
    pub(super) fn cars(&self, train: Train) -> impl Iterator<Item = u32> {
        let next = |&car: &u32| Some(self.next[car as usize]).filter(|&next| next != END);
        std::iter::successors(Some(train.first), next)
    }

    /// How many blanks a car of `train` gets.
    pub(super) fn blanks(&self, train: Train, message: &Outgoing<'_>) -> u32 {
        let missing = train.car_octets - message.octets() as u32;
        if message.slack.is_some() && missing <= self.max_blanks.into() { missing } else { 0 }
    }

    /// Learns that the kernel refused `train` and took its cars one by one: the path to this peer takes shorter datagrams, or its device cannot do
    /// it. For a while there are none like it to him, or to who shares his slot.
    pub(super) fn learn(&mut self, train: Train, why: &io::Error) {
        let max_car = &mut self.max_cars[slot_of(train.peer)];
        *max_car = match why.raw_os_error() {
            Some(libc::EINVAL | libc::EMSGSIZE) => (*max_car).min((train.car_octets as u16).saturating_sub(1)),
            _ => 0,
        };
    }
}

/// Whether the kernel may have refused a train because it is one.
pub(super) fn is_refusal(why: &io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP))
}

impl Train {
    /// The train of one datagram, which is the `index`-th message of its turn.
    pub(super) fn of(index: u32, message: &Outgoing<'_>) -> Self {
        let octets = message.octets() as u32;
        Self {
            listener: message.flow.listener,
            peer: message.flow.peer,
            first: index,
            last: index,
            cars: 1,
            car_octets: octets,
            octets,
            shortest: octets,
            is_elastic: message.slack.is_some(),
            is_complete: false,
        }
    }

    /// The train with one more datagram, the `index`-th of its turn, if it takes that.
    fn with(&self, index: u32, message: &Outgoing<'_>, max_car: u16, max_blanks: u8) -> Option<Self> {
        let octets = message.octets() as u32;
        // An empty one would be no car.
        if self.is_complete || octets == 0 || self.cars as usize == MAX_CARS {
            return None;
        }
        let car_octets = self.car_octets.max(octets);
        let is_last = octets + message.slack.map_or(0, |_| u32::from(max_blanks)) < car_octets;
        let octets_of_all = car_octets * self.cars + if is_last { octets } else { car_octets };
        let fits = car_octets <= max_car.into()
            && octets_of_all as usize <= MAX_OCTETS
            && (car_octets == self.car_octets || self.is_elastic && car_octets - self.shortest <= max_blanks.into());
        fits.then_some(Self {
            last: index,
            cars: self.cars + 1,
            car_octets,
            octets: octets_of_all,
            shortest: self.shortest.min(octets),
            is_elastic: self.is_elastic && message.slack.is_some(),
            is_complete: is_last,
            ..*self
        })
    }
}

/// Where a peer's last train is told. Two peers in one slot begin trains by turns.
fn slot_of(peer: SocketAddr) -> usize {
    let ip = match peer {
        SocketAddr::V4(v4) => u32::from(*v4.ip()),
        SocketAddr::V6(v6) => {
            v6.ip().octets().as_chunks::<4>().0.iter().fold(0, |all, &four| all ^ u32::from_be_bytes(four))
        }
    };
    let spread = (ip ^ u32::from(peer.port()) << 16 ^ u32::from(peer.port())).wrapping_mul(0x9e37_79b9);
    (spread >> (u32::BITS - PEERS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::Flow;
    use proptest::prelude::*;
    use sip::Transport;

    /// A datagram to `peer` that gets no blanks.
    fn rigid<'t>(peer: SocketAddr, slices: &'t [&'t [u8]]) -> Outgoing<'t> {
        let flow = Flow { listener: ListenerId(0), transport: Transport::Udp, peer, connection: None };
        Outgoing { flow, slices, slack: None }
    }

    /// The trains of datagrams.
    fn trains(trains: &mut Trains, datagrams: &[Outgoing<'_>]) -> Vec<(Train, Vec<u32>)> {
        trains.clear();
        for (index, datagram) in (0..).zip(datagrams) {
            trains.add(index, datagram);
        }
        trains.all().iter().map(|&train| (train, trains.cars(train).collect())).collect()
    }

    fn peer(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// What the kernel asks of a train (udp(7), UDP_SEGMENT), and what we ask: that each peer's datagrams keep their order.
    fn check(datagrams: &[(u16, usize, bool)], max_car: u16, max_blanks: u8) {
        let octets = [b'x'; 3000];
        let slices: Vec<[&[u8]; 2]> =
            datagrams.iter().map(|&(_, size, _)| [&octets[..size / 2], &octets[size / 2..size]]).collect();
        let all: Vec<_> = datagrams
            .iter()
            .zip(&slices)
            .map(|(&(port, _, has_slack), slices)| Outgoing {
                slack: has_slack.then_some(1),
                ..rigid(peer(port), slices)
            })
            .collect();
        let mut planned = Trains { max_cars: Box::new([max_car; PEERS]), ..Trains::new(true, max_blanks) };
        let found = trains(&mut planned, &all);
        let mut seen: Vec<u32> = found.iter().flat_map(|(_, cars)| cars.clone()).collect();
        for (train, cars) in &found {
            assert_eq!(cars.len(), train.cars as usize);
            let size = |car: &u32| {
                let blanks = planned.blanks(*train, &all[*car as usize]);
                assert!(blanks == 0 || blanks <= max_blanks.into() && datagrams[*car as usize].2);
                datagrams[*car as usize].1 + blanks as usize
            };
            let (last, others) = cars.split_last().expect("a train has a car");
            assert!(others.iter().all(|car| size(car) == train.car_octets as usize));
            assert!(size(last) <= train.car_octets as usize);
            assert!(cars.len() == 1 || train.car_octets <= max_car.into());
            assert!(cars.len() == 1 || cars.iter().all(|car| size(car) > 0), "an empty datagram goes alone");
            assert!(cars.len() <= MAX_CARS && cars.iter().map(size).sum::<usize>() <= MAX_OCTETS.max(size(last)));
            assert_eq!(train.octets as usize, cars.iter().map(size).sum::<usize>());
            assert!(cars.iter().all(|&car| peer(datagrams[car as usize].0) == train.peer));
        }
        for (port, ..) in datagrams {
            let of_peer: Vec<u32> = seen.iter().copied().filter(|&car| datagrams[car as usize].0 == *port).collect();
            assert!(of_peer.is_sorted(), "{of_peer:?}");
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..datagrams.len() as u32), "each goes once");
    }

    proptest! {
        #[test]
        fn trains_are_what_the_kernel_takes_and_keep_the_order_of_a_peer(
            datagrams in proptest::collection::vec(
                (1u16..4, prop_oneof![Just(400), 390usize..440, Just(500), Just(30), Just(0), 0usize..3000], any::<bool>()),
                0..300,
            ),
            max_car in prop_oneof![Just(MAX_CAR), Just(0), Just(450)],
            max_blanks in prop_oneof![Just(0), Just(24), Just(255)],
        ) {
            check(&datagrams, max_car, max_blanks);
        }
    }

    #[test]
    fn datagrams_of_one_size_that_alternate_between_peers_make_a_train_for_each() {
        let slices: &[&[u8]] = &[&[b'x'; 400]];
        let all: Vec<_> = (0..100).map(|n| rigid(peer(5060 + n % 2), slices)).collect();
        let cars: Vec<_> = trains(&mut Trains::new(true, 0), &all).iter().map(|(train, _)| train.cars).collect();
        assert_eq!(cars, [50, 50]);
        assert_eq!(trains(&mut Trains::new(false, 0), &all).len(), 100);
    }

    #[test]
    fn what_may_get_blanks_is_made_as_long_as_the_longest() {
        let octets = [b'x'; 600];
        let slices: Vec<[&[u8]; 1]> = [400, 410, 403, 431, 432, 400].map(|size| [&octets[..size]]).into();
        let all: Vec<_> = slices.iter().map(|slices| Outgoing { slack: Some(0), ..rigid(peer(1), slices) }).collect();
        let mut planned = Trains::new(true, 32);
        let found = trains(&mut planned, &all);
        let [(train, _)] = &found[..] else { panic!("{} trains", found.len()) };
        assert_eq!((train.car_octets, train.octets), (432, 6 * 432));
        assert_eq!(all.iter().map(|car| planned.blanks(*train, car)).collect::<Vec<_>>(), [32, 22, 29, 1, 0, 32]);
        let cars =
            |max_blanks| trains(&mut Trains::new(true, max_blanks), &all).iter().map(|t| t.0.cars).collect::<Vec<_>>();
        assert_eq!(cars(31), [4, 2], "the fifth would have the first get 32");
        assert_eq!(cars(0), [1, 2, 1, 2], "only the last one of a train is shorter");
    }

    #[test]
    fn what_the_kernel_refuses_is_not_tried_again_for_a_while() {
        let slices: &[&[u8]] = &[&[b'x'; 400]];
        let all = [rigid(peer(1), slices); 2];
        let mut planned = Trains::new(true, 0);
        let train = trains(&mut planned, &all)[0].0;
        let error = io::Error::from_raw_os_error;
        assert!(!is_refusal(&error(libc::EAGAIN)) && is_refusal(&error(libc::EINVAL)));
        planned.learn(train, &error(libc::EINVAL));
        assert_eq!(trains(&mut planned, &all).len(), 2);
        assert_eq!(trains(&mut planned, &[rigid(peer(2), slices); 2]).len(), 1, "another peer has another path");
        let shorter: &[&[u8]] = &[&[b'x'; 399]];
        assert_eq!(trains(&mut planned, &[rigid(peer(1), shorter); 2]).len(), 1);
        planned.learn(train, &error(libc::EIO));
        assert_eq!(trains(&mut planned, &[rigid(peer(1), shorter); 2]).len(), 2);
        (0..MEMORY).for_each(|_| planned.clear());
        assert_eq!(trains(&mut planned, &all).len(), 1, "paths change");
    }
}
