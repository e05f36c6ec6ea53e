//! The contract suite against the embedded log, in memory and in a file, and what only it promises.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use topics::embedded::EmbeddedConfig;
use topics::{
    Embedded, Join, Log as _, LogError, Outgoing, Partition, Polled, Position, TopicSpec,
};

use crate::contract::{CASES, World, outgoing, wait_for};

fn run(log: impl Fn() -> Embedded) {
    for (name, case) in CASES {
        println!("{name}");
        case(&World {
            log: Arc::new(log()),
            name: (*name).to_owned(),
        });
    }
}

fn path(folder: &Path) -> std::path::PathBuf {
    folder.join("log.db")
}

#[test]
fn memory_keeps_the_contract() {
    run(Embedded::memory);
}

#[test]
fn a_file_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(&path(folder.path())).unwrap();
    run(|| log.clone());
}

/// Nothing stays in memory: every read goes to the file.
#[test]
fn a_file_without_cache_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        cache_bytes_max: 0,
        file_bytes_max: None,
    };
    let log = Embedded::open_with(&path(folder.path()), &config).unwrap();
    run(|| log.clone());
}

fn spec(name: &str, change: impl FnOnce(&mut TopicSpec)) -> TopicSpec {
    let mut spec = TopicSpec::new(name, 1);
    change(&mut spec);
    spec
}

fn zero(topic: &str) -> Partition {
    Partition {
        topic: topic.into(),
        number: 0,
    }
}

fn append(log: &Embedded, record: Outgoing) -> topics::Result<i64> {
    wait_for(log.appender(), vec![record]).map(|offsets| offsets[0])
}

fn at(topic: &str, key: &str, value: Option<&str>, timestamp_ms: i64) -> Outgoing {
    let mut record = outgoing(&topic.into(), Some(key), "");
    record.record.value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    record.record.timestamp_ms = timestamp_ms;
    record
}

/// The offsets and values from `offset` to the end.
fn tail(log: &Embedded, topic: &str, offset: i64) -> topics::Result<Vec<(i64, Option<String>)>> {
    let mut reader = log.reader(vec![(zero(topic), offset)], 7)?;
    let mut all = Vec::new();
    loop {
        let Polled::Records(records) = reader.poll(Duration::ZERO)? else {
            unreachable!("in no group")
        };
        if records.is_empty() {
            return Ok(all);
        }
        all.extend(records.into_iter().map(|f| {
            (
                f.offset,
                f.record
                    .value
                    .map(|v| String::from_utf8(v.to_vec()).unwrap()),
            )
        }));
    }
}

#[test]
fn everything_is_there_again_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(folder.path());
    let join = || Join {
        group: "g".into(),
        topics: vec!["in".into()],
        records_max: 10,
        bytes_max: 1 << 20,
    };
    {
        let log = Embedded::open(&path).unwrap();
        log.create_topics(&topics::catalog::topics()).unwrap();
        log.create_topics(&[spec("in", |_| {})]).unwrap();
        for n in 0..5 {
            append(&log, at("in", "k", Some(&n.to_string()), 1)).unwrap();
        }
        let mut lane = log.lane(join(), "0").unwrap();
        assert!(matches!(
            lane.poll(Duration::ZERO).unwrap(),
            Polled::Assigned(_)
        ));
        lane.commit(vec![Position {
            partition: zero("in"),
            next_offset: 3,
            metadata: "note \"quoted\"".into(),
        }])
        .unwrap();
        log.source("7")
            .unwrap()
            .0
            .commit(
                vec![at("in", "k", Some("5"), 1)],
                Bytes::from_static(&[0, 255]),
            )
            .unwrap();
    }
    let log = Embedded::open(&path).unwrap();
    assert_eq!(log.topics().len(), topics::catalog::topics().len() + 1);
    assert_eq!(log.offsets(&zero("in")).unwrap(), (0, 6));
    assert_eq!(
        tail(&log, "in", 4).unwrap(),
        [(4, Some("4".into())), (5, Some("5".into()))]
    );
    let mut lane = log.lane(join(), "0").unwrap();
    let Polled::Assigned(came) = lane.poll(Duration::ZERO).unwrap() else {
        panic!("nothing came")
    };
    let committed = came[0].committed.clone().unwrap();
    assert_eq!(
        (committed.next_offset, committed.metadata.as_str()),
        (3, "note \"quoted\"")
    );
    assert_eq!(log.source("7").unwrap().1.as_deref(), Some(&[0, 255][..]));
    assert_eq!(append(&log, at("in", "k", Some("6"), 1)).unwrap(), 6);
}

