//! How fast the embedded log is on this machine, in a file: durable appends acknowledged, and records through a lane.
//! `cargo run --release -p topics --example rates [SECONDS]`

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use topics::{Embedded, Join, Log, Outgoing, Polled, Position, Record, Topic, TopicSpec};

const APPENDERS: usize = 64;

fn outgoing(topic: &Topic, n: u64) -> Outgoing {
    let record = Record {
        key: Some(Bytes::copy_from_slice(&n.to_be_bytes())),
        value: Some(Bytes::from(vec![b'x'; 1024])),
        headers: vec![("traceparent".into(), Bytes::from_static(&[b'0'; 40]))],
        timestamp_ms: 1,
    };
    Outgoing {
        topic: topic.clone(),
        partition: None,
        record,
    }
}

/// Seconds of processor time that this process has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 = stat
        .rsplit(") ")
        .next()
        .unwrap_or("")
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|t| t.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

#[expect(clippy::print_stdout, reason = "its result")]
fn say(what: &str, count: u64, elapsed: Duration, cpu: f64) {
    let rate = count as f64 / elapsed.as_secs_f64();
    println!(
        "{what}: {rate:.0}/s, {:.1} µs CPU each",
        cpu * 1e6 / count.max(1) as f64
    );
}

fn append(log: &Embedded, topic: &Topic, appenders: usize, time: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (started, used, count) = (Instant::now(), cpu(), AtomicU64::new(0));
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for appender in 0..appenders {
            let (to, topic) = (log.appender(), topic.clone());
            all.spawn(async move {
                let mut done = 0_u64;
                while started.elapsed() < time {
                    to.append(vec![outgoing(&topic, done * 64 + appender as u64)])
                        .await
                        .expect("appended");
                    done += 1;
                }
                done
            });
        }
        while let Some(done) = all.join_next().await {
            count.fetch_add(done.expect("no panic"), Ordering::Relaxed);
        }
    });
    say(
        &format!("acknowledged appends, {appenders} appenders"),
        count.into_inner(),
        started.elapsed(),
        cpu() - used,
    );
}

fn pump(log: &Embedded, input: &Topic, output: &Topic, lanes: usize) {
    let available: i64 = (0..4)
        .map(|number| {
            log.offsets(&topics::Partition {
                topic: input.clone(),
                number,
            })
            .expect("there")
            .1
        })
        .sum();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (started, used) = (Instant::now(), cpu());
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                let join = Join {
                    group: format!("rates-{lanes}"),
                    topics: vec![input.clone()],
                    records_max: 500,
                    bytes_max: 4 << 20,
                };
                let mut lane = log.lane(join, &lane.to_string()).expect("a lane");
                while !stop.load(Ordering::Relaxed) {
                    let Polled::Records(records) =
                        lane.poll(Duration::from_millis(20)).expect("polled")
                    else {
                        continue;
                    };
                    let mut next = BTreeMap::new();
                    let mut outputs = Vec::with_capacity(records.len());
                    for fetched in &records {
                        next.insert(fetched.partition.clone(), fetched.offset + 1);
                        outputs.push(Outgoing {
                            topic: output.clone(),
                            partition: None,
                            record: fetched.record.clone(),
                        });
                    }
                    lane.send(outputs).expect("sent");
                    let position = |(partition, next_offset)| Position {
                        partition,
                        next_offset,
                        metadata: String::new(),
                    };
                    lane.commit(next.into_iter().map(position).collect())
                        .expect("committed");
                    if done.fetch_add(records.len() as u64, Ordering::Relaxed)
                        + records.len() as u64
                        >= available as u64
                    {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    say(
        &format!("records through {lanes} lane(s), 500 to a commit"),
        done.into_inner(),
        started.elapsed(),
        cpu() - used,
    );
}

fn main() {
    let seconds = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    let folder = tempfile::tempdir().expect("a folder");
    let log = Embedded::open(&folder.path().join("log.db")).expect("opened");
    let (input, output): (Topic, Topic) = ("in".into(), "out".into());
    log.create_topics(&[TopicSpec::new("in", 4), TopicSpec::new("out", 4)])
        .expect("made");
    append(&log, &input, 1, Duration::from_secs(1));
    append(&log, &input, APPENDERS, Duration::from_secs(seconds));
    pump(&log, &input, &output, 1);
    pump(&log, &input, &output, 2);
}
