//! Many seeds, on as many threads as there are; the first that fails is run again to show what happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::{Counts, Ran, Variant, run};

/// What many seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Soaked {
    pub seeds: u64,
    pub faults: u64,
    pub orders: u64,
    pub uncertain: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Seeds that failed, and the first thing that was wrong; the smallest seed first.
    pub failed: Vec<(u64, String)>,
}

/// Runs `count` seeds from `first` on, until `failures_max` have failed.
pub fn soak(first: u64, count: u64, failures_max: usize, variant: Variant) -> Soaked {
    let next = AtomicU64::new(first);
    let over = AtomicBool::new(false);
    let soaked = Mutex::new(Soaked::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let ran = run(seed, variant, false);
                    let mut soaked = soaked.lock();
                    soaked.add(&ran);
                    if soaked.failed.len() >= failures_max {
                        over.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut soaked = soaked.into_inner();
    soaked.failed.sort();
    soaked
}

impl Soaked {
    fn add(&mut self, ran: &Ran) {
        let Counts { uncertain, .. } = ran.counts;
        self.seeds += 1;
        self.faults += ran.counts.faults();
        self.orders += ran.orders as u64;
        self.uncertain += uncertain;
        self.lost += ran.verdict.lost;
        self.doubled += ran.verdict.doubled;
        if let Some(wrong) = ran.verdict.wrong.first() {
            self.failed.push((ran.seed, wrong.clone()));
        }
    }
}

/// What happened in a seed, for people: what is wrong, the last `lines` of what happened, and the way to see it again.
pub fn shown(seed: u64, variant: Variant, lines: usize) -> String {
    let ran = run(seed, variant, true);
    let from = ran.trace.len().saturating_sub(lines);
    format!(
        "seed {seed}:\n  {}\n\n{}\n\n{:?}\nagain: SEED={seed} make soak",
        ran.verdict.wrong.join("\n  "),
        ran.trace[from..].join("\n"),
        ran.counts,
    )
}
