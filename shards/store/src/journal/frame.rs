//! Frames and the header of a segment: octets around a payload which tell, after any crash, that it is whole.

use crate::record::MAX_RECORD_OCTETS;
use crc32fast::Hasher;
use std::borrow::Cow;

/// Begins every frame, so that a reader finds the next one behind damage. LF followed by CR occurs in no value of a SIP
/// header (RFC 3261 §25.1: a line break is CRLF, and within a value white space follows it), so nobody outside can plant
/// a frame inside a record.
pub(super) const SYNC: [u8; 4] = [0x9E, b'\n', b'\r', 0xC4];

/// What a frame adds to its payload.
pub const FRAME_HEADER_OCTETS: usize = 12;

/// Longest payload.
pub const MAX_PAYLOAD_OCTETS: usize = MAX_RECORD_OCTETS;

/// What a frame's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A [`Record`](crate::Record).
    Record = 1,
    /// Nothing to replay; it takes up room ([`pad`]).
    Filler = 2,
    /// The state of an established call ([`put_call`](crate::put_call)), stuffed.
    Call = 3,
    /// The end of a call ([`put_call_end`](crate::put_call_end)).
    CallEnd = 4,
    /// A call detail record ([`put_cdr`](crate::put_cdr)), stuffed.
    Cdr = 5,
    /// The lowest segment that counts ([`put_floor`](super::put_floor)).
    Floor = 6,
    /// Names of records that the database has ([`put_cdrs_written`](crate::put_cdrs_written)).
    CdrsWritten = 7,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Record, Self::Filler, Self::Call, Self::CallEnd, Self::Cdr, Self::Floor, Self::CdrsWritten];

    pub(super) fn from_octet(octet: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == octet)
    }
}

/// Octets of the frame around a payload.
pub const fn framed_octets(payload: usize) -> usize {
    FRAME_HEADER_OCTETS + payload
}

/// Appends a frame.
///
/// # Panics
///
/// If `payload` is longer than [`MAX_PAYLOAD_OCTETS`], which no record is.
pub fn frame(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    out.reserve(framed_octets(payload.len()));
    frame_with(out, kind, |out| out.extend_from_slice(payload));
}

/// Appends a frame around what `write` appends, which is at most [`MAX_PAYLOAD_OCTETS`].
pub(crate) fn frame_with(out: &mut Vec<u8>, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&SYNC);
    out.extend_from_slice(&[0; FRAME_HEADER_OCTETS - SYNC.len()]);
    write(out);
    let (header, payload) = out[start + SYNC.len()..].split_at_mut(FRAME_HEADER_OCTETS - SYNC.len());
    assert!(payload.len() <= MAX_PAYLOAD_OCTETS, "a payload is at most 64 KiB");
    let head = (u32::from(kind as u8) << 24 | payload.len() as u32).to_le_bytes();
    header[..4].copy_from_slice(&head);
    header[4..].copy_from_slice(&checksum(&head, payload).to_le_bytes());
}

/// Appends `octets` with a zero behind each one that a sync marker begins with, so that octets which somebody outside
/// has chosen, such as a session description or what a script wrote, never look like a frame.
pub(crate) fn put_stuffed(out: &mut Vec<u8>, octets: &[u8]) {
    let mut rest = octets;
    while let Some(at) = memchr::memchr(SYNC[0], rest) {
        let (before, behind) = rest.split_at(at + 1);
        out.extend_from_slice(before);
        out.push(0);
        rest = behind;
    }
    out.extend_from_slice(rest);
}

/// What [`put_stuffed`] was given.
pub(crate) fn unstuffed(octets: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(SYNC[0], octets).is_none() {
        return Cow::Borrowed(octets);
    }
    let (mut whole, mut rest) = (Vec::with_capacity(octets.len()), octets);
    while let Some(at) = memchr::memchr(SYNC[0], rest) {
        whole.extend_from_slice(&rest[..=at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    whole.extend_from_slice(rest);
    Cow::Owned(whole)
}

/// Appends filler until `out` is a multiple of `block` octets long, for files that are written by whole blocks.
pub fn pad(out: &mut Vec<u8>, block: usize) {
    while !out.len().is_multiple_of(block) {
        let missing = out.len().next_multiple_of(block) - out.len();
        // A gap shorter than a frame takes the next block too.
        let missing = if missing < FRAME_HEADER_OCTETS { missing + block } else { missing };
        let payload = missing.saturating_sub(FRAME_HEADER_OCTETS).min(MAX_PAYLOAD_OCTETS / 2);
        frame(out, Kind::Filler, &vec![0; payload]);
    }
}

/// The frame at the start of `octets`, if a whole one is there: its kind octet and payload.
pub(super) fn unframe(octets: &[u8]) -> Option<(u8, &[u8])> {
    let (head, sum, payload) = split(octets)?;
    (checksum(head, payload) == u32::from_le_bytes(*sum)).then_some((head[3], payload))
}

/// The frames that this process has just put behind one another: kinds and payloads. No checksum is looked at.
pub fn frames(octets: &[u8]) -> impl Iterator<Item = (Kind, &[u8])> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let (head, _, payload) = split(rest)?;
        rest = &rest[framed_octets(payload.len())..];
        Some((Kind::from_octet(head[3])?, payload))
    })
}

/// Kind above length, checksum and payload of the frame that `octets` begin with.
fn split(octets: &[u8]) -> Option<(&[u8; 4], &[u8; 4], &[u8])> {
    let rest = octets.strip_prefix(&SYNC)?;
    let (head, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    let payload = rest.get(..len).filter(|_| len <= MAX_PAYLOAD_OCTETS)?;
    Some((head, sum, payload))
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut crc = Hasher::new();
    crc.update(head);
    crc.update(payload);
    crc.finalize()
}

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Number of the segment; later ones have higher numbers.
    pub number: u64,
}

