//! T26: the tests themselves are tested. Builds that are broken on purpose must not pass; each is put through the faults
//! that it cannot stand, and the true build through the same must pass.

use std::time::{Duration, Instant};

use bytes::Bytes;
use topics::Log as _;
use topics::catalog::{RESULTS, TRIGGERS};
use xtask::checker::Stranger;
use xtask::proxy::{Fault as Injected, Request, Trouble};

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::load::Load;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::kill::{broken_binary, history};
use crate::proof::{Row, full};
use crate::weir::until;

/// How long the true build may take at most to catch up; a broken one may never.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How long a broken one is waited for.
const GIVEN_UP: Duration = Duration::from_secs(15);
const PER_SECOND: usize = 3_000;

/// What is done to two processors under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// kill -9 of processors.
    Kills,
    /// The broker stands still for longer than a request may take.
    FrozenBroker,
    /// The broker commits, and the proxy loses its answers.
    LostAnswers,
    /// The proxy loses commits, so that transactions are given up and run again.
    LostCommits,
    /// Another member joins and leaves.
    Members,
}

/// What came of it; none caught anything in the true build.
#[derive(Debug)]
struct Seen {
    count: Count,
    settled: bool,
}

impl Seen {
    fn caught(&self) -> bool {
        self.count != Count::right(self.count.asked) || !self.settled
    }

    fn words(&self) -> String {
        let Count {
            lost,
            duplicated,
            disordered,
            aborted,
            ..
        } = self.count;
        let late = if self.settled {
            ""
        } else {
            ", catch-up missed"
        };
        format!(
            "{lost} lost, {duplicated} doubled, {disordered} disordered, {aborted} aborted ones seen{late}"
        )
    }
}

fn recipe(variant: Option<&str>) -> Recipe {
    let recipe = Recipe {
        binary: broken_binary(),
        ..Recipe::processor()
    };
    match variant {
        Some(variant) => recipe.with("WEIR_BROKEN", variant),
        None => recipe,
    }
}

fn suffer(cluster: &mut Cluster, variant: Option<&str>, fault: Fault, seed: &mut Seed) -> Seen {
    let name = format!("variant-{}-{fault:?}", variant.unwrap_or("none")).to_lowercase();
    let ledger = Ledger::new(&name);
    cluster.apply(&name, "copy", "");
    let recipe = recipe(variant);
    let mut processes = Process::start_all(cluster, &recipe, 2);
    let load = Load::start(cluster, &ledger, usize::MAX, PER_SECOND);
    let short = |seed: &mut Seed| {
        std::thread::sleep(seed.between(Duration::from_millis(400), Duration::from_millis(1_200)));
    };
    match fault {
        Fault::Kills => {
            for _ in 0..if full() { 8 } else { 3 } {
                short(seed);
                let victim = seed.below(processes.len());
                processes.swap_remove(victim).kill();
                processes.push(Process::start(cluster, &recipe));
                processes.iter_mut().for_each(Process::ready);
            }
        }
        Fault::FrozenBroker => {
            for _ in 0..if full() { 3 } else { 1 } {
                short(seed);
                // under load, so that transactions are open
                cluster.kafka.freeze(0).unwrap();
                std::thread::sleep(Duration::from_secs(5));
                cluster.kafka.thaw(0).unwrap();
            }
        }
        Fault::LostAnswers => {
            let proxy = cluster.proxy.as_ref().expect("this fault is a proxy's");
            let mut commits = 0;
            proxy.decide(move |request: &Request| {
                let id = request.transactional_id.as_deref().unwrap_or_default();
                let lane = id.starts_with("weir.processors-") && !id.ends_with("hops");
                commits += usize::from(lane && request.commits == Some(true));
                let hit = lane && request.commits == Some(true) && commits % 12 == 0;
                hit.then_some(Injected::Answer(Trouble::Drop { cut: true }))
            });
            std::thread::sleep(Duration::from_secs(if full() { 20 } else { 6 }));
            proxy.decide(|_: &Request| None);
        }
        Fault::LostCommits => {
            let proxy = cluster.proxy.as_ref().expect("this fault is a proxy's");
            std::thread::sleep(Duration::from_secs(1));
            proxy.decide(|request: &Request| {
                let id = request.transactional_id.as_deref().unwrap_or_default();
                let commit = id.starts_with("weir.processors-") && request.commits == Some(true);
                commit.then_some(Injected::Request(Trouble::Drop { cut: false }))
            });
            // longer than a commit is tried again: by calls of 5 s, until four fifths of the transaction's time-out are over
            std::thread::sleep(Duration::from_secs(16));
            proxy.decide(|_: &Request| None);
        }
        Fault::Members => {
            for _ in 0..if full() { 2 } else { 1 } {
                let guest = Process::start_all(cluster, &recipe, 1);
                short(seed);
                Process::stop_all(guest);
                short(seed);
            }
        }
    }
    let asked = load.finish();
    let follower = ledger.follow(cluster);
    let patience = if variant.is_some() {
        GIVEN_UP
    } else {
        CATCH_UP
    };
    let settled = ledger.settle(asked, patience);
    drop(follower);
    processes.into_iter().for_each(Process::kill);
    let count = ledger.count(cluster, asked);
    let seen = Seen { count, settled };
    eprintln!(
        "T26: {} under {fault:?}: {seen:?}",
        variant.unwrap_or("the true build")
    );
    seen
}

