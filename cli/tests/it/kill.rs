//! `kill -9` of `weir dev` while triggers are being sent; an independent checker counts every id afterwards, in the
//! history's tables and on the log itself. A deliberately broken build must not pass.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use sqlx::Connection as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use topics::{Embedded, Log, Partition, Polled};

use crate::http::{Http, deliver};
use crate::proof::Row;
use crate::weir::{PATIENCE, Start, Weir, file, guest, until};

const SENDERS: usize = 8;

pub(crate) struct Plan {
    pub triggers: usize,
    pub kills: usize,
    pub binary: PathBuf,
    pub variant: Option<&'static str>,
}

/// What the checker found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub acknowledged: usize,
    /// Acknowledged, and no result on the log or no row in the history or no output.
    pub lost: usize,
    /// More than one result on the log for one id, or an execution that nobody was promised.
    pub duplicated: usize,
}

/// Sends triggers and kills; every trigger is sent until it is acknowledged.
fn storm(plan: &Plan, data: &Path) -> HashMap<String, String> {
    let graph = format!(
        "weir: 1\nname: storm\ntriggers:\n  hook: {{ webhook: {{ path: /storm, verify: {{ scheme: github, secret: GITHUB_WEBHOOK_SECRET }} }} }}\nsteps:\n  copy: {{ uses: {}, from: [hook], isolation: batch }}\n",
        guest("copy").display()
    );
    let graphs = [file(data, "storm.yaml", &graph)];
    let folder = data.join("data");
    let variant;
    let mut start = Start {
        binary: plan.binary.clone(),
        ..Start::new(&folder, &graphs)
    };
    if let Some(name) = plan.variant {
        variant = [("WEIR_BROKEN", name)];
        start.env = &variant;
    }

    let acknowledged = Mutex::new(HashMap::with_capacity(plan.triggers));
    let done = AtomicUsize::new(0);
    let next = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut weir = Weir::start(&start);
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let mut http = None;
                while !over.load(Ordering::Acquire) {
                    let number = next.fetch_add(1, Ordering::AcqRel);
                    if number >= plan.triggers {
                        return;
                    }
                    let (id, body) = (
                        format!("delivery-{number:06}"),
                        format!("{{\"number\":{number}}}"),
                    );
                    let execution = loop {
                        if http.is_none() {
                            http = Http::connect(start.port).ok();
                        }
                        let answer = http.as_mut().map(|http| {
                            deliver(http, "/hooks/default/storm", "push", &id, body.as_bytes())
                        });
                        match answer {
                            Some(Ok(answer)) if answer.status == 202 => {
                                break answer.json()["execution"].as_str().unwrap().to_owned();
                            }
                            Some(Ok(answer)) if answer.status == 503 => {}
                            Some(Ok(answer)) => panic!("{}: {}", answer.status, answer.body),
                            Some(Err(_)) | None => http = None, // it was killed: send again
                        }
                        if over.load(Ordering::Acquire) {
                            return;
                        }
                        std::thread::park_timeout(std::time::Duration::from_millis(5));
                    };
                    acknowledged.lock().unwrap().insert(id, execution);
                    done.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        for kill in 1..=plan.kills {
            let at = plan.triggers * kill / (plan.kills + 1);
            until(&format!("{at} triggers are acknowledged"), || {
                done.load(Ordering::Acquire) >= at
            });
            weir.kill();
            weir = Weir::start(&start);
        }
        until("all triggers are acknowledged", || {
            done.load(Ordering::Acquire) >= plan.triggers
        });
        over.store(true, Ordering::Release);
        settle(&folder, plan.triggers);
        weir.stop();
    });
    acknowledged.into_inner().unwrap()
}

/// Waits until the history holds as many executions as were promised, or until it stops growing.
fn settle(folder: &Path, promised: usize) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let landed = history(folder).len();
        if landed >= promised {
            return;
        }
        if landed > last {
            (last, since) = (landed, Instant::now());
        }
        // A broken variant loses some for good: then nothing moves any more.
        if since.elapsed() > PATIENCE / 8 {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(200));
    }
}

/// Executions in the history's tables, each with how many outputs it has.
pub(crate) fn history(folder: &Path) -> HashMap<String, i64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(folder.join("history.db")).read_only(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let query = "select e.execution, (select count(*) from weir_outputs o where o.execution = e.execution) from weir_executions e where e.status = 'succeeded'";
        let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    })
}