#[test]
fn a_file_has_one_opener() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(folder.path());
    let log = Embedded::open(&path).unwrap();
    let second = Embedded::open(&path).err().expect("refused");
    assert!(
        matches!(&second, LogError::Invalid { reason } if reason.contains("open already")),
        "{second}"
    );
    drop(log);
    Embedded::open(&path).unwrap();
}

#[test]
fn what_is_no_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(folder.path());
    std::fs::write(&path, vec![b'x'; 40_000]).unwrap();
    let error = Embedded::open(&path).err().expect("refused");
    assert!(
        matches!(&error, LogError::Corrupt { place } if place.contains("log.db")),
        "{error}"
    );
}

/// Full: nothing half applied, what was acknowledged stays, and the log takes records again once there is room.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        file_bytes_max: Some(4 << 20),
        ..EmbeddedConfig::default()
    };
    let log = Embedded::open_with(&path(folder.path()), &config).unwrap();
    log.create_topics(&[
        spec("in", |s| s.retention_ms = Some(1_000)),
        spec("out", |_| {}),
    ])
    .unwrap();
    let payload = "x".repeat(100_000);
    let mut written = 0;
    let full = loop {
        assert!(written < 100, "4 MiB hold less");
        match append(&log, at("in", "k", Some(&payload), 5_000)) {
            Ok(offset) => assert_eq!(offset, written),
            Err(error) => break error,
        }
        written += 1;
    };
    assert!(matches!(full, LogError::Full { .. }), "{full}");
    assert_eq!(full.disposition(), topics::Disposition::Retry);
    let join = Join {
        group: "g".into(),
        topics: vec!["in".into()],
        records_max: 10,
        bytes_max: 1 << 20,
    };
    let mut lane = log.lane(join, "0").unwrap();
    assert!(matches!(
        lane.poll(Duration::ZERO).unwrap(),
        Polled::Assigned(_)
    ));
    lane.send(vec![at("out", "k", Some(&payload), 1); 9])
        .unwrap();
    let refused = lane.commit(vec![Position {
        partition: zero("in"),
        next_offset: 1,
        metadata: String::new(),
    }]);
    assert!(matches!(refused, Err(LogError::Full { .. })), "{refused:?}");
    assert_eq!(
        lane.abort().unwrap()[0].committed,
        None,
        "no offset without its records"
    );
    assert_eq!(log.offsets(&zero("out")).unwrap(), (0, 0));
    assert_eq!(log.offsets(&zero("in")).unwrap(), (0, written));
    log.enforce_retention(7_000).unwrap();
    assert_eq!(log.offsets(&zero("in")).unwrap(), (written, written));
    assert_eq!(
        append(&log, at("in", "k", Some(&payload), 7_000)).unwrap(),
        written
    );
    lane.send(vec![at("out", "k", Some(&payload), 1)]).unwrap();
    lane.seek(&zero("in"), written).unwrap();
    lane.commit(vec![Position {
        partition: zero("in"),
        next_offset: written,
        metadata: String::new(),
    }])
    .unwrap();
    assert_eq!(log.offsets(&zero("out")).unwrap(), (0, 1));
}

#[test]
fn corruption_names_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(folder.path());
    let marker = "a value that stands nowhere else";
    {
        let log = Embedded::open(&path).unwrap();
        log.create_topics(&[spec("in", |_| {})]).unwrap();
        for n in 0..3 {
            append(&log, at("in", "k", Some(&format!("{marker} {n}")), 1)).unwrap();
        }
    }
    let mut bytes = std::fs::read(&path).unwrap();
    let wanted = format!("{marker} 1");
    let found = bytes
        .windows(wanted.len())
        .position(|window| window == wanted.as_bytes())
        .expect("it is in the file");
    bytes[found] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let log = Embedded::open(&path).unwrap();
    assert_eq!(
        tail(&log, "in", 2).unwrap().len(),
        1,
        "what is whole can be read"
    );
    let error = tail(&log, "in", 0).unwrap_err();
    assert!(
        matches!(&error, LogError::Corrupt { place } if place.contains("log.db") && place.contains("in/0 offset 1")),
        "{error}"
    );
    assert_eq!(error.disposition(), topics::Disposition::Invalid);
}

