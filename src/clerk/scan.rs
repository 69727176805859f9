//! Reading a segment piece by piece, so that its size costs no memory.

use store::journal::{Damage, Fault, Item, Replay, SegmentHeader};

/// A segment which is read from its start to its end.
#[derive(Default)]
pub(super) struct Scan {
    /// The header, or as many octets in its place, then what was read.
    buffer: Vec<u8>,
    /// Octets of the segment that are no longer in the buffer.
    passed: usize,
    /// Octets of the buffer that need not be looked at again.
    understood: usize,
}

impl Scan {
    /// Where the next octets of the segment are appended.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.understood > SegmentHeader::OCTETS {
            self.buffer.drain(SegmentHeader::OCTETS..self.understood);
            self.passed += self.understood - SegmentHeader::OCTETS;
            self.understood = 0;
        }
        &mut self.buffer
    }

    /// How many octets of the segment have been appended.
    pub(super) fn read_octets(&self) -> usize {
        self.passed + self.buffer.len()
    }

    /// The octets with which the segment begins, as long as its first piece is there.
    pub(super) fn header(&self) -> &[u8] {
        &self.buffer
    }

    /// The items of what was appended; all are to be taken. A frame that is cut by its end stays for the next time,
    /// unless this is the `last`. `damaged` is told what gives none, by its place in the segment.
    pub(super) fn items(&mut self, last: bool, mut damaged: impl FnMut(Damage)) -> impl Iterator<Item = Item<'_>> {
        let Self { buffer, passed, understood } = self;
        *understood = buffer.len();
        Replay::new(buffer).filter_map(move |item| match item {
            Ok(item) => Some(item),
            Err(Damage { offset, fault: Fault::TornTail, .. }) if !last => {
                *understood = offset;
                None
            }
            Err(damage) => {
                damaged(Damage { offset: *passed + damage.offset, ..damage });
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::segment;
    use super::*;
    use proptest::prelude::*;

    fn in_pieces(octets: &[u8], piece: usize) -> (Vec<u64>, Vec<Damage>) {
        let (mut versions, mut damages) = (Vec::new(), Vec::new());
        let mut scan = Scan::default();
        let mut pieces = octets.chunks(piece).peekable();
        while let Some(piece) = pieces.next() {
            scan.buffer().extend_from_slice(piece);
            let items = scan.items(pieces.peek().is_none(), |damage| damages.push(damage));
            versions.extend(items.filter_map(Item::into_binding).map(|record| record.version()));
        }
        assert_eq!(scan.read_octets(), octets.len());
        (versions, damages)
    }

    #[test]
    fn a_hole_is_told_at_its_place_in_the_segment() {
        let mut octets = segment(1..=20);
        let at = octets.len() / 2;
        octets[at] ^= 1;
        let whole = in_pieces(&octets, octets.len());
        assert_eq!((whole.0.len(), whole.1.len()), (19, 1));
        assert!(whole.1[0].offset < at && at < whole.1[0].offset + whole.1[0].skipped);
        assert_eq!(in_pieces(&octets, 100), whole);
    }

    proptest! {
        #[test]
        fn the_pieces_make_no_difference(damage: Vec<(u16, u8)>, cut: u16, piece in 30..2000usize) {
            let mut octets = segment(1..=20);
            let len = octets.len();
            for (at, octet) in damage {
                octets[usize::from(at) % len] = octet;
            }
            octets.truncate(len - usize::from(cut) % (len / 2));
            prop_assert_eq!(in_pieces(&octets, piece), in_pieces(&octets, len));
        }
    }
}
