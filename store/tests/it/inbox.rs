//! The inbox.

use std::collections::HashMap;

use bytes::Bytes;
use schemas::ExecutionId;
use store::{Entry, Key, Put, Row, Store};
use tokio::task::JoinSet;

use crate::{each, each_with};

pub(crate) fn entry(key: &str, body: u8, execution: u8) -> Entry {
    Entry {
        key: Key::new("default", "g", "t", key),
        body_sha256: [body; 32],
        execution: ExecutionId([execution; 16]),
        at_ms: 1_000,
        record_key: Some(Bytes::from(key.to_owned())),
        record: Bytes::from(format!("record of {key}")),
    }
}

async fn all_after(store: &Store, number: i64) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let last = rows.last().map_or(number, |row| row.number);
        let more = store.inbox().after(0, last, 100, 1 << 20).await.unwrap();
        if more.is_empty() {
            return rows;
        }
        rows.extend(more);
    }
}

#[tokio::test]
async fn a_key_is_taken_once() {
    each(|store| async move {
        let inbox = store.inbox();
        assert_eq!(inbox.put(entry("a", 1, 1)).await, Ok(Put::New));
        assert_eq!(
            inbox.put(entry("a", 1, 2)).await,
            Ok(Put::Duplicate {
                execution: ExecutionId([1; 16])
            })
        );
        assert_eq!(inbox.put(entry("a", 2, 3)).await, Ok(Put::Conflict));
        assert_eq!(inbox.put(entry("b", 2, 4)).await, Ok(Put::New));
        let rows = all_after(&store, 0).await;
        let row = |number, key: &str| {
            let Entry {
                at_ms,
                record_key,
                record,
                ..
            } = entry(key, 0, 0);
            Row {
                number,
                timestamp_ms: at_ms,
                record_key,
                record,
            }
        };
        assert_eq!(rows, [row(1, "a"), row(2, "b")]);
        assert_eq!(all_after(&store, 1).await, [row(2, "b")]);

        inbox.emitted(0, 2).await.unwrap();
        assert_eq!(all_after(&store, 0).await, []);
        assert_eq!(
            inbox.put(entry("a", 1, 5)).await,
            Ok(Put::Duplicate {
                execution: ExecutionId([1; 16])
            })
        );
        assert_eq!(inbox.put(entry("c", 1, 6)).await, Ok(Put::New));
        assert_eq!(all_after(&store, 2).await[0].number, 3);
    })
    .await;
}

#[test]
fn a_key_belongs_to_its_trigger() {
    let keys = [
        ["a", "b", "c", "d"],
        ["x", "b", "c", "d"],
        ["a", "x", "c", "d"],
        ["a", "b", "x", "d"],
        ["ab", "", "c", "d"],
    ];
    let keys: std::collections::HashSet<Key> = keys
        .iter()
        .map(|[t, g, n, k]| Key::new(t, g, n, k))
        .collect();
    assert_eq!(keys.len(), 5);
}

/// 64 tasks put the same 100 keys five times each, at the same time: in the same group, and in others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_who_come_at_once_one_is_first() {
    each(|store| async move {
        let mut putters = JoinSet::new();
        for task in 0..64_u8 {
            let store = store.clone();
            putters.spawn(async move {
                let mut answers = Vec::new();
                for round in 0..5 {
                    for key in 0..100 {
                        let key = (key + usize::from(task) * 7 + round) % 100;
                        let put = store
                            .inbox()
                            .put(entry(&key.to_string(), 9, task))
                            .await
                            .unwrap();
                        answers.push((
                            key,
                            match put {
                                Put::New => (true, ExecutionId([task; 16])),
                                Put::Duplicate { execution } => (false, execution),
                                Put::Conflict => panic!("all bodies are the same"),
                            },
                        ));
                    }
                }
                answers
            });
        }
        let mut firsts: HashMap<usize, ExecutionId> = HashMap::new();
        let answers: Vec<_> = putters.join_all().await.into_iter().flatten().collect();
        assert_eq!(answers.len(), 64 * 500);
        for (key, (_, execution)) in answers.iter().filter(|(_, (new, _))| *new) {
            assert_eq!(
                firsts.insert(*key, *execution),
                None,
                "key {key} is new twice"
            );
        }
        for (key, (_, execution)) in &answers {
            assert_eq!(firsts[key], *execution, "key {key}");
        }
        let rows = all_after(&store, 0).await;
        assert_eq!(
            rows.iter().map(|row| row.number).collect::<Vec<_>>(),
            (1..=100).collect::<Vec<i64>>()
        );
    })
    .await;
}

