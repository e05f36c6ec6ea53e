//! What was acknowledged survives `kill -9`, and what a transaction wrote is there whole or not at all.
//!
//! The test runs itself again as a child that appends and commits as fast as it can and tells each acknowledgement on its
//! standard output; kills it at some moment; and compares. Process crashes only: a power cut is not tried here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use topics::{Embedded, Join, Log, Partition, Polled, Position, Topic, TopicSpec};

use crate::contract::{outgoing, wait_for};

const ROUNDS: usize = 8;
const APPENDERS: usize = 16;
/// Outputs of one input record.
const OUTPUTS: usize = 3;
const CHILD: &str = "WEIR_TEST_CRASH_CHILD";

fn open(path: &Path) -> (Embedded, Topic, Topic) {
    let log = Embedded::open(path).unwrap();
    log.create_topics(&[TopicSpec::new("in", 2), TopicSpec::new("out", 3)])
        .unwrap();
    (log, "in".into(), "out".into())
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    if let Some(path) = std::env::var_os(CHILD) {
        child(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "crash::kill_9_loses_nothing_acknowledged",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // killed in the middle of its work, each time at another place
        let until = 300 + 137 * round;
        let mut told = 0;
        while told < until {
            let line = lines
                .next()
                .expect("the child tells until it is killed")
                .unwrap();
            told += usize::from(note(&mut acknowledged, &line));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            note(&mut acknowledged, &line);
        }
        compare(&path, &acknowledged);
    }
    assert!(acknowledged.len() > ROUNDS * 300);
}

/// A line `+<number>` is an acknowledgement.
fn note(acknowledged: &mut BTreeSet<String>, line: &str) -> bool {
    let Some(id) = line.strip_prefix('+') else {
        return false;
    };
    assert!(
        acknowledged.insert(id.to_owned()),
        "{id} was acknowledged twice"
    );
    true
}

fn child(path: &Path) -> ! {
    let (log, input, output) = open(path);
    let run = std::process::id();
    std::thread::scope(|scope| {
        for appender in 0..APPENDERS {
            let (log, input) = (&log, &input);
            scope.spawn(move || {
                for n in 0_u64.. {
                    let id = format!("{run}-{appender}-{n}");
                    wait_for(log.appender(), vec![outgoing(input, Some(&id), &id)]).unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "+{id}").and_then(|()| out.flush()).unwrap();
                }
            });
        }
        scope.spawn(|| copy(&log, &input, &output));
    });
    unreachable!("its appenders never end")
}

fn copy(log: &Embedded, input: &Topic, output: &Topic) {
    let join = Join {
        group: "copy".into(),
        topics: vec![input.clone()],
        records_max: 50,
        bytes_max: 1 << 20,
    };
    let mut lane = log.lane(join, "0").unwrap();
    loop {
        let Polled::Records(records) = lane.poll(Duration::from_millis(100)).unwrap() else {
            continue;
        };
        let mut next = BTreeMap::<Partition, i64>::new();
        for fetched in &records {
            next.insert(fetched.partition.clone(), fetched.offset + 1);
            let id = std::str::from_utf8(fetched.record.value.as_ref().unwrap()).unwrap();
            let outputs = (0..OUTPUTS).map(|n| outgoing(output, None, &format!("{id}/{n}")));
            lane.send(outputs.collect()).unwrap();
        }
        let position = |(partition, next_offset)| Position {
            partition,
            next_offset,
            metadata: String::new(),
        };
        lane.commit(next.into_iter().map(position).collect())
            .unwrap();
    }
}

fn read(log: &Embedded, topic: &Topic) -> Vec<(Partition, i64, String)> {
    let partitions = (0..log.partitions(topic).unwrap()).map(|number| Partition {
        topic: topic.clone(),
        number,
    });
    let mut left: i64 = partitions.clone().map(|p| log.offsets(&p).unwrap().1).sum();
    let mut reader = log
        .reader(partitions.map(|p| (p, 0)).collect(), 10_000)
        .unwrap();
    let mut all = Vec::new();
    while left > 0 {
        let Polled::Records(records) = reader.poll(Duration::ZERO).unwrap() else {
            unreachable!("in no group")
        };
        assert!(!records.is_empty(), "{left} records are not there");
        left -= records.len() as i64;
        all.extend(records.into_iter().map(|f| {
            (
                f.partition,
                f.offset,
                String::from_utf8(f.record.value.unwrap().to_vec()).unwrap(),
            )
        }));
    }
    all
}

fn compare(path: &Path, acknowledged: &BTreeSet<String>) {
    let (log, input, output) = open(path);
    let stored = read(&log, &input);
    let ids: BTreeSet<&String> = stored.iter().map(|(_, _, id)| id).collect();
    assert_eq!(ids.len(), stored.len(), "nothing is stored twice");
    let lost: Vec<_> = acknowledged.iter().filter(|id| !ids.contains(id)).collect();
    assert!(lost.is_empty(), "acknowledged, but not there: {lost:?}");
    // exactly the outputs of what lies before the committed offsets
    let join = Join {
        group: "copy".into(),
        topics: vec![input],
        records_max: 1,
        bytes_max: 1,
    };
    let mut lane = log.lane(join, "0").unwrap();
    let Polled::Assigned(assigned) = lane.poll(Duration::ZERO).unwrap() else {
        panic!("the only lane gets everything at once")
    };
    let next: BTreeMap<Partition, i64> = assigned
        .into_iter()
        .filter_map(|a| a.committed.map(|p| (a.partition, p.next_offset)))
        .collect();
    let done = stored
        .iter()
        .filter(|(partition, offset, _)| next.get(partition).is_some_and(|next| offset < next));
    let mut expected: Vec<String> = done
        .flat_map(|(_, _, id)| (0..OUTPUTS).map(move |n| format!("{id}/{n}")))
        .collect();
    let mut outputs: Vec<String> = read(&log, &output)
        .into_iter()
        .map(|(_, _, id)| id)
        .collect();
    expected.sort();
    outputs.sort();
    assert!(
        expected == outputs,
        "{} outputs, {} expected",
        outputs.len(),
        expected.len()
    );
}
