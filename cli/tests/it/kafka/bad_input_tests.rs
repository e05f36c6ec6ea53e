//! The rows of the README's table "what you get if …" that are about what others do to Weir's topics.

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use schemas::records::{DeadLetter, FailureKind};
use topics::catalog::{DEAD_LETTERS, TRIGGERS, topics};
use topics::{Fetched, Kafka, KafkaConfig, Log, Outgoing, Partition, Polled, Record};

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::process::{Process, Recipe};
use crate::weir::until;

type Admin = AdminClient<DefaultClientContext>;

fn admin(cluster: &Cluster) -> Admin {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.brokers());
    config.create().unwrap()
}

fn append(cluster: &Cluster, records: Vec<Outgoing>) {
    // knows the topics as they are now
    let log = Kafka::new(KafkaConfig {
        brokers: cluster.brokers().to_owned(),
        ..KafkaConfig::default()
    });
    let appender = log.unwrap().appender();
    let appended = appender.append(records);
    cluster.runtime.block_on(appended).unwrap();
}

fn send(cluster: &Cluster, ledger: &Ledger, numbers: std::ops::Range<usize>) {
    append(cluster, numbers.map(|n| ledger.trigger(n)).collect());
}

fn dead_letters(cluster: &Cluster) -> Vec<Fetched> {
    let count = cluster.log.partitions(DEAD_LETTERS).unwrap();
    let all = (0..count).map(|number| Partition {
        topic: DEAD_LETTERS.into(),
        number,
    });
    let mut found = Vec::new();
    for partition in all {
        let (start, end) = cluster.log.offsets(&partition).unwrap();
        if start == end {
            continue;
        }
        let mut reader = cluster.log.reader(vec![(partition, start)], 100).unwrap();
        // the last offset is that of the transaction's end
        let mut next = start;
        while next < end - 1 {
            if let Polled::Records(records) =
                reader.poll(std::time::Duration::from_secs(10)).unwrap()
            {
                next = records.last().map_or(next, |last| last.offset + 1);
                found.extend(records);
            }
        }
    }
    found
}

/// Waits until the process has said so, and takes itself for broken.
fn stops_with(process: &Process, words: &[&str]) {
    until("the lane stops and says why", || {
        let said = process.said();
        words.iter().all(|word| said.contains(word)) && process.get("/healthz").is_none()
    });
}

#[test]
fn records_that_are_none_of_ours_become_dead_letters_and_hold_nobody_up() {
    let cluster = Cluster::shared();
    let ledger = Ledger::new("foreign");
    cluster.apply("foreign", "copy", "");
    let processes = Process::start_all(&cluster, &Recipe::processor(), 1);
    let follower = ledger.follow(&cluster);
    let foreign = |key: &'static [u8], value: Option<&'static [u8]>| Outgoing {
        topic: TRIGGERS.into(),
        partition: Some(0),
        record: Record {
            key: Some(Bytes::from_static(key)),
            value: value.map(Bytes::from_static),
            headers: vec![("x-odd".into(), Bytes::from_static(b"\xff\xfe"))],
            timestamp_ms: ledger.trigger(0).record.timestamp_ms,
        },
    };
    let mut records = vec![
        foreign(b"no-value", None),
        foreign(b"no-record", Some(b"\x00\x01 what is this")),
    ];
    records.extend((0..200).map(|number| {
        let mut trigger = ledger.trigger(number);
        let odd = ("x-odd".into(), Bytes::from_static(b"\xff\xfe"));
        trigger.record.headers.push(odd);
        trigger
    }));
    append(&cluster, records);
    until("the others go on", || ledger.results() == 200);
    drop(follower);
    Process::stop_all(processes);
    assert_eq!(ledger.count(&cluster, 200), Count::right(200));

    let letters = dead_letters(&cluster);
    for (key, value) in [
        (&b"no-value"[..], None),
        (b"no-record", Some(&b"\x00\x01 what is this"[..])),
    ] {
        let of_it = |letter: &&Fetched| letter.record.key.as_deref() == Some(key);
        let [letter] = letters.iter().filter(of_it).collect::<Vec<_>>()[..] else {
            panic!("one dead letter of {key:?}");
        };
        assert_eq!(letter.record.value.as_deref(), value);
        let headers = &letter.record.headers;
        assert!(
            headers
                .iter()
                .any(|(name, value)| name == "x-odd" && **value == *b"\xff\xfe")
        );
        let letter = DeadLetter::from_headers(headers).unwrap();
        assert_eq!(letter.kind, FailureKind::Record);
        assert_eq!((&*letter.topic, letter.partition), (TRIGGERS, 0));
    }
}

