//! A record: the full state of one address-of-record, packed into one allocation.
//!
//! Its octets are, one for one, what the journal keeps:
//!
//! ```text
//! version     u64, little endian
//! AOR         length, octets (UTF-8)
//! forget_at   number
//! bindings    how many, then each
//! ```
//!
//! Numbers are LEB128 and times are seconds since the Unix epoch. An AOR of 25 octets with one typical binding takes
//! 165 octets.
//!
//! `forget_at` is what makes records safe to supersede. A record may be dropped, from the table and from the journal,
//! only when no older record of its AOR could still tell of a live binding; so each keeps the latest expiry of its own
//! bindings and of all that came before it. A record whose bindings are all gone stays until then, as a tombstone.

use crate::binding::Binding;
use crate::packed::{Malformed, Reader, number_octets, put_number, put_octets};
use std::hash::{Hash, Hasher};

/// Longest AOR.
pub const MAX_AOR_OCTETS: usize = 1024;

/// Longest record. The number of bindings has no other bound here; the registrar's limit is far below.
pub const MAX_RECORD_OCTETS: usize = 64 * 1024;

/// Most that stands before the bindings: version, AOR behind its length, forget_at, count.
const MAX_HEAD_OCTETS: usize = VERSION_OCTETS + 2 + MAX_AOR_OCTETS + 10 + 3;

const VERSION_OCTETS: usize = 8;

/// Room for most bindings, so that a draft grows once and not by doublings.
const TYPICAL_OCTETS: usize = 256;

/// The AOR is longer than [`MAX_AOR_OCTETS`], or its bindings than [`MAX_RECORD_OCTETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bindings of one address-of-record are too long to be kept")]
pub struct TooLong;

/// The full state of one AOR, packed and checked. Records are equal, and hash alike, when their AORs are the same.
#[derive(Clone)]
pub struct Record(Box<[u8]>);

impl Record {
    /// Checks `octets` and copies them.
    pub fn decode(octets: &[u8]) -> Result<Self, Malformed> {
        if octets.len() > MAX_RECORD_OCTETS {
            return Err(Malformed::TooLong);
        }
        let mut reader = Reader(octets);
        reader.take(VERSION_OCTETS)?;
        let aor = reader.octets()?;
        if aor.len() > MAX_AOR_OCTETS || str::from_utf8(aor).is_err() {
            return Err(Malformed::Aor);
        }
        let _forget_at: u64 = reader.number()?;
        for _ in 0..reader.number::<usize>()? {
            Binding::unpack(&mut reader)?;
        }
        if !reader.0.is_empty() {
            return Err(Malformed::Trailing);
        }
        Ok(Self(octets.into()))
    }

    /// Its octets, which [`Self::decode`] takes back.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Its number: of two records of one AOR the higher holds.
    pub fn version(&self) -> u64 {
        u64::from_le_bytes(*self.0.first_chunk().expect(CHECKED))
    }

    /// Whose it is: the canonical `user@domain`.
    pub fn aor(&self) -> &str {
        str::from_utf8(self.aor_octets()).expect(CHECKED)
    }

    /// The second from which on neither it nor any older record of its AOR tells of a live binding.
    pub fn forget_at(&self) -> u64 {
        self.split().0
    }

