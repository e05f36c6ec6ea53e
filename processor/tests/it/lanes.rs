//! Lanes on the embedded log: what a trigger becomes, exactly once, in order, also when the log fails under them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use processor::wasm::{Engine, EngineConfig};
use processor::{Definitions, Processor, ProcessorConfig};
use schemas::records::{DeadLetter, FailureKind, Payload, SegmentResult, Trigger};
use schemas::{ExecutionId, graph};
use store::{NewVersion, Payloads, Store};
use tokio::runtime::Runtime;
use topics::catalog::{DEAD_LETTERS, HOPS, RESULTS, TRIGGERS, topics};
use topics::{Embedded, Fetched, Log, Outgoing, Partition, Polled, Record};

use crate::faulty::{Faults, Faulty};

const PATIENCE: Duration = Duration::from_secs(60);

fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/guests/{name}.wasm"))
}

/// A log, a store and lanes of their own.
pub(crate) struct Line {
    pub(crate) runtime: Runtime,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Store,
    pub(crate) faults: Arc<Faults>,
    payloads: Option<Payloads>,
    processor: Option<Processor>,
}

struct Modules<'a>(&'a Runtime, &'a Store);

impl graph::Resolve for Modules<'_> {
    fn module(&mut self, uses: &str) -> Result<String, String> {
        let bytes = std::fs::read(guest(uses)).map_err(|e| e.to_string())?;
        self.0
            .block_on(self.1.put_module(&bytes))
            .map_err(|e| e.to_string())
    }
    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(format!("no file {path}"))
    }
}

impl Line {
    pub(crate) fn start(config: &ProcessorConfig, faults: Arc<Faults>) -> Self {
        Self::start_with(config, faults, None)
    }

    pub(crate) fn start_with(
        config: &ProcessorConfig,
        faults: Arc<Faults>,
        payloads: Option<Payloads>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let log: Arc<dyn Log> = Arc::new(Embedded::memory());
        log.create_topics(&topics()).unwrap();
        let store = runtime.block_on(Store::memory()).unwrap();
        let mut line = Self {
            runtime,
            log,
            store,
            faults,
            payloads,
            processor: None,
        };
        line.resume(config);
        line
    }

    pub(crate) fn resume(&mut self, config: &ProcessorConfig) {
        let engine = Engine::new(EngineConfig::default()).unwrap();
        let definitions = Definitions::new(
            self.store.clone(),
            engine,
            self.runtime.handle().clone(),
            config,
        )
        .with_payloads(self.payloads.clone());
        let log = Arc::new(Faulty {
            log: self.log.clone(),
            faults: self.faults.clone(),
        });
        self.processor = Some(Processor::start(log, Arc::new(definitions), config).unwrap());
    }

    /// Steps name guests: `uses: copy`.
    pub(crate) fn apply(&self, name: &str, steps: &str) {
        let text =
            format!("weir: 1\nname: {name}\ntriggers:\n  t: {{ manual: {{}} }}\nsteps:\n{steps}");
        let parsed = graph::parse(&text, "g.yaml").unwrap_or_else(|problems| panic!("{problems}"));
        let canonical = parsed
            .resolve(&mut Modules(&self.runtime, &self.store))
            .unwrap()
            .canonical()
            .unwrap();
        let new = NewVersion {
            tenant: "default".into(),
            graph: name.into(),
            version: graph::version(&canonical),
            canonical,
            source: text,
            webhooks: vec![],
            at_ms: 1,
            ..NewVersion::default()
        };
        self.runtime.block_on(self.store.apply(new)).unwrap();
    }

