//! Which shard owns a Call-ID: a fixed function, the same in every process, on every machine and in the kernel.
//!
//! `owner = ((H >> 32) * shards) >> 32`, with `H` = SipHash-1-3 of the Call-ID's octets (as received, without
//! surrounding white space; Call-IDs compare case-sensitively, RFC 3261 §20.8), keyed with 16 octets derived from the
//! cluster's secret. SipHash because outsiders choose Call-IDs: without the key nobody can aim his calls at one shard;
//! 1-3 because it needs only 64-bit adds, rotates and xors, which an eBPF program also has.

use crate::Secret;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The keyed hash of Call-IDs.
#[derive(Clone)]
pub struct ShardHash {
    keyed: SipHasher13,
}

impl ShardHash {
    /// The hash of the cluster that shares `secret`.
    pub fn new(secret: &Secret) -> Self {
        Self { keyed: SipHasher13::new_with_key(&secret.derive("shard-hash")) }
    }

    /// The two halves of its key, for who computes it elsewhere.
    pub fn key(&self) -> (u64, u64) {
        self.keyed.keys()
    }

    /// The 64-bit hash of `call_id`.
    pub fn hash(&self, call_id: &[u8]) -> u64 {
        self.keyed.hash(call_id)
    }

    /// What `call_id` draws in that `epoch`, evenly from all numbers: nothing that its owner tells, nor what it draws in another epoch.
    pub fn draw(&self, epoch: u64, call_id: &[u8]) -> u32 {
        let mut hash = self.keyed;
        hash.write_u64(epoch);
        hash.write(call_id);
        (hash.finish() >> 32) as u32
    }

    /// The shard, from 0 to `shards - 1`, that owns `call_id`. With one shard nothing is hashed.
    pub fn owner(&self, call_id: &[u8], shards: u16) -> u16 {
        if shards <= 1 {
            return 0;
        }
        (((self.hash(call_id) >> 32) * u64::from(shards)) >> 32) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_spread_evenly_and_stay_in_range() {
        let hash = ShardHash::new(&Secret::new([7; 32]));
        let mut owned = [0u32; 3];
        for n in 0..30_000 {
            owned[usize::from(hash.owner(format!("{n}@host").as_bytes(), 3))] += 1;
        }
        assert!(owned.iter().all(|&n| (9_500..10_500).contains(&n)), "{owned:?}");
    }

    #[test]
    fn the_hash_is_fixed() {
        // Changing this value moves every live call of a cluster whose nodes are upgraded one at a time.
        let hash = ShardHash::new(&Secret::new([0; 32]));
        assert_eq!(hash.hash(b"a84b4c76e66710@pc33.atlanta.com"), 1_367_688_985_060_983_977);
    }

    #[test]
    fn another_secret_gives_another_spread() {
        let [a, b] = [[1; 32], [2; 32]].map(|s| ShardHash::new(&Secret::new(s)));
        let same = (0..1000)
            .filter(|n| a.owner(&[*n as u8, (*n >> 8) as u8], 16) == b.owner(&[*n as u8, (*n >> 8) as u8], 16))
            .count();
        assert!(same < 150, "{same}");
    }
}
