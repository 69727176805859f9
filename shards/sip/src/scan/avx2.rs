//! The ends of lines by AVX2, 32 octets at a time. Who calls this has seen that the processor has it.

use super::{BLOCK, STEP};
use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_set1_epi8,
};

/// Octets of a register.
const WIDE: usize = 2 * BLOCK;

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn ends(step: &[u8; STEP]) -> u64 {
    let (halves, _) = step.as_chunks::<WIDE>();
    let below = |i: usize| {
        let lanes = load(&halves[i]);
        let is_below = _mm256_cmpeq_epi8(_mm256_min_epu8(lanes, _mm256_set1_epi8(0x0d)), lanes);
        u64::from(_mm256_movemask_epi8(is_below).cast_unsigned())
    };
    below(0) | below(1) << WIDE
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(half: &[u8; WIDE]) -> __m256i {
    // SAFETY: the load takes 32 octets, which the half has, from whatever alignment.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}
