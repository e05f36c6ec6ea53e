//! What `log.rs` promises, as one set of cases that every log has to pass. A case gets a world of its own names, so that
//! cases may run against one broker at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use topics::{
    Append, Assigned, Consumer, Fetched, Join, Lane, Log, LogError, Outgoing, Partition, Polled,
    Position, Record, Topic, TopicSpec,
};

/// One wait within a loop that has a deadline.
const STEP: Duration = Duration::from_millis(100);
/// No loop of a case takes longer on a machine that works, however slow.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) type Case = (&'static str, fn(&World));

pub(crate) const CASES: &[Case] = &[
    (
        "records_come_back_as_they_were",
        records_come_back_as_they_were,
    ),
    (
        "keys_choose_partitions_and_keyless_spread",
        keys_choose_partitions_and_keyless_spread,
    ),
    (
        "what_does_not_exist_is_missing",
        what_does_not_exist_is_missing,
    ),
    (
        "too_large_is_refused_and_the_lane_goes_on",
        too_large_is_refused_and_the_lane_goes_on,
    ),
    (
        "records_and_offsets_commit_together",
        records_and_offsets_commit_together,
    ),
    (
        "open_and_aborted_records_are_invisible",
        open_and_aborted_records_are_invisible,
    ),
    (
        "abort_rewinds_to_what_is_committed",
        abort_rewinds_to_what_is_committed,
    ),
    ("a_slot_has_one_owner", a_slot_has_one_owner),
    ("offsets_of_others_are_fenced", offsets_of_others_are_fenced),
    (
        "a_rebalance_loses_and_doubles_nothing",
        a_rebalance_loses_and_doubles_nothing,
    ),
    ("seek_pause_and_resume", seek_pause_and_resume),
    (
        "a_seek_before_the_first_record",
        a_seek_before_the_first_record,
    ),
    (
        "a_source_has_one_owner_and_one_position",
        a_source_has_one_owner_and_one_position,
    ),
    ("long_metadata_is_refused", long_metadata_is_refused),
    ("a_topic_keeps_its_id", a_topic_keeps_its_id),
    ("the_last_values_of_keys", the_last_values_of_keys),
    ("the_first_offset_at_a_time", the_first_offset_at_a_time),
    (
        "nothing_is_skipped_in_silence",
        nothing_is_skipped_in_silence,
    ),
    ("a_consumer_commits_nothing", a_consumer_commits_nothing),
    (
        "creating_again_changes_nothing",
        creating_again_changes_nothing,
    ),
    ("polls_are_bounded", polls_are_bounded),
];

/// A log, and names that no other case uses.
pub(crate) struct World {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) name: String,
}

impl World {
    fn topic(&self, name: &str, partitions: u32) -> Topic {
        let name = format!("{}.{name}", self.name);
        self.log
            .create_topics(&[TopicSpec::new(&name, partitions)])
            .unwrap();
        Topic::from(name)
    }

    fn join(&self, topic: &Topic) -> Join {
        Join {
            group: format!("{}.group", self.name),
            topics: vec![topic.clone()],
            records_max: 100,
            bytes_max: 1 << 20,
        }
    }

    fn lane(&self, topic: &Topic, slot: &str) -> Box<dyn Lane> {
        self.log.lane(self.join(topic), slot).unwrap()
    }

    fn append(&self, records: Vec<Outgoing>) -> Vec<i64> {
        wait_for(self.log.appender(), records).unwrap()
    }

    /// Fills a topic with `count` records, spread over its partitions; values are numbers from `from`.
    fn fill(&self, topic: &Topic, from: usize, count: usize) {
        self.append(
            (from..from + count)
                .map(|n| outgoing(topic, Some(&format!("k{n}")), &n.to_string()))
                .collect(),
        );
    }

    fn start(&self, topic: &Topic) -> Vec<(Partition, i64)> {
        let partitions = self.log.partitions(topic).unwrap();
        (0..partitions)
            .map(|number| (partition(topic, number), 0))
            .collect()
    }

