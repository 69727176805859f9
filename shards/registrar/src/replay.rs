//! Which nonces have been used, and how often: a nonce count must rise (RFC 7616 §3.4, §5.5).
//!
//! A nonce is bound to a Call-ID and a Call-ID to a shard, so the shard that keeps this table sees every use. The table is
//! bounded: when it is full the oldest nonce is forgotten, and it and all before it count as stale from then on.

use std::collections::{BTreeMap, btree_map::Entry};

/// A nonce of this run: the second of its issue, then its number. Later nonces compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NonceId {
    pub(crate) issued: u32,
    pub(crate) number: u32,
}

impl NonceId {
    /// Both in one number, in their order.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.issued) << 32 | u64::from(self.number)
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { issued: (bits >> 32) as u32, number: bits as u32 }
    }
}

/// The nonces in use.
#[derive(Debug)]
pub(crate) struct Replay {
    last_use: BTreeMap<NonceId, Use>,
    /// Up to here they are forgotten.
    forgotten: Option<NonceId>,
    max: usize,
}

/// The last use of a nonce.
#[derive(Clone, Copy, Debug)]
struct Use {
    count: u32,
    request: u64,
}

/// What a use of a nonce is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its count is higher than any before, or it is the last request once more.
    Sound,
    /// Its count has been there, or lies before one that has.
    Replayed,
    /// The nonce may be one that was forgotten.
    Forgotten,
}

impl Replay {
    /// A table of at most `max` nonces.
    pub(crate) fn new(max: usize) -> Self {
        Self { last_use: BTreeMap::new(), forgotten: None, max }
    }

    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Judges and remembers the use of `nonce` with `count`. `request` is a fingerprint of the request: the network may
    /// deliver the same one twice, and no transaction layer in front of us absorbs that.
    pub(crate) fn judge(&mut self, nonce: NonceId, count: u32, request: u64) -> Verdict {
        if self.forgotten.is_some_and(|forgotten| nonce <= forgotten) {
            return Verdict::Forgotten;
        }
        match self.last_use.entry(nonce) {
            Entry::Vacant(entry) => {
                entry.insert(Use { count, request });
                while self.last_use.len() > self.max.max(1) {
                    self.forgotten = self.last_use.pop_first().map(|(oldest, _)| oldest).max(self.forgotten);
                }
                Verdict::Sound
            }
            Entry::Occupied(mut entry) => {
                let last = entry.get_mut();
                if count > last.count {
                    *last = Use { count, request };
                    return Verdict::Sound;
                }
                if count == last.count && request == last.request { Verdict::Sound } else { Verdict::Replayed }
            }
        }
    }

    /// Drops what was issued before `second`: those nonces have expired.
    pub(crate) fn drop_before(&mut self, second: u32) {
        while let Some(oldest) = self.last_use.first_entry()
            && oldest.key().issued < second
        {
            oldest.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(issued: u32, number: u32) -> NonceId {
        NonceId { issued, number }
    }

    #[test]
    fn a_count_must_rise_unless_the_very_request_comes_again() {
        let mut replay = Replay::new(8);
        for (count, request, verdict) in [
            (1, 10, Verdict::Sound),
            (1, 10, Verdict::Sound),
            (1, 11, Verdict::Replayed),
            (3, 12, Verdict::Sound),
            (2, 13, Verdict::Replayed),
            (1, 10, Verdict::Replayed),
        ] {
            assert_eq!(replay.judge(nonce(5, 1), count, request), verdict, "{count} {request}");
        }
        assert_eq!(replay.judge(nonce(5, 2), 1, 14), Verdict::Sound);
    }

    #[test]
    fn a_full_table_makes_the_oldest_stale() {
        let mut replay = Replay::new(2);
        for number in 1..=3 {
            assert_eq!(replay.judge(nonce(5, number), 1, 0), Verdict::Sound);
        }
        assert_eq!(replay.judge(nonce(5, 1), 2, 1), Verdict::Forgotten);
        assert_eq!(replay.judge(nonce(4, 9), 1, 0), Verdict::Forgotten);
        assert_eq!(replay.judge(nonce(5, 2), 2, 1), Verdict::Sound);
        assert_eq!(replay.last_use.len(), 2);
    }

    #[test]
    fn in_a_full_table_an_older_nonce_serves_once_and_no_later_one_goes() {
        let mut replay = Replay::new(1);
        assert_eq!(replay.judge(nonce(5, 2), 1, 0), Verdict::Sound);
        assert_eq!(replay.judge(nonce(5, 1), 1, 0), Verdict::Sound);
        assert_eq!(replay.judge(nonce(5, 1), 2, 1), Verdict::Forgotten);
        assert_eq!(replay.judge(nonce(5, 2), 2, 1), Verdict::Sound);
    }

    #[test]
    fn expired_nonces_take_no_room() {
        let mut replay = Replay::new(8);
        for issued in 1..=4 {
            replay.judge(nonce(issued, 0), 1, 0);
        }
        replay.drop_before(4);
        assert_eq!(replay.last_use.len(), 1);
        assert_eq!(replay.judge(nonce(4, 0), 2, 1), Verdict::Sound);
    }
}
