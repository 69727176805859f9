//! The last words of calls that are being set up: what is to be sent for them if this process dies before their ends have heard
//! what became of them.
//!
//! A call without an answer is in no journal, so the process that follows does not know of it; yet its caller waits, and phones
//! ring. For each INVITE that comes in there is therefore a final response, and for each that goes out a CANCEL (RFC 3261 §9.1),
//! written in advance as the datagrams that the switch is to get, in memory that outlives the process ([`Mapped`]). The final
//! response that comes in takes a CANCEL away. The one that is sent takes the place of the one that was written in advance,
//! until its ACK comes: between the two a process may die as well. Writing one costs a copy and no system call.
//!
//! What a process before has left is kept here too, until it has been said often enough.
//!
//! ```text
//! slot     2048 octets: check u64, SipHash-1-3 of what follows; length u16, 0 where it is free; the datagram
//! ```
//!
//! Numbers are little endian. A slot that a dying process has half written fails its check and says nothing.

use crate::io::Mapped;
use siphasher::sip::SipHasher13;
use std::{
    collections::{HashMap, VecDeque},
    io,
    path::Path,
    time::Duration,
};

/// Octets of a slot, and of what stands before its datagram.
const SLOT: usize = 2048;
const HEAD: usize = 10;

/// The last words of one shard.
pub struct Setups {
    memory: Mapped,
    free: Vec<u32>,
    taken: HashMap<u64, u32>,
    /// When each is given up, whatever has become of its call: oldest first.
    until: VecDeque<(Duration, u64)>,
    longest: Duration,
    /// Calls that have none because all slots are taken, or because theirs would be too long.
    pub unkept: u64,
}

impl Setups {
    /// Room for `slots` datagrams in `file`, which is made anew; those that are `left` of a process before are in it from the
    /// first moment on. Each is kept for `longest` at most.
    pub fn create(file: &Path, slots: u32, longest: Duration, now: Duration, left: &[Box<[u8]>]) -> io::Result<Self> {
        let anew = file.with_extension("new");
        let mut setups = Self {
            memory: Mapped::create(&anew, slots as usize * SLOT)?,
            free: (0..slots).rev().collect(),
            taken: HashMap::new(),
            until: VecDeque::new(),
            longest,
            unkept: 0,
        };
        setups.keep_left(now, left);
        std::fs::rename(anew, file)?;
        Ok(setups)
    }

    /// Keeps what a process before has left.
    pub fn keep_left(&mut self, now: Duration, left: &[Box<[u8]>]) {
        left.iter().for_each(|datagram| self.keep(now, key_of_left(datagram), datagram));
    }

    /// Forgets it: it has been said.
    pub fn forget_left(&mut self, left: &[Box<[u8]>]) {
        left.iter().for_each(|datagram| self.forget(key_of_left(datagram)));
    }

    /// What a process that has ended has left in `file`.
    pub fn left(file: &Path) -> io::Result<Vec<Box<[u8]>>> {
        #[expect(clippy::disallowed_methods, reason = "read once, before the shards run")]
        let octets = match std::fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        Ok(octets.chunks_exact(SLOT).filter_map(read).collect())
    }

    /// Keeps a datagram under `key`, which names the transaction.
    pub fn keep(&mut self, now: Duration, key: u64, datagram: &[u8]) {
        if self.taken.contains_key(&key) {
            return;
        }
        self.give_up(now);
        let Some(slot) = self.free.pop_if(|_| datagram.len() <= SLOT - HEAD) else {
            self.unkept += 1;
            return;
        };
        self.put(now, key, slot, datagram);
    }

    /// Keeps a datagram under `key` in the place of what is kept under `before`, if anything is. One that is too long for a slot is
    /// not kept: better nothing is said than what is not so.
    pub fn replace(&mut self, now: Duration, before: u64, key: u64, datagram: &[u8]) {
        if !self.taken.contains_key(&before) || self.taken.contains_key(&key) {
            return self.forget(before);
        }
        // Where there is room, the new one stands before the old one goes: there is no moment at which neither does.
        if self.free.is_empty() {
            self.forget(before);
        }
        self.keep(now, key, datagram);
        self.forget(before);
    }

    fn put(&mut self, now: Duration, key: u64, slot: u32, datagram: &[u8]) {
        let place = slot as usize * SLOT;
        let (head, rest) = self.memory[place..place + SLOT].split_at_mut(HEAD);
        let length = (datagram.len() as u16).to_le_bytes();
        rest[..datagram.len()].copy_from_slice(datagram);
        head[8..].copy_from_slice(&length);
        head[..8].copy_from_slice(&check(length, datagram).to_le_bytes());
        self.taken.insert(key, slot);
        self.until.push_back((now + self.longest, key));
    }

    /// Forgets what is kept under `key`: the transaction has its final response.
    pub fn forget(&mut self, key: u64) {
        let Some(slot) = self.taken.remove(&key) else { return };
        let place = slot as usize * SLOT;
        self.memory[place..place + HEAD].fill(0);
        self.free.push(slot);
        // What is at the front and done needs no wait for its time.
        while self.until.front().is_some_and(|(_, key)| !self.taken.contains_key(key)) {
            self.until.pop_front();
        }
    }

