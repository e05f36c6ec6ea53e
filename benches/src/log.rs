//! The embedded log in a file: durable appends that many callers wait for, and the loop of a lane.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use topics::{Embedded, Join, Lane, Log, Outgoing, Polled, Position, Record, Topic, TopicSpec};

use crate::meter::{load, process_cpu};
use crate::place;
use crate::report::Row;

const APPENDERS: u64 = 64;
const APPEND_TIME: Duration = Duration::from_secs(4);
const PARTITIONS: u32 = 4;
const RECORD_BYTES: usize = 1 << 10;
const BATCH_RECORDS: usize = 500;
const LOOP_RECORDS: u64 = 100_000;

/// Two topics and a lane that copies records from one to the other.
pub struct Pump {
    log: Embedded,
    lane: Box<dyn Lane>,
    input: Topic,
    output: Topic,
    value: Bytes,
}

impl Pump {
    pub fn open(path: &Path) -> Result<Self> {
        let log = Embedded::open(path)?;
        let (input, output): (Topic, Topic) = ("in".into(), "out".into());
        log.create_topics(&[
            TopicSpec::new(&input, PARTITIONS),
            TopicSpec::new(&output, PARTITIONS),
        ])?;
        let join = Join {
            group: "bench".into(),
            topics: vec![input.clone()],
            records_max: BATCH_RECORDS,
            bytes_max: 4 << 20,
        };
        let lane = log.lane(join, "0")?;
        let value = Bytes::from(vec![b'x'; RECORD_BYTES]);
        Ok(Self {
            log,
            lane,
            input,
            output,
            value,
        })
    }

    fn outgoing(&self, n: u64) -> Outgoing {
        Outgoing {
            topic: self.input.clone(),
            partition: None,
            record: Record {
                key: Some(Bytes::copy_from_slice(&n.to_be_bytes())),
                value: Some(self.value.clone()),
                headers: Vec::new(),
                timestamp_ms: 1,
            },
        }
    }

    /// One durable append of `count` records.
    pub async fn append(&self, count: usize) -> Result<()> {
        let records = (0..count as u64).map(|n| self.outgoing(n)).collect();
        self.log.appender().append(records).await?;
        Ok(())
    }

    /// One poll, and a commit of what it brought; how many records that were.
    pub fn pass(&mut self) -> Result<usize> {
        let Polled::Records(records) = self.lane.poll(Duration::from_millis(20))? else {
            return Ok(0);
        };
        if records.is_empty() {
            return Ok(0);
        }
        let count = records.len();
        let mut next = BTreeMap::new();
        let mut outputs = Vec::with_capacity(count);
        for fetched in records {
            next.insert(fetched.partition, fetched.offset + 1);
            outputs.push(Outgoing {
                topic: self.output.clone(),
                partition: None,
                record: fetched.record,
            });
        }
        self.lane.send(outputs)?;
        let position = |(partition, next_offset)| Position {
            partition,
            next_offset,
            metadata: String::new(),
        };
        self.lane.commit(next.into_iter().map(position).collect())?;
        Ok(count)
    }
}

pub(crate) fn measure_appends() -> Result<Vec<Row>> {
    let folder = place::scratch()?;
    let pump = Pump::open(&folder.path().join("log.db"))?;
    let (started, cpu) = (Instant::now(), process_cpu());
    let appended = runtime()?.block_on(async {
        let mut appenders = JoinSet::new();
        for appender in 0..APPENDERS {
            let (to, mut record) = (pump.log.appender(), pump.outgoing(0));
            appenders.spawn(async move {
                let mut count = 0_u64;
                while started.elapsed() < APPEND_TIME {
                    let key = count * APPENDERS + appender;
                    record.record.key = Some(Bytes::copy_from_slice(&key.to_be_bytes()));
                    to.append(vec![record.clone()]).await?;
                    count += 1;
                }
                Ok::<_, topics::LogError>(count)
            });
        }
        sum(appenders).await
    })?;
    let (elapsed, cpu) = (started.elapsed(), process_cpu() - cpu);
    let note = format!(
        "{:.1} µs of CPU each, callers included; {APPENDERS} callers, one 1 KiB record a call; {}",
        cpu.as_secs_f64() * 1e6 / appended as f64,
        load()
    );
    let rate = appended as f64 / elapsed.as_secs_f64();
    Ok(vec![
        Row::new("log.append_acks_per_s", rate, "1/s").note(note),
    ])
}

pub(crate) fn measure_loop() -> Result<Vec<Row>> {
    let folder = place::scratch()?;
    let mut pump = Pump::open(&folder.path().join("log.db"))?;
    let runtime = runtime()?;
    for _ in 0..LOOP_RECORDS / BATCH_RECORDS as u64 {
        runtime.block_on(pump.append(BATCH_RECORDS))?;
    }
    let (started, cpu) = (Instant::now(), process_cpu());
    let (mut done, mut commits, mut idle) = (0, 0_u64, 0);
    while done < LOOP_RECORDS {
        let count = pump.pass()?;
        commits += u64::from(count > 0);
        idle = if count > 0 { 0 } else { idle + 1 };
        ensure!(idle < 500, "the lane stopped at {done} records");
        done += count as u64;
    }
    let (elapsed, cpu) = (started.elapsed(), process_cpu() - cpu);
    let note = format!(
        "{:.1} µs of CPU each; one lane, {:.0} records a commit, 1 KiB; {}",
        cpu.as_secs_f64() * 1e6 / done as f64,
        done as f64 / commits as f64,
        load()
    );
    let rate = done as f64 / elapsed.as_secs_f64();
    Ok(vec![
        Row::new("log.loop_records_per_s", rate, "1/s").note(note),
    ])
}

/// All callers in one thread: the rest of the machine is the log's.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// What the tasks counted, all together.
pub(crate) async fn sum<E>(mut tasks: JoinSet<Result<u64, E>>) -> Result<u64>
where
    E: Into<anyhow::Error> + 'static,
{
    let mut sum = 0;
    while let Some(done) = tasks.join_next().await {
        sum += done?.map_err(Into::into)?;
    }
    Ok(sum)
}
