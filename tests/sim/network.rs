//! What happens to a datagram between its sender and its receiver, by chance from a seed.

use std::{ops::Range, time::Duration};

/// Pseudo-random numbers (splitmix64): the same from the same seed, everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of that range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// True `permille` times in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.within(0..1000) < permille
    }

    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}

/// How the network is.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Of a thousand datagrams, so many are lost.
    pub loss: u64,
    /// Of a thousand that arrive, so many arrive twice.
    pub duplication: u64,
    /// Milliseconds on the way. Datagrams overtake each other where the range has more than one.
    pub delay: Range<u64>,
}

impl Weather {
    /// Nothing is lost, and everything takes ten milliseconds.
    pub fn fair() -> Self {
        Self { loss: 0, duplication: 0, delay: 10..11 }
    }

    /// Every tenth is lost, every tenth of the rest comes twice, and they overtake each other.
    pub fn foul() -> Self {
        Self { loss: 100, duplication: 100, delay: 5..60 }
    }

    /// When the copies of a datagram arrive: none where it is lost.
    pub fn fate(&self, rng: &mut Rng) -> Vec<Duration> {
        if rng.chance(self.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.chance(self.duplication));
        (0..copies).map(|_| rng.millis(self.delay.clone())).collect()
    }
}
