//! Names that this shard gives: Call-IDs that hash home, tags, call numbers, branches.
//!
//! All come from one generator with a seed from the edge; outsiders see its output through a keyed hash only, so that nobody
//! can tell the next tag from the last.

use crate::Place;
use agent::{Agent, ShardHash};
use arrayvec::ArrayVec;
use sip::Octets;
use siphasher::sip::SipHasher13;

/// Mints for one shard.
pub(crate) struct Mint {
    keyed: SipHasher13,
    drawn: u64,
    hash: ShardHash,
    shard: u16,
    shards: u16,
}

impl Mint {
    pub fn new(seed: u64, hash: ShardHash, place: &Place) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..10].copy_from_slice(&place.shard.to_le_bytes());
        Self { keyed: SipHasher13::new_with_key(&key), drawn: 0, hash, shard: place.shard, shards: place.shards }
    }

    /// 64 bits that nobody can guess.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.keyed.hash(&self.drawn.to_le_bytes())
    }

    /// A Call-ID that hashes to this shard (RFC 3261 §8.1.1.4), in hexadecimal: it tells no host.
    pub fn call_id(&mut self) -> [u8; 32] {
        loop {
            let mut text = ArrayVec::<u8, 32>::new();
            text.put_hex(self.draw());
            text.put_hex(self.draw());
            let text = text.into_inner().expect("it is full");
            if self.hash.owner(&text, self.shards) == self.shard {
                return text;
            }
        }
    }
}

/// The tag of a dialog of ours in a call at `agent`: `HEX.NAME.SHARD`. It tells whoever is to replace the dialog (RFC 3891)
/// where that is, which the Contact tells as well; what nobody can guess is the number.
pub(crate) fn dialog_tag(agent: Agent<'_>, tag: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity(16 + 2 + Agent::MAX_NAME + 5);
    text.put_hex(tag);
    text.put(b".");
    text.put(agent.name.as_bytes());
    text.put(b".");
    text.put_number(agent.shard.into());
    text
}

/// Where the dialog with that tag of ours is.
pub(crate) fn place_of_tag(text: &[u8]) -> Option<Agent<'_>> {
    parse_tag(text)?;
    let (name, shard) = str::from_utf8(text.get(17..)?).ok()?.split_once('.')?;
    let is_name = (1..=Agent::MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let shard = sip::number(shard.as_bytes()).and_then(|shard| u16::try_from(shard).ok());
    shard.filter(|_| is_name).map(|shard| Agent { name, shard })
}

/// A tag of ours as it stands in a message (§19.3).
pub(crate) fn tag_text(tag: u64) -> [u8; 16] {
    let mut text = ArrayVec::<u8, 16>::new();
    text.put_hex(tag);
    text.into_inner().expect("it is full")
}

/// The number of a tag of ours, with or without its place, if `text` can be one.
pub(crate) fn parse_tag(text: &[u8]) -> Option<u64> {
    let (digits, place) = text.split_at_checked(16)?;
    let is_ours = digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_ours = is_ours && (place.is_empty() || place[0] == b'.');
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| is_ours)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::Secret;

    #[test]
    fn call_ids_hash_home_and_tags_read_back() {
        let hash = ShardHash::new(&Secret::new([3; 32]));
        let place = Place { name: "stable".into(), shard: 2, shards: 3 };
        let mut mint = Mint::new(7, hash.clone(), &place);
        for _ in 0..100 {
            let call_id = mint.call_id();
            assert_eq!(hash.owner(&call_id, 3), 2);
            let tag = mint.draw();
            assert_eq!(parse_tag(&tag_text(tag)), Some(tag));
        }
        let tag = dialog_tag(Agent { name: "edge-2", shard: 3 }, 7);
        assert_eq!(tag, b"0000000000000007.edge-2.3");
        assert_eq!((parse_tag(&tag), place_of_tag(&tag)), (Some(7), Some(Agent { name: "edge-2", shard: 3 })));
        for strange in ["0000000000000007", "0000000000000007.x", "0000000000000007..3", "0000000000000007.x y.3"] {
            assert_eq!((parse_tag(strange.as_bytes()), place_of_tag(strange.as_bytes())), (Some(7), None), "{strange}");
        }
        assert_eq!(parse_tag(b"0000000000000007x"), None);
        assert_eq!(parse_tag(b"a6c85cf"), None);
        assert_eq!(parse_tag(b"A6C85CF0A6C85CF0"), None);
    }
}