/// Why octets are not the header of a segment that we can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// It is short or its checksum is wrong: never written to its end, or damaged. Its frames may be whole.
    #[error("the segment's header is damaged")]
    Damaged,
    /// Another file.
    #[error("this is no segment of a journal")]
    Foreign,
    /// Another program's format.
    #[error("the segment has format {0}, and this program reads formats up to {FORMAT}")]
    Format(u32),
}

const MAGIC: [u8; 8] = *b"ringswJ\n";

/// Format 1 has records and filler only; otherwise it is the same.
const FORMAT: u32 = 2;

impl SegmentHeader {
    /// Octets it takes.
    pub const OCTETS: usize = 24;

    /// As it is written.
    pub fn encode(self) -> [u8; Self::OCTETS] {
        let mut octets = [0; Self::OCTETS];
        octets[..8].copy_from_slice(&MAGIC);
        octets[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        octets[12..20].copy_from_slice(&self.number.to_le_bytes());
        let sum = crc32fast::hash(&octets[..20]);
        octets[20..].copy_from_slice(&sum.to_le_bytes());
        octets
    }

    /// The header that `segment` begins with.
    pub fn decode(segment: &[u8]) -> Result<Self, BadHeader> {
        let octets: &[u8; Self::OCTETS] = segment.first_chunk().ok_or(BadHeader::Damaged)?;
        let (head, sum) = octets.split_at(20);
        if sum != crc32fast::hash(head).to_le_bytes() {
            return Err(if head.starts_with(&MAGIC) { BadHeader::Damaged } else { BadHeader::Foreign });
        }
        let (magic, head) = head.split_at(8);
        if magic != MAGIC {
            return Err(BadHeader::Foreign);
        }
        let (format, number) = head.split_at(4);
        let format = u32::from_le_bytes(format.try_into().expect("four octets"));
        if !(1..=FORMAT).contains(&format) {
            return Err(BadHeader::Format(format));
        }
        Ok(Self { number: u64::from_le_bytes(number.try_into().expect("eight octets")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_comes_back_and_a_wrong_one_is_told() {
        let octets = SegmentHeader { number: 42 }.encode();
        assert_eq!(SegmentHeader::decode(&octets), Ok(SegmentHeader { number: 42 }));
        assert_eq!(SegmentHeader::decode(&octets[..23]), Err(BadHeader::Damaged));
        let mut damaged = octets;
        damaged[15] ^= 1;
        assert_eq!(SegmentHeader::decode(&damaged), Err(BadHeader::Damaged));
        assert_eq!(SegmentHeader::decode(b"SQLite format 3, and more"), Err(BadHeader::Foreign));
        let mut newer = octets;
        newer[8] = 3;
        let sum = crc32fast::hash(&newer[..20]);
        newer[20..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), Err(BadHeader::Format(3)));
        let mut older = octets;
        older[8] = 1;
        let sum = crc32fast::hash(&older[..20]);
        older[20..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&older), Ok(SegmentHeader { number: 42 }));
    }

    #[test]
    fn frames_of_our_own_are_walked_in_order() {
        let mut octets = Vec::new();
        frame(&mut octets, Kind::Call, b"one");
        frame(&mut octets, Kind::Filler, b"");
        frame(&mut octets, Kind::Cdr, b"two");
        let walked: Vec<_> = frames(&octets).collect();
        assert_eq!(walked, [(Kind::Call, &b"one"[..]), (Kind::Filler, b""), (Kind::Cdr, b"two")]);
    }

    #[test]
    fn a_frame_is_read_only_when_it_is_whole() {
        let mut octets = Vec::new();
        frame(&mut octets, Kind::Record, b"payload");
        assert_eq!(octets.len(), framed_octets(7));
        assert_eq!(unframe(&octets), Some((Kind::Record as u8, &b"payload"[..])));
        for at in 0..octets.len() {
            assert_eq!(unframe(&octets[..at]), None);
            octets[at] ^= 0x40;
            assert_eq!(unframe(&octets), None);
            octets[at] ^= 0x40;
        }
    }

    #[test]
    #[should_panic(expected = "64 KiB")]
    fn too_long_a_payload_is_a_bug_of_ours() {
        frame(&mut Vec::new(), Kind::Filler, &[0; MAX_PAYLOAD_OCTETS + 1]);
    }

    proptest! {
        #[test]
        fn stuffed_octets_come_back_and_hold_no_sync_marker(mut octets: Vec<u8>, planted in prop::collection::vec(any::<u16>(), 0..4)) {
            for at in planted {
                let at = usize::from(at) % (octets.len() + 1);
                octets.splice(at..at, SYNC);
            }
            let mut stuffed = Vec::new();
            put_stuffed(&mut stuffed, &octets);
            prop_assert!(!stuffed.windows(SYNC.len()).any(|window| window == SYNC));
            prop_assert_eq!(&*unstuffed(&stuffed), octets.as_slice());
        }

        #[test]
        fn padding_reaches_the_block_in_whole_frames(len in 0..300_000usize, block in prop::sample::select(vec![16, 512, 4096, 262_144])) {
            let mut octets = vec![0; len];
            pad(&mut octets, block);
            prop_assert!(octets.len().is_multiple_of(block));
            let mut rest = &octets[len..];
            while !rest.is_empty() {
                let (kind, payload) = unframe(rest).unwrap();
                prop_assert_eq!(kind, Kind::Filler as u8);
                rest = &rest[framed_octets(payload.len())..];
            }
        }

        #[test]
        fn any_octets_are_a_header_or_an_error(octets: Vec<u8>) {
            let _ = SegmentHeader::decode(&octets);
        }
    }
}
