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
    /// Where the last frame ends that was found.
    end: usize,
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

    /// Where in the segment its last frame ends, or what is damaged behind it. Only zeros follow.
    pub(super) fn end(&self) -> usize {
        self.end.max(SegmentHeader::OCTETS.min(self.read_octets()))
    }

    /// The octets with which the segment begins, as long as its first piece is there.
    pub(super) fn header(&self) -> &[u8] {
        &self.buffer
    }

    /// The items of what was appended; all are to be taken. A frame that is cut by its end stays for the next time,
    /// unless this is the `last`. `damaged` is told what gives none, by its place in the segment.
    pub(super) fn items(&mut self, last: bool, mut damaged: impl FnMut(Damage)) -> impl Iterator<Item = Item<'_>> {
        let Self { buffer, passed, understood, end } = self;
        *understood = buffer.len();
        let mut replay = Replay::new(buffer);
        let start = replay.end();
        std::iter::from_fn(move || {
            loop {
                let Some(item) = replay.next() else {
                    if replay.end() > start {
                        *end = *passed + replay.end();
                    }
                    return None;
                };
                match item {
                    Ok(item) => return Some(item),
                    Err(Damage { offset, fault: Fault::TornTail, .. }) if !last => *understood = offset,
                    Err(damage) => damaged(Damage { offset: *passed + damage.offset, ..damage }),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::segment;
    use super::*;
    use proptest::prelude::*;

    fn in_pieces(octets: &[u8], piece: usize) -> (Vec<u64>, Vec<Damage>, usize) {
        let (mut versions, mut damages) = (Vec::new(), Vec::new());
        let mut scan = Scan::default();
        let mut pieces = octets.chunks(piece).peekable();
        while let Some(piece) = pieces.next() {
            scan.buffer().extend_from_slice(piece);
            let items = scan.items(pieces.peek().is_none(), |damage| damages.push(damage));
            versions.extend(items.filter_map(Item::into_binding).map(|record| record.version()));
        }
        assert_eq!(scan.read_octets(), octets.len());
        (versions, damages, scan.end())
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

    #[test]
    fn the_end_is_where_the_zeros_begin() {
        let octets = segment(1..=20);
        for zeros in [0, 1, 50, 5000] {
            let longer = [octets.clone(), vec![0; zeros]].concat();
            for piece in [30, 100, 1000, 10_000] {
                let (versions, damages, end) = in_pieces(&longer, piece);
                assert_eq!((versions.len(), damages.len(), end), (20, 0, octets.len()), "{zeros}, {piece}");
            }
            let empty = [&octets[..SegmentHeader::OCTETS], &vec![0; zeros]].concat();
            assert_eq!(in_pieces(&empty, 100).2, SegmentHeader::OCTETS);
        }
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
