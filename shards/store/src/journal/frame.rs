//! Frames and the header of a segment: octets around a payload which tell, after any crash, that it is whole.

use crate::record::MAX_RECORD_OCTETS;
use crc32fast::Hasher;

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
}

impl Kind {
    pub(super) fn from_octet(octet: u8) -> Option<Self> {
        [Self::Record, Self::Filler].into_iter().find(|&kind| kind as u8 == octet)
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
    assert!(payload.len() <= MAX_PAYLOAD_OCTETS, "a payload is at most 64 KiB");
    let head = (u32::from(kind as u8) << 24 | payload.len() as u32).to_le_bytes();
    out.reserve(framed_octets(payload.len()));
    out.extend_from_slice(&SYNC);
    out.extend_from_slice(&head);
    out.extend_from_slice(&checksum(&head, payload).to_le_bytes());
    out.extend_from_slice(payload);
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
    let rest = octets.strip_prefix(&SYNC)?;
    let (head, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let len = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    let payload = rest.get(..len).filter(|_| len <= MAX_PAYLOAD_OCTETS)?;
    (checksum(head, payload) == u32::from_le_bytes(*sum)).then_some((head[3], payload))
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
    #[error("the segment has format {0}, and this program reads format {FORMAT}")]
    Format(u32),
}

const MAGIC: [u8; 8] = *b"ringswJ\n";
const FORMAT: u32 = 1;

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
        if format != FORMAT {
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
        newer[8] = 2;
        let sum = crc32fast::hash(&newer[..20]);
        newer[20..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), Err(BadHeader::Format(2)));
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