    /// Puts triggers on the log; each: key and data.
    pub(crate) fn trigger(
        &self,
        graph: &str,
        events: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<ExecutionId> {
        let mut ids = Vec::new();
        let records: Vec<Outgoing> = events
            .into_iter()
            .enumerate()
            .map(|(number, (key, data))| {
                let execution = ExecutionId::derive(
                    1_000 + number as u64,
                    "default",
                    graph,
                    "t",
                    &number.to_string(),
                );
                ids.push(execution);
                let trigger = Trigger {
                    tenant: "default".into(),
                    graph: graph.into(),
                    trigger: "t".into(),
                    trigger_id: number.to_string(),
                    execution,
                    time_us: 1,
                    origin: None,
                    key: Some(Bytes::from(key.clone())),
                    content_type: "application/json".into(),
                    headers: vec![],
                    data: Payload::Inline(Bytes::from(data)),
                };
                raw(TRIGGERS, key.as_bytes(), trigger.encode())
            })
            .collect();
        for batch in records.chunks(500) {
            self.runtime
                .block_on(self.log.appender().append(batch.to_vec()))
                .unwrap();
        }
        ids
    }

    /// The first `count` records of a topic, in the order of each partition; and no more may come.
    pub(crate) fn read(&self, topic: &str, count: usize) -> Vec<Fetched> {
        let all = self.read_so_far(topic, count);
        assert_eq!(all.len(), count);
        all
    }

    /// `count` records or more.
    fn read_so_far(&self, topic: &str, count: usize) -> Vec<Fetched> {
        let partitions = self.log.partitions(topic).unwrap();
        let from = (0..partitions)
            .map(|number| {
                (
                    Partition {
                        topic: topic.into(),
                        number,
                    },
                    0,
                )
            })
            .collect();
        let mut reader = self.log.reader(from, 10_000).unwrap();
        let mut all = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while all.len() < count {
            assert!(
                Instant::now() < deadline,
                "{} of {count} records of {topic}",
                all.len()
            );
            let Polled::Records(records) = reader.poll(Duration::from_millis(100)).unwrap() else {
                panic!("in no group")
            };
            all.extend(records);
        }
        all
    }

    pub(crate) fn results(&self, count: usize) -> Vec<SegmentResult> {
        decoded(&self.read(RESULTS, count))
    }

    /// `count` results or more.
    pub(crate) fn results_so_far(&self, count: usize) -> Vec<SegmentResult> {
        decoded(&self.read_so_far(RESULTS, count))
    }

    /// Stops the lanes: what is on the log now is all there will ever be.
    pub(crate) fn stop(&mut self) {
        self.processor.take().unwrap().stop().unwrap();
    }
}

fn decoded(records: &[Fetched]) -> Vec<SegmentResult> {
    records
        .iter()
        .map(|f| SegmentResult::decode(f.record.value.as_ref().unwrap()).unwrap())
        .collect()
}

pub(crate) fn raw(topic: &str, key: &[u8], value: Bytes) -> Outgoing {
    let record = Record {
        key: Some(Bytes::copy_from_slice(key)),
        value: Some(value),
        headers: vec![],
        timestamp_ms: 1,
    };
    Outgoing {
        topic: topic.into(),
        partition: None,
        record,
    }
}

pub(crate) fn data(output: &schemas::records::Output) -> String {
    let Payload::Inline(data) = &output.data else {
        panic!("a reference")
    };
    String::from_utf8_lossy(data).into_owned()
}

pub(crate) fn small() -> ProcessorConfig {
    ProcessorConfig {
        batch_records_max: 50,
        workers: 2,
        ..ProcessorConfig::default()
    }
}

#[test]
fn every_trigger_has_one_result_in_order_whatever_fails() {
    for every in [0, 7, 3] {
        let mut line = Line::start(&small(), Faults::every(every));
        line.apply("g", "  copy: { uses: copy, from: [t], isolation: batch }\n");
        let events = (0..3_000).map(|n| (format!("key-{}", n % 37), n.to_string()));
        let ids = line.trigger("g", events);
        let results = line.results(3_000);
        line.stop();
        line.results(3_000); // nothing comes later
        let mut count: HashMap<ExecutionId, usize> = HashMap::new();
        let mut last: HashMap<u64, u64> = HashMap::new();
        for result in &results {
            *count.entry(result.execution).or_default() += 1;
            let number: u64 = result.trigger_id.parse().unwrap();
            assert_eq!(data(&result.outputs[0]), number.to_string());
            let before = last.insert(number % 37, number);
            assert!(
                before.is_none_or(|before| before < number),
                "order of a key"
            );
        }
        assert!(ids.iter().all(|id| count.get(id) == Some(&1)) && count.len() == ids.len());
        let faults = line.faults.done.load(Ordering::Acquire);
        assert!(
            every == 0 || faults > 2,
            "only {faults} faults: the test is asleep"
        );
    }
}

#[test]
fn lanes_that_stop_and_start_go_on_where_they_were() {
    let mut line = Line::start(&small(), Faults::every(0));
    line.apply("g", "  copy: { uses: copy, from: [t], isolation: batch }\n");
    line.trigger("g", (0..500).map(|n| (n.to_string(), n.to_string())));
    line.results(500);
    line.stop();
    line.trigger("g", (0..500).map(|n| (n.to_string(), n.to_string())));
    line.resume(&ProcessorConfig {
        lanes: 3,
        ..small()
    });
    line.results(1_000);
    line.stop();
    line.results(1_000);
}

#[test]
fn a_bad_record_a_missing_graph_and_a_failed_step_are_dead_letters_with_the_original_bytes() {
    let mut line = Line::start(&small(), Faults::every(5));
    line.apply("g", "  bad: { uses: bad, from: [t] }\n");
    let append = |record: Outgoing| {
        line.runtime
            .block_on(line.log.appender().append(vec![record]))
            .unwrap()
    };
    append(raw(TRIGGERS, b"k", Bytes::from_static(b"no record at all")));
    append(raw(HOPS, b"k", Bytes::from_static(b"\0\x80\0\x02\x01torn")));
    line.trigger("gone", [("k".to_owned(), "{}".to_owned())]);
    line.trigger(
        "g",
        [
            ("k".to_owned(), "{\"do\":\"reject\"}".to_owned()),
            ("k".to_owned(), "{\"do\":\"trap\"}".to_owned()),
        ],
    );
    let letters = line.read(DEAD_LETTERS, 5);
    let results = line.results(3);
    line.stop();
    line.read(DEAD_LETTERS, 5);

    let triggers = line.read(TRIGGERS, 4);
    let originals: Vec<&Fetched> = triggers.iter().collect();
    let mut kinds = Vec::new();
    for letter in &letters {
        let about = DeadLetter::from_headers(&letter.record.headers).unwrap();
        kinds.push(about.kind);
        if about.topic == TRIGGERS {
            let original = originals
                .iter()
                .find(|o| o.partition.number == about.partition && o.offset == about.offset)
                .unwrap();
            assert_eq!(
                letter.record.value, original.record.value,
                "the original bytes"
            );
            assert_eq!(letter.record.key, original.record.key);
        }
    }
    kinds.sort_by_key(|kind| kind.as_str());
    assert_eq!(
        kinds,
        [
            FailureKind::GraphGone,
            FailureKind::Record,
            FailureKind::Record,
            FailureKind::Rejected,
            FailureKind::Trap
        ]
    );
    assert!(
        results
            .iter()
            .all(|result| result.failure.is_some() && result.outputs.is_empty())
    );
}

#[test]
fn a_hop_is_a_segment_of_its_own_and_the_results_name_it() {
    let mut line = Line::start(&small(), Faults::every(4));
    line.apply(
        "g",
        "  fan: { uses: fan, ports: [a, b, c], from: [t] }\n  far: { uses: echo, from: [fan.a, fan.b], hop: event.data.n }\n  end: { uses: copy, from: [far, fan.c] }\n",
    );
    let ids = line.trigger(
        "g",
        (0..100).map(|n| {
            (
                n.to_string(),
                "{\"ports\":[\"a\",\"b\",\"a\",\"c\"]}".to_owned(),
            )
        }),
    );
    // The first segment, and one for each of the three events that hop.
    let results = line.results(400);
    line.stop();
    line.results(400);
    for id in ids {
        let of: Vec<&SegmentResult> = results.iter().filter(|r| r.execution == id).collect();
        let first = of.iter().find(|r| r.segment == id.0).unwrap();
        assert_eq!(first.started.len(), 3);
        assert_eq!(
            first.outputs.iter().map(data).collect::<Vec<_>>(),
            ["{\"n\":3}"]
        );
        for segment in &first.started {
            let later = of
                .iter()
                .filter(|r| r.segment == *segment)
                .collect::<Vec<_>>();
            assert_eq!(later.len(), 1);
            assert!(
                data(&later[0].outputs[0]).contains(&id.to_string()),
                "its steps see the execution"
            );
        }
    }
}

#[test]
fn a_graph_applied_again_is_what_the_next_trigger_runs() {
    let line = Line::start(&small(), Faults::every(0));
    line.apply("g", "  one: { uses: copy, from: [t] }\n");
    line.trigger("g", [("k".to_owned(), "1".to_owned())]);
    assert_eq!(line.results(1)[0].outputs[0].step, "one");
    line.apply("g", "  two: { uses: copy, from: [t] }\n");
    let change = schemas::activation::Activation {
        tenant: "default".into(),
        graph: "g".into(),
        version: String::new(),
        epoch: 2,
        kind: schemas::activation::ActivationKind::Applied,
        state: schemas::activation::ActivationState::Active,
    };
    line.runtime
        .block_on(line.log.appender().append(vec![raw(
            "weir.graphs",
            b"default/g",
            change.encode(),
        )]))
        .unwrap();
    // The follower is another thread: triggers go on until one has seen the new version.
    let deadline = Instant::now() + PATIENCE;
    for sent in 2.. {
        line.trigger("g", [("k".to_owned(), "2".to_owned())]);
        if line.results(sent)[sent - 1].outputs[0].step == "two" {
            break;
        }
        assert!(Instant::now() < deadline);
    }
}
