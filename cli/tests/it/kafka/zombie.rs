//! T5: processors frozen for longer than the group and the broker wait for them, each with a transaction open; and T8:
//! a lane whose owner is held up in the same way, beside a step that merely takes its time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use topics::Log as _;
use topics::catalog::TRIGGERS;

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::load::Load;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::kill::broken_binary;
use crate::proof::{Row, full};
use crate::weir::{PATIENCE, until};

/// What the failpoint says when it holds a lane whose transaction is open.
const HELD: &str = "failpoint: held";

/// The true build, but for a failpoint.
fn held(seconds: u64, every: u64) -> Recipe {
    Recipe {
        binary: broken_binary(),
        ..Recipe::processor()
    }
    .with(
        "WEIR_FAILPOINT",
        &format!("in-transaction={seconds}/{every}"),
    )
}

/// Shorter than `make prove` has them.
fn shortened(recipe: Recipe) -> Recipe {
    if full() {
        return recipe;
    }
    recipe
        .with("WEIR_KAFKA__TRANSACTION_TIMEOUT", "5s")
        .with("WEIR_KAFKA__SESSION_TIMEOUT", "4s")
        .with("WEIR_KAFKA__MAX_POLL_INTERVAL", "8s")
}

fn holds(process: &Process) -> usize {
    process.said().matches(HELD).count()
}

