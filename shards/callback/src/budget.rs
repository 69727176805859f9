//! How many packets go where. A leg has its packets once; what was granted to it, to its call, to its destination and to all together is
//! counted exactly over windows, by what is remembered of each leg. A leg's packets count when they are granted, and are sent within a fifth
//! of a second.

use crate::{Impersonation, Refusal};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long a leg is remembered: the window of destinations, and longer than all legs of a call take to be asked for, which one turn of
/// its application server does.
const MEMORY: Duration = Duration::from_secs(60);

/// The window of all.
const SECOND: Duration = Duration::from_secs(1);

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Packets of a leg.
    pub packets: u8,
    /// Packets of a call.
    pub per_call: u32,
    /// Packets to one IPv4 address or one IPv6 network of 64 bits, in a minute.
    pub per_destination: u32,
    /// Packets of all legs that are granted within any second. It bounds what is remembered, too.
    pub per_sec: u32,
}

/// What has been granted.
#[derive(Debug)]
pub struct Budget {
    bounds: Bounds,
    /// Oldest first.
    legs: VecDeque<Leg>,
    addresses: HashMap<(u128, u16), (SocketAddr, SocketAddr)>,
    calls: HashMap<u128, u32>,
    destinations: HashMap<IpAddr, u32>,
    last_second: u32,
    /// How many of `legs` have left the last second.
    before_second: usize,
}

#[derive(Debug)]
struct Leg {
    at: Duration,
    key: (u128, u16),
    destination: IpAddr,
}

impl Budget {
    /// Nothing has been granted yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            legs: VecDeque::new(),
            addresses: HashMap::new(),
            calls: HashMap::new(),
            destinations: HashMap::new(),
            last_second: 0,
            before_second: 0,
        }
    }

    /// Grants a leg its packets, all of them or none. Time does not go back.
    ///
    /// # Errors
    /// Which bound forbids it. Nothing is counted then.
    pub fn grant(&mut self, now: Duration, wanted: &Impersonation) -> Result<u8, Refusal> {
        self.forget(now);
        let Impersonation { call, leg, source, destination, .. } = *wanted;
        let (key, place) = ((call, leg), holder(destination.ip()));
        if let Some(before) = self.addresses.get(&key) {
            let is_same = *before == (source, destination);
            return Err(if is_same { Refusal::Again } else { Refusal::Changed });
        }
        let packets = u32::from(self.bounds.packets);
        let is_over = |had: Option<&u32>, most: u32| had.copied().unwrap_or(0) + packets > most;
        if is_over(self.calls.get(&call), self.bounds.per_call) {
            return Err(Refusal::Call);
        }
        if is_over(self.destinations.get(&place), self.bounds.per_destination) {
            return Err(Refusal::Destination);
        }
        if is_over(Some(&self.last_second), self.bounds.per_sec) {
            return Err(Refusal::Rate);
        }
        self.addresses.insert(key, (source, destination));
        *self.calls.entry(call).or_default() += packets;
        *self.destinations.entry(place).or_default() += packets;
        self.last_second += packets;
        self.legs.push_back(Leg { at: now, key, destination: place });
        Ok(self.bounds.packets)
    }

    /// Lets go what has left its window.
    fn forget(&mut self, now: Duration) {
        let packets = u32::from(self.bounds.packets);
        let is_past = |leg: &Leg, window: Duration| now.saturating_sub(leg.at) >= window;
        while self.legs.get(self.before_second).is_some_and(|leg| is_past(leg, SECOND)) {
            self.last_second -= packets;
            self.before_second += 1;
        }
        while let Some(leg) = self.legs.pop_front_if(|leg| is_past(leg, MEMORY)) {
            self.addresses.remove(&leg.key);
            take(&mut self.calls, leg.key.0, packets);
            take(&mut self.destinations, leg.destination, packets);
            self.before_second -= 1;
        }
    }
}

/// Takes `packets` from what is counted for `key`, and the count away with the last of them.
fn take<K: Copy + Eq + std::hash::Hash>(counts: &mut HashMap<K, u32>, key: K, packets: u32) {
    let count = counts.get_mut(&key).expect("it was counted when it was granted");
    *count -= packets;
    if *count == 0 {
        counts.remove(&key);
    }
}

/// Whoever has an IPv6 address has a network of 64 bits (RFC 4291 §2.5.1), and may answer with any address of it.
fn holder(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}