    /// All its bindings, in the order in which they were packed, run out or not.
    pub fn bindings(&self) -> impl ExactSizeIterator<Item = Binding<'_>> {
        let (_, count, mut reader) = self.split();
        (0..count).map(move |_| Binding::unpack(&mut reader).expect(CHECKED))
    }

    /// The bindings that hold at `now`.
    pub fn live(&self, now: u64) -> impl Iterator<Item = Binding<'_>> {
        self.bindings().filter(move |b| b.is_live(now))
    }

    /// How many bindings it has, run out or not.
    pub fn len(&self) -> usize {
        self.split().1
    }

    /// Whether it is a tombstone.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When to look at it again: as its first binding runs out, or, without any, as it may be forgotten.
    pub fn due(&self) -> u64 {
        self.bindings().map(|b| b.expires_at).min().unwrap_or_else(|| self.forget_at())
    }

    /// Puts `new` in its place and gives back what was there.
    ///
    /// The new one of a refresh is as long as the old one, and is written over it: then a table's records stay where they
    /// are, and what is allocated and freed for a refresh is memory that was just in use, not a block among a million.
    pub(crate) fn replace(&mut self, mut new: Self) -> Self {
        if self.0.len() == new.0.len() {
            self.0.swap_with_slice(&mut new.0);
            new
        } else {
            std::mem::replace(self, new)
        }
    }

    pub(crate) fn aor_octets(&self) -> &[u8] {
        Reader(&self.0[VERSION_OCTETS..]).octets().expect(CHECKED)
    }

    /// `forget_at`, the number of bindings, and the bindings.
    fn split(&self) -> (u64, usize, Reader<'_>) {
        let mut reader = Reader(&self.0[VERSION_OCTETS..]);
        reader.octets().expect(CHECKED);
        (reader.number().expect(CHECKED), reader.number().expect(CHECKED), reader)
    }
}

const CHECKED: &str = "a record is checked when it is decoded, and a draft packs well";

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.aor_octets() == other.aor_octets()
    }
}

impl Eq for Record {}

impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.aor_octets());
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("version", &self.version())
            .field("aor", &self.aor())
            .field("forget_at", &self.forget_at())
            .field("bindings", &self.bindings().collect::<Vec<_>>())
            .finish()
    }
}

/// The bindings that an AOR is to have, packed one by one. Sealed without any it is a tombstone.
#[derive(Debug, Default)]
pub struct Draft {
    packed: Vec<u8>,
    count: u32,
    expires_at: u64,
}

impl Draft {
    /// Adds a binding behind the others, or, when they would be too long to be kept, leaves the draft as it was.
    pub fn push(&mut self, binding: &Binding<'_>) -> Result<(), TooLong> {
        let before = self.packed.len();
        self.packed.reserve(TYPICAL_OCTETS);
        binding.pack(&mut self.packed);
        if MAX_HEAD_OCTETS + self.packed.len() > MAX_RECORD_OCTETS {
            self.packed.truncate(before);
            return Err(TooLong);
        }
        self.count += 1;
        self.expires_at = self.expires_at.max(binding.expires_at);
        Ok(())
    }

