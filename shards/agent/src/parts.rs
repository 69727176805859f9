//! The keyed hash of several texts as one.
//!
//! It is SipHash-1-3 of a text in which every part begins at a multiple of eight octets, with zeros behind it, and the
//! lengths of three parts, 16 bits each, follow on the part behind them, and those of the last ones stand at the end; the last octet is the number of parts. So nothing is gathered
//! before it is hashed, and two different lists of parts are never one text. SipHash, because outsiders choose the parts and
//! see what comes out: without the key nobody can tell the hash of a list that he has not been shown.

use crate::Secret;
use siphasher::sip::SipHasher13;

const WORD: usize = size_of::<u64>();
/// Parts whose lengths fit a word with room for two octets.
const LENGTHS: u32 = 3;
const LENGTH_BITS: u32 = u16::BITS;

/// The hash under one key.
#[derive(Clone)]
pub struct PartsHash {
    keyed: SipHasher13,
}

/// A list of parts: at most 255, and none longer than 65,535 octets, which is more than a message has.
pub struct Parts {
    state: [u64; 4],
    /// Of the parts behind the last word of lengths.
    lengths: u64,
    count: u32,
    words: usize,
}

impl PartsHash {
    /// The hash for `purpose` under `secret`.
    pub fn new(secret: &Secret, purpose: &str) -> Self {
        Self { keyed: SipHasher13::new_with_key(&secret.derive(purpose)) }
    }

    /// No parts yet.
    #[inline]
    pub fn begin(&self) -> Parts {
        let (k0, k1) = self.keyed.keys();
        // SipHash's own constants: "somepseudorandomlygeneratedbytes".
        let state = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Parts { state, lengths: 0, count: 0, words: 0 }
    }
}

impl Parts {
    /// Appends a part.
    // Always inlined, so that the state stays in registers from part to part.
    #[inline(always)]
    pub fn put(&mut self, part: &[u8]) {
        let (words, rest) = part.as_chunks();
        for word in words {
            self.take(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.take(last_word(part));
        }
        self.note(part.len());
    }

    /// Appends a part of eight octets, those of `number`.
    #[inline(always)]
    pub fn put_number(&mut self, number: u64) {
        self.take(number);
        self.note(WORD);
    }

    /// The hash of all.
    #[inline(always)]
    pub fn hash(mut self) -> u64 {
        debug_assert!(self.count <= u8::MAX.into());
        // SipHash's last word has the length of the text on top; seven octets of ours are beneath.
        let length = (self.words * WORD + WORD - 1) as u64;
        self.take(self.lengths | u64::from(self.count) << 48 | length << 56);
        let [v0, v1, v2, v3] = round(round(round([self.state[0], self.state[1], self.state[2] ^ 0xff, self.state[3]])));
        v0 ^ v1 ^ v2 ^ v3
    }

    #[inline(always)]
    fn note(&mut self, length: usize) {
        debug_assert!(length <= u16::MAX.into());
        if self.count.is_multiple_of(LENGTHS) && self.count > 0 {
            self.take(self.lengths);
            self.lengths = 0;
        }
        self.lengths |= u64::from(length as u16) << (self.count % LENGTHS * LENGTH_BITS);
        self.count += 1;
    }

    #[inline(always)]
    fn take(&mut self, word: u64) {
        self.state[3] ^= word;
        self.state = round(self.state);
        self.state[0] ^= word;
        self.words += 1;
    }
}

/// SipRound.
#[inline(always)]
fn round([mut v0, mut v1, mut v2, mut v3]: [u64; 4]) -> [u64; 4] {
    v0 = v0.wrapping_add(v1);
    v2 = v2.wrapping_add(v3);
    v1 = v1.rotate_left(13) ^ v0;
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.rotate_left(32).wrapping_add(v3);
    v2 = v2.wrapping_add(v1);
    v3 = v3.rotate_left(21) ^ v0;
    v1 = v1.rotate_left(17) ^ v2;
    [v0, v1, v2.rotate_left(32), v3]
}

/// The octets behind the last whole word of `part`, of which there are some.
#[inline(always)]
fn last_word(part: &[u8]) -> u64 {
    let len = part.len() % WORD;
    if let Some(word) = part.last_chunk() {
        // The octets before them are shifted out.
        return u64::from_le_bytes(*word) >> (8 * (WORD - len));
    }
    if let (Some(low), Some(high)) = (part.first_chunk(), part.last_chunk()) {
        // What both have is the same.
        return u64::from(u32::from_le_bytes(*low))
            | u64::from(u32::from_le_bytes(*high)) << (8 * (len - size_of::<u32>()));
    }
    part.iter().rev().fold(0, |word, &octet| word << 8 | u64::from(octet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn keyed() -> PartsHash {
        PartsHash::new(&Secret::new([7; 32]), "test")
    }

    fn hash(parts: &[Vec<u8>]) -> u64 {
        let mut all = keyed().begin();
        parts.iter().for_each(|part| all.put(part));
        all.hash()
    }

    /// The text that stands for the parts, written out.
    fn text(parts: &[Vec<u8>]) -> Vec<u8> {
        let (mut text, mut lengths) = (Vec::new(), Vec::new());
        for (i, part) in parts.iter().enumerate() {
            text.extend_from_slice(part);
            text.resize(text.len().next_multiple_of(8), 0);
            if i > 0 && i % 3 == 0 {
                lengths.resize(8, 0);
                text.append(&mut lengths);
            }
            lengths.extend_from_slice(&(part.len() as u16).to_le_bytes());
        }
        lengths.resize(6, 0);
        text.append(&mut lengths);
        text.push(parts.len() as u8);
        text
    }

    proptest! {
        #[test]
        fn it_is_siphash_of_the_text_that_stands_for_the_parts(parts in vec(vec(any::<u8>(), 0..40), 0..12)) {
            prop_assert_eq!(hash(&parts), keyed().keyed.hash(&text(&parts)));
        }

        #[test]
        fn parts_that_are_cut_elsewhere_hash_otherwise(octets in vec(any::<u8>(), 1..60), cut in any::<[prop::sample::Index; 2]>()) {
            let cut = cut.map(|at| at.index(octets.len()));
            let [one, other] = cut.map(|at| hash(&[octets[..at].to_vec(), octets[at..].to_vec()]));
            prop_assert_eq!(one == other, cut[0] == cut[1]);
        }
    }

    #[test]
    fn zeros_and_empty_parts_count() {
        let lists = [vec![], vec![vec![]], vec![vec![0]], vec![vec![0; 2]], vec![vec![], vec![]], vec![vec![0; 8]]];
        for (i, one) in lists.iter().enumerate() {
            assert!(lists[..i].iter().all(|other| hash(one) != hash(other)), "{one:?}");
        }
    }

    #[test]
    fn a_number_is_its_octets() {
        let mut parts = keyed().begin();
        parts.put_number(0x0102_0304_0506_0708);
        assert_eq!(parts.hash(), hash(&[vec![8, 7, 6, 5, 4, 3, 2, 1]]));
    }
}
