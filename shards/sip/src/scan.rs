//! The octets of a block at once: where a line may end, how far plain text goes.
//!
//! On x86-64 by SSE2, which every such machine has; elsewhere by arithmetic on words. A block is an array of known
//! length, so nothing behind it is read.

/// Octets that one step of [`LineEnds`] takes, and most that a mask is of.
pub(crate) const STEP: usize = 64;
/// Octets that one step within a line takes.
pub(crate) const BLOCK: usize = 16;

/// Walks from left to right over the places where a line may end.
pub(crate) struct LineEnds<'b> {
    bytes: &'b [u8],
    /// Where the current step begins.
    base: usize,
    /// The lowest bit is that of the octet at `base`; it is set where a run begins and was not given out yet.
    starts: u64,
    /// 1 if the last octet of the step is of a run.
    carry: u64,
}

impl<'b> LineEnds<'b> {
    /// From the octet at `from` on, which is at most the end of `bytes`.
    #[inline(always)]
    pub(crate) fn new(bytes: &'b [u8], from: usize) -> Self {
        Self { bytes, base: from.wrapping_sub(STEP), starts: 0, carry: 0 }
    }

    /// Where the next run begins of octets below 0x0e: CR, LF, HTAB, and controls that have no business here.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<usize> {
        while self.starts == 0 {
            self.base = self.base.wrapping_add(STEP);
            let ends = ends(self.bytes.get(self.base..)?);
            self.starts = ends & !(ends << 1 | self.carry);
            self.carry = ends >> (STEP - 1);
        }
        let start = self.base + self.starts.trailing_zeros() as usize;
        self.starts &= self.starts - 1;
        Some(start)
    }
}

/// Which of the first octets of `bytes` are below 0x0e.
#[inline(always)]
fn ends(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(step) => simd::ends(step),
        None => simd::ends(&short(bytes)),
    }
}

/// Which octets of `bytes`, of the first [`STEP`], are neither letters nor digits nor `-` nor `.`.
#[inline(always)]
pub(crate) fn marks(bytes: &[u8]) -> u64 {
    each_block(&bytes[..bytes.len().min(STEP)], |block| !simd::plain(block))
}

/// Which octets of `bytes`, of which there are at most [`STEP`], are dots.
#[inline(always)]
pub(crate) fn dots(bytes: &[u8]) -> u64 {
    each_block(bytes, |block| simd::equal(block, b'.'))
}

/// A mask of at most [`STEP`] octets, put together from those of their blocks. The last block laps over the one before.
#[inline(always)]
fn each_block(bytes: &[u8], mask: impl Fn(&[u8; BLOCK]) -> u16) -> u64 {
    let Some(last) = bytes.last_chunk() else {
        return u64::from(mask(&block(bytes))) & ((1 << bytes.len()) - 1);
    };
    let mut whole = u64::from(mask(last)) << (bytes.len() - BLOCK);
    for (i, block) in bytes[..bytes.len() - 1].as_chunks().0.iter().enumerate() {
        whole |= u64::from(mask(block)) << (i * BLOCK);
    }
    whole
}