/// What has been read up to N is complete up to N, whoever is writing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_misses_nothing_that_is_committed_later() {
    each(|store| async move {
        let mut putters = JoinSet::new();
        for task in 0..16 {
            let store = store.clone();
            putters.spawn(async move {
                for i in 0..50 {
                    assert_eq!(
                        store.inbox().put(entry(&format!("{task}.{i}"), 0, 0)).await,
                        Ok(Put::New)
                    );
                }
            });
        }
        let mut commits = store.inbox().commits(0);
        let (mut seen, mut marked) = (Vec::new(), 0);
        while seen.len() < 800 {
            commits.mark_unchanged();
            let last = seen.last().copied().unwrap_or(0);
            let rows = store.inbox().after(0, last, 64, 1 << 20).await.unwrap();
            if rows.is_empty() {
                commits.changed().await.unwrap();
            }
            seen.extend(rows.iter().map(|row| row.number));
            if last - marked > 100 {
                store.inbox().emitted(0, last).await.unwrap();
                marked = last;
            }
        }
        putters.join_all().await;
        assert_eq!(seen, (1..=800).collect::<Vec<i64>>());
    })
    .await;
}

#[tokio::test]
async fn a_position_within_a_batch_is_gone_on_from() {
    each(|store| async move {
        let mut putters = JoinSet::new();
        for i in 0..40 {
            let store = store.clone();
            putters.spawn(async move {
                store
                    .inbox()
                    .put(entry(&i.to_string(), 0, 0))
                    .await
                    .unwrap()
            });
        }
        putters.join_all().await;
        for from in 0..=40 {
            let numbers: Vec<i64> = all_after(&store, from)
                .await
                .iter()
                .map(|row| row.number)
                .collect();
            assert_eq!(numbers, (from + 1..=40).collect::<Vec<i64>>());
        }
        store.inbox().emitted(0, 20).await.unwrap();
        assert_eq!(
            all_after(&store, 20).await.len(),
            20,
            "a batch that is emitted in part stays whole"
        );
        assert!(
            !store.inbox().after(0, 20, 1, 1).await.unwrap().is_empty(),
            "at least one batch"
        );
    })
    .await;
}

#[tokio::test]
async fn a_shard_has_numbers_of_its_own() {
    each_with(4, |store| async move {
        let inbox = store.inbox();
        assert_eq!(inbox.shards(), 4);
        let mut of_shard = vec![Vec::new(); 4];
        for i in 0..40 {
            let entry = entry(&i.to_string(), 0, 0);
            of_shard[inbox.shard_of(&entry.key) as usize].push(entry.record_key.clone());
            assert_eq!(inbox.put(entry.clone()).await, Ok(Put::New));
            assert!(matches!(inbox.put(entry).await, Ok(Put::Duplicate { .. })));
        }
        for (shard, keys) in (0..).zip(&of_shard) {
            assert!(!keys.is_empty(), "shard {shard} has none of 40 keys");
            let rows = inbox.after(shard, 0, 99, 1 << 20).await.unwrap();
            assert_eq!(
                rows.iter().map(|row| row.number).collect::<Vec<_>>(),
                (1..=keys.len() as i64).collect::<Vec<_>>()
            );
            assert_eq!(
                &rows
                    .into_iter()
                    .map(|row| row.record_key)
                    .collect::<Vec<_>>(),
                keys
            );
        }
        inbox.emitted(1, 1_000).await.unwrap();
        for shard in 0..4 {
            let rows = inbox.after(shard, 0, 99, 1 << 20).await.unwrap();
            assert_eq!(rows.is_empty(), shard == 1);
        }
        assert!(inbox.emitted(4, 1).await.is_err(), "there is no shard 4");
    })
    .await;
}