    fn give_up(&mut self, now: Duration) {
        while let Some((_, key)) = self.until.pop_front_if(|(until, _)| *until <= now) {
            self.forget(key);
        }
    }
}

fn key_of_left(datagram: &[u8]) -> u64 {
    SipHasher13::new_with_keys(0, 1).hash(datagram)
}

fn check(length: [u8; 2], datagram: &[u8]) -> u64 {
    let hasher = SipHasher13::new();
    hasher.hash(datagram) ^ hasher.hash(&length)
}

fn read(slot: &[u8]) -> Option<Box<[u8]>> {
    let (head, rest) = slot.split_first_chunk::<HEAD>()?;
    let (sealed, length) = head.split_first_chunk::<8>()?;
    let length: [u8; 2] = length.try_into().ok()?;
    let datagram = rest.get(..usize::from(u16::from_le_bytes(length))).filter(|datagram| !datagram.is_empty())?;
    (check(length, datagram) == u64::from_le_bytes(*sealed)).then(|| datagram.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(400);

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn what_was_kept_and_not_forgotten_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("setups");
        assert!(Setups::left(&file).unwrap().is_empty());
        let mut setups = Setups::create(&file, 4, LONGEST, at(0), &[]).unwrap();
        for (key, datagram) in [(1, &b"one"[..]), (2, b"two"), (3, b"three"), (1, b"again")] {
            setups.keep(at(0), key, datagram);
        }
        setups.forget(2);
        setups.forget(9);
        let left = Setups::left(&file).unwrap();
        assert_eq!(left, [Box::from(&b"one"[..]), Box::from(&b"three"[..])]);
        // Made anew, it has nothing; who had the old one mapped goes on there.
        let anew = Setups::create(&file, 4, LONGEST, at(0), &[]).unwrap();
        setups.keep(at(0), 4, b"four");
        assert!(Setups::left(&file).unwrap().is_empty());
        drop(anew);
    }

    #[test]
    fn what_is_left_is_left_again_until_it_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("setups");
        Setups::create(&file, 4, LONGEST, at(0), &[]).unwrap().keep(at(0), 1, b"one");
        let left = Setups::left(&file).unwrap();
        let mut setups = Setups::create(&file, 4, LONGEST, at(0), &left).unwrap();
        setups.keep(at(0), 1, b"another");
        assert_eq!(Setups::left(&file).unwrap(), [Box::from(&b"one"[..]), Box::from(&b"another"[..])]);
        setups.forget_left(&left);
        assert_eq!(Setups::left(&file).unwrap(), [Box::from(&b"another"[..])]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else stays there");
    }

    #[test]
    fn what_was_sent_takes_the_place_of_what_was_to_be_sent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("setups");
        let mut setups = Setups::create(&file, 4, LONGEST, at(0), &[]).unwrap();
        setups.keep(at(0), 1, b"500");
        setups.replace(at(0), 1, 11, b"200");
        setups.replace(at(0), 2, 12, b"what nobody has kept before");
        assert_eq!(Setups::left(&file).unwrap(), [Box::from(&b"200"[..])]);
        setups.forget(11);
        setups.keep(at(0), 3, b"500");
        setups.replace(at(0), 3, 13, &[0; SLOT]);
        assert!(Setups::left(&file).unwrap().is_empty(), "what is too long is better not said than what is wrong");
        assert_eq!((setups.taken.len(), setups.until.len()), (0, 0));
    }

    #[test]
    fn a_slot_that_is_half_written_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("setups");
        let mut setups = Setups::create(&file, 2, LONGEST, at(0), &[]).unwrap();
        setups.keep(at(0), 1, b"BYE sip:x SIP/2.0");
        for place in 0..HEAD + 17 {
            setups.memory[place] ^= 1;
            assert!(Setups::left(&file).unwrap().is_empty(), "octet {place}");
            setups.memory[place] ^= 1;
        }
        assert_eq!(Setups::left(&file).unwrap().len(), 1);
    }

    #[test]
    fn full_and_too_long_are_counted_and_the_oldest_are_given_up_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut setups = Setups::create(&dir.path().join("setups"), 2, LONGEST, at(0), &[]).unwrap();
        setups.keep(at(0), 1, &[1; SLOT]);
        (2..5).for_each(|key| setups.keep(at(key), key, b"x"));
        assert_eq!(setups.unkept, 2);
        setups.keep(at(403), 5, b"y");
        assert_eq!(setups.unkept, 2);
        assert_eq!(setups.taken.len(), 1, "both had been there for too long");
        assert_eq!(setups.until.len(), 1);
        setups.keep(at(404), 6, b"z");
        setups.replace(at(404), 6, 7, b"in the same place, for there is no other");
        assert_eq!((setups.unkept, setups.taken.contains_key(&7)), (2, true));
    }
}