/// Results on the log, counted by execution.
pub(crate) fn results(folder: &Path) -> HashMap<String, usize> {
    let log = Embedded::open(&folder.join("log.db")).unwrap();
    let mut counts = HashMap::new();
    for number in 0..log.partitions(topics::catalog::RESULTS).unwrap() {
        let partition = Partition {
            topic: topics::catalog::RESULTS.into(),
            number,
        };
        let (start, end) = log.offsets(&partition).unwrap();
        let mut reader = log.reader(vec![(partition, start)], 1_000).unwrap();
        let mut at = start;
        while at < end {
            let Polled::Records(records) = reader.poll(PATIENCE).unwrap() else {
                panic!("a reader is in no group")
            };
            for fetched in records {
                at = fetched.offset + 1;
                let result =
                    schemas::records::SegmentResult::decode(&fetched.record.value.unwrap())
                        .unwrap();
                *counts.entry(result.execution.to_string()).or_insert(0) += 1;
            }
        }
    }
    counts
}

pub(crate) fn count(plan: &Plan) -> Count {
    let data = tempfile::tempdir().unwrap();
    let acknowledged = storm(plan, data.path());
    let folder = data.path().join("data");
    let (rows, results) = (history(&folder), results(&folder));
    let promised: std::collections::HashSet<&String> = acknowledged.values().collect();
    let lost = promised
        .iter()
        .filter(|id| rows.get(**id) != Some(&1) || !results.contains_key(**id))
        .count();
    let doubled = results.values().filter(|count| **count > 1).count();
    let unasked = results.keys().filter(|id| !promised.contains(id)).count();
    // Two ids with one execution would hide a loss.
    let shared = acknowledged.len() - promised.len();
    Count {
        acknowledged: acknowledged.len(),
        lost: lost + shared,
        duplicated: doubled + unasked,
    }
}

/// How many, from the environment where `make prove` asks for more.
fn scale(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn nothing_is_lost_and_nothing_twice_when_weir_is_killed() {
    let plan = Plan {
        triggers: scale("WEIR_TEST_TRIGGERS", 4_000),
        kills: scale("WEIR_TEST_KILLS", 4),
        binary: crate::weir::binary(),
        variant: None,
    };
    let begun = Instant::now();
    let count = count(&plan);
    eprintln!(
        "{} triggers, {} kills, {:.0?}: {count:?}",
        plan.triggers,
        plan.kills,
        begun.elapsed()
    );
    let expected = Count {
        acknowledged: plan.triggers,
        lost: 0,
        duplicated: 0,
    };
    Row {
        id: "L1",
        title: "kill -9 of weir dev while triggers are sent",
        injected: plan.kills,
        expected: format!("{} acknowledged ids, one execution each", plan.triggers),
        lost: count.lost,
        duplicated: count.duplicated,
        passed: count == expected,
        took: begun.elapsed(),
        seed: None,
    }
    .keep()
    .unwrap();
    assert_eq!(count, expected);
}

/// The same test on a lane that commits its offsets outside the transaction: it must see the loss.
#[test]
fn the_checker_catches_offsets_committed_outside_the_transaction() {
    let binary = broken_binary();
    let plan = Plan {
        triggers: 4_000,
        kills: 8,
        binary,
        variant: Some("offsets-outside"),
    };
    let begun = Instant::now();
    let count = count(&plan);
    eprintln!("broken variant: {count:?}");
    Row {
        id: "L2",
        title: "the same on a lane that commits its offsets outside the transaction",
        injected: plan.kills,
        expected: format!("the checker sees losses; it saw {}", count.lost),
        lost: 0,
        duplicated: 0,
        passed: count.lost > 0,
        took: begun.elapsed(),
        seed: None,
    }
    .keep()
    .unwrap();
    assert_eq!(count.acknowledged, plan.triggers);
    assert!(
        count.lost > 0,
        "the checker let a lane pass that commits offsets outside the transaction"
    );
}

/// The binary with the deliberately broken variants compiled in, beside the true one; built here.
pub(crate) fn broken_binary() -> PathBuf {
    let weir = PathBuf::from(env!("CARGO_BIN_EXE_weir"));
    let profile = weir.parent().and_then(|folder| folder.file_name()).unwrap();
    // of the whole workspace, or its libraries would be built anew with other features
    let status = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--bin", "weir-broken"])
        .args(["--features", "cli/broken", "--profile"])
        .arg(profile)
        .status()
        .unwrap();
    assert!(status.success(), "the broken variant does not build");
    weir.with_file_name("weir-broken")
}
