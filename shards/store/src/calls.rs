//! Established calls as the journal keeps them: a number, a version, and octets which only the application server reads.
//!
//! The application server writes the whole state of a call whenever it changes, with the next version, and an end when
//! the call is over. After a restart the newest version of each call that has not ended comes back, and of one that ended
//! a moment ago its last state with its end: its peers may still repeat their BYE (RFC 3261 §17.1.2).
//!
//! ```text
//! call    key u128, version u64, octets
//! end     key u128, version u64, at u64 (milliseconds since the Unix epoch), note u8
//! ```

use crate::journal::{Kind, MAX_PAYLOAD_OCTETS, frame_with, put_stuffed, unstuffed};
use crate::packed::{Malformed, Reader};
use std::borrow::Cow;
use std::collections::HashMap;

/// Most octets of a call's state. Twice as many fit a frame, whatever they are.
pub const MAX_CALL_OCTETS: usize = (MAX_PAYLOAD_OCTETS - HEAD_OCTETS) / 2;

const HEAD_OCTETS: usize = 16 + 8;

/// How long after its end a call comes back with a replay: as long as a request may be repeated (64 · T1, RFC 3261
/// §17.1.2.2).
pub const ENDED_CALLS_SECS: u64 = 32;

/// The end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEnd {
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// What the application server wants to be told of it after a restart.
    pub note: u8,
}

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
pub fn put_call_end(out: &mut Vec<u8>, key: u128, version: u64, end: CallEnd) {
    frame_with(out, Kind::CallEnd, |out| {
        put_head(out, key, version);
        out.extend_from_slice(&end.at.to_le_bytes());
        out.push(end.note);
    });
}

fn put_head(out: &mut Vec<u8>, key: u128, version: u64) {
    out.extend_from_slice(&key.to_le_bytes());
    out.extend_from_slice(&version.to_le_bytes());
}

/// What the journal tells of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The call's number.
    pub key: u128,
    /// The highest counts.
    pub version: u64,
    /// What it tells.
    pub told: CallTold<'a>,
}

/// The state of a call, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallTold<'a> {
    /// The state, as [`put_call`] was given it.
    State(Cow<'a, [u8]>),
    /// The end.
    End(CallEnd),
}

impl<'a> Call<'a> {
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let (key, version, octets) = Self::head(payload)?;
        Ok(Self { key, version, told: CallTold::State(unstuffed(octets)) })
    }

    pub(crate) fn decode_end(payload: &'a [u8]) -> Result<Self, Malformed> {
        let (key, version, rest) = Self::head(payload)?;
        let mut reader = Reader(rest);
        let at = u64::from_le_bytes(reader.array()?);
        let [note] = reader.array()?;
        match reader.0 {
            [] => Ok(Self { key, version, told: CallTold::End(CallEnd { at, note }) }),
            _ => Err(Malformed::Trailing),
        }
    }

    fn head(payload: &[u8]) -> Result<(u128, u64, &[u8]), Malformed> {
        let mut reader = Reader(payload);
        Ok((u128::from_le_bytes(reader.array()?), u64::from_le_bytes(reader.array()?), reader.0))
    }

    /// How long its state is; None if this is its end.
    pub fn state_octets(&self) -> Option<usize> {
        match &self.told {
            CallTold::State(octets) => Some(octets.len()),
            CallTold::End(_) => None,
        }
    }

    /// Appends the frame that it came from.
    pub fn put(&self, out: &mut Vec<u8>) {
        match &self.told {
            CallTold::State(octets) => put_call(out, self.key, self.version, octets).expect("it came from a frame"),
            CallTold::End(end) => put_call_end(out, self.key, self.version, *end),
        }
    }
}

/// A call that a restart has found: established, or ended a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCall {
    /// The call's number.
    pub key: u128,
    /// Version of the state; the next one is higher.
    pub version: u64,
    /// The state, as [`put_call`] was given it.
    pub octets: Box<[u8]>,
    /// Its end, if it has ended.
    pub end: Option<CallEnd>,
}

