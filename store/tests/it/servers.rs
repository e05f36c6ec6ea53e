//! What only Postgres can show: several processes share it, it goes down and comes back, it refuses.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use schemas::ExecutionId;
use store::{Disposition, Entry, NewVersion, Put, Store, StoreError};
use tokio::task::JoinSet;
use xtask::services::postgres::Temporary;

use crate::inbox::entry;
use crate::postgres;

const KEYS: usize = 300;
const TRIES: u8 = 5;

/// Two nodes, five tries at once for each key, one of them with another body.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_tries_on_two_nodes_one_is_first() {
    let url = postgres::database().await;
    let nodes = [
        Store::connect(&url).await.unwrap(),
        Store::connect(&url).await.unwrap(),
    ];
    assert_eq!(nodes[0].inbox().shards(), 4);
    let mut tries = JoinSet::new();
    for key in 0..KEYS {
        for attempt in 0..TRIES {
            let store = nodes[usize::from(attempt) % 2].clone();
            tries.spawn(async move {
                let body = u8::from(attempt == 4);
                let entry = entry(&key.to_string(), body, attempt);
                let put = store.inbox().put(entry).await.unwrap();
                (key, attempt, put)
            });
        }
    }
    let mut answers: BTreeMap<usize, Vec<(u8, Put)>> = BTreeMap::new();
    for (key, attempt, put) in tries.join_all().await {
        answers.entry(key).or_default().push((attempt, put));
    }
    for (key, answers) in answers {
        let new: Vec<u8> = answers
            .iter()
            .filter(|(_, put)| *put == Put::New)
            .map(|(attempt, _)| *attempt)
            .collect();
        let [first] = new[..] else {
            panic!("key {key} is new {} times", new.len());
        };
        for (attempt, put) in answers {
            let same_body = (attempt == 4) == (first == 4);
            let expected = match attempt {
                _ if attempt == first => Put::New,
                _ if same_body => Put::Duplicate {
                    execution: ExecutionId([first; 16]),
                },
                _ => Put::Conflict,
            };
            assert_eq!(put, expected, "key {key}, try {attempt}, first {first}");
        }
    }
    let mut records = HashSet::new();
    for shard in 0..4 {
        let rows = nodes[1].inbox().after(shard, 0, 1_000, 1 << 20).await;
        for (number, row) in (1..).zip(rows.unwrap()) {
            assert_eq!(row.number, number, "no gap");
            assert!(records.insert(row.record), "twice");
        }
    }
    assert_eq!(records.len(), KEYS);
}

