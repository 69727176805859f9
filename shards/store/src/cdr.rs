//! Call detail records: what became of each leg of a call, for whoever writes the bill or looks for a fault.
//!
//! The application server writes one when a leg has ended, before that end is acknowledged. It stays in the journal until
//! the database has it. All legs of a call have its number; with the leg's own it names the record, so that writing one
//! twice makes one row.
//!
//! ```text
//! layout      u8, 1
//! call        u128, little endian
//! leg         number
//! direction, ended_by        u8 each
//! status      number
//! attempted_at, progress_at, answered_at, ended_at    numbers; 0 for never
//! reason, caller, callee, user, plan, provider, account_code, call_id, source    length, UTF-8
//! ```

use crate::journal::{Kind, frame_with, framed_octets, put_stuffed, unstuffed};
use crate::packed::{Malformed, Reader, put_number, put_octets};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Octets of a text; what is longer is cut, for a record with a short text is worth more than none.
pub const MAX_CDR_TEXT_OCTETS: usize = 512;

const LAYOUT: u8 = 1;

/// Names a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CdrId {
    /// Number of the call, the same for all its legs.
    pub call: u128,
    /// Number of the leg within the call; 0 is the caller's.
    pub leg: u16,
}

/// Which way a leg was set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LegDirection {
    /// The INVITE came to us.
    In = 0,
    /// The INVITE went out from us.
    Out = 1,
}

/// Who ended a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndedBy {
    /// The far end of this leg: by BYE, CANCEL, or the final response that it gave.
    Peer = 0,
    /// The other leg's far end, so that we ended this one.
    OtherLeg = 1,
    /// The dial plan, or what it left undone.
    Plan = 2,
    /// A limit of duration, or a timer that ran out.
    Timeout = 3,
    /// An administrator.
    Admin = 4,
    /// The switch: overload, a fault, or a restart during set-up.
    Switch = 5,
}

impl LegDirection {
    /// As the database and JSON lines spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl EndedBy {
    const ALL: [Self; 6] = [Self::Peer, Self::OtherLeg, Self::Plan, Self::Timeout, Self::Admin, Self::Switch];

    /// As the database and JSON lines spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::OtherLeg => "other-leg",
            Self::Plan => "plan",
            Self::Timeout => "timeout",
            Self::Admin => "admin",
            Self::Switch => "switch",
        }
    }
}

/// What became of one leg. Times are in milliseconds since the Unix epoch; a text that is not known is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdr<'a> {
    /// Its name.
    pub id: CdrId,
    /// Which way it was set up.
    pub direction: LegDirection,
    /// When the INVITE came or went.
    pub attempted_at: u64,
    /// When the first response from 180 to 199 came or went.
    pub progress_at: Option<u64>,
    /// When the 2xx came or went.
    pub answered_at: Option<u64>,
    /// When it ended.
    pub ended_at: u64,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// The final response to the INVITE; 0 if there was none.
    pub status: u16,
    /// Its reason phrase, or why it ended in our words.
    pub reason: &'a str,
    /// The caller's URI.
    pub caller: &'a str,
    /// The URI that was called on this leg.
    pub callee: &'a str,
    /// Address of record of the user whose plan ran, or whose call this is.
    pub user: &'a str,
    /// Name of the plan.
    pub plan: &'a str,
    /// Name of the provider that the leg went through.
    pub provider: &'a str,
    /// What the plan says whom to charge.
    pub account_code: &'a str,
    /// The leg's Call-ID.
    pub call_id: &'a str,
    /// The far end's address, such as `udp 192.0.2.7:5060`.
    pub source: &'a str,
}

impl<'a> Cdr<'a> {
    /// Packs it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(LAYOUT);
        out.extend_from_slice(&self.id.call.to_le_bytes());
        put_number(out, self.id.leg.into());
        out.extend_from_slice(&[self.direction as u8, self.ended_by as u8]);
        put_number(out, self.status.into());
        let times = [self.attempted_at, self.progress_at.unwrap_or(0), self.answered_at.unwrap_or(0), self.ended_at];
        times.into_iter().for_each(|time| put_number(out, time));
        for text in self.texts() {
            put_octets(out, cut(text).as_bytes());
        }
    }

    /// Unpacks what [`Self::encode`] packed.
    pub fn decode(octets: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(octets);
        if reader.octet()? != LAYOUT {
            return Err(Malformed::Layout);
        }
        let id = CdrId { call: u128::from_le_bytes(reader.array()?), leg: reader.number()? };
        let direction = match reader.octet()? {
            0 => LegDirection::In,
            1 => LegDirection::Out,
            _ => return Err(Malformed::Choice),
        };
        let ended_by = EndedBy::ALL.get(usize::from(reader.octet()?)).copied().ok_or(Malformed::Choice)?;
        let status = reader.number()?;
        let attempted_at = reader.number()?;
        let progress_at = Some(reader.number()?).filter(|&time: &u64| time != 0);
        let answered_at = Some(reader.number()?).filter(|&time: &u64| time != 0);
        let ended_at = reader.number()?;
        let mut text = || {
            let octets = reader.octets()?;
            let text = str::from_utf8(octets).ok().filter(|text| text.len() <= MAX_CDR_TEXT_OCTETS);
            text.ok_or(Malformed::Text)
        };
        let cdr = Self {
            id,
            direction,
            attempted_at,
            progress_at,
            answered_at,
            ended_at,
            ended_by,
            status,
            reason: text()?,
            caller: text()?,
            callee: text()?,
            user: text()?,
            plan: text()?,
            provider: text()?,
            account_code: text()?,
            call_id: text()?,
            source: text()?,
        };
        if reader.0.is_empty() { Ok(cdr) } else { Err(Malformed::Trailing) }
    }

    fn texts(&self) -> [&'a str; 9] {
        [
            self.reason,
            self.caller,
            self.callee,
            self.user,
            self.plan,
            self.provider,
            self.account_code,
            self.call_id,
            self.source,
        ]
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_CDR_TEXT_OCTETS)]
}

