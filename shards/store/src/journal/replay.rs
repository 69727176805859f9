//! Reading a segment back: every whole item, and the truth about the rest.

use super::frame::{Kind, SYNC, SegmentHeader, framed_octets, unframe};
use crate::calls::Call;
use crate::cdr::{CdrsWritten, PackedCdr};
use crate::packed::Malformed;
use crate::record::Record;
use memchr::memmem;

/// What a frame of a segment tells.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// The state of an address of record.
    Binding(Record),
    /// The state of a call, or its end.
    Call(Call<'a>),
    /// A call detail record.
    Cdr(PackedCdr<'a>),
    /// Call detail records that the database has.
    CdrsWritten(CdrsWritten<'a>),
    /// No segment with a lower number counts.
    Floor(u64),
}

impl<'a> Item<'a> {
    /// Reads the payload of a frame; None for filler.
    pub fn decode(kind: Kind, payload: &'a [u8]) -> Result<Option<Self>, Malformed> {
        Ok(Some(match kind {
            Kind::Filler => return Ok(None),
            Kind::Record => Self::Binding(Record::decode(payload)?),
            Kind::Call => Self::Call(Call::decode(payload)?),
            Kind::CallEnd => Self::Call(Call::decode_end(payload)?),
            Kind::Cdr => Self::Cdr(PackedCdr::decode(payload)?),
            Kind::CdrsWritten => Self::CdrsWritten(CdrsWritten::decode(payload)?),
            Kind::Floor => Self::Floor(super::floor(payload)?),
        }))
    }

    /// The record, if it is one of bindings.
    pub fn into_binding(self) -> Option<Record> {
        match self {
            Self::Binding(record) => Some(record),
            _ => None,
        }
    }
}

/// What is wrong with a stretch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is the end: the last write before a crash did not get further. Nothing in it had been acknowledged, so it is
    /// cut and no loss. (Damage that hit the very last frames looks the same.)
    TornTail,
    /// Whole frames follow: what was kept here is lost. (A write of several frames that a crash left with a hole looks
    /// the same, and was not acknowledged.)
    Damaged,
    /// A whole frame holds what this program cannot read: written by another one, or wrong from the start.
    Unreadable,
}

/// A stretch of a segment that gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault:?} at octet {offset} of the segment, {skipped} octets skipped")]
pub struct Damage {
    /// Where it begins in the segment.
    pub offset: usize,
    /// Octets up to the next whole frame, or to the end.
    pub skipped: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// The items of one segment, in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    segment: &'a [u8],
    at: usize,
}

impl<'a> Replay<'a> {
    /// Reads `segment`, a whole file. Its header is skipped unread ([`SegmentHeader::decode`] reads it): the frames behind
    /// a damaged one are as good as any.
    pub fn new(segment: &'a [u8]) -> Self {
        Self { segment, at: SegmentHeader::OCTETS.min(segment.len()) }
    }

    /// Where what was read ends. Behind the last item, this is where the zeros of a file begin that was made longer in advance.
    pub fn end(&self) -> usize {
        self.at
    }

    /// Distance from the start of `rest` to the next whole frame.
    fn distance(rest: &[u8]) -> Option<usize> {
        memmem::find_iter(rest, &SYNC).find(|&at| unframe(&rest[at..]).is_some())
    }
}

impl<'a> Iterator for Replay<'a> {
    type Item = Result<Item<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let offset = self.at;
            let rest = &self.segment[offset..];
            let (skipped, fault) = if let Some((kind, payload)) = unframe(rest) {
                let octets = framed_octets(payload.len());
                self.at += octets;
                match Kind::from_octet(kind).map(|kind| Item::decode(kind, payload)) {
                    Some(Ok(Some(item))) => return Some(Ok(item)),
                    Some(Ok(None)) => continue,
                    Some(Err(_)) | None => (octets, Fault::Unreadable),
                }
            } else if rest.iter().all(|&octet| octet == 0) {
                return None;
            } else if let Some(distance) = Self::distance(rest) {
                (distance, Fault::Damaged)
            } else {
                (rest.len(), Fault::TornTail)
            };
            self.at = offset + skipped;
            return Some(Err(Damage { offset, skipped, fault }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{frame, pad};
    use super::*;
    use crate::binding::tests::typical;
    use crate::record::tests::sealed;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// A segment of records with versions from 0 on, and where each frame ends.
    fn segment(records: u64) -> (Vec<u8>, Vec<usize>) {
        let mut octets = SegmentHeader { number: 1 }.encode().to_vec();
        let ends = (0..records)
            .map(|version| {
                let bindings = vec![typical(); version as usize % 3];
                let record = sealed(version, &format!("{version}@example.com"), &bindings);
                frame(&mut octets, Kind::Record, record.octets());
                octets.len()
            })
            .collect();
        (octets, ends)
    }

    fn versions(segment: &[u8]) -> Vec<u64> {
        Replay::new(segment).flatten().filter_map(Item::into_binding).map(|record| record.version()).collect()
    }

    fn damages(segment: &[u8]) -> Vec<Damage> {
        Replay::new(segment).filter_map(Result::err).collect()
    }

    #[test]
    fn a_whole_segment_gives_all_its_records() {
        let (mut octets, _) = segment(10);
        pad(&mut octets, 4096);
        let mut more = segment(12).0.split_off(SegmentHeader::OCTETS);
        octets.append(&mut more);
        assert_eq!(versions(&octets), (0..10).chain(0..12).collect::<Vec<_>>());
        assert_eq!(damages(&octets), []);
    }

    #[test]
    fn zeros_at_the_end_are_no_damage() {
        let (mut octets, _) = segment(3);
        let end = octets.len();
        octets.extend([0; 1000]);
        assert_eq!((versions(&octets).len(), damages(&octets)), (3, vec![]));
        let mut replay = Replay::new(&octets);
        assert_eq!((replay.by_ref().count(), replay.end()), (3, end));
    }

    #[test]
    fn cut_at_any_length_all_whole_records_before_are_given_back() {
        let (octets, ends) = segment(6);
        for cut in 0..=octets.len() {
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            assert_eq!(versions(&octets[..cut]), (0..whole as u64).collect::<Vec<_>>());
            let start = ends[..whole].last().copied().unwrap_or(SegmentHeader::OCTETS);
            let torn = (cut > start).then(|| Damage { offset: start, skipped: cut - start, fault: Fault::TornTail });
            assert_eq!(damages(&octets[..cut]), Vec::from_iter(torn));
        }
    }

    #[test]
    fn any_octet_changed_costs_one_record_at_most() {
        let (octets, ends) = segment(6);
        for at in 0..octets.len() {
            for change in [0x01, 0x80, 0xFF] {
                let mut changed = octets.clone();
                changed[at] ^= change;
                let hit = ends.iter().position(|&end| at < end).filter(|_| at >= SegmentHeader::OCTETS);
                let expected: Vec<_> = (0..6).filter(|&version| Some(version as usize) != hit).collect();
                assert_eq!(versions(&changed), expected, "octet {at}");
                let faults: Vec<_> = damages(&changed).iter().map(|damage| damage.fault).collect();
                let told = hit.map(|hit| if hit == 5 { Fault::TornTail } else { Fault::Damaged });
                assert_eq!(faults, Vec::from_iter(told));
            }
        }
    }

    #[test]
    fn a_whole_frame_that_is_no_record_is_told_and_passed_over() {
        let (mut octets, _) = segment(1);
        let offset = octets.len();
        frame(&mut octets, Kind::Record, b"no record");
        octets.extend_from_slice(&segment(2).0[SegmentHeader::OCTETS..]);
        assert_eq!(versions(&octets), [0, 0, 1]);
        assert_eq!(damages(&octets), [Damage { offset, skipped: framed_octets(9), fault: Fault::Unreadable }]);
    }

    proptest! {
        #[test]
        fn any_octets_are_replayed_without_panic_to_their_end(mut octets: Vec<u8>, sync in vec(any::<u16>(), 0..4)) {
            for at in sync {
                let at = usize::from(at) % (octets.len() + 1);
                octets.splice(at..at, SYNC);
            }
            let replayed = Replay::new(&octets).count();
            prop_assert!(replayed <= octets.len());
        }

        #[test]
        fn a_hole_of_any_octets_costs_only_the_records_it_touches(hole in vec(any::<u8>(), 1..400), at: u16) {
            let (mut octets, ends) = segment(12);
            let at = SegmentHeader::OCTETS + usize::from(at) % (octets.len() - SegmentHeader::OCTETS - hole.len());
            octets[at..at + hole.len()].copy_from_slice(&hole);
            let touched = |n: usize| {
                let start = n.checked_sub(1).map_or(SegmentHeader::OCTETS, |before| ends[before]);
                start < at + hole.len() && at < ends[n]
            };
            let expected: Vec<_> = (0..12).filter(|&version| !touched(version as usize)).collect();
            let found = versions(&octets);
            prop_assert!(expected.iter().all(|version| found.contains(version)), "{:?} of {:?}", found, expected);
        }
    }
}