    /// Reads a topic from its start, `count` records and what else comes soon after.
    fn read(&self, topic: &Topic, count: usize) -> Vec<Fetched> {
        let mut reader = self.log.reader(self.start(topic), 1_000).unwrap();
        let mut found = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        let mut quiet = 0;
        while quiet < 3 {
            assert!(
                Instant::now() < deadline,
                "{} of {count} records of {topic}",
                found.len()
            );
            let Polled::Records(records) = reader.poll(STEP).unwrap() else {
                panic!("a reader is in no group")
            };
            if found.len() >= count && records.is_empty() {
                quiet += 1;
            }
            found.extend(records);
        }
        found
    }

    fn values(&self, topic: &Topic, count: usize) -> Vec<String> {
        let mut values: Vec<String> = self.read(topic, count).iter().map(value).collect();
        values.sort();
        values
    }
}

pub(crate) fn wait_for(
    appender: Arc<dyn Append>,
    records: Vec<Outgoing>,
) -> topics::Result<Vec<i64>> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(appender.append(records))
}

fn partition(topic: &Topic, number: u32) -> Partition {
    Partition {
        topic: topic.clone(),
        number,
    }
}

pub(crate) fn outgoing(topic: &Topic, key: Option<&str>, value: &str) -> Outgoing {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let record = Record {
        key: key.map(bytes),
        value: Some(bytes(value)),
        headers: Vec::new(),
        timestamp_ms: 1_700_000_000_000,
    };
    Outgoing {
        topic: topic.clone(),
        partition: None,
        record,
    }
}

fn value(fetched: &Fetched) -> String {
    String::from_utf8(fetched.record.value.clone().unwrap().to_vec()).unwrap()
}

/// Polls until `count` partitions have come.
fn assigned(consumer: &mut (impl Consumer + ?Sized), count: usize) -> Vec<Assigned> {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while all.len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count} partitions have come",
            all.len()
        );
        match consumer.poll(STEP) {
            Ok(Polled::Assigned(came)) => all.extend(came),
            Ok(Polled::Records(records)) => assert!(
                records.is_empty(),
                "records before {count} partitions: {records:?}"
            ),
            Ok(Polled::Revoked { partitions, .. }) => {
                all.retain(|a: &Assigned| !partitions.contains(&a.partition))
            }
            Err(error) => assert_eq!(error.disposition(), topics::Disposition::Retry, "{error}"),
        }
    }
    all
}

/// Polls until `count` records have come.
fn records(consumer: &mut (impl Consumer + ?Sized), count: usize) -> Vec<Fetched> {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while all.len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count} records have come",
            all.len()
        );
        if let Polled::Records(records) = consumer.poll(STEP).unwrap() {
            all.extend(records);
        }
    }
    all
}

/// Where the group stands after these records.
fn positions(records: &[Fetched], metadata: &str) -> Vec<Position> {
    let mut next = BTreeMap::new();
    for fetched in records {
        next.insert(fetched.partition.clone(), fetched.offset + 1);
    }
    next.into_iter()
        .map(|(partition, next_offset)| Position {
            partition,
            next_offset,
            metadata: metadata.to_owned(),
        })
        .collect()
}

