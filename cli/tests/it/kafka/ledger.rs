//! What was asked for, what became of it, and the difference.
//!
//! Trigger number n of a graph has an id, a key and a payload that follow from n alone, so that nothing has to be
//! remembered to know what its result must look like. Numbers of one key ascend.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::ExecutionId;
use schemas::records::{Payload, SegmentResult, Trigger};
use topics::catalog::RESULTS;
use topics::{Outgoing, partitioner};
use xtask::checker::{self, Follower};

use super::cluster::Cluster;
use crate::kafka_proxy::lanes::outgoing;

const TENANT: &str = "default";
const KEYS: usize = 500;
const TIME_US: u64 = 1_700_000_000_000_000;
/// Longer than any transaction in these tests may stay open.
const OPEN: Duration = Duration::from_secs(40);
/// Marks a trigger of somebody whose transaction was never committed.
const STRANGER: &str = "stranger";

/// One graph's.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) graph: Arc<str>,
    /// Bytes that a payload is filled up to.
    pub(crate) payload: usize,
    /// Whether the one output must be the payload as it was sent.
    copies: bool,
    results: Arc<AtomicUsize>,
}

/// How the results differ from what they must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) asked: usize,
    /// No result.
    pub(crate) lost: usize,
    /// A second one, or one of something that nobody asked for.
    pub(crate) duplicated: usize,
    /// After a later one of the same key.
    pub(crate) disordered: usize,
    /// A failure, or another payload, key or id than it must have.
    pub(crate) altered: usize,
    /// Of a transaction that was never committed.
    pub(crate) aborted: usize,
    /// Partitions of triggers and results whose readers are held up by a transaction that nobody will end.
    pub(crate) hanging: usize,
}

impl Count {
    pub(crate) fn right(asked: usize) -> Self {
        Self {
            asked,
            ..Self::default()
        }
    }
}

impl Ledger {
    pub(crate) fn new(graph: &str) -> Self {
        Self {
            graph: graph.into(),
            payload: 200,
            copies: true,
            results: Arc::default(),
        }
    }

    /// For a step that does not copy.
    pub(crate) fn of_any_output(mut self) -> Self {
        self.copies = false;
        self
    }

    pub(crate) fn key(number: usize) -> Bytes {
        Bytes::from(format!("key-{}", number % KEYS))
    }

    pub(crate) fn payload(&self, number: usize) -> Bytes {
        let mut text = format!("{{\"number\":{number},\"pad\":\"");
        let digit = char::from(b'a' + (number % 26) as u8);
        text.extend(std::iter::repeat_n(
            digit,
            self.payload.saturating_sub(text.len() + 2),
        ));
        text.push_str("\"}");
        Bytes::from(text)
    }

    pub(crate) fn id(&self, number: usize) -> ExecutionId {
        let id = number.to_string();
        ExecutionId::derive(TIME_US / 1_000, TENANT, &self.graph, "t", &id)
    }

    /// The record that asks for execution `number`.
    pub(crate) fn trigger(&self, number: usize) -> Outgoing {
        self.with_data(number, self.payload(number))
    }

    /// The same with data of its own, which the ledger will not find back.
    pub(crate) fn with_data(&self, number: usize, data: Bytes) -> Outgoing {
        let execution = self.id(number);
        self.outgoing(number.to_string(), execution, Self::key(number), data)
    }

    /// What must never be seen: its key, its partition and the record's value.
    pub(crate) fn stranger(&self, partitions: u32) -> (Bytes, u32, Bytes) {
        let execution = ExecutionId::derive(TIME_US / 1_000, TENANT, &self.graph, "t", STRANGER);
        let key = Bytes::from_static(b"key-0");
        let record = self.outgoing(
            STRANGER.into(),
            execution,
            key.clone(),
            Bytes::from_static(b"{}"),
        );
        let partition = partitioner::partition_of(&key, partitions);
        (key, partition, record.record.value.unwrap())
    }

