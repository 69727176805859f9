//! The octets of a block at once: where a line may end, how far plain text goes.
//!
//! On x86-64 by SSE2, which every such machine has; elsewhere by plain arithmetic. The lines of a message are found by AVX2
//! where the processor has it: their scan is [`Work`], compiled once for each kind of registers, so that one question to the
//! processor is enough for a message. Values are short and gain nothing by it. Nothing behind a slice is read.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod sse2;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
use portable as simd;
#[cfg(target_arch = "x86_64")]
use x86_64 as simd;

/// Octets that one step of [`LineEnds`] takes, and most that a mask is of.
pub(crate) const STEP: usize = 64;
/// Octets that one step within a line takes.
pub(crate) const BLOCK: usize = 16;

/// The registers that a step is taken by. Whoever holds one of these knows that the processor has them.
pub(crate) trait Lanes: Copy {
    /// Which octets of the step are below 0x0e.
    fn ends(self, step: &[u8; STEP]) -> u64;
}

/// What is compiled once for each kind of [`Lanes`]: all of it that is marked `#[inline(always)]`.
pub(crate) trait Work {
    type Output;
    fn run(self, lanes: impl Lanes) -> Self::Output;
}

/// Does the work by the widest lanes that there are.
#[inline]
pub(crate) fn by_widest_lanes<W: Work>(work: W) -> W::Output {
    simd::by_widest_lanes(work)
}

/// Walks from left to right over the places where a line may end.
pub(crate) struct LineEnds<'b, L> {
    lanes: L,
    bytes: &'b [u8],
    /// Where the current step begins.
    base: usize,
    /// The lowest bit is that of the octet at `base`; it is set where a run begins and was not given out yet.
    starts: u64,
}

impl<'b, L: Lanes> LineEnds<'b, L> {
    /// From the octet at `from` on, which is at most the end of `bytes`.
    #[inline(always)]
    pub(crate) fn new(lanes: L, bytes: &'b [u8], from: usize) -> Self {
        Self { lanes, bytes, base: from.wrapping_sub(STEP), starts: 0 }
    }

    /// Where the next run begins of octets below 0x0e: CR, LF, HTAB, and controls that have no business here. The line
    /// that is looked at begins at `line`; of what is before it nothing is given out again.
    #[inline(always)]
    pub(crate) fn next(&mut self, line: usize) -> Option<usize> {
        while self.starts == 0 {
            self.base = self.base.wrapping_add(STEP);
            let ends = match self.bytes.get(self.base..)?.first_chunk() {
                Some(step) => self.lanes.ends(step),
                None => last_ends(self.lanes, self.bytes, self.base),
            };
            // The LF of the line before may be the first octet of a step.
            self.starts = ends & !(ends << 1 | u64::from(line > self.base));
        }
        let start = self.base + self.starts.trailing_zeros() as usize;
        self.starts &= self.starts - 1;
        Some(start)
    }
}

/// [`Lanes::ends`] of the octets from `base` on, which are less than a step.
#[inline(always)]
fn last_ends(lanes: impl Lanes, bytes: &[u8], base: usize) -> u64 {
    match bytes.last_chunk() {
        // Those that were looked at before are shifted out; `base` may be the end.
        Some(step) => lanes.ends(step).checked_shr((base + STEP - bytes.len()) as u32).unwrap_or(0),
        None => bytes[base..].iter().rev().fold(0, |ends, &octet| ends << 1 | u64::from(octet < 0x0e)),
    }
}

/// Which octets of `bytes`, of the first [`STEP`], are neither letters nor digits nor `-` nor `.`.
#[inline(always)]
pub(crate) fn marks(bytes: &[u8]) -> u64 {
    simd::marks(&bytes[..bytes.len().min(STEP)])
}

/// Which octets of `bytes`, of the first [`STEP`], are blanks or controls.
#[inline(always)]
pub(crate) fn blanks(bytes: &[u8]) -> u64 {
    simd::blanks(&bytes[..bytes.len().min(STEP)])
}

/// Which octets of `bytes`, of which there are at most [`STEP`], are dots.
#[inline(always)]
pub(crate) fn dots(bytes: &[u8]) -> u64 {
    simd::dots(bytes)
}

/// The first block of `bytes`, with zeros behind them if they are less.
#[inline(always)]
pub(crate) fn block(bytes: &[u8]) -> [u8; BLOCK] {
    if let Some(block) = bytes.first_chunk() {
        return *block;
    }
    let len = bytes.len();
    let word = if let (Some(low), Some(high)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // The octets that both have are shifted out of the second.
        let high = u64::from_le_bytes(*high) >> 8 >> (8 * (2 * size_of::<u64>() - 1 - len));
        u128::from(u64::from_le_bytes(*low)) | u128::from(high) << 64
    } else if let (Some(low), Some(high)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let high = u32::from_le_bytes(*high) >> 8 >> (8 * (2 * size_of::<u32>() - 1 - len));
        u128::from(u64::from(u32::from_le_bytes(*low)) | u64::from(high) << 32)
    } else {
        u128::from(bytes.iter().rev().fold(0u32, |word, &octet| word << 8 | u32::from(octet)))
    };
    word.to_le_bytes()
}

/// A bit for each octet of the block that is `octet`, the lowest for the first.
#[inline(always)]
pub(crate) fn equal(block: &[u8; BLOCK], octet: u8) -> u16 {
    simd::equal(block, octet)
}