/// Records that a stranger has written and aborted, on the topics that processors and the sink read: are they seen?
fn aborted_are_seen(cluster: &mut Cluster, variant: Option<&str>) -> bool {
    let name = format!("variant-{}", variant.unwrap_or("none"));
    let ledger = Ledger::new(&name);
    cluster.apply(&name, "copy", "");
    let history_of = cluster.folder().join(&name);
    std::fs::create_dir_all(&history_of).unwrap();
    let file = history_of.join("history.db").display().to_string();
    let sink = Recipe {
        role: "sink",
        ..recipe(variant).with("WEIR_SINK__PATH", &file)
    };
    let mut processes = Process::start_all(cluster, &sink, 1);
    processes.extend(Process::start_all(cluster, &recipe(variant), 1));
    let partitions = cluster.log.partitions(TRIGGERS).unwrap();
    let (key, partition, trigger) = ledger.stranger(partitions);
    let result = super::checked::result(&trigger);
    let unseen = result.execution.to_string();
    let values: [(&str, Bytes); 2] = [(TRIGGERS, trigger), (RESULTS, result.encode())];
    for (topic, value) in &values {
        let stranger = Stranger {
            topic,
            partition,
            transactional_id: "an-aborting-stranger",
            timeout_ms: 10_000,
            key: &key,
            value,
        };
        stranger.abort(cluster.brokers()).unwrap();
    }
    // once what came after it has landed, it would have
    let after: Vec<_> = (0..1_000).map(|number| ledger.trigger(number)).collect();
    let appender = cluster.log.appender();
    let appended = appender.append(after);
    cluster.runtime.block_on(appended).unwrap();
    let ids: Vec<String> = (0..1_000).map(|n| ledger.id(n).to_string()).collect();
    until("what came after it has landed", || {
        let rows = history(&history_of);
        ids.iter().all(|id| rows.contains_key(id))
    });
    processes.into_iter().for_each(Process::kill);
    let count = ledger.count(cluster, 1_000);
    let rows = history(&history_of);
    eprintln!("T26: {name}: {count:?}, {} rows", rows.len());
    rows.contains_key(&unseen) || count.aborted > 0
}

#[test]
fn each_broken_variant_is_caught() {
    let cluster = &mut Cluster::behind_a_proxy();
    let begun = Instant::now();
    let mut seed = Seed::new("T26");
    let variants = [
        ("offsets-outside", Fault::Kills),
        ("no-seek-after-abort", Fault::LostCommits),
        ("abort-after-commit-timeout", Fault::LostAnswers),
        ("stale-group-metadata", Fault::Members),
    ];
    let mut words = Vec::new();
    let mut caught = 0;
    for (variant, fault) in variants {
        let seen = suffer(cluster, Some(variant), fault, &mut seed);
        caught += usize::from(seen.caught());
        words.push(format!("{variant}: {}", seen.words()));
    }
    let uncommitted = aborted_are_seen(cluster, Some("read-uncommitted"));
    caught += usize::from(uncommitted);
    words.push(format!(
        "read-uncommitted: aborted records seen: {uncommitted}"
    ));
    // The same without anything broken: it is the breaking that was caught.
    let mut true_build = Count::default();
    let mut sound = !aborted_are_seen(cluster, None);
    let faults: &[Fault] = if full() {
        &[
            Fault::FrozenBroker,
            Fault::LostAnswers,
            Fault::LostCommits,
            Fault::Members,
        ]
    } else {
        &[Fault::LostAnswers]
    };
    for fault in faults.iter().copied() {
        let seen = suffer(cluster, None, fault, &mut seed);
        sound &= !seen.caught();
        true_build.lost += seen.count.lost;
        true_build.duplicated += seen.count.duplicated;
    }
    let all = variants.len() + 1;
    Row {
        id: "T26",
        title: "deliberately broken variants are caught",
        injected: caught,
        expected: format!("{all} caught; {}", words.join("; ")),
        lost: true_build.lost,
        duplicated: true_build.duplicated,
        passed: caught == all && sound,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep()
    .unwrap();
    assert!(sound, "the true build does not stand the same");
    assert_eq!(caught, all, "{}", words.join("\n"));
}
