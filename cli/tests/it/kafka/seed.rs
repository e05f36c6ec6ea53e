//! Chance that can be repeated: printed, and taken from `WEIR_SEED` where that is set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xtask::proxy::Dice;

pub(crate) struct Seed {
    pub(crate) seed: u64,
    dice: Dice,
}

impl Seed {
    pub(crate) fn new(what: &str) -> Self {
        let given = std::env::var("WEIR_SEED").ok();
        let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_nanos() as u64 & 0xffff_ffff
        });
        eprintln!("{what}: seed {seed} (WEIR_SEED={seed} repeats its choices)");
        let dice = Dice::new(seed);
        Self { seed, dice }
    }

    /// For a thread of its own; what it chooses follows from this one.
    pub(crate) fn another(&mut self) -> Self {
        let seed = self.dice.below(u64::from(u32::MAX));
        let dice = Dice::new(seed);
        Self { seed, dice }
    }

    /// One of 0, 1, … `below` - 1.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        self.dice.below(below as u64) as usize
    }

    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        self.dice.duration(least, most)
    }
}