/// Appends the frame of a record, for `Outbox::persist` to hand to the journal.
pub fn put_cdr(out: &mut Vec<u8>, cdr: &Cdr<'_>) {
    let mut packed = Vec::with_capacity(512);
    cdr.encode(&mut packed);
    frame_with(out, Kind::Cdr, |out| put_stuffed(out, &packed));
}

/// A record as it is packed, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedCdr<'a> {
    id: CdrId,
    octets: Cow<'a, [u8]>,
}

impl<'a> PackedCdr<'a> {
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let octets = unstuffed(payload);
        let id = Cdr::decode(&octets)?.id;
        Ok(Self { id, octets })
    }

    /// Its name.
    pub fn id(&self) -> CdrId {
        self.id
    }

    /// What it says.
    pub fn read(&self) -> Cdr<'_> {
        Cdr::decode(&self.octets).expect("it was checked when it was decoded")
    }

    /// With octets of its own.
    pub fn into_owned(self) -> PackedCdr<'static> {
        PackedCdr { id: self.id, octets: Cow::Owned(self.octets.into_owned()) }
    }

    /// Octets of the packed record.
    pub fn octets(&self) -> usize {
        self.octets.len()
    }

    /// Appends the frame that it came from.
    pub fn put(&self, out: &mut Vec<u8>) {
        frame_with(out, Kind::Cdr, |out| put_stuffed(out, &self.octets));
    }
}

/// Appends the frame which tells that the database has these records, so that a restart does not offer them again: an
/// operator who has deleted old rows gets none back. `ids` are at most [`MAX_WRITTEN_IDS`].
pub fn put_cdrs_written(out: &mut Vec<u8>, ids: &[CdrId]) {
    frame_with(out, Kind::CdrsWritten, |out| {
        for id in ids {
            out.extend_from_slice(&id.call.to_le_bytes());
            out.extend_from_slice(&id.leg.to_le_bytes());
        }
    });
}

/// Most names in one frame.
pub const MAX_WRITTEN_IDS: usize = 2048;

const ID_OCTETS: usize = 16 + 2;

/// Names of records that the database has.
#[derive(Clone, Copy, Debug)]
pub struct CdrsWritten<'a>(&'a [u8]);

impl<'a> CdrsWritten<'a> {
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        if payload.len().is_multiple_of(ID_OCTETS) { Ok(Self(payload)) } else { Err(Malformed::Truncated) }
    }

    /// The names.
    pub fn ids(self) -> impl Iterator<Item = CdrId> {
        self.0.chunks_exact(ID_OCTETS).map(|octets| {
            let (call, leg) = octets.split_at(16);
            CdrId {
                call: u128::from_le_bytes(call.try_into().expect("sixteen octets")),
                leg: u16::from_le_bytes(leg.try_into().expect("two octets")),
            }
        })
    }
}

/// Which records the database does not have yet.
#[derive(Debug, Default)]
pub struct CdrIndex {
    unwritten: HashMap<CdrId, Unwritten>,
    octets: u64,
    waiting: usize,
}

#[derive(Clone, Copy, Debug)]
struct Unwritten {
    octets: u32,
    /// Whether it is on its way to the database; otherwise it is only in the journal.
    is_handed: bool,
}

impl CdrIndex {
    /// A record of so many octets has been committed, or found by a replay. It waits to be handed to the database.
    pub fn committed(&mut self, id: CdrId, octets: usize) {
        let octets = framed_octets(octets) as u32;
        if let Entry::Vacant(vacant) = self.unwritten.entry(id) {
            vacant.insert(Unwritten { octets, is_handed: false });
            self.octets += u64::from(octets);
            self.waiting += 1;
        }
    }