#[test]
fn new_partitions_are_read_and_a_lost_offset_stops_its_lane() {
    let cluster = Cluster::new(1);
    let admin = admin(&cluster);
    let options = AdminOptions::new();
    let ledger = Ledger::new("partitions");
    cluster.apply("partitions", "copy", "");
    let mut processes = Process::start_all(&cluster, &Recipe::processor(), 1);
    let follower = ledger.follow(&cluster);
    send(&cluster, &ledger, 0..100);
    until("the first are there", || ledger.results() == 100);

    let before = cluster.log.partitions(TRIGGERS).unwrap();
    let more = [NewPartitions::new(TRIGGERS, before as usize + 3)];
    let made = admin.create_partitions(&more, &options);
    for made in cluster.runtime.block_on(made).unwrap() {
        made.unwrap();
    }
    let to_new = (100..130).map(|number| Outgoing {
        partition: Some(before + number as u32 % 3),
        ..ledger.trigger(number)
    });
    append(&cluster, to_new.collect());
    until("records on new partitions are run", || {
        ledger.results() == 130
    });
    drop(follower);
    Process::stop_all(std::mem::take(&mut processes));
    assert_eq!(ledger.count(&cluster, 130).lost, 0);

    // retention passes what nobody has read yet
    send(&cluster, &ledger, 130..330);
    let mut offsets = TopicPartitionList::new();
    for number in 0..before + 3 {
        let number = number.cast_signed();
        offsets
            .add_partition_offset(TRIGGERS, number, Offset::End)
            .unwrap();
    }
    let deleted = admin.delete_records(&offsets, &options);
    cluster.runtime.block_on(deleted).unwrap();
    let process = Process::start(&cluster, &Recipe::processor());
    stops_with(&process, &["is not in the log, which holds"]);
}

/// A cluster of its own whose one processor has run a hundred records.
fn begun(graph: &str) -> (Cluster, Ledger, Process) {
    let cluster = Cluster::new(1);
    let ledger = Ledger::new(graph);
    cluster.apply(graph, "copy", "");
    let process = Process::start(&cluster, &Recipe::processor());
    let follower = ledger.follow(&cluster);
    send(&cluster, &ledger, 0..100);
    until("the first are there", || ledger.results() == 100);
    drop(follower);
    (cluster, ledger, process)
}

fn make_anew(cluster: &Cluster, admin: &Admin) {
    let old = cluster.log.topic_id(TRIGGERS).unwrap();
    let gone = admin.delete_topics(&[TRIGGERS], &AdminOptions::new());
    for gone in cluster.runtime.block_on(gone).unwrap() {
        gone.unwrap();
    }
    until("the topic is gone and made anew", || {
        cluster.log.create_topics(&topics()).is_ok()
            && cluster.log.topic_id(TRIGGERS).is_ok_and(|id| id != old)
            && cluster
                .log
                .offsets(&Partition {
                    topic: TRIGGERS.into(),
                    number: 0,
                })
                .is_ok_and(|(_, end)| end == 0)
    });
}

/// The lanes' own positions fit the new topic as well as the old one: only its id tells.
#[test]
fn a_topic_that_is_made_anew_under_running_lanes_stops_them_and_those_after_them() {
    let (cluster, ledger, process) = begun("replaced");
    let admin = admin(&cluster);
    // deaf to the new topic's beginning
    process.freeze();
    make_anew(&cluster, &admin);
    send(&cluster, &ledger, 100..1_000);
    process.thaw();
    stops_with(&process, &["then start again"]);
    drop(process);
    let next = Process::start(&cluster, &Recipe::processor());
    stops_with(&next, &["then start again"]);
}

#[test]
fn a_topic_that_was_made_anew_meanwhile_stops_its_lane() {
    let (cluster, ledger, process) = begun("anew");
    let admin = admin(&cluster);
    Process::stop_all(vec![process]);
    make_anew(&cluster, &admin);
    send(&cluster, &ledger, 100..400);
    let process = Process::start(&cluster, &Recipe::processor());
    stops_with(&process, &["offset"]);
    assert_eq!(
        ledger.look(&cluster, 100),
        Count::right(100),
        "nothing is run anew"
    );
}
