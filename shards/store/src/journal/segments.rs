//! Which segment is written, when the next begins, and which is to be compacted.

use super::frame::SegmentHeader;
use std::collections::VecDeque;

/// A segment and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Octets in its file.
    pub octets: u64,
}

/// Segments that a journal may have beyond those that its octets fill: each start of the process leaves a short one.
const SHORT_SEGMENTS: u64 = 64;

/// All segments of a journal, oldest first; the last is the one that is written.
#[derive(Debug)]
pub struct Segments {
    rotate_octets: u64,
    closed: VecDeque<Segment>,
    current: Segment,
}

impl Segments {
    /// The journal that has these segments, in any order. A segment holds about `rotate_octets`. Writing begins with a
    /// new one: the last may have a torn tail.
    pub fn new(rotate_octets: u64, found: impl IntoIterator<Item = Segment>) -> Self {
        let mut closed: Vec<_> = found.into_iter().collect();
        closed.sort_unstable_by_key(|segment| segment.number);
        let number = closed.last().map_or(1, |last| last.number + 1);
        Self { rotate_octets, closed: closed.into(), current: Self::begun(number) }
    }

    /// The segment that is written.
    pub fn current(&self) -> Segment {
        self.current
    }

    /// All of them that hold anything, oldest first.
    pub fn all(&self) -> impl Iterator<Item = Segment> {
        let current = Some(self.current).filter(|current| current.octets > SegmentHeader::OCTETS as u64);
        self.closed.iter().copied().chain(current)
    }

    /// How many segments are written no longer.
    pub fn closed(&self) -> usize {
        self.closed.len()
    }

    /// Octets of all segments.
    pub fn octets(&self) -> u64 {
        self.closed.iter().map(|segment| segment.octets).sum::<u64>() + self.current.octets
    }

    /// Whether the current segment is full, so that [`Self::rotate`] comes before the next write.
    pub fn is_full(&self) -> bool {
        self.current.octets >= self.rotate_octets
    }

    /// Closes the current segment; gives the one to begin.
    pub fn rotate(&mut self) -> Segment {
        self.closed.push_back(self.current);
        self.current = Self::begun(self.current.number + 1);
        self.current
    }

    /// Counts a write to the current segment.
    pub fn appended(&mut self, octets: u64) {
        self.current.octets += octets;
    }

    /// The segment to compact next, if the journal is longer, or in more pieces, than it needs to be: `live_octets` is what the records of the
    /// table take ([`Census::journal_octets`](crate::Census)).
    ///
    /// The oldest, because a refresh supersedes what came before it and every binding runs out: it has the least to copy.
    /// The journal may grow to twice what is live and two segments. With half of it dead on average the oldest
    /// segment is mostly dead, so that compaction writes less than one octet more for each that the shards write.
    pub fn to_compact(&self, live_octets: u64) -> Option<Segment> {
        let octets = self.octets();
        let is_long = octets > 2 * live_octets + 2 * self.rotate_octets;
        let is_scattered = self.closed.len() as u64 > SHORT_SEGMENTS + octets / self.rotate_octets;
        self.closed.front().copied().filter(|_| is_long || is_scattered)
    }

    /// A compacted segment is deleted.
    pub fn deleted(&mut self, number: u64) {
        self.closed.retain(|segment| segment.number != number);
    }

    fn begun(number: u64) -> Segment {
        Segment { number, octets: SegmentHeader::OCTETS as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROTATE: u64 = 1000;

    #[test]
    fn writing_begins_behind_all_that_was_found() {
        assert_eq!(Segments::new(ROTATE, []).current().number, 1);
        let found = [7, 3, 5].map(|number| Segment { number, octets: 100 });
        let segments = Segments::new(ROTATE, found);
        assert_eq!((segments.current().number, segments.octets()), (8, 300 + SegmentHeader::OCTETS as u64));
    }

    #[test]
    fn a_full_segment_is_closed_and_the_next_begun() {
        let mut segments = Segments::new(ROTATE, []);
        segments.appended(900);
        assert!(!segments.is_full());
        segments.appended(100);
        assert!(segments.is_full());
        assert_eq!(segments.rotate().number, 2);
        assert!(!segments.is_full());
    }

    #[test]
    fn the_oldest_goes_when_the_journal_is_longer_than_it_needs_to_be() {
        let found = (1..=6).map(|number| Segment { number, octets: ROTATE });
        let mut segments = Segments::new(ROTATE, found);
        assert_eq!(segments.to_compact(2000), Some(Segment { number: 1, octets: ROTATE }));
        assert_eq!(segments.to_compact(3000), None);
        segments.deleted(1);
        assert_eq!(segments.to_compact(1000).map(|segment| segment.number), Some(2));
    }

    #[test]
    fn the_short_segments_of_many_starts_do_not_gather_for_ever() {
        let found = (1..=100).map(|number| Segment { number, octets: 100 });
        let mut segments = Segments::new(ROTATE, found);
        while let Some(oldest) = segments.to_compact(10_000) {
            segments.deleted(oldest.number);
        }
        assert!((64..=80).contains(&segments.closed()), "{}", segments.closed());
    }

    /// A million refreshes of a thousand AORs, with compaction: the journal stays in its bounds and copies little.
    #[test]
    fn under_refreshes_the_journal_stays_short_and_copies_little() {
        const FRAME: u64 = 180;
        const AORS: u64 = 1000;
        let mut segments = Segments::new(64 * FRAME, []);
        let mut holds: Vec<VecDeque<u64>> = vec![VecDeque::new(); 2];
        let mut last = vec![u64::MAX; AORS as usize];
        let (mut written, mut copied, mut seed) = (0u64, 0u64, 1u64);
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut pending = VecDeque::from([(seed >> 33) % AORS]);
            while let Some(aor) = pending.pop_front() {
                if segments.is_full() {
                    segments.rotate();
                    holds.push(VecDeque::new());
                }
                let number = segments.current().number;
                last[aor as usize] = number;
                holds[number as usize].push_back(aor);
                segments.appended(FRAME);
                written += 1;
                if let Some(oldest) = segments.to_compact(AORS * FRAME) {
                    let live = std::mem::take(&mut holds[oldest.number as usize]);
                    let mut live: VecDeque<_> =
                        live.into_iter().filter(|&a| last[a as usize] == oldest.number).collect();
                    copied += live.len() as u64;
                    pending.append(&mut live);
                    segments.deleted(oldest.number);
                }
            }
            assert!(segments.octets() <= 2 * AORS * FRAME + 4 * 64 * FRAME);
        }
        assert!(copied * 2 < written, "{copied} of {written} frames are copies");
    }
}
