//! T9: somebody else opens a transaction on the topic of triggers and dies.

use std::time::{Duration, Instant};

use topics::Log as _;
use topics::catalog::TRIGGERS;
use xtask::checker::Stranger;

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::load::Load;
use super::process::{Process, Recipe};
use crate::proof::{Row, full};
use crate::weir::{PATIENCE, until};

const ALARM: Duration = Duration::from_secs(10);
/// When the broker ends the stranger's transaction.
const TIMEOUT: Duration = Duration::from_secs(15);

#[test]
fn a_stranger_s_open_transaction_raises_an_alarm_and_is_got_over() {
    let cluster = Cluster::shared();
    let begun = Instant::now();
    let ledger = Ledger::new("hanging");
    cluster.apply("hanging", "copy", "");
    let processes = Process::start_all(&cluster, &Recipe::processor(), 2);
    let follower = ledger.follow(&cluster);
    let load = Load::start(&cluster, &ledger, usize::MAX, 1_000);
    until("results come", || ledger.results() > 0);
    let partitions = cluster.log.partitions(TRIGGERS).unwrap();
    let (key, partition, value) = ledger.stranger(partitions);
    let stranger = Stranger {
        topic: TRIGGERS,
        partition,
        transactional_id: "a-stranger",
        timeout_ms: TIMEOUT.as_millis() as u32,
        key: &key,
        value: &value,
    };
    stranger.die(cluster.brokers()).unwrap();
    let opened = Instant::now();
    let alarms = || -> f64 {
        let alarm = |process: &Process| {
            process.metric("weir_alarms_total", &["alarm=\"open-transaction\""])
        };
        processes.iter().map(alarm).sum()
    };
    until("an open transaction on the input is an alarm", || {
        alarms() > 0.0
    });
    let alarmed = opened.elapsed();
    let asked = load.finish();
    // what lies behind the stranger's record waits for its end
    let early = ledger.settle(
        asked,
        TIMEOUT.saturating_sub(opened.elapsed() + TIMEOUT / 5),
    );
    let settled = ledger.settle(asked, PATIENCE);
    let recovered = opened.elapsed();
    drop(follower);
    Process::stop_all(processes);
    let count = ledger.count(&cluster, asked);
    eprintln!("T9: alarm after {alarmed:.1?}, recovered after {recovered:.1?}, {count:?}");
    let in_time = alarmed < ALARM || !full();
    Row {
        id: "T9",
        title: "a stranger's transaction left open on weir.triggers",
        injected: 1,
        expected: format!(
            "{asked} triggers, one result each, none of the stranger's; alarm after {:.1} s (less than 10), recovery after {:.1} s (its time-out: 15)",
            alarmed.as_secs_f64(),
            recovered.as_secs_f64()
        ),
        lost: count.lost,
        duplicated: count.duplicated + count.aborted,
        passed: count == Count::right(asked) && settled && in_time && !early,
        took: begun.elapsed(),
        seed: None,
    }
    .keep().unwrap();
    assert_eq!(count, Count::right(asked));
    assert!(settled && in_time, "alarm after {alarmed:?}");
    assert!(!early, "readers were not held up: nothing was tested");
}