/// A reader that goes on from the last number it saw misses none, while two nodes write.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn number_order_is_commit_order() {
    let url = postgres::database().await;
    let mut writers = JoinSet::new();
    let done = Arc::new(AtomicUsize::new(0));
    for node in 0..2 {
        let store = Store::connect(&url).await.unwrap();
        for task in 0..8 {
            let (store, done) = (store.clone(), done.clone());
            writers.spawn(async move {
                for i in 0..60 {
                    let key = format!("{node}.{task}.{i}");
                    assert_eq!(store.inbox().put(entry(&key, 0, 0)).await, Ok(Put::New));
                }
                done.fetch_add(1, Ordering::Release);
            });
        }
    }
    let reader = Store::connect(&url).await.unwrap();
    let mut last = [0; 4];
    let mut seen = 0;
    loop {
        let over = done.load(Ordering::Acquire) == 16;
        let before = seen;
        for (shard, last) in (0..).zip(&mut last) {
            for row in reader
                .inbox()
                .after(shard, *last, 50, 1 << 20)
                .await
                .unwrap()
            {
                assert_eq!(row.number, *last + 1, "shard {shard}");
                *last = row.number;
                seen += 1;
            }
        }
        if over && seen == before {
            break;
        }
    }
    writers.join_all().await;
    assert_eq!(seen, 2 * 8 * 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_at_once_make_the_tables_once() {
    let url = postgres::database().await;
    let mut starting = JoinSet::new();
    for _ in 0..6 {
        let url = url.clone();
        starting.spawn(async move { Store::connect(&url).await.unwrap() });
    }
    for store in starting.join_all().await {
        store.check().await.unwrap();
        store.put_module(b"module").await.unwrap();
        assert_eq!(store.inbox().shards(), 4);
    }
    postgres::execute(&url, "update store_format set format = 99".to_owned()).await;
    let error = Store::connect(&url).await.err().unwrap();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn epochs_of_two_nodes_have_no_gap_and_are_seen_in_their_order() {
    let url = postgres::database().await;
    let mut appliers = JoinSet::new();
    for node in 0..2 {
        let store = Store::connect(&url).await.unwrap();
        for task in 0..3 {
            let store = store.clone();
            appliers.spawn(async move {
                for version in 0..10 {
                    let canonical = format!("{node}.{task}.{version}").into_bytes();
                    let new = NewVersion {
                        tenant: "default".to_owned(),
                        graph: format!("g{task}"),
                        version: schemas::graph::version(&canonical),
                        canonical,
                        source: String::new(),
                        webhooks: vec![(format!("/{task}"), "hook".to_owned())],
                        at_ms: 1,
                        ..NewVersion::default()
                    };
                    assert!(store.apply(new).await.unwrap().changed);
                }
            });
        }
    }
    let reader = Store::connect(&url).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 60 {
        let last = seen.last().copied().unwrap_or(0);
        let changes = reader.changes_after(last, 7).await.unwrap();
        seen.extend(changes.iter().map(|change| change.epoch));
    }
    appliers.join_all().await;
    assert_eq!(seen, (1..=60).collect::<Vec<i64>>());
}

/// Nothing acknowledged is lost, what could not be had says "try again", and all goes on with new connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_server_is_killed_and_comes_back() {
    let mut server = tokio::task::spawn_blocking(|| Temporary::start().unwrap())
        .await
        .unwrap();
    let store = Store::connect(&server.url()).await.unwrap();
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut putters = JoinSet::new();
    for task in 0..16 {
        let (store, acknowledged, refused) = (store.clone(), acknowledged.clone(), refused.clone());
        putters.spawn(async move {
            for i in 0..200 {
                let key = format!("{task}.{i}");
                loop {
                    match store.inbox().put(entry(&key, 0, 0)).await {
                        Ok(Put::Conflict) => panic!("all bodies are the same"),
                        // a duplicate is one whose commit was in doubt
                        Ok(Put::New | Put::Duplicate { .. }) => break,
                        Err(error) => {
                            assert_eq!(error.disposition(), Disposition::Retry, "{error}");
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 1..=2 {
        while acknowledged.load(Ordering::Relaxed) < round * 800 {
            tokio::task::yield_now().await;
        }
        server = tokio::task::spawn_blocking(move || {
            server.kill().unwrap();
            server.restart().unwrap();
            server
        })
        .await
        .unwrap();
    }
    putters.join_all().await;
    assert!(refused.load(Ordering::Relaxed) > 0, "nobody noticed");
    store.check().await.unwrap();
    let mut records = HashSet::new();
    for shard in 0..4 {
        for (number, row) in (1..).zip(store.inbox().after(shard, 0, 9_999, 1 << 30).await.unwrap())
        {
            assert_eq!(row.number, number, "no gap");
            assert!(records.insert(row.record), "twice");
        }
    }
    assert_eq!(records.len(), 16 * 200);
}

/// Postgres has no text with a NUL in it.
#[tokio::test]
async fn a_path_with_a_nul_leads_nowhere() {
    let store = Store::connect(&postgres::database().await).await.unwrap();
    assert_eq!(store.webhook("default", "/a\0b").await, Ok(None));
}

#[tokio::test]
async fn what_the_server_says_becomes_a_disposition_and_never_tells_the_password() {
    let url = postgres::database().await;
    let (server, database) = url.rsplit_once('/').unwrap();
    let (_, address) = server.split_once('@').unwrap();
    let shown = |error: &StoreError| {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2"), "{text}");
        text
    };
    let refused = async |url: &str, disposition: Disposition, says: &str| {
        let error = match Store::connect(url).await {
            Ok(store) => store.put_module(b"abc").await.err().unwrap(),
            Err(error) => error,
        };
        let text = shown(&error);
        assert_eq!(error.disposition(), disposition, "{text}");
        assert!(text.contains(says), "{text} does not say {says}");
    };

    let missing = format!("postgres://postgres:hunter2@{address}/nowhere");
    refused(&missing, Disposition::Invalid, "create the database").await;
    let nobody = format!("postgres://nobody:hunter2@{address}/{database}");
    refused(&nobody, Disposition::Invalid, "check user and password").await;
    for wrong in [
        "postgres://postgres:hunter2@host:port/x",
        "mysql://root:hunter2@host/x",
        "hunter2",
        "sqlite:",
        "",
    ] {
        refused(wrong, Disposition::Invalid, "write postgres://").await;
    }

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let down = format!("postgres://postgres:hunter2@{closed}/x");
    refused(&down, Disposition::Retry, "it is down").await;

    for statement in [
        "create role crowded login connection limit 0",
        "create role poor login",
        "create role reader login",
        "alter role reader set default_transaction_read_only = on",
    ] {
        postgres::execute(&url, statement.to_owned()).await;
    }
    let crowded = format!("postgres://crowded:hunter2@{address}/{database}");
    refused(&crowded, Disposition::Retry, "max_connections").await;
    let poor = format!("postgres://poor:hunter2@{address}/{database}");
    refused(&poor, Disposition::Invalid, "grant the user").await;
    let reader = format!("postgres://reader:hunter2@{address}/{database}");
    refused(&reader, Disposition::Retry, "name the primary").await;
}

/// A trigger that nobody could emit for a day keeps its key.
#[tokio::test]
async fn a_key_is_kept_while_its_trigger_waits() {
    let store = Store::connect(&postgres::database().await).await.unwrap();
    let inbox = store.inbox();
    let old = Entry {
        at_ms: 10,
        ..entry("old", 0, 0)
    };
    let shard = inbox.shard_of(&old.key);
    assert_eq!(inbox.put(old).await, Ok(Put::New));
    assert_eq!(inbox.sweep(1_000).await, Ok(0));
    inbox.emitted(shard, 1).await.unwrap();
    assert_eq!(inbox.sweep(1_000).await, Ok(1));
}