/// Whether the block is `expected` in those of its bits that are set in `bits`.
#[inline(always)]
pub(crate) fn agrees(block: &[u8; BLOCK], bits: &[u8; BLOCK], expected: &[u8; BLOCK]) -> bool {
    simd::agrees(block, bits, expected)
}

/// How many octets at the block's begin are letters, digits, `-` or `.`.
#[inline(always)]
pub(crate) fn plain(block: &[u8; BLOCK]) -> usize {
    (!u32::from(simd::plain(block))).trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    /// Mostly octets at which something changes.
    fn octet() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), 0u8..=0x10, Just(b'\r'), Just(b'\n'), b' '..=b'~', 0x7e_u8..=0x82]
    }

    /// What lanes say of a step.
    #[derive(Clone, Copy)]
    struct Ends<'b>(&'b [u8; STEP]);

    impl Work for Ends<'_> {
        type Output = u64;

        fn run(self, lanes: impl Lanes) -> u64 {
            lanes.ends(self.0)
        }
    }

    /// Where the lanes find the begins of runs from an octet on.
    #[derive(Clone, Copy)]
    struct Begins<'b>(&'b [u8], usize);

    impl Work for Begins<'_> {
        type Output = Vec<usize>;

        fn run(self, lanes: impl Lanes) -> Vec<usize> {
            let Self(octets, from) = self;
            let mut ends = LineEnds::new(lanes, octets, from);
            let mut line = from;
            let next = || {
                let end = ends.next(line)?;
                line = end + octets[end..].iter().take_while(|&&octet| octet < 0x0e).count();
                Some(end)
            };
            std::iter::from_fn(next).collect()
        }
    }

    /// The work by each kind of lanes that this machine has.
    fn by_all_lanes<W: Work + Copy>(work: W) -> Vec<W::Output> {
        #[cfg(target_arch = "x86_64")]
        let narrow = vec![work.run(x86_64::Sse2)];
        #[cfg(not(target_arch = "x86_64"))]
        let narrow = vec![];
        narrow.into_iter().chain([work.run(portable::Words), by_widest_lanes(work)]).collect()
    }

    /// What is said of at most a step of octets is what the slow twin says.
    fn assert_agreement(octets: &[u8]) {
        let shown = octets.escape_ascii();
        if let Some(step) = octets.first_chunk() {
            assert!(by_all_lanes(Ends(step)).iter().all(|&ends| ends == portable::ends(step)), "{shown}");
        }
        assert_eq!(simd::marks(octets), portable::marks(octets), "{shown}");
        assert_eq!(simd::blanks(octets), portable::blanks(octets), "{shown}");
        assert_eq!(simd::dots(octets), portable::dots(octets), "{shown}");
    }

    #[test]
    fn every_octet_is_classified_as_by_its_slow_twin() {
        for octet in 0..=u8::MAX {
            for place in 0..STEP {
                let mut step = [b'a'; STEP];
                step[place] = octet;
                assert_agreement(&step);
            }
            for place in 0..BLOCK {
                let mut block = [b'a'; BLOCK];
                block[place] = octet;
                assert_eq!(simd::plain(&block), portable::plain(&block), "{octet:#x}");
                assert_eq!(simd::equal(&block, octet), portable::equal(&block, octet), "{octet:#x}");
                let expected = [b'A'; BLOCK];
                for bits in [[!0x20; BLOCK], block, [0; BLOCK]] {
                    let agrees = portable::agrees(&block, &bits, &expected);
                    assert_eq!(simd::agrees(&block, &bits, &expected), agrees, "{octet:#x}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn steps_and_blocks_at_every_alignment_are_those_of_the_slow_twin(octets in vec(octet(), STEP * 2)) {
            octets.windows(STEP).for_each(assert_agreement);
            for from in octets.windows(BLOCK) {
                let from = from.first_chunk().expect("a window of a block");
                prop_assert_eq!(simd::plain(from), portable::plain(from));
                prop_assert_eq!(simd::equal(from, b':'), portable::equal(from, b':'));
            }
        }

        /// The slice is the whole of its allocation, so a checker of addresses would see a load beyond it.
        #[test]
        fn masks_are_of_as_many_octets_as_there_are(octets in vec(octet(), 0..=STEP)) {
            assert_agreement(&octets.into_boxed_slice());
        }

        #[test]
        fn the_begin_of_every_run_is_found_and_nothing_else(octets in vec(octet(), 0..200)) {
            let octets = octets.into_boxed_slice();
            let is_end = |at: usize| octets[at] < 0x0e;
            for from in 0..=octets.len() {
                let begins = |&at: &usize| is_end(at) && (at == from || !is_end(at - 1));
                let expected: Vec<_> = (from..octets.len()).filter(begins).collect();
                for found in by_all_lanes(Begins(&octets, from)) {
                    prop_assert_eq!(&found, &expected);
                }
            }
        }

        #[test]
        fn a_short_block_ends_in_zeros(octets in vec(octet(), 0..BLOCK + 4)) {
            let octets = octets.into_boxed_slice();
            let mut expected = [0; BLOCK];
            let len = octets.len().min(BLOCK);
            expected[..len].copy_from_slice(&octets[..len]);
            prop_assert_eq!(block(&octets), expected);
        }
    }
}
