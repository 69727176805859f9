//! Steps and blocks by plain arithmetic, for processors without lanes of ours; and the slow twin of those that have them.

use super::{BLOCK, Lanes, STEP, Work};

/// A bit for each octet that `is` holds of.
fn mask(octets: &[u8], is: impl Fn(u8) -> bool) -> u64 {
    octets.iter().rev().fold(0, |mask, &octet| mask << 1 | u64::from(is(octet)))
}

/// No registers in particular.
#[derive(Clone, Copy)]
pub(super) struct Words;

impl Lanes for Words {
    fn ends(self, step: &[u8; STEP]) -> u64 {
        ends(step)
    }
}

#[cfg_attr(target_arch = "x86_64", expect(dead_code, reason = "there the work is done by SSE2 or AVX2"))]
pub(super) fn by_widest_lanes<W: Work>(work: W) -> W::Output {
    work.run(Words)
}

pub(super) fn ends(step: &[u8; STEP]) -> u64 {
    mask(step, |octet| octet < 0x0e)
}

pub(super) fn marks(bytes: &[u8]) -> u64 {
    mask(bytes, |octet| !is_plain(octet))
}

pub(super) fn blanks(bytes: &[u8]) -> u64 {
    mask(bytes, |octet| octet <= b' ')
}

pub(super) fn dots(bytes: &[u8]) -> u64 {
    mask(bytes, |octet| octet == b'.')
}

pub(super) fn equal(block: &[u8; BLOCK], octet: u8) -> u16 {
    mask(block, |o| o == octet) as u16
}

pub(super) fn agrees(block: &[u8; BLOCK], bits: &[u8; BLOCK], expected: &[u8; BLOCK]) -> bool {
    (0..BLOCK).all(|i| block[i] & bits[i] == expected[i])
}

pub(super) fn plain(block: &[u8; BLOCK]) -> u16 {
    mask(block, is_plain) as u16
}

fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.')
}
