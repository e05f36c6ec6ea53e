//! Chance that can be repeated: printed, and taken from `WEIR_SEED` where that is set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64.
pub(crate) struct Seed {
    pub(crate) seed: u64,
    state: u64,
}

impl Seed {
    pub(crate) fn new(what: &str) -> Self {
        let given = std::env::var("WEIR_SEED").ok();
        let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_nanos() as u64 & 0xffff_ffff
        });
        eprintln!("{what}: seed {seed} (WEIR_SEED={seed} repeats its choices)");
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0, 1, … `below` - 1.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        (self.next() % below as u64) as usize
    }

    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = (most - least).as_millis() as usize;
        least + Duration::from_millis(self.below(span + 1) as u64)
    }
}