#[tokio::test]
async fn numbers_go_on_behind_a_position_that_is_ahead() {
    each(|store| async move {
        store.inbox().number_from(0, 41).await.unwrap();
        store.inbox().put(entry("a", 0, 0)).await.unwrap();
        store.inbox().number_from(0, 7).await.unwrap();
        store.inbox().put(entry("b", 0, 0)).await.unwrap();
        assert_eq!(
            all_after(&store, 0)
                .await
                .iter()
                .map(|row| row.number)
                .collect::<Vec<_>>(),
            [42, 43]
        );
    })
    .await;
}

#[tokio::test]
async fn old_keys_are_forgotten() {
    each(|store| async move {
        for (key, at_ms) in [("old", 1_000), ("older", 500), ("young", 5_000)] {
            store
                .inbox()
                .put(Entry {
                    at_ms,
                    ..entry(key, 0, 0)
                })
                .await
                .unwrap();
        }
        assert_eq!(
            store.inbox().sweep(5_000).await,
            Ok(0),
            "their triggers wait to be emitted"
        );
        store.inbox().emitted(0, 3).await.unwrap();
        assert_eq!(store.inbox().sweep(5_000).await, Ok(2));
        assert_eq!(store.inbox().put(entry("old", 0, 0)).await, Ok(Put::New));
        assert!(matches!(
            store.inbox().put(entry("young", 0, 0)).await,
            Ok(Put::Duplicate { .. })
        ));
        assert_eq!(
            all_after(&store, 0).await.len(),
            1,
            "what waits to be emitted stays"
        );
    })
    .await;
}

/// Keys are known in memory, in the table, and while they go from the one to the other.
#[tokio::test]
async fn keys_are_known_before_and_after_they_are_indexed() {
    each(|store| async move {
        for round in 0..4 {
            for i in 0..50_u8 {
                let key = format!("{round}.{i}");
                assert_eq!(
                    store.inbox().put(entry(&key, 0, i)).await,
                    Ok(Put::New),
                    "{key}"
                );
            }
            store.inbox().emitted(0, round * 50 + 25).await.unwrap();
            for i in 0..50_u8 {
                let key = format!("{}.{i}", round / 2);
                assert_eq!(
                    store.inbox().put(entry(&key, 0, 99)).await,
                    Ok(Put::Duplicate {
                        execution: ExecutionId([i; 16])
                    }),
                    "{key}"
                );
            }
        }
        assert_eq!(all_after(&store, 0).await.len(), 25);
    })
    .await;
}

/// Large records share no row of more than a mebibyte.
#[tokio::test]
async fn large_records_pass() {
    each(|store| async move {
        let mut putters = JoinSet::new();
        for i in 0..12_u8 {
            let store = store.clone();
            let entry = Entry {
                record: Bytes::from(vec![i; 512 << 10]),
                ..entry(&i.to_string(), 0, 0)
            };
            putters.spawn(async move { store.inbox().put(entry).await.unwrap() });
        }
        putters.join_all().await;
        let rows = all_after(&store, 0).await;
        assert_eq!(rows.len(), 12);
        assert!(rows.iter().all(|row| row.record.len() == 512 << 10));
    })
    .await;
}

#[tokio::test]
async fn who_hangs_up_breaks_nothing() {
    each(|store| async move {
        for i in 0..50 {
            let put = store.inbox().put(entry(&i.to_string(), 0, 0));
            let module = [i];
            let apply = store.put_module(&module);
            // Polled a few times at most, then dropped wherever it is.
            drop(
                tokio::time::timeout(std::time::Duration::from_micros(u64::from(i) * 20), async {
                    tokio::join!(put, apply)
                })
                .await,
            );
        }
        assert!(store.inbox().put(entry("last", 0, 0)).await.is_ok());
        store.put_module(b"last").await.unwrap();
        let numbers: Vec<i64> = all_after(&store, 0)
            .await
            .iter()
            .map(|row| row.number)
            .collect();
        assert_eq!(
            numbers,
            (1..=numbers.len() as i64).collect::<Vec<_>>(),
            "no gap"
        );
    })
    .await;
}
