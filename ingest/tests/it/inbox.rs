//! The source of the inbox: each row once, whatever happens to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ingest::IngestConfig;
use store::Store;
use topics::log::{Consumer, Join, Lane, Result};
use topics::{Append, Log, LogError, Outgoing, Partition, Source, TopicSpec};

use crate::line::{GRAPH, Line, apply, counted, memory};

/// A log whose sources fail now and then, before and after the commit, and whose appender may be another.
pub(crate) struct Faulty {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) appender: Option<Arc<dyn Append>>,
    pub(crate) commits: Arc<AtomicUsize>,
    pub(crate) faults: bool,
}

impl Faulty {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self {
            log,
            appender: None,
            commits: Arc::default(),
            faults: false,
        }
    }
}

struct FaultySource {
    source: Box<dyn Source>,
    commits: Arc<AtomicUsize>,
}

impl Source for FaultySource {
    fn commit(&mut self, records: Vec<Outgoing>, position: Bytes) -> Result<()> {
        match self.commits.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Err(LogError::Unavailable {
                reason: "before".to_owned(),
            }),
            1 => {
                self.source.commit(records, position)?;
                Err(LogError::Uncertain {
                    what: "after".to_owned(),
                })
            }
            _ => self.source.commit(records, position),
        }
    }
}

impl Log for Faulty {
    fn create_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        self.log.create_topics(topics)
    }
    fn partitions(&self, topic: &str) -> Result<u32> {
        self.log.partitions(topic)
    }
    fn topic_id(&self, topic: &str) -> Result<topics::TopicId> {
        self.log.topic_id(topic)
    }
    fn offsets(&self, partition: &Partition) -> Result<(i64, i64)> {
        self.log.offsets(partition)
    }
    fn lane(&self, join: Join, slot: &str) -> Result<Box<dyn Lane>> {
        self.log.lane(join, slot)
    }
    fn consumer(&self, join: Join) -> Result<Box<dyn Consumer>> {
        self.log.consumer(join)
    }
    fn reader(&self, from: Vec<(Partition, i64)>, records_max: usize) -> Result<Box<dyn Consumer>> {
        self.log.reader(from, records_max)
    }
    fn source(&self, shard: &str) -> Result<(Box<dyn Source>, Option<Bytes>)> {
        let (source, position) = self.log.source(shard)?;
        if !self.faults {
            return Ok((source, position));
        }
        Ok((
            Box::new(FaultySource {
                source,
                commits: self.commits.clone(),
            }),
            position,
        ))
    }
    fn appender(&self) -> Arc<dyn Append> {
        self.appender.clone().unwrap_or_else(|| self.log.appender())
    }
}

async fn send(line: &Line, deliveries: std::ops::Range<usize>) -> Vec<String> {
    let mut ids = Vec::new();
    for delivery in deliveries {
        ids.push(
            line.github(&format!("d-{delivery}"), "{}")
                .await
                .execution()
                .to_owned(),
        );
    }
    ids
}

fn once(ids: &[String]) -> std::collections::HashMap<String, usize> {
    ids.iter().map(|id| (id.clone(), 1)).collect()
}

/// What a crash leaves between the source's commit and the mark in the store: records and position on the log, the rows
/// still in the inbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_commit_and_mark_emits_nothing_twice() {
    let line = Line::new().await;
    let mut ids = send(&line, 0..10).await;
    let rows = line.store.inbox().after(0, 0, 7, 1 << 20).await.unwrap();
    let (mut source, position) = line.log.source("inbox-0").unwrap();
    assert_eq!(position, None);
    let last = rows.last().unwrap().number;
    let records = rows.into_iter().map(|row| Outgoing {
        topic: topics::catalog::TRIGGERS.into(),
        partition: None,
        record: topics::Record {
            key: row.record_key,
            value: Some(row.record),
            headers: vec![],
            timestamp_ms: row.timestamp_ms,
        },
    });
    source
        .commit(records.collect(), Bytes::from(last.to_string()))
        .unwrap();
    drop(source);

    let source = line.source();
    ids.extend(send(&line, 10..12).await);
    line.drained().await;
    source.stop().await;
    assert_eq!(counted(&line.triggers()), once(&ids));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_starts_again_where_it_stopped() {
    let line = Line::new().await;
    let mut ids = Vec::new();
    for round in 0..5 {
        let source = line.source();
        ids.extend(send(&line, round * 10..round * 10 + 10).await);
        // In the middle of its work, or not: either is right.
        source.stop().await;
    }
    let source = line.source();
    line.drained().await;
    source.stop().await;
    assert_eq!(counted(&line.triggers()), once(&ids));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_source_opens_its_shard_again() {
    let line = Line::new().await;
    let source = line.source();
    let mut ids = send(&line, 0..3).await;
    line.drained().await;
    let (mut rival, _) = line.log.source("inbox-0").unwrap();
    ids.extend(send(&line, 3..6).await);
    line.drained().await;
    assert!(
        matches!(
            rival.commit(vec![], Bytes::from_static(b"0")),
            Err(LogError::Fenced { .. })
        ),
        "now it is the fenced one"
    );
    source.stop().await;
    assert_eq!(counted(&line.triggers()), once(&ids));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_fail_before_or_after_are_no_loss_and_no_double() {
    let store = Store::memory().await.unwrap();
    apply(&store, GRAPH).await;
    let log = Arc::new(Faulty {
        faults: true,
        ..Faulty::new(memory())
    });
    let line = Line::with(log.clone(), store, IngestConfig::default()).await;
    let source = line.source();
    let mut ids = Vec::new();
    for round in 0..8 {
        ids.extend(send(&line, round * 5..round * 5 + 5).await);
        line.drained().await;
    }
    source.stop().await;
    assert!(log.commits.load(Ordering::Relaxed) > 8, "there were faults");
    assert_eq!(counted(&line.triggers()), once(&ids));
}

/// The store was lost or restored from a copy, the log was not: numbers go on behind the position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_younger_than_the_log() {
    let log = memory();
    let mut ids = Vec::new();
    for generation in 0..2 {
        let store = Store::memory().await.unwrap();
        apply(&store, GRAPH).await;
        let line = Line::with(log.clone(), store, IngestConfig::default()).await;
        let source = line.source();
        source.opened().await;
        ids.extend(send(&line, generation * 10..generation * 10 + 3).await);
        line.drained().await;
        source.stop().await;
    }
    let line = Line::with(log, Store::memory().await.unwrap(), IngestConfig::default()).await;
    assert_eq!(counted(&line.triggers()), once(&ids));
}