/// Less than a step, with letters behind it.
fn short(bytes: &[u8]) -> [u8; STEP] {
    let mut step = [b'a'; STEP];
    step[..bytes.len()].copy_from_slice(bytes);
    step
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
pub(crate) fn equal(block: [u8; BLOCK], octet: u8) -> u16 {
    simd::equal(&block, octet)
}

/// Whether the block is `expected` in those of its bits that are set in `bits`.
#[inline(always)]
pub(crate) fn agrees(block: &[u8; BLOCK], bits: &[u8; BLOCK], expected: &[u8; BLOCK]) -> bool {
    simd::agrees(block, bits, expected)
}

/// How many octets at the block's begin are letters, digits, `-` or `.`.
#[inline(always)]
pub(crate) fn plain(block: [u8; BLOCK]) -> usize {
    (!u32::from(simd::plain(&block))).trailing_zeros() as usize
}

/// How many octets at the block's begin are ASCII beyond the blank, `<` and `>` aside.
#[inline(always)]
pub(crate) fn visible(block: [u8; BLOCK]) -> usize {
    (!u32::from(simd::visible(&block))).trailing_zeros() as usize
}

#[cfg(not(target_arch = "x86_64"))]
use portable as simd;

#[cfg(target_arch = "x86_64")]
mod simd {
    use super::{BLOCK, STEP};
    use std::arch::x86_64::{
        __m128i, _mm_add_epi8, _mm_and_si128, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_loadu_si128,
        _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(block: &[u8; BLOCK]) -> __m128i {
        // SAFETY: the load takes 16 octets, which the block has, from whatever alignment.
        unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn mask(lanes: __m128i) -> u16 {
        _mm_movemask_epi8(lanes) as u16
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn all(octet: u8) -> __m128i {
        _mm_set1_epi8(octet.cast_signed())
    }

    /// Which lanes are at least `first` and at most `last`.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn within(lanes: __m128i, first: u8, last: u8) -> __m128i {
        let from_first = _mm_add_epi8(lanes, all(first.wrapping_neg()));
        _mm_cmpeq_epi8(_mm_min_epu8(from_first, all(last - first)), from_first)
    }

    #[inline(always)]
    pub(super) fn ends(step: &[u8; STEP]) -> u64 {
        let (blocks, _) = step.as_chunks::<BLOCK>();
        let below = |i: usize| {
            // SAFETY: every x86-64 processor has SSE2.
            let mask = unsafe {
                let lanes = load(&blocks[i]);
                mask(_mm_cmpeq_epi8(_mm_min_epu8(lanes, all(0x0d)), lanes))
            };
            u64::from(mask) << (i * BLOCK)
        };
        below(0) | below(1) | below(2) | below(3)
    }

    #[inline(always)]
    pub(super) fn equal(block: &[u8; BLOCK], octet: u8) -> u16 {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { mask(_mm_cmpeq_epi8(load(block), all(octet))) }
    }

    #[inline(always)]
    pub(super) fn agrees(block: &[u8; BLOCK], bits: &[u8; BLOCK], expected: &[u8; BLOCK]) -> bool {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { mask(_mm_cmpeq_epi8(_mm_and_si128(load(block), load(bits)), load(expected))) == u16::MAX }
    }

    #[inline(always)]
    pub(super) fn plain(block: &[u8; BLOCK]) -> u16 {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe {
            let lanes = load(block);
            // A letter and its other case differ in bit 0x20; no other octet becomes a small letter by it.
            let letters = within(_mm_or_si128(lanes, all(0x20)), b'a', b'z');
            // The slash is between the full stop and the zero.
            let others = _mm_andnot_si128(_mm_cmpeq_epi8(lanes, all(b'/')), within(lanes, b'-', b'9'));
            mask(_mm_or_si128(letters, others))
        }
    }

    #[inline(always)]
    pub(super) fn visible(block: &[u8; BLOCK]) -> u16 {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe {
            let lanes = load(block);
            let brackets = _mm_or_si128(_mm_cmpeq_epi8(lanes, all(b'<')), _mm_cmpeq_epi8(lanes, all(b'>')));
            // The comparison is of signed octets: those from 0x80 on are below the blank.
            mask(_mm_andnot_si128(brackets, _mm_cmpgt_epi8(lanes, all(b' '))))
        }
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::{BLOCK, STEP};

    /// A bit for each octet that `is` holds of.
    fn mask<const N: usize>(octets: &[u8; N], is: impl Fn(u8) -> bool) -> u64 {
        octets.iter().rev().fold(0, |mask, &octet| mask << 1 | u64::from(is(octet)))
    }

    pub(super) fn ends(step: &[u8; STEP]) -> u64 {
        mask(step, |octet| octet < 0x0e)
    }

    pub(super) fn equal(block: &[u8; BLOCK], octet: u8) -> u16 {
        mask(block, |o| o == octet) as u16
    }

    pub(super) fn agrees(block: &[u8; BLOCK], bits: &[u8; BLOCK], expected: &[u8; BLOCK]) -> bool {
        (0..BLOCK).all(|i| block[i] & bits[i] == expected[i])
    }

    pub(super) fn plain(block: &[u8; BLOCK]) -> u16 {
        mask(block, |octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.')) as u16
    }

    pub(super) fn visible(block: &[u8; BLOCK]) -> u16 {
        mask(block, |octet| matches!(octet, 0x21..=0x7f) && !matches!(octet, b'<' | b'>')) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    /// Mostly octets at which something changes.
    fn octet() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), 0u8..=0x10, Just(b'\r'), Just(b'\n'), b' '..=b'~', 0x7e_u8..=0x82]
    }

    #[test]
    fn every_octet_is_classified_as_by_its_slow_twin() {
        for octet in 0..=u8::MAX {
            for place in 0..BLOCK {
                let mut block = [b'a'; BLOCK];
                block[place] = octet;
                assert_eq!(simd::plain(&block), portable::plain(&block), "{octet:#x}");
                assert_eq!(simd::visible(&block), portable::visible(&block), "{octet:#x}");
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
        fn blocks_at_every_alignment_are_those_of_the_slow_twin(octets in vec(octet(), STEP * 2)) {
            for step in octets.windows(STEP) {
                let step = step.first_chunk().expect("a window of a step");
                prop_assert_eq!(simd::ends(step), portable::ends(step));
            }
            for from in octets.windows(BLOCK) {
                let from = from.first_chunk().expect("a window of a block");
                prop_assert_eq!(simd::plain(from), portable::plain(from));
                prop_assert_eq!(simd::visible(from), portable::visible(from));
                prop_assert_eq!(simd::equal(from, b':'), portable::equal(from, b':'));
            }
        }

        /// The slice is the whole of its allocation, so a checker of addresses would see a step beyond it.
        #[test]
        fn the_begin_of_every_run_is_found_and_nothing_else(octets in vec(octet(), 0..200)) {
            let octets = octets.into_boxed_slice();
            let is_end = |at: usize| octets[at] < 0x0e;
            for from in 0..=octets.len() {
                let mut ends = LineEnds::new(&octets, from);
                let found: Vec<_> = std::iter::from_fn(|| ends.next()).collect();
                let begins = |&at: &usize| is_end(at) && (at == from || !is_end(at - 1));
                prop_assert_eq!(found, (from..octets.len()).filter(begins).collect::<Vec<_>>());
            }
        }

        #[test]
        fn masks_are_of_as_many_octets_as_there_are(octets in vec(octet(), 0..STEP * 2)) {
            let octets = octets.into_boxed_slice();
            let mask = |octets: &[u8], is: fn(u8) -> bool| {
                octets.iter().rev().fold(0, |mask, &octet| mask << 1 | u64::from(is(octet)))
            };
            let first = &octets[..octets.len().min(STEP)];
            let is_mark = |octet: u8| !(octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.'));
            prop_assert_eq!(marks(&octets), mask(first, is_mark));
            prop_assert_eq!(dots(first), mask(first, |octet| octet == b'.'));
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
