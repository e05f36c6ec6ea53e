//! T25: ten thousand seeds. A seed that fails is printed with what happened, and `SEED=n make soak` runs it again.

use std::time::Instant;

use serde_json::json;
use sim::{Variant, run, soak};

const SEEDS: u64 = 10_000;

#[test]
fn nothing_is_lost_or_doubled_in_ten_thousand_seeds() {
    let begun = Instant::now();
    let soaked = soak::soak(0, SEEDS, 1, Variant::None);
    let good = soaked.failed.is_empty();
    let row = json!({
        "id": "T25", "title": "seeded simulation of the lane", "injected": soaked.seeds,
        "expected": format!("{} triggers under {} faults, each with one result", soaked.orders, soaked.faults),
        "lost": soaked.lost, "duplicated": soaked.doubled, "passed": good,
        "seconds": begun.elapsed().as_secs(), "seed": soaked.failed.first().map(|(seed, _)| *seed),
    });
    if let Some(folder) = std::env::var_os("WEIR_PROOFS") {
        std::fs::write(
            std::path::Path::new(&folder).join("T25.json"),
            row.to_string(),
        )
        .unwrap();
    }
    if let Some((seed, _)) = soaked.failed.first() {
        panic!("{}", soak::shown(*seed, Variant::None, 100));
    }
    assert!(
        soaked.faults > 5 * SEEDS && soaked.uncertain > SEEDS / 10,
        "the test is asleep: {soaked:?}"
    );
}

#[test]
fn a_seed_is_a_run() {
    for seed in [3, 1_312, 9_999] {
        let (one, two) = (
            run(seed, Variant::None, true),
            run(seed, Variant::None, true),
        );
        assert_eq!(one.trace, two.trace);
        assert_eq!((one.counts, one.took), (two.counts, two.took));
    }
}
