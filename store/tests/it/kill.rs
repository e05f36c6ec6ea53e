//! `kill -9`: what was acknowledged is there.
//!
//! The test starts itself as a child (`WEIR_STORE_CHILD`), which puts entries from many tasks and prints each key that
//! was acknowledged; it is killed in the middle.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use store::{Put, Store};
use tokio::task::JoinSet;

use crate::inbox::entry;

const CHILD: &str = "WEIR_STORE_CHILD";
const ROUNDS: usize = 3;
const ACKNOWLEDGED: usize = 2_000;

#[test]
fn acknowledged_entries_survive() {
    if let Ok(path) = std::env::var(CHILD) {
        return child(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "kill::acknowledged_entries_survive",
                "--nocapture",
            ])
            .env(CHILD, &path)
            .env("WEIR_STORE_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let keys = lines
            .map(Result::unwrap)
            .filter_map(|line| line.strip_prefix("ack ").map(str::to_owned));
        acknowledged.extend(keys.take(ACKNOWLEDGED));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(acknowledged.len(), ROUNDS * ACKNOWLEDGED);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(&path).await.unwrap();
        let mut stored = std::collections::HashSet::new();
        let mut last = 0;
        loop {
            let rows = store.inbox().after(0, last, 1_000, 8 << 20).await.unwrap();
            let Some(row) = rows.last() else { break };
            last = row.number;
            for row in rows {
                assert!(
                    stored.insert(row.record_key.unwrap()),
                    "number {} has a key that was there before",
                    row.number
                );
            }
        }
        assert_eq!(stored.len() as i64, last, "numbers have no gap");
        for key in &acknowledged {
            assert!(
                stored.contains(key.as_bytes()),
                "{key} was acknowledged and is lost"
            );
            assert!(
                matches!(
                    store.inbox().put(entry(key, 0, 0)).await,
                    Ok(Put::Duplicate { .. })
                ),
                "{key}"
            );
        }
    });
}

/// Puts until it is killed.
fn child(path: &Path) {
    let round = std::env::var("WEIR_STORE_ROUND").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(path).await.unwrap();
        let mut putters = JoinSet::new();
        for task in 0..32 {
            let (store, round) = (store.clone(), round.clone());
            putters.spawn(async move {
                for i in 0.. {
                    let key = format!("{round}.{task}.{i}");
                    assert_eq!(store.inbox().put(entry(&key, 0, 0)).await, Ok(Put::New));
                    println!("ack {key}");
                }
            });
        }
        putters.join_all().await;
    });
}
