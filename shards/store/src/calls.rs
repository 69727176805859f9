//! Established calls as the journal keeps them: a number, a version, and octets which only the application server reads.
//!
//! The application server writes the whole state of a call whenever it changes, with the next version, and an end when
//! the call is over. After a restart the newest version of each call that has not ended comes back.
//!
//! ```text
//! call    key u128, version u64, octets
//! end     key u128, version u64
//! ```

use crate::journal::{Kind, MAX_PAYLOAD_OCTETS, frame_with, put_stuffed, unstuffed};
use crate::packed::{Malformed, Reader};
use std::borrow::Cow;
use std::collections::HashMap;

/// Most octets of a call's state. Twice as many fit a frame, whatever they are.
pub const MAX_CALL_OCTETS: usize = (MAX_PAYLOAD_OCTETS - HEAD_OCTETS) / 2;

const HEAD_OCTETS: usize = 16 + 8;

/// The state of the call is longer than [`MAX_CALL_OCTETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of one call is too long to be kept")]
pub struct CallTooLong;

/// Appends the frame of a call's state, for `Outbox::persist` to hand to the journal. Versions of a call rise.
pub fn put_call(out: &mut Vec<u8>, key: u128, version: u64, octets: &[u8]) -> Result<(), CallTooLong> {
    if octets.len() > MAX_CALL_OCTETS {
        return Err(CallTooLong);
    }
    frame_with(out, Kind::Call, |out| {
        put_head(out, key, version);
        put_stuffed(out, octets);
    });
    Ok(())
}

/// Appends the frame of a call's end. `version` is higher than all before.
///
/// A call whose state the disk refused needs one too: some of that group may be on the disk all the same.
pub fn put_call_end(out: &mut Vec<u8>, key: u128, version: u64) {
    frame_with(out, Kind::CallEnd, |out| put_head(out, key, version));
}

fn put_head(out: &mut Vec<u8>, key: u128, version: u64) {
    out.extend_from_slice(&key.to_le_bytes());
    out.extend_from_slice(&version.to_le_bytes());
}

/// The state of a call, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The call's number.
    pub key: u128,
    /// The highest counts.
    pub version: u64,
    /// Its state; None if this is its end.
    pub octets: Option<Cow<'a, [u8]>>,
}

impl<'a> Call<'a> {
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let (head, octets) = payload.split_at_checked(HEAD_OCTETS).ok_or(Malformed::Truncated)?;
        Ok(Self { octets: Some(unstuffed(octets)), ..Self::decode_end(head)? })
    }

    pub(crate) fn decode_end(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(payload);
        let (key, version) = (u128::from_le_bytes(reader.array()?), u64::from_le_bytes(reader.array()?));
        match reader.0 {
            [] => Ok(Self { key, version, octets: None }),
            _ => Err(Malformed::Trailing),
        }
    }

    /// Appends the frame that it came from.
    pub fn put(&self, out: &mut Vec<u8>) {
        match &self.octets {
            Some(octets) => put_call(out, self.key, self.version, octets).expect("it came from a frame"),
            None => put_call_end(out, self.key, self.version),
        }
    }
}

/// A call that a restart has found established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCall {
    /// The call's number.
    pub key: u128,
    /// Version of the state; the next one is higher.
    pub version: u64,
    /// The state, as [`put_call`] was given it.
    pub octets: Box<[u8]>,
}

/// Which record of each call stands: version and length of its state, 48 octets a call, as full as the table is.
#[derive(Debug, Default)]
pub struct CallIndex {
    calls: HashMap<u128, Standing>,
    octets: u64,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    version: u64,
    octets: u32,
}

impl CallIndex {
    /// The index of what a replay has found.
    pub fn new(kept: &[KeptCall]) -> Self {
        let mut index = Self::default();
        for call in kept {
            index.stand(call.key, call.version, call.octets.len());
        }
        index
    }

    /// A state of so many octets has been committed, or the end of a call.
    pub fn committed(&mut self, key: u128, version: u64, octets: Option<usize>) {
        let standing = self.calls.get(&key);
        if standing.is_some_and(|standing| standing.version >= version) {
            return;
        }
        match octets {
            Some(octets) => self.stand(key, version, octets),
            None => {
                if let Some(gone) = self.calls.remove(&key) {
                    self.octets -= u64::from(gone.octets);
                }
            }
        }
    }

    /// Whether the journal must keep this record.
    pub fn holds(&self, call: &Call<'_>) -> bool {
        call.octets.is_some() && self.calls.get(&call.key).is_some_and(|standing| standing.version == call.version)
    }

