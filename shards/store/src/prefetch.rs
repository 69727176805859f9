//! Asks the processor to bring memory into its cache, so that a miss passes while something else is done.
//!
//! It is a hint: the program sees nothing of what is read, no address is wrong for it, and what is freed or changed before
//! it comes is brought in vain and does no harm.

/// What the cache holds or lacks as one. Where its lines are longer, some are asked for twice.
const LINE_OCTETS: usize = 64;

/// Most that is asked for at a time. A core waits for some ten or twenty misses at once.
const MAX_OCTETS: usize = 8 * LINE_OCTETS;

/// Asks for the lines that these octets lie in, the first [`MAX_OCTETS`] of them. They need not exist.
pub(crate) fn prefetch(start: *const u8, octets: usize) {
    // By steps from `start` on, and the last octet's, which may be asked for already: no branch depends on where the lines
    // begin, which would be guessed wrong every other time.
    let octets = octets.min(MAX_OCTETS);
    for offset in (0..octets).step_by(LINE_OCTETS) {
        prefetch_line(start.wrapping_add(offset));
    }
    prefetch_line(start.wrapping_add(octets).wrapping_sub(1));
}

#[cfg(target_arch = "x86_64")]
fn prefetch_line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every x86_64 has the instruction, and it faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// Stable Rust has it for no other processor.
#[cfg(not(target_arch = "x86_64"))]
fn prefetch_line(_at: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_and_any_length_may_be_asked_for() {
        for start in [0, 1, 63, 64, usize::MAX - 64, usize::MAX] {
            for octets in [0, 1, 64, 65, 1 << 20] {
                prefetch(std::ptr::without_provenance(start), octets);
            }
        }
    }
}
