//! The test of the tests: what is broken on purpose is caught by the seeds of T25.

use sim::{Variant, soak};

const SEEDS: u64 = 10_000;

#[test]
fn every_broken_variant_is_caught() {
    let missed: Vec<Variant> = Variant::ALL
        .into_iter()
        .filter(|variant| soak::soak(0, SEEDS, 1, *variant).failed.is_empty())
        .collect();
    assert!(missed.is_empty(), "not caught in {SEEDS} seeds: {missed:?}");
}