    /// How many calls stand.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether none stands.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// About what their records take as frames of the journal.
    pub fn journal_octets(&self) -> u64 {
        self.octets
    }

    fn stand(&mut self, key: u128, version: u64, octets: usize) {
        let octets = crate::journal::framed_octets(HEAD_OCTETS + octets) as u32;
        self.octets += u64::from(octets);
        if let Some(before) = self.calls.insert(key, Standing { version, octets }) {
            self.octets -= u64::from(before.octets);
        }
    }
}

/// Gathers the records of calls from all segments and finds those that stand.
#[derive(Debug, Default)]
pub struct CallReplay {
    newest: HashMap<u128, Newest>,
}

/// Version and state; no state at the end of the call.
type Newest = (u64, Option<Box<[u8]>>);

impl CallReplay {
    /// Takes a record of a segment that counts, in any order.
    pub fn load(&mut self, call: Call<'_>) {
        let newest = self.newest.entry(call.key).or_insert((0, None));
        if call.version >= newest.0 {
            *newest = (call.version, call.octets.map(|octets| octets.into_owned().into()));
        }
    }

    /// Takes in what another has gathered.
    pub fn merge(&mut self, other: Self) {
        for (key, (version, octets)) in other.newest {
            self.load(Call { key, version, octets: octets.map(|octets| Cow::Owned(octets.into())) });
        }
    }

    /// The calls that have not ended.
    pub fn finish(self) -> Vec<KeptCall> {
        let kept = |(key, (version, octets)): (u128, Newest)| octets.map(|octets| KeptCall { key, version, octets });
        self.newest.into_iter().filter_map(kept).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Item, frames};
    use proptest::prelude::*;

    fn calls(octets: &[u8]) -> Vec<Call<'_>> {
        let call = |(kind, payload)| match Item::decode(kind, payload) {
            Ok(Some(Item::Call(call))) => Some(call),
            _ => None,
        };
        frames(octets).filter_map(call).collect()
    }

    #[test]
    fn the_longest_state_fits_a_frame_whatever_it_is() {
        let mut out = Vec::new();
        let worst = vec![0x9E; MAX_CALL_OCTETS];
        put_call(&mut out, 1, 1, &worst).unwrap();
        assert_eq!(calls(&out)[0].octets.as_deref(), Some(worst.as_slice()));
        assert_eq!(put_call(&mut out, 1, 2, &vec![0; MAX_CALL_OCTETS + 1]), Err(CallTooLong));
        assert_eq!(calls(&out).len(), 1, "nothing is written of what is too long");
    }

    #[test]
    fn the_newest_version_stands_until_the_end() {
        let mut out = Vec::new();
        for version in 1..=3 {
            put_call(&mut out, 7, version, b"state").unwrap();
        }
        put_call_end(&mut out, 7, 4);
        let records = calls(&out);
        let mut index = CallIndex::default();
        let commit = |index: &mut CallIndex, n: usize| {
            let Call { key, version, octets } = &records[n];
            index.committed(*key, *version, octets.as_ref().map(|octets| octets.len()));
        };
        commit(&mut index, 1);
        commit(&mut index, 0);
        assert!(index.holds(&records[1]) && !index.holds(&records[0]));
        commit(&mut index, 2);
        assert!(index.holds(&records[2]) && !index.holds(&records[1]));
        assert_eq!(index.journal_octets(), crate::journal::framed_octets(HEAD_OCTETS + 5) as u64);
        commit(&mut index, 3);
        assert!(index.is_empty() && index.journal_octets() == 0);
        assert!(records.iter().all(|record| !index.holds(record)));
    }

    proptest! {
        #[test]
        fn in_any_order_replay_gives_what_stands(
            mut records in prop::collection::vec((0..4u128, 1..6u64, prop::option::of(Just(b"state".to_vec()))), 0..30),
            shuffled in any::<prop::sample::Index>(),
        ) {
            records.sort();
            records.dedup_by_key(|(key, version, _)| (*key, *version));
            let newest: Vec<_> = (0..4)
                .filter_map(|key| records.iter().rfind(|record| record.0 == key))
                .filter(|(_, _, octets)| octets.is_some())
                .map(|(key, version, _)| (*key, *version))
                .collect();
            if !records.is_empty() {
                let middle = shuffled.index(records.len());
                records.rotate_left(middle);
            }
            let mut replay = CallReplay::default();
            for (key, version, octets) in records {
                replay.load(Call { key, version, octets: octets.map(Cow::Owned) });
            }
            let mut found: Vec<_> = replay.finish().into_iter().map(|call| (call.key, call.version)).collect();
            found.sort();
            prop_assert_eq!(found, newest);
        }
    }
}