fn records_come_back_as_they_were(world: &World) {
    let topic = world.topic("in", 1);
    let any: Vec<u8> = (0..=255).collect();
    let record = |key: Option<&[u8]>, value: Option<&[u8]>, headers: Vec<(String, Bytes)>| Record {
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        headers,
        timestamp_ms: 1_700_000_000_123,
    };
    let headers = vec![
        ("a".to_owned(), Bytes::from(any.clone())),
        ("b".to_owned(), Bytes::new()),
        ("a".to_owned(), Bytes::from_static(b"again")),
    ];
    let written = vec![
        record(Some(&any), Some(&any), headers),
        record(Some(b"k"), None, Vec::new()),
        record(None, Some(b""), Vec::new()),
        record(Some(b""), Some(b"v"), Vec::new()),
        record(None, None, Vec::new()),
    ];
    let out = |record: &Record| Outgoing {
        topic: topic.clone(),
        partition: Some(0),
        record: record.clone(),
    };
    assert_eq!(
        world.append(written.iter().map(out).collect()),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(world.append(Vec::new()), [0_i64; 0]);
    let read = world.read(&topic, 5);
    assert_eq!(
        read.iter().map(|f| f.offset).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(
        read.into_iter().map(|f| f.record).collect::<Vec<_>>(),
        written
    );
    assert_eq!(world.log.offsets(&partition(&topic, 0)).unwrap(), (0, 5));
}

fn keys_choose_partitions_and_keyless_spread(world: &World) {
    let topic = world.topic("in", 4);
    let keyed: Vec<Outgoing> = (0..40)
        .map(|n| outgoing(&topic, Some(&format!("key-{n}")), &n.to_string()))
        .collect();
    world.append(keyed);
    for fetched in world.read(&topic, 40) {
        let key = fetched.record.key.clone().unwrap();
        assert_eq!(
            fetched.partition.number,
            topics::partitioner::partition_of(&key, 4)
        );
    }
    let keyless = world.topic("keyless", 4);
    world.append(
        (0..40)
            .map(|n| outgoing(&keyless, None, &n.to_string()))
            .collect(),
    );
    let used: BTreeSet<u32> = world
        .read(&keyless, 40)
        .iter()
        .map(|f| f.partition.number)
        .collect();
    assert_eq!(used.len(), 4, "keyless records go to every partition");
}

fn what_does_not_exist_is_missing(world: &World) {
    let topic = world.topic("in", 2);
    let nowhere: Topic = format!("{}.nowhere", world.name).into();
    let missing = |result: topics::Result<()>| {
        assert!(
            matches!(
                result,
                Err(LogError::Missing { .. } | LogError::MissingTopic { .. })
            ),
            "{result:?}"
        )
    };
    missing(world.log.partitions(&nowhere).map(drop));
    missing(world.log.offsets(&partition(&nowhere, 0)).map(drop));
    missing(world.log.offsets(&partition(&topic, 2)).map(drop));
    missing(world.log.lane(world.join(&nowhere), "0").map(drop));
    missing(world.log.consumer(world.join(&nowhere)).map(drop));
    missing(
        world
            .log
            .reader(vec![(partition(&topic, 2), 0)], 10)
            .map(drop),
    );
    missing(wait_for(world.log.appender(), vec![outgoing(&nowhere, None, "x")]).map(drop));
    let outside = Outgoing {
        partition: Some(2),
        ..outgoing(&topic, None, "x")
    };
    missing(wait_for(world.log.appender(), vec![outside]).map(drop));
    let mut lane = world.lane(&topic, "0");
    missing(lane.send(vec![outgoing(&nowhere, None, "x")]));
    lane.abort().unwrap();
    lane.send(vec![outgoing(&topic, None, "after")]).unwrap();
    lane.commit(Vec::new()).unwrap();
    assert_eq!(world.values(&topic, 1), ["after"]);
}

fn too_large_is_refused_and_the_lane_goes_on(world: &World) {
    let topic = world.topic("in", 1);
    let large = || vec![outgoing(&topic, None, &"x".repeat(3 << 20))];
    let too_large = |result: topics::Result<()>| {
        assert!(
            matches!(result, Err(LogError::TooLarge { .. })),
            "{result:?}"
        )
    };
    too_large(wait_for(world.log.appender(), large()).map(drop));
    let mut lane = world.lane(&topic, "0");
    lane.send(vec![outgoing(&topic, None, "before")]).unwrap();
    too_large(lane.send(large()));
    lane.abort().unwrap();
    lane.send(vec![outgoing(&topic, None, &"y".repeat(1 << 19))])
        .unwrap();
    lane.commit(Vec::new()).unwrap();
    assert_eq!(world.values(&topic, 1), ["y".repeat(1 << 19)]);
}

fn records_and_offsets_commit_together(world: &World) {
    let (input, output) = (world.topic("in", 1), world.topic("out", 2));
    world.fill(&input, 0, 10);
    let mut lane = world.lane(&input, "0");
    assert_eq!(assigned(&mut *lane, 1)[0].committed, None);
    let read = records(&mut *lane, 10);
    assert_eq!(
        read.iter().map(|f| f.offset).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    let note = "starts=2;käse";
    lane.send(
        read[..4]
            .iter()
            .map(|f| outgoing(&output, Some("k"), &value(f)))
            .collect(),
    )
    .unwrap();
    lane.commit(positions(&read[..4], note)).unwrap();
    lane.send(
        read[4..]
            .iter()
            .map(|f| outgoing(&output, Some("k"), &value(f)))
            .collect(),
    )
    .unwrap();
    lane.commit(positions(&read[4..], note)).unwrap();
    lane.commit(Vec::new()).unwrap();
    drop(lane);
    let written: Vec<String> = world.read(&output, 10).iter().map(value).collect();
    assert_eq!(
        written,
        (0..10).map(|n| n.to_string()).collect::<Vec<_>>(),
        "in order, as one key is one partition"
    );
    let mut next = world.lane(&input, "0");
    let came = assigned(&mut *next, 1);
    let expected = Position {
        partition: partition(&input, 0),
        next_offset: 10,
        metadata: note.to_owned(),
    };
    assert_eq!(came[0].committed.as_ref(), Some(&expected));
    world.fill(&input, 10, 1);
    assert_eq!(
        records(&mut *next, 1).iter().map(value).collect::<Vec<_>>(),
        ["10"],
        "what was committed does not come again"
    );
}

fn open_and_aborted_records_are_invisible(world: &World) {
    let (input, output) = (world.topic("in", 1), world.topic("out", 1));
    let mut lane = world.lane(&input, "0");
    assigned(&mut *lane, 1);
    lane.send(vec![outgoing(&output, None, "aborted")]).unwrap();
    assert!(world.read(&output, 0).is_empty(), "open");
    lane.abort().unwrap();
    assert!(world.read(&output, 0).is_empty(), "aborted");
    lane.send(vec![outgoing(&output, None, "committed")])
        .unwrap();
    lane.commit(Vec::new()).unwrap();
    lane.send(vec![outgoing(&output, None, "left open")])
        .unwrap();
    drop(lane);
    world.lane(&input, "0");
    world.append(vec![outgoing(&output, None, "appended")]);
    assert_eq!(world.values(&output, 2), ["appended", "committed"]);
}

fn abort_rewinds_to_what_is_committed(world: &World) {
    let (input, output) = (world.topic("in", 2), world.topic("out", 1));
    let to = |number, n: usize| Outgoing {
        partition: Some(number),
        ..outgoing(&input, None, &n.to_string())
    };
    world.append(
        (0..5)
            .map(|n| to(0, n))
            .chain((5..8).map(|n| to(1, n)))
            .collect(),
    );
    let mut lane = world.lane(&input, "0");
    assigned(&mut *lane, 2);
    let read = records(&mut *lane, 8);
    let zero: Vec<Fetched> = read
        .iter()
        .filter(|f| f.partition.number == 0)
        .cloned()
        .collect();
    lane.commit(positions(&zero[..2], "two")).unwrap();
    for _ in 0..2 {
        lane.send(vec![outgoing(&output, None, "dropped")]).unwrap();
        let mut back = lane.abort().unwrap();
        back.sort_by_key(|a| a.partition.clone());
        let next: Vec<Option<i64>> = back
            .iter()
            .map(|a| a.committed.as_ref().map(|p| p.next_offset))
            .collect();
        assert_eq!(next, [Some(2), None]);
        let mut again: Vec<String> = records(&mut *lane, 6).iter().map(value).collect();
        again.sort();
        assert_eq!(again, ["2", "3", "4", "5", "6", "7"]);
    }
    assert!(world.read(&output, 0).is_empty());
}

fn a_slot_has_one_owner(world: &World) {
    let (input, output) = (world.topic("in", 1), world.topic("out", 1));
    world.fill(&input, 0, 3);
    let mut old = world.lane(&input, "0");
    assigned(&mut *old, 1);
    let read = records(&mut *old, 3);
    old.send(vec![outgoing(&output, None, "old")]).unwrap();
    let mut new = world.lane(&input, "0");
    let fenced = old.commit(positions(&read, ""));
    assert!(matches!(fenced, Err(LogError::Fenced { .. })), "{fenced:?}");
    let still = old.abort();
    assert!(matches!(still, Err(LogError::Fenced { .. })), "{still:?}");
    assert!(matches!(
        old.commit(positions(&read, "")),
        Err(LogError::Fenced { .. })
    ));
    drop(old);
    assert_eq!(assigned(&mut *new, 1)[0].committed, None);
    let read = records(&mut *new, 3);
    new.send(vec![outgoing(&output, None, "new")]).unwrap();
    new.commit(positions(&read, "")).unwrap();
    assert_eq!(world.values(&output, 1), ["new"]);
}

fn offsets_of_others_are_fenced(world: &World) {
    let (input, output) = (world.topic("in", 1), world.topic("out", 1));
    let mut lane = world.lane(&input, "0");
    assigned(&mut *lane, 1);
    lane.send(vec![outgoing(&output, None, "x")]).unwrap();
    let foreign = Position {
        partition: partition(&output, 0),
        next_offset: 0,
        metadata: String::new(),
    };
    let fenced = lane.commit(vec![foreign]);
    assert!(matches!(fenced, Err(LogError::Fenced { .. })), "{fenced:?}");
    lane.abort().unwrap();
    assert!(world.read(&output, 0).is_empty());
}

/// Copies `input` to `output` until told to stop: two polls to a commit, and what is not committed when partitions leave
/// is committed then.
fn copy(log: &dyn Log, join: Join, slot: &str, output: &Topic, stop: &AtomicBool) -> usize {
    let mut lane = log.lane(join, slot).unwrap();
    let (mut done, mut polls, mut most) = (Vec::<Fetched>::new(), 0, 0);
    let mut held = BTreeSet::new();
    let settle = |lane: &mut Box<dyn Lane>, done: &mut Vec<Fetched>| {
        if let Err(error) = lane.commit(positions(done, "")) {
            assert_eq!(error.disposition(), topics::Disposition::Retry, "{error}");
            while let Err(error) = lane.abort() {
                assert_eq!(error.disposition(), topics::Disposition::Retry, "{error}");
            }
        }
        done.clear();
    };
    while !stop.load(Ordering::Relaxed) {
        match lane.poll(STEP) {
            Ok(Polled::Records(records)) => {
                lane.send(
                    records
                        .iter()
                        .map(|f| outgoing(output, Some(&f.partition.number.to_string()), &value(f)))
                        .collect(),
                )
                .unwrap();
                done.extend(records);
                polls += 1;
                if polls % 2 == 0 {
                    settle(&mut lane, &mut done);
                }
            }
            Ok(Polled::Assigned(came)) => {
                held.extend(came.into_iter().map(|a| a.partition));
                most = most.max(held.len());
            }
            Ok(Polled::Revoked { partitions, lost }) => {
                held.retain(|partition| !partitions.contains(partition));
                if lost {
                    done.clear();
                    while lane.abort().is_err() {}
                } else {
                    settle(&mut lane, &mut done);
                }
            }
            Err(error) => assert_eq!(error.disposition(), topics::Disposition::Retry, "{error}"),
        }
    }
    settle(&mut lane, &mut done);
    held.len()
}

fn a_rebalance_loses_and_doubles_nothing(world: &World) {
    let (input, output) = (world.topic("in", 4), world.topic("out", 4));
    let join = Join {
        records_max: 20,
        ..world.join(&input)
    };
    let (stop_a, stop_b) = (AtomicBool::new(false), AtomicBool::new(false));
    let log = &*world.log;
    std::thread::scope(|scope| {
        let a = scope.spawn(|| copy(log, join.clone(), "a", &output, &stop_a));
        world.fill(&input, 0, 300);
        world.read(&output, 1);
        let b = scope.spawn(|| copy(log, join.clone(), "b", &output, &stop_b));
        world.fill(&input, 300, 300);
        world.read(&output, 600);
        stop_a.store(true, Ordering::Relaxed);
        let held = a.join().unwrap();
        assert!(held <= 4, "{held}");
        world.fill(&input, 600, 300);
        world.read(&output, 900);
        stop_b.store(true, Ordering::Relaxed);
        assert_eq!(b.join().unwrap(), 4, "the last lane has everything");
    });
    let copied = world.read(&output, 900);
    let mut numbers: Vec<usize> = copied.iter().map(|f| value(f).parse().unwrap()).collect();
    let mut last = BTreeMap::<Bytes, usize>::new();
    for (fetched, number) in copied.iter().zip(&numbers) {
        let before = last.insert(fetched.record.key.clone().unwrap(), *number);
        assert!(
            before.is_none_or(|before| before < *number),
            "a partition's records were copied out of order"
        );
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..900).collect::<Vec<_>>(), "each once");
}

fn seek_pause_and_resume(world: &World) {
    let input = world.topic("in", 2);
    let to = |number, n: usize| Outgoing {
        partition: Some(number),
        ..outgoing(&input, None, &n.to_string())
    };
    world.append(
        (0..3)
            .map(|n| to(0, n))
            .chain((3..6).map(|n| to(1, n)))
            .collect(),
    );
    let (zero, one) = (partition(&input, 0), partition(&input, 1));
    let mut lane = world.lane(&input, "0");
    assigned(&mut *lane, 2);
    lane.pause(std::slice::from_ref(&one)).unwrap();
    assert!(records(&mut *lane, 3).iter().all(|f| f.partition == zero));
    assert!(
        matches!(lane.poll(STEP).unwrap(), Polled::Records(none) if none.is_empty()),
        "the other one is paused"
    );
    lane.seek(&zero, 1).unwrap();
    assert_eq!(
        records(&mut *lane, 2).iter().map(value).collect::<Vec<_>>(),
        ["1", "2"]
    );
    lane.seek(&one, 2).unwrap();
    lane.resume(std::slice::from_ref(&one)).unwrap();
    assert_eq!(
        records(&mut *lane, 1).iter().map(value).collect::<Vec<_>>(),
        ["5"]
    );
    lane.seek(&one, 0).unwrap();
    assert_eq!(
        records(&mut *lane, 3).iter().map(value).collect::<Vec<_>>(),
        ["3", "4", "5"]
    );
    let foreign = lane.seek(&partition(&input, 9), 0);
    assert!(
        matches!(foreign, Err(LogError::Invalid { .. })),
        "{foreign:?}"
    );
}

fn a_seek_before_the_first_record(world: &World) {
    let input = world.topic("in", 1);
    world.fill(&input, 0, 5);
    let mut lane = world.lane(&input, "0");
    assigned(&mut *lane, 1);
    lane.seek(&partition(&input, 0), 3).unwrap();
    assert_eq!(
        records(&mut *lane, 2).iter().map(value).collect::<Vec<_>>(),
        ["3", "4"]
    );
}

fn a_source_has_one_owner_and_one_position(world: &World) {
    world
        .log
        .create_topics(&[TopicSpec::new(topics::catalog::POSITIONS, 2)])
        .unwrap();
    let output = world.topic("out", 2);
    let shard = format!("{}-7", world.name);
    let (mut old, position) = world.log.source(&shard).unwrap();
    assert_eq!(position, None);
    old.commit(
        vec![
            outgoing(&output, Some("k"), "1"),
            outgoing(&output, Some("l"), "2"),
        ],
        Bytes::from_static(b"at 2"),
    )
    .unwrap();
    old.commit(Vec::new(), Bytes::from_static(b"at 3")).unwrap();
    let (mut other, position) = world.log.source(&format!("{}-8", world.name)).unwrap();
    assert_eq!(position, None, "another shard");
    other
        .commit(
            vec![outgoing(&output, None, "other")],
            Bytes::from_static(b"other"),
        )
        .unwrap();
    let (mut new, position) = world.log.source(&shard).unwrap();
    assert_eq!(position.as_deref(), Some(&b"at 3"[..]));
    let fenced = old.commit(
        vec![outgoing(&output, None, "zombie")],
        Bytes::from_static(b"at 4"),
    );
    assert!(matches!(fenced, Err(LogError::Fenced { .. })), "{fenced:?}");
    let refused = new.commit(
        vec![
            outgoing(&output, None, "half"),
            outgoing(&format!("{}.no", world.name).into(), None, "x"),
        ],
        Bytes::from_static(b"at 5"),
    );
    assert!(
        matches!(
            refused,
            Err(LogError::Missing { .. } | LogError::MissingTopic { .. })
        ),
        "{refused:?}"
    );
    new.commit(
        vec![outgoing(&output, None, "3")],
        Bytes::from_static(b"at 6"),
    )
    .unwrap();
    assert_eq!(world.values(&output, 4), ["1", "2", "3", "other"]);
    let (_, position) = world.log.source(&shard).unwrap();
    assert_eq!(position.as_deref(), Some(&b"at 6"[..]));
}

fn long_metadata_is_refused(world: &World) {
    let input = world.topic("in", 1);
    world.fill(&input, 0, 1);
    let mut lane = world.lane(&input, "0");
    assigned(&mut *lane, 1);
    let read = records(&mut *lane, 1);
    let long = lane.commit(positions(&read, &"m".repeat(4097)));
    assert!(matches!(long, Err(LogError::Invalid { .. })), "{long:?}");
    lane.abort().unwrap();
    let read = records(&mut *lane, 1);
    lane.commit(positions(&read, &"m".repeat(4096))).unwrap();
}

fn nothing_is_skipped_in_silence(world: &World) {
    let input = world.topic("in", 1);
    world.fill(&input, 0, 3);
    let mut reader = world
        .log
        .reader(vec![(partition(&input, 0), 50)], 10)
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        match reader.poll(STEP) {
            Ok(Polled::Records(none)) => {
                assert!(none.is_empty() && Instant::now() < deadline, "{none:?}")
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    let expected = LogError::OutOfRange {
        partition: partition(&input, 0),
        offset: 50,
        start: 0,
        end: 3,
    };
    assert_eq!(error, expected);
    reader.seek(&partition(&input, 0), 2).unwrap();
    assert_eq!(records(&mut *reader, 1)[0].offset, 2, "a seek repairs it");
}

fn a_consumer_commits_nothing(world: &World) {
    let input = world.topic("in", 1);
    world.fill(&input, 0, 2);
    for _ in 0..2 {
        let mut consumer = world.log.consumer(world.join(&input)).unwrap();
        assert_eq!(assigned(&mut *consumer, 1)[0].committed, None);
        assert_eq!(records(&mut *consumer, 2).len(), 2);
    }
}

fn creating_again_changes_nothing(world: &World) {
    let topic = world.topic("in", 2);
    world.fill(&topic, 0, 3);
    let more = world.topic("in", 5);
    assert_eq!(topic, more);
    assert_eq!(world.log.partitions(&topic).unwrap(), 2);
    assert_eq!(world.read(&topic, 3).len(), 3);
}

fn a_topic_keeps_its_id(world: &World) {
    let (one, other) = (world.topic("one", 1), world.topic("other", 1));
    world.fill(&one, 0, 1);
    let id = world.log.topic_id(&one).unwrap();
    assert_ne!(id, world.log.topic_id(&other).unwrap());
    // asking for it holds up nothing else that is asked
    for _ in 0..5 {
        assert_eq!(world.log.topic_id(&one).unwrap(), id);
        assert_eq!(world.log.offsets(&partition(&one, 0)).unwrap(), (0, 1));
    }
    let missing = world.log.topic_id("missing").unwrap_err();
    assert!(
        matches!(
            missing,
            LogError::Missing { .. } | LogError::MissingTopic { .. }
        ),
        "{missing}"
    );
}

fn the_first_offset_at_a_time(world: &World) {
    const T: i64 = 1_700_000_000_000;
    let topic = world.topic("timed", 1);
    let place = partition(&topic, 0);
    assert_eq!(world.log.offset_at(&place, T).unwrap(), 0, "empty");
    for after in [0, 10, 20, 20, 30] {
        let mut record = outgoing(&topic, None, "x");
        record.record.timestamp_ms = T + after;
        world.append(vec![record]);
    }
    for (time, expected) in [
        (-1, 0),
        (0, 0),
        (T - 1, 0),
        (T, 0),
        (T + 1, 1),
        (T + 20, 2),
        (T + 21, 4),
        (T + 30, 4),
        (T + 31, 5),
    ] {
        assert_eq!(
            world.log.offset_at(&place, time).unwrap(),
            expected,
            "at {time}"
        );
    }
    let missing = world.log.offset_at(&partition(&topic, 1), T).unwrap_err();
    assert!(matches!(missing, LogError::Missing { .. }), "{missing}");
}

fn the_last_values_of_keys(world: &World) {
    let topic = world.topic("state", 3);
    let keys: Vec<Bytes> = (0..20).map(|n| Bytes::from(format!("key-{n}"))).collect();
    assert_eq!(world.log.last(&topic, &keys).unwrap(), vec![None; 20]);
    let input = world.topic("in", 1);
    let mut lane = world.log.lane(world.join(&input), "0").unwrap();
    assigned(&mut *lane, 1);
    for round in 0..3 {
        let some = (0..20).filter(|n| n % 3 >= round);
        let records =
            some.map(|n| outgoing(&topic, Some(&format!("key-{n}")), &format!("{n} {round}")));
        lane.send(records.collect()).unwrap();
        // each leaves marks behind, which no reader sees
        lane.commit(Vec::new()).unwrap();
    }
    lane.send(vec![outgoing(&topic, Some("key-2"), "aborted")])
        .unwrap();
    lane.abort().unwrap();
    let last = world.log.last(&topic, &keys).unwrap();
    for (n, value) in last.into_iter().enumerate() {
        assert_eq!(value, Some(Bytes::from(format!("{n} {}", n % 3))));
    }
    let none = world.log.last(&topic, &[Bytes::from_static(b"nobody")]);
    assert_eq!(none.unwrap(), [None]);
}

fn polls_are_bounded(world: &World) {
    let input = world.topic("in", 1);
    world.append(
        (0..50)
            .map(|n| outgoing(&input, None, &format!("{n:0>1000}")))
            .collect(),
    );
    let join = Join {
        records_max: 7,
        ..world.join(&input)
    };
    let mut lane = world.log.lane(join, "0").unwrap();
    assigned(&mut *lane, 1);
    let mut seen = 0;
    let deadline = Instant::now() + PATIENCE;
    while seen < 50 {
        assert!(Instant::now() < deadline);
        let Polled::Records(records) = lane.poll(STEP).unwrap() else {
            continue;
        };
        assert!(records.len() <= 7);
        seen += records.len();
    }
    drop(lane);
    let join = Join {
        bytes_max: 1,
        ..world.join(&input)
    };
    let mut lane = world.log.lane(join, "0").unwrap();
    assigned(&mut *lane, 1);
    assert_eq!(
        records(&mut *lane, 3).len(),
        3,
        "one at a time, but they come"
    );
}