    fn outgoing(
        &self,
        trigger_id: String,
        execution: ExecutionId,
        key: Bytes,
        data: Bytes,
    ) -> Outgoing {
        let trigger = Trigger {
            tenant: TENANT.into(),
            graph: self.graph.to_string(),
            trigger: "t".into(),
            trigger_id,
            execution,
            time_us: TIME_US,
            origin: None,
            key: Some(key),
            content_type: "application/json".into(),
            headers: vec![],
            data: Payload::Inline(data),
        };
        outgoing(&trigger)
    }

    /// Counts results as they come, for whoever waits; what `count` finds is read anew.
    pub(crate) fn follow(&self, cluster: &Cluster) -> Follower {
        self.follow_with(cluster, |_| {})
    }

    /// The same, and hands each of the graph's results over as it comes.
    pub(crate) fn follow_with(
        &self,
        cluster: &Cluster,
        mut each: impl FnMut(&SegmentResult) + Send + 'static,
    ) -> Follower {
        let (ledger, results) = (self.clone(), self.results.clone());
        let mut tally = Tally::default();
        Follower::start(cluster.brokers(), &[RESULTS], move |record| {
            tally.take_with(&ledger, record, &mut each);
            results.store(tally.times.len(), Ordering::Release);
        })
        .unwrap()
    }

    /// Triggers that have a result, as far as `follow` has read.
    pub(crate) fn results(&self) -> usize {
        self.results.load(Ordering::Acquire)
    }

    /// Waits until so many triggers have a result; whether they had in time.
    pub(crate) fn settle(&self, asked: usize, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.results() < asked {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        true
    }

    /// `look`, but what a killed process left open may still be ended by the broker first.
    pub(crate) fn count(&self, cluster: &Cluster, asked: usize) -> Count {
        let deadline = Instant::now() + OPEN;
        loop {
            let count = self.look(cluster, asked);
            if count.hanging == 0 || Instant::now() > deadline {
                return count;
            }
        }
    }

    /// Reads everything from the start, and compares it with `asked` triggers, numbered from 0.
    pub(crate) fn look(&self, cluster: &Cluster, asked: usize) -> Count {
        let mut tally = Tally::default();
        let open = checker::read(cluster.brokers(), &[RESULTS], |record| {
            tally.take(self, record);
            Ok(())
        })
        .unwrap();
        let lost = (0..asked).filter(|n| !tally.times.contains_key(n)).count();
        let unasked = tally.times.keys().filter(|n| **n >= asked).count();
        Count {
            asked,
            lost,
            duplicated: tally.twice + unasked,
            hanging: open.len(),
            ..tally.count
        }
    }
}

#[derive(Default)]
struct Tally {
    times: HashMap<usize, u32>,
    twice: usize,
    last: HashMap<Vec<u8>, usize>,
    count: Count,
}

impl Tally {
    fn take(&mut self, ledger: &Ledger, record: checker::Record) {
        self.take_with(ledger, record, &mut |_| {});
    }

    fn take_with(
        &mut self,
        ledger: &Ledger,
        record: checker::Record,
        each: &mut dyn FnMut(&SegmentResult),
    ) {
        let value = Bytes::from(record.value.unwrap_or_default());
        let Ok(result) = SegmentResult::decode(&value) else {
            self.count.altered += 1;
            return;
        };
        if *result.graph != *ledger.graph {
            return;
        }
        each(&result);
        let Ok(number) = result.trigger_id.parse::<usize>() else {
            self.count.aborted += 1;
            return;
        };
        let times = self.times.entry(number).or_insert(0);
        *times += 1;
        if *times > 1 {
            self.twice += 1;
            return;
        }
        let key = record.key.unwrap_or_default();
        if let Some(last) = self.last.insert(key.clone(), number)
            && last > number
        {
            self.count.disordered += 1;
        }
        let copied = match &result.outputs[..] {
            [_] if !ledger.copies => true,
            [output] => output.data == Payload::Inline(ledger.payload(number)),
            _ => false,
        };
        let as_asked = result.failure.is_none()
            && result.execution == ledger.id(number)
            && key == Ledger::key(number);
        if !copied || !as_asked {
            self.count.altered += 1;
        }
    }
}