    /// The record of `aor`. `superseded_until` is the `forget_at` of the record before it, 0 if there is none.
    pub fn seal(&self, version: u64, aor: &str, superseded_until: u64) -> Result<Record, TooLong> {
        if aor.len() > MAX_AOR_OCTETS {
            return Err(TooLong);
        }
        let (forget_at, count) = (self.expires_at.max(superseded_until), u64::from(self.count));
        let numbers = [aor.len() as u64, forget_at, count].map(number_octets).iter().sum::<usize>();
        // Of exactly that length, so that nothing is moved when it becomes a box.
        let mut octets = Vec::with_capacity(VERSION_OCTETS + aor.len() + numbers + self.packed.len());
        octets.extend_from_slice(&version.to_le_bytes());
        put_octets(&mut octets, aor.as_bytes());
        put_number(&mut octets, forget_at);
        put_number(&mut octets, count);
        octets.extend_from_slice(&self.packed);
        debug_assert_eq!(octets.len(), octets.capacity());
        Ok(Record(octets.into_boxed_slice()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::binding::tests::typical;
    use proptest::prelude::*;

    pub(crate) fn sealed(version: u64, aor: &str, bindings: &[Binding<'_>]) -> Record {
        let mut draft = Draft::default();
        for binding in bindings {
            draft.push(binding).unwrap();
        }
        draft.seal(version, aor, 0).unwrap()
    }

    #[test]
    fn a_typical_record_takes_at_most_180_octets() {
        let record = sealed(1 << 40, "alice1234@pbx.example.com", &[typical()]);
        assert!(record.octets().len() <= 180, "{}", record.octets().len());
    }

    #[test]
    fn a_record_gives_back_what_was_packed() {
        let second = Binding { contact: b"sip:alice@[2001:db8::1]", expires_at: 1_800_000_060, ..typical() };
        let record = sealed(77, "alice@example.com", &[typical(), second]);
        let read = Record::decode(record.octets()).unwrap();
        assert_eq!((read.version(), read.aor(), read.len()), (77, "alice@example.com", 2));
        assert_eq!(read.bindings().collect::<Vec<_>>(), [typical(), second]);
        assert_eq!(read.live(1_800_000_060).collect::<Vec<_>>(), [typical()]);
        assert_eq!((read.due(), read.forget_at()), (1_800_000_060, 1_800_003_600));
    }

    #[test]
    fn a_record_replaces_one_of_its_length_where_that_is_and_any_other_too() {
        let longer = Binding { user_agent: b"a longer name than that of the others", ..typical() };
        let records = [sealed(1, "a@b", &[typical()]), sealed(2, "a@b", &[typical()]), sealed(3, "a@b", &[longer])];
        for new in &records[1..] {
            let mut record = records[0].clone();
            let place = record.octets().as_ptr();
            let old = record.replace(new.clone());
            assert_eq!((old.octets(), record.octets()), (records[0].octets(), new.octets()));
            assert_eq!(record.octets().as_ptr() == place, new.version() == 2);
        }
    }

    #[test]
    fn a_record_is_remembered_as_long_as_any_before_it_could_matter() {
        let tombstone = Draft::default().seal(2, "alice@example.com", 500).unwrap();
        assert!(tombstone.is_empty());
        assert_eq!((tombstone.due(), tombstone.forget_at()), (500, 500));
    }

    #[test]
    fn what_is_too_long_is_refused_and_leaves_the_draft_as_it_was() {
        let mut draft = Draft::default();
        draft.push(&typical()).unwrap();
        let huge = vec![b'x'; MAX_RECORD_OCTETS];
        assert_eq!(draft.push(&Binding { path: &huge, ..typical() }), Err(TooLong));
        assert_eq!(draft.seal(1, &"a".repeat(MAX_AOR_OCTETS + 1), 0).unwrap_err(), TooLong);
        while draft.push(&typical()).is_ok() {}
        let longest = draft.seal(u64::MAX, &"a".repeat(MAX_AOR_OCTETS), u64::MAX).unwrap();
        assert!(longest.octets().len() <= MAX_RECORD_OCTETS);
        assert_eq!(Record::decode(longest.octets()).unwrap().len(), longest.len());
    }

    #[test]
    fn trailing_octets_and_a_wrong_aor_are_refused() {
        let mut octets = sealed(1, "a@b", &[typical()]).octets().to_vec();
        octets.push(0);
        assert_eq!(Record::decode(&octets).unwrap_err(), Malformed::Trailing);
        octets.pop();
        octets[9] = 0xFF;
        assert_eq!(Record::decode(&octets).unwrap_err(), Malformed::Aor);
    }

    proptest! {
        #[test]
        fn any_octets_decode_or_give_an_error(octets: Vec<u8>) {
            if let Ok(record) = Record::decode(&octets) {
                let _ = format!("{record:?}");
            }
        }

        #[test]
        fn a_record_with_octets_changed_decodes_or_gives_an_error(changes: Vec<(u16, u8)>, cut: u16) {
            let mut octets = sealed(9, "alice@example.com", &[typical(), typical()]).octets().to_vec();
            for (at, octet) in changes {
                let at = usize::from(at) % octets.len();
                octets[at] = octet;
            }
            octets.truncate(usize::from(cut).max(1));
            if let Ok(record) = Record::decode(&octets) {
                let _ = format!("{record:?} {}", record.due());
            }
        }
    }
}
