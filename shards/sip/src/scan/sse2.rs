//! Steps and blocks by SSE2, which every x86-64 processor has.

use super::{BLOCK, STEP, block};
use std::arch::x86_64::{
    __m128i, _mm_add_epi8, _mm_and_si128, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8,
    _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
};

#[inline(always)]
pub(super) fn ends(step: &[u8; STEP]) -> u64 {
    each_block(step, |block| at_most(block, 0x0d))
}

#[inline(always)]
pub(super) fn marks(bytes: &[u8]) -> u64 {
    each_block(bytes, |block| !plain(block))
}

#[inline(always)]
pub(super) fn blanks(bytes: &[u8]) -> u64 {
    each_block(bytes, |block| at_most(block, b' '))
}

#[inline(always)]
pub(super) fn dots(bytes: &[u8]) -> u64 {
    each_block(bytes, |block| equal(block, b'.'))
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
fn at_most(block: &[u8; BLOCK], most: u8) -> u16 {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe {
        let lanes = load(block);
        mask(_mm_cmpeq_epi8(_mm_min_epu8(lanes, all(most)), lanes))
    }
}

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
