//! Results that processors might have written, and how what has landed of them is held against the log.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use schemas::ExecutionId;
use schemas::records::{Output, Payload, SegmentResult};
use sha2::{Digest as _, Sha256};
use topics::catalog::RESULTS;
use topics::{Log as _, Outgoing, Record};
use xtask::checker;

use super::super::cluster::Cluster;
use super::databases::Database;
use crate::weir::until;

const CHUNK: usize = 2_000;

/// Results that processors might have written: number n is an update of key n modulo `keys`.
pub(super) struct Results<'c> {
    pub(super) cluster: &'c Cluster,
    graph: &'static str,
    version: [u8; 32],
    sinks: Vec<&'static str>,
    pub(super) keys: usize,
    pub(super) count: usize,
    /// What the topic has for other destinations.
    others: usize,
    /// Of all of them; what is older than the topic keeps would be gone.
    time_ms: u64,
}

impl<'c> Results<'c> {
    /// Each output goes to the table `latest` of each destination.
    pub(super) fn of(
        cluster: &'c Cluster,
        graph: &'static str,
        keys: usize,
        destinations: &[(&'static str, &dyn Database)],
    ) -> Self {
        let sink = |(to, database): &(&str, &dyn Database)| {
            let (kind, more) = database.sink();
            format!("  {to}: {{ {kind}: {{ to: {to}, table: latest{more} }}, from: [t] }}\n")
        };
        let sinks: String = destinations.iter().map(sink).collect();
        let text = format!(
            "weir: 1\nname: {graph}\ntriggers:\n  t: {{ manual: {{}} }}\nsteps: {{}}\nsinks:\n{sinks}"
        );
        Self {
            version: cluster.put(graph, &text, String::new()),
            cluster,
            graph,
            sinks: destinations.iter().map(|(name, _)| *name).collect(),
            keys,
            count: 0,
            others: 0,
            time_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_millis() as u64,
        }
    }

    fn payload(&self, number: usize) -> Bytes {
        let pad = "x".repeat(number % 300);
        Bytes::from(format!(
            "{{\"id\":\"{}\",\"n\":{number},\"pad\":\"{pad}\"}}",
            number % self.keys
        ))
    }

    /// The clock of whoever triggers them runs backwards: an execution's id says nothing of which is later.
    fn time_ms(&self, number: usize) -> u64 {
        self.time_ms - number as u64
    }

    fn id(&self, number: usize) -> ExecutionId {
        ExecutionId::derive(
            self.time_ms(number),
            "default",
            self.graph,
            "t",
            &number.to_string(),
        )
    }

    pub(super) fn add(&mut self, count: usize) {
        let appender = self.cluster.log.appender();
        let mut numbers = self.count..self.count + count;
        loop {
            let chunk: Vec<Outgoing> = numbers
                .by_ref()
                .take(CHUNK)
                .map(|number| self.outgoing(number))
                .collect();
            if chunk.is_empty() {
                break;
            }
            self.cluster
                .runtime
                .block_on(appender.append(chunk))
                .unwrap();
        }
        self.count += count;
    }

    fn outgoing(&self, number: usize) -> Outgoing {
        let execution = self.id(number);
        let output = Output {
            step: "t".into(),
            port: "out".into(),
            number: 0,
            sinks: self.sinks.iter().map(|sink| (*sink).to_owned()).collect(),
            key: None,
            content_type: "application/json".into(),
            headers: vec![],
            data: Payload::Inline(self.payload(number)),
        };
        let result = SegmentResult {
            tenant: "default".into(),
            graph: self.graph.into(),
            version: self.version,
            trigger: "t".into(),
            trigger_id: number.to_string(),
            execution,
            time_us: self.time_ms(number) * 1_000,
            segment: execution.0,
            origin: None,
            failure: None,
            outputs: vec![output],
            started: vec![],
            logs: vec![],
            logs_dropped: 0,
        };
        Outgoing {
            topic: RESULTS.into(),
            partition: None,
            record: Record {
                key: Some(Bytes::from(format!("key-{}", number % self.keys))),
                value: Some(result.encode()),
                headers: vec![],
                timestamp_ms: self.time_ms as i64,
            },
        }
    }

    /// What another client reads of the log: each execution's payload, hashed.
    fn written(&self) -> HashMap<String, String> {
        let mut written = HashMap::new();
        checker::read(self.cluster.brokers(), &[RESULTS], |record| {
            let value = Bytes::from(record.value.unwrap_or_default());
            let Ok(result) = SegmentResult::decode(&value) else {
                return Ok(());
            };
            if result.graph != self.graph {
                return Ok(());
            }
            if let [
                Output {
                    data: Payload::Inline(data),
                    ..
                },
            ] = &result.outputs[..]
            {
                written.insert(result.execution.to_string(), hash(data));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(
            written.len(),
            self.count,
            "the log has what was written to it"
        );
        written
    }

    /// In a topic that has so many for other destinations, which these ones pass over.
    pub(super) fn after(self, others: usize) -> Self {
        Self { others, ..self }
    }

    /// Whether a destination is past all of them.
    pub(super) fn are_settled(&self, database: &dyn Database) -> bool {
        database.settled() >= self.others + self.count
    }

    pub(super) fn until_landed(&self, database: &dyn Database) {
        until("all has landed", || self.are_settled(database));
    }

    /// Holds the rows of `weir_executions` and `weir_outputs` against the log.
    pub(super) fn count(&self, database: &dyn Database) -> Count {
        let mut written = self.written();
        let mut count = Count::default();
        for landed in database.landed(self.graph) {
            match written.remove(&landed.execution) {
                None => count.duplicated += 1,
                Some(expected) if landed.hash.as_ref() == Some(&expected) => {}
                Some(_) => count.altered += 1,
            }
        }
        count.lost = written.len();
        count
    }

    /// Keys whose last update does not stand in `latest`.
    pub(super) fn stale(&self, database: &dyn Database) -> usize {
        let found = database.latest();
        let last = (self.count.saturating_sub(self.keys)..self.count)
            .map(|number| ((number % self.keys).to_string(), number.to_string()));
        last.filter(|(id, n)| found.get(id) != Some(n)).count()
    }
}

pub(super) fn hash(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) lost: usize,
    pub(super) duplicated: usize,
    pub(super) altered: usize,
}
