//! Which instructions are used: SSE2, and for the ends of lines AVX2 where the processor has it.

use super::{Lanes, STEP, Work, avx2, sse2};

pub(super) use sse2::{agrees, blanks, dots, equal, marks, plain};

/// SSE2, which every x86-64 processor has.
#[derive(Clone, Copy)]
pub(super) struct Sse2;

impl Lanes for Sse2 {
    #[inline(always)]
    fn ends(self, step: &[u8; STEP]) -> u64 {
        sse2::ends(step)
    }
}

/// AVX2, where the processor has been seen to have it.
#[derive(Clone, Copy)]
struct Avx2(());

impl Lanes for Avx2 {
    #[inline(always)]
    fn ends(self, step: &[u8; STEP]) -> u64 {
        // SAFETY: there would be no such value if the processor had no AVX2.
        unsafe { avx2::ends(step) }
    }
}

#[inline]
pub(super) fn by_widest_lanes<W: Work>(work: W) -> W::Output {
    /// Compiles the work for processors that have AVX2.
    #[target_feature(enable = "avx2,bmi1")]
    fn by_avx2<W: Work>(work: W) -> W::Output {
        work.run(Avx2(()))
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") {
        // SAFETY: the processor has AVX2 and BMI1.
        return unsafe { by_avx2(work) };
    }
    work.run(Sse2)
}