impl KeptCall {
    /// Appends the frames that tell all of it.
    ///
    /// # Errors
    /// The state is too long, which no state is that came from a journal.
    pub fn put(&self, out: &mut Vec<u8>) -> Result<(), CallTooLong> {
        put_call(out, self.key, self.version, &self.octets)?;
        if let Some(end) = self.end {
            put_call_end(out, self.key, self.version + 1, end);
        }
        Ok(())
    }
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
        for call in kept.iter().filter(|call| call.end.is_none()) {
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
        matches!(call.told, CallTold::State(_))
            && self.calls.get(&call.key).is_some_and(|standing| standing.version == call.version)
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
#[derive(Debug)]
pub struct CallReplay {
    calls: HashMap<u128, Found>,
    /// Calls that ended before, in milliseconds since the Unix epoch, are forgotten.
    forget_before: u64,
}

/// What has been found of a call so far, with versions.
#[derive(Debug, Default)]
struct Found {
    /// The newest state. None of a call whose later end is to be forgotten.
    state: Option<(u64, Box<[u8]>)>,
    /// The newest end.
    end: Option<(u64, CallEnd)>,
}

impl CallReplay {
    /// Of a journal that is read at `now`, in seconds since the Unix epoch.
    pub fn new(now: u64) -> Self {
        Self { calls: HashMap::new(), forget_before: now.saturating_sub(ENDED_CALLS_SECS) * 1000 }
    }

    /// Takes a record of a segment that counts, in any order.
    pub fn load(&mut self, call: Call<'_>) {
        let found = self.calls.entry(call.key).or_default();
        let version = call.version;
        match call.told {
            CallTold::End(end) if found.end.is_none_or(|(newest, _)| version >= newest) => {
                found.end = Some((version, end));
                if end.at < self.forget_before {
                    found.state.take_if(|(of_state, _)| *of_state < version);
                }
            }
            CallTold::State(octets) => {
                let is_newest = found.state.as_ref().is_none_or(|&(newest, _)| version >= newest);
                let is_forgotten =
                    found.end.is_some_and(|(of_end, end)| of_end > version && end.at < self.forget_before);
                if is_newest && !is_forgotten {
                    found.state = Some((version, octets.into_owned().into()));
                }
            }
            CallTold::End(_) => {}
        }
    }

    /// Takes in what another has gathered.
    pub fn merge(&mut self, other: Self) {
        for (key, Found { state, end }) in other.calls {
            if let Some((version, octets)) = state {
                self.load(Call { key, version, told: CallTold::State(Cow::Owned(octets.into())) });
            }
            if let Some((version, end)) = end {
                self.load(Call { key, version, told: CallTold::End(end) });
            }
        }
    }

    /// The calls that have not ended, and those whose end is not to be forgotten yet.
    pub fn finish(self) -> Vec<KeptCall> {
        let kept = |(key, Found { state, end })| {
            let (version, octets) = state?;
            let end = end.and_then(|(of_end, end)| (of_end > version).then_some(end));
            Some(KeptCall { key, version, octets, end })
        };
        self.calls.into_iter().filter_map(kept).collect()
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
        assert_eq!(calls(&out)[0].told, CallTold::State(Cow::Borrowed(worst.as_slice())));
        assert_eq!(put_call(&mut out, 1, 2, &vec![0; MAX_CALL_OCTETS + 1]), Err(CallTooLong));
        assert_eq!(calls(&out).len(), 1, "nothing is written of what is too long");
    }

    #[test]
    fn the_newest_version_stands_until_the_end() {
        let mut out = Vec::new();
        for version in 1..=3 {
            put_call(&mut out, 7, version, b"state").unwrap();
        }
        put_call_end(&mut out, 7, 4, CallEnd { at: 5, note: 6 });
        let records = calls(&out);
        let mut index = CallIndex::default();
        let commit = |index: &mut CallIndex, n: usize| {
            index.committed(records[n].key, records[n].version, records[n].state_octets());
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
        fn in_any_order_replay_gives_what_stands_and_what_has_just_ended(
            mut records in prop::collection::vec((0..4u128, 1..6u64), 0..30),
            ends in prop::collection::vec(prop::option::of(prop::sample::select(vec![LONG_AGO, JUST_NOW])), 4),
            shuffled in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
        ) {
            records.sort();
            records.dedup();
            let newest = |key| records.iter().rfind(|record| record.0 == key).map(|record| record.1);
            let kept = (0..4).filter(|&key| ends[key as usize] != Some(LONG_AGO));
            let expected: Vec<_> =
                kept.filter_map(|key| Some((key, newest(key)?, ends[key as usize].map(end)))).collect();
            let mut told: Vec<_> = records
                .iter()
                .map(|&(key, version)| Call { key, version, told: CallTold::State(Cow::Borrowed(b"state")) })
                .collect();
            told.extend((0..4).zip(&ends).filter_map(|(key, at)| {
                Some(Call { key, version: 6, told: CallTold::End(end((*at)?)) })
            }));
            if !told.is_empty() {
                let middle = shuffled.index(told.len());
                told.rotate_left(middle);
            }
            let mut replays = [CallReplay::new(NOW), CallReplay::new(NOW)];
            for (n, call) in told.iter().enumerate() {
                replays[usize::from(n < cut.index(told.len() + 1))].load(call.clone());
            }
            let [mut replay, other] = replays;
            replay.merge(other);
            let mut found: Vec<_> =
                replay.finish().into_iter().map(|call| (call.key, call.version, call.end)).collect();
            found.sort_by_key(|call| call.0);
            prop_assert_eq!(found, expected);
        }
    }

    const NOW: u64 = 1000;
    const LONG_AGO: u64 = (NOW - ENDED_CALLS_SECS) * 1000 - 1;
    const JUST_NOW: u64 = (NOW - ENDED_CALLS_SECS) * 1000;

    fn end(at: u64) -> CallEnd {
        CallEnd { at, note: 3 }
    }
}
