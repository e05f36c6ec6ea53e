//! What exactly once costs: the line of one copying step with transactions and without, in pairs.

use anyhow::Result;
use topics::catalog::TRIGGERS;

use super::child::Settings;
use super::cluster::{PARTITIONS, cluster};
use super::orders;
use super::ours::{self, COPY, Samples};
use crate::meter::{load, median};
use crate::report::{Row, Target};

pub(crate) const NAMES: &[&str] = &["eos_tax.percent"];
const PAIRS: usize = 5;
const RECORDS: u64 = 400_000;
const WARM: u64 = 60_000;
const DATA_BYTES: usize = 1 << 10;

pub(crate) fn run() -> Result<Vec<Row>> {
    let cluster = cluster()?;
    cluster.weir_topics(PARTITIONS)?;
    crate::say(&format!("loading {RECORDS} records of 1 KiB …"));
    let triggers = cluster.load(TRIGGERS, PARTITIONS, RECORDS, |n| {
        (
            orders::key(n),
            orders::trigger(n, COPY, data(n, DATA_BYTES)).to_vec(),
        )
    })?;
    let with = ours::copy_settings(cluster)?;
    let without = Settings {
        transactions: false,
        ..with.clone()
    };
    let (mut by_rate, mut by_cpu, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let mut samples = Samples::of(RECORDS, |n| data(n, DATA_BYTES));
        let mut pass = |settings: &Settings, what: &str| {
            ours::pass(
                cluster,
                settings,
                &triggers,
                what,
                (WARM, RECORDS - RECORDS / 10),
                &mut samples,
            )
        };
        // whoever comes first in a pair finds another machine than who comes second
        let (on, off) = if pair % 2 == 0 {
            let on = pass(&with, "with transactions")?;
            (on, pass(&without, "without transactions")?)
        } else {
            let off = pass(&without, "without transactions")?;
            (pass(&with, "with transactions")?, off)
        };
        by_rate.push((1.0 - on.per_s / off.per_s) * 100.0);
        by_cpu.push((on.cpu_us / off.cpu_us - 1.0) * 100.0);
        told.push(format!(
            "{:.0}/s of {:.0}/s, {:.1} µs of {:.1} µs",
            on.per_s, off.per_s, on.cpu_us, off.cpu_us
        ));
    }
    cluster.empty(TRIGGERS, PARTITIONS)?;
    let note = format!(
        "median of {PAIRS} pairs of {RECORDS} records of 1 KiB, a commit each 100 ms; by CPU {:.1} %; {}; {}",
        median(&mut by_cpu),
        told.join("; "),
        load()
    );
    let mut row = Row::new(NAMES[0], median(&mut by_rate), "%")
        .target(Target::AtMost(10.0))
        .note(note);
    row.against = format!(
        "the same line with transactions switched off; {}",
        row.against
    );
    row.ratio = None;
    Ok(vec![row])
}

/// So many bytes that are no two times the same.
pub(super) fn data(n: u64, bytes: usize) -> Vec<u8> {
    let mut data = orders::order(n).into_bytes();
    data.resize(bytes, b' ');
    data
}