#[test]
fn a_zombie_s_transaction_is_rejected() {
    let cluster = Cluster::shared();
    let (rounds, at_once) = if full() { (10, 2) } else { (1, 2) };
    let (least, most) = if full() { (12, 20) } else { (7, 8) };
    let begun = Instant::now();
    let mut seed = Seed::new("T5");
    let ledger = Ledger::new("zombie");
    cluster.apply("zombie", "copy", "");
    // Held for a moment now and then: that is when it is frozen, so that its transaction is open.
    let recipe = shortened(held(2, 40));
    let processes = Process::start_all(&cluster, &recipe, 2 * at_once);
    let follower = ledger.follow(&cluster);
    let load = Load::start(&cluster, &ledger, usize::MAX, 2_000);
    let (mut pauses, mut rejected) = (0, 0);
    for round in 0..rounds {
        let half = (round % 2) * at_once;
        let zombies = &processes[half..half + at_once];
        let before: Vec<f64> = zombies.iter().map(refused).collect();
        for zombie in zombies {
            let seen = holds(zombie);
            until("a lane holds a transaction", || holds(zombie) > seen);
            zombie.freeze();
        }
        std::thread::sleep(seed.between(Duration::from_secs(least), Duration::from_secs(most)));
        zombies.iter().for_each(Process::thaw);
        for (zombie, before) in zombies.iter().zip(before) {
            pauses += 1;
            // What it left open ended as a refusal, not as a commit.
            until("a zombie was refused", || refused(zombie) > before);
            rejected += 1;
        }
    }
    let asked = load.finish();
    let settled = ledger.settle(asked, PATIENCE);
    drop(follower);
    Process::stop_all(processes);
    let count = ledger.count(&cluster, asked);
    eprintln!("T5: {pauses} pauses, {rejected} rejected, {count:?}");
    Row {
        id: "T5",
        title: "SIGSTOP past session and transaction time-out with a transaction open, SIGCONT",
        injected: pauses,
        expected: format!(
            "{asked} triggers, one result each; {rejected} of {pauses} zombies refused"
        ),
        lost: count.lost,
        duplicated: count.duplicated,
        passed: count == Count::right(asked) && settled && rejected == pauses,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep()
    .unwrap();
    assert_eq!(count, Count::right(asked));
    assert!(settled);
}

/// Transactions of its that were refused for being somebody else's by then.
fn refused(process: &Process) -> f64 {
    ["fenced", "rebalance", "uncertain"]
        .iter()
        .map(|cause| process.metric("weir_lane_aborts_total", &[&format!("cause=\"{cause}\"")]))
        .sum()
}

#[test]
fn a_lane_held_up_in_its_transaction_runs_its_batch_again() {
    let cluster = Cluster::shared();
    let begun = Instant::now();
    let wanted = if full() { 20 } else { 2 };
    // Past the transaction's time-out, and past the longest time between polls.
    let (transaction, poll) = if full() { (13, 23) } else { (7, 10) };
    let ledger = Ledger::new("held");
    cluster.apply("held", "copy", "");
    let follower = ledger.follow(&cluster);
    let load = Load::start(&cluster, &ledger, usize::MAX, 1_000);
    let mut injected = 0;
    let mut alarms = 0.0;
    let mut aborts = 0.0;
    for seconds in [transaction, poll] {
        let recipe = shortened(held(seconds, 30));
        let processes = Process::start_all(&cluster, &recipe, if full() { 4 } else { 2 });
        let mut held = 0;
        until_within(PATIENCE * 3, "enough transactions were held up", || {
            held = processes.iter().map(holds).sum();
            held >= wanted
        });
        let sum = |name: &str, labels: &[&str]| -> f64 {
            let all = processes.iter();
            all.map(|process| process.metric(name, labels)).sum()
        };
        until("each was alarmed about, and aborted", || {
            let seen = (
                sum("weir_alarms_total", &["alarm=\"transaction-open\""]),
                sum("weir_lane_aborts_total", &[]),
            );
            let enough = seen.0 >= held as f64 && seen.1 >= held as f64;
            if enough {
                alarms += seen.0;
                aborts += seen.1;
            }
            enough
        });
        injected += held;
        processes.into_iter().for_each(Process::kill);
    }
    let (slow, took, disturbed) = slow_step(&cluster);
    let processes = Process::start_all(&cluster, &Recipe::processor(), 2);
    let asked = load.finish();
    let settled = ledger.settle(asked, PATIENCE);
    drop(follower);
    Process::stop_all(processes);
    let count = ledger.count(&cluster, asked);
    eprintln!(
        "T8: {injected} held, {alarms} alarms, {aborts} aborts; a step of {took:.0?}, {disturbed} disturbed; {count:?}, {slow:?}"
    );
    let undisturbed = disturbed == 0.0 && slow == Count::right(1);
    Row {
        id: "T8",
        title: "a lane held past transaction.timeout, and past max.poll.interval, with its transaction open",
        injected,
        expected: format!(
            "{asked} triggers, one result each; an alarm ({alarms}) and an abort ({aborts}) for each; a step of {} s causes neither ({disturbed})",
            took.as_secs()
        ),
        lost: count.lost + slow.lost,
        duplicated: count.duplicated + slow.duplicated,
        passed: count == Count::right(asked) && settled && undisturbed,
        took: begun.elapsed(),
        seed: None,
    }
    .keep().unwrap();
    assert_eq!(count, Count::right(asked));
    assert!(settled);
    assert!(undisturbed, "{disturbed} disturbed beside {slow:?}");
}

fn until_within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// Signs that the broker or the group gave a lane up, or that its transaction stood open.
fn timed_out(process: &Process) -> f64 {
    let aborts = |cause: &str| process.metric("weir_lane_aborts_total", &[cause]);
    aborts("cause=\"fenced\"")
        + aborts("cause=\"rebalance\"")
        + process.metric("weir_alarms_total", &["alarm=\"transaction-open\""])
}

/// A step that takes longer than a transaction may: its count, how long it took, and what it disturbed.
fn slow_step(cluster: &Cluster) -> (Count, Duration, f64) {
    let longer_than = Duration::from_secs(if full() { 10 } else { 5 });
    let mut rounds = if full() {
        3_000_000_000_u64
    } else {
        1_500_000_000
    };
    for attempt in 0.. {
        let name = format!("slow-{attempt}");
        let ledger = Ledger::new(&name).of_any_output();
        cluster.apply(&name, "bad", ", limits: { time: 60s }");
        let recipe = shortened(Recipe::processor());
        let process = Process::start_all(cluster, &recipe, 1);
        // those before it were killed: until their sessions have run out the group will rebalance
        let partitions = cluster.log.partitions(TRIGGERS).unwrap() as usize;
        until("it has all partitions", || {
            process[0].series("weir_open_transaction_age_seconds", TRIGGERS) == partitions
        });
        let before = timed_out(&process[0]);
        let follower = ledger.follow(cluster);
        let begun = Instant::now();
        let data = Bytes::from(format!("{{\"do\":\"spin\",\"n\":{rounds}}}"));
        let trigger = ledger.with_data(0, data);
        let appended = cluster.log.appender();
        let appended = appended.append(vec![trigger]);
        cluster.runtime.block_on(appended).unwrap();
        let settled = ledger.settle(1, PATIENCE);
        let took = begun.elapsed();
        drop(follower);
        let aborts = timed_out(&process[0]) - before;
        Process::stop_all(process);
        assert!(settled, "a slow step does not come to its end");
        if took > longer_than {
            return (ledger.count(cluster, 1), took, aborts);
        }
        rounds *= 2;
    }
    unreachable!("the loop has no end")
}