/// The same of a log in memory, in a file, and in a file that caches nothing.
fn everywhere(test: impl Fn(&Embedded)) {
    test(&Embedded::memory());
    for cache_bytes_max in [0, 1 << 20] {
        let folder = tempfile::tempdir().unwrap();
        let config = EmbeddedConfig {
            cache_bytes_max,
            ..EmbeddedConfig::default()
        };
        test(&Embedded::open_with(&path(folder.path()), &config).unwrap());
    }
}

#[test]
fn retention_deletes_by_age_and_size_and_is_never_skipped_in_silence() {
    everywhere(|log| {
        log.create_topics(&[
            spec("age", |s| s.retention_ms = Some(100)),
            spec("size", |s| s.retention_bytes = Some(2_500)),
            spec("all", |_| {}),
        ])
        .unwrap();
        for n in 0..10 {
            for topic in ["age", "size", "all"] {
                append(log, at(topic, "k", Some(&"x".repeat(1_000)), n * 50)).unwrap();
            }
        }
        log.enforce_retention(400).unwrap();
        assert_eq!(log.offsets(&zero("age")).unwrap(), (6, 10));
        assert_eq!(log.offsets(&zero("size")).unwrap(), (8, 10));
        assert_eq!(log.offsets(&zero("all")).unwrap(), (0, 10));
        assert_eq!(tail(log, "age", 6).unwrap().len(), 4);
        let error = tail(log, "age", 5).unwrap_err();
        assert_eq!(
            error,
            LogError::OutOfRange {
                partition: zero("age"),
                offset: 5,
                start: 6,
                end: 10
            }
        );
        log.enforce_retention(i64::MAX).unwrap();
        assert_eq!(
            log.offsets(&zero("age")).unwrap(),
            (10, 10),
            "the next offset is kept when nothing else is"
        );
        assert_eq!(append(log, at("age", "k", None, 0)).unwrap(), 10);
    });
}

#[test]
fn compaction_keeps_the_last_value_of_each_key() {
    everywhere(|log| {
        log.create_topics(&[spec("c", |s| s.cleanup = topics::catalog::Cleanup::Compact)])
            .unwrap();
        for n in 0..50 {
            append(
                log,
                at("c", &format!("k{}", n % 3), Some(&n.to_string()), n),
            )
            .unwrap();
        }
        append(log, at("c", "k0", None, 50)).unwrap();
        let mut reader = log.reader(vec![(zero("c"), 10)], 1).unwrap();
        log.enforce_retention(100).unwrap();
        let kept = [(47, Some("47".into())), (49, Some("49".into())), (50, None)];
        assert_eq!(tail(log, "c", 0).unwrap(), kept);
        assert_eq!(log.offsets(&zero("c")).unwrap(), (0, 51));
        let Polled::Records(records) = reader.poll(Duration::ZERO).unwrap() else {
            unreachable!("in no group")
        };
        assert_eq!(records[0].offset, 47, "a reader in a hole goes on after it");
        append(log, at("c", "k1", Some("new"), 60)).unwrap();
        append(log, at("c", "k2", Some("new"), 60)).unwrap();
        append(log, at("c", "k2", Some("newer"), 60)).unwrap();
        log.enforce_retention(i64::MAX).unwrap();
        assert_eq!(
            tail(log, "c", 0).unwrap(),
            [(51, Some("new".into())), (53, Some("newer".into()))],
            "an old tombstone goes"
        );
    });
}

/// A poll that waits is woken by what another thread appends; one that is alone with its wait uses no processor.
#[test]
fn a_waiting_poll_is_woken() {
    let log = Embedded::memory();
    log.create_topics(&[spec("in", |_| {})]).unwrap();
    let mut reader = log.reader(vec![(zero("in"), 0)], 10).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| append(&log, at("in", "k", Some("v"), 1)).unwrap());
        let Polled::Records(records) = reader.poll(Duration::from_secs(120)).unwrap() else {
            unreachable!("in no group")
        };
        assert_eq!(records.len(), 1);
    });
}