    /// Whether the record waits to be handed to the database.
    pub fn is_waiting(&self, id: CdrId) -> bool {
        self.unwritten.get(&id).is_some_and(|unwritten| !unwritten.is_handed)
    }

    /// The record has been handed to the database.
    pub fn handed(&mut self, id: CdrId) {
        if let Some(unwritten) = self.unwritten.get_mut(&id).filter(|unwritten| !unwritten.is_handed) {
            unwritten.is_handed = true;
            self.waiting -= 1;
        }
    }

    /// The database has the record.
    pub fn written(&mut self, id: CdrId) {
        if let Some(gone) = self.unwritten.remove(&id) {
            self.octets -= u64::from(gone.octets);
            self.waiting -= usize::from(!gone.is_handed);
        }
    }

    /// Whether the journal must keep the record.
    pub fn holds(&self, id: CdrId) -> bool {
        self.unwritten.contains_key(&id)
    }

    /// How many the database does not have.
    pub fn len(&self) -> usize {
        self.unwritten.len()
    }

    /// Whether the database has all.
    pub fn is_empty(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// How many of them are only in the journal, and not on their way.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// About what they take as frames of the journal.
    pub fn journal_octets(&self) -> u64 {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Item, frames};
    use proptest::prelude::*;

    fn cdr(reason: &str) -> Cdr<'_> {
        Cdr {
            id: CdrId { call: 7 << 100, leg: 1 },
            direction: LegDirection::Out,
            attempted_at: 1_800_000_000_000,
            progress_at: Some(1_800_000_000_120),
            answered_at: None,
            ended_at: 1_800_000_030_000,
            ended_by: EndedBy::Timeout,
            status: 487,
            reason,
            caller: "sip:alice@example.com",
            callee: "sip:bob@example.net",
            user: "alice@example.com",
            plan: "main",
            provider: "acme",
            account_code: "",
            call_id: "1@ringswitch.invalid",
            source: "udp 192.0.2.7:5060",
        }
    }

    #[test]
    fn a_record_comes_back_through_its_frame() {
        let mut out = Vec::new();
        // This reason holds, in UTF-8, what a frame begins with.
        put_cdr(&mut out, &cdr("\u{DE}\n\r\u{100} terminated"));
        let (kind, payload) = frames(&out).next().unwrap();
        let Ok(Some(Item::Cdr(packed))) = Item::decode(kind, payload) else { panic!("{kind:?} is no CDR") };
        assert_eq!(packed.read(), cdr("\u{DE}\n\r\u{100} terminated"));
        let mut again = Vec::new();
        packed.put(&mut again);
        assert_eq!(again, out);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let long = "é".repeat(MAX_CDR_TEXT_OCTETS);
        let mut packed = Vec::new();
        cdr(&format!("x{long}")).encode(&mut packed);
        assert_eq!(Cdr::decode(&packed).unwrap().reason, format!("x{}", "é".repeat(MAX_CDR_TEXT_OCTETS / 2 - 1)));
    }

    #[test]
    fn names_of_written_records_come_back() {
        let ids = [CdrId { call: 7, leg: 0 }, CdrId { call: u128::MAX, leg: u16::MAX }];
        let mut out = Vec::new();
        put_cdrs_written(&mut out, &ids);
        let (kind, payload) = frames(&out).next().unwrap();
        let Ok(Some(Item::CdrsWritten(written))) = Item::decode(kind, payload) else { panic!("{kind:?}") };
        assert_eq!(written.ids().collect::<Vec<_>>(), ids);
        put_cdrs_written(&mut out, &[ids[0]; MAX_WRITTEN_IDS]);
    }

    #[test]
    fn a_record_stands_until_the_database_has_it() {
        let mut octets = Vec::new();
        cdr("").encode(&mut octets);
        let packed = PackedCdr::decode(&octets).unwrap();
        let mut index = CdrIndex::default();
        index.committed(packed.id(), packed.octets());
        index.committed(packed.id(), packed.octets());
        assert_eq!((index.len(), index.waiting(), index.is_waiting(packed.id())), (1, 1, true));
        index.handed(packed.id());
        assert_eq!((index.waiting(), index.holds(packed.id())), (0, true));
        index.written(packed.id());
        index.written(packed.id());
        assert!(index.is_empty() && index.journal_octets() == 0);
    }

    proptest! {
        #[test]
        fn any_octets_are_a_record_or_an_error(octets: Vec<u8>) {
            let _ = Cdr::decode(&octets);
        }

        #[test]
        fn a_damaged_record_is_read_without_panic(at: u16, octet: u8) {
            let mut packed = Vec::new();
            cdr("Request Terminated").encode(&mut packed);
            let at = usize::from(at) % packed.len();
            packed[at] = octet;
            let _ = Cdr::decode(&packed);
        }
    }
}
