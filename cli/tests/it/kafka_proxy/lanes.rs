//! A processor behind the proxy, triggers for it, and what became of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use processor::wasm::{Engine, EngineConfig};
use processor::{Definitions, Processor, ProcessorConfig};
use schemas::records::{Payload, SegmentResult, Trigger};
use schemas::{ExecutionId, graph};
use store::{NewVersion, Store};
use tokio::runtime::Runtime;
use topics::catalog::{GROUP_PROCESSORS, HOPS, RESULTS, TRIGGERS, topics};
use topics::{Consumer, Join, Kafka, Log, Outgoing, Partition, Polled, Record};

use super::World;
use crate::weir::{PATIENCE, guest};

/// Of a topic; as many lanes find work.
pub(super) const PARTITIONS: u32 = 8;
const GRAPH: &str = "copies";

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

pub(super) struct Line {
    pub(super) world: World,
    direct: Arc<Kafka>,
    runtime: Runtime,
    store: Store,
    sent: u64,
    reader: Box<dyn Consumer>,
    /// Committed results.
    results: HashMap<ExecutionId, usize>,
    /// Results that are not what their trigger was.
    wrong: usize,
}

/// What the checker found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) lost: usize,
    /// Results of one id beyond the first, or of none, or with something else in them.
    pub(super) doubled: usize,
    /// Partitions whose committed offset is not their end.
    pub(super) behind: usize,
}

impl Line {
    pub(super) fn start(world: World) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let direct = world.direct();
        let mut specs = topics();
        for spec in &mut specs {
            spec.partitions = spec.partitions.min(PARTITIONS);
        }
        direct.create_topics(&specs).unwrap();
        let store = runtime.block_on(Store::memory()).unwrap();
        apply(&runtime, &store);
        let from = partitions(RESULTS).map(|partition| (partition, 0));
        let reader = direct.reader(from.collect(), 5_000).unwrap();
        Self {
            world,
            direct,
            runtime,
            store,
            sent: 0,
            reader,
            results: HashMap::new(),
            wrong: 0,
        }
    }

    /// Lanes that talk to the broker through the proxy.
    pub(super) fn processor(&self, slots: &[&str]) -> Processor {
        let config = ProcessorConfig {
            lanes: slots.len(),
            slots: slots.iter().map(|&slot| slot.to_owned()).collect(),
            commit_interval: Duration::from_millis(50),
            ..ProcessorConfig::default()
        };
        let engine = Engine::new(EngineConfig::default()).unwrap();
        let handle = self.runtime.handle().clone();
        let definitions = Definitions::new(self.store.clone(), engine, handle, &config);
        Processor::start(self.world.proxied(), Arc::new(definitions), &config).unwrap()
    }

    /// Puts triggers on the log.
    pub(super) fn trigger(&mut self, count: u64) {
        let records = (self.sent..self.sent + count).map(trigger).collect();
        self.sent += count;
        self.runtime
            .block_on(self.direct.appender().append(records))
            .unwrap();
    }

    /// Takes in the results that have been committed, waiting for so long for the first.
    pub(super) fn look(&mut self, wait: Duration) {
        let Polled::Records(records) = self.reader.poll(wait).unwrap() else {
            panic!("in no group")
        };
        for fetched in records {
            let result = SegmentResult::decode(&fetched.record.value.unwrap()).unwrap();
            let data: Vec<&Payload> = result.outputs.iter().map(|output| &output.data).collect();
            let expected = Payload::Inline(Bytes::from(result.trigger_id.clone()));
            self.wrong += usize::from(data != [&expected]);
            *self.results.entry(result.execution).or_default() += 1;
        }
    }

    /// Waits until every trigger has a result, or none has come for long.
    pub(super) fn settle(&mut self) {
        let (mut last, mut since) = (0, Instant::now());
        while (self.results.len() as u64) < self.sent && since.elapsed() < PATIENCE / 2 {
            self.look(Duration::from_millis(200));
            if self.results.len() > last {
                (last, since) = (self.results.len(), Instant::now());
            }
        }
    }

    /// When the lanes have stopped.
    pub(super) fn check(&mut self) -> Found {
        for _ in 0..10 {
            self.look(Duration::from_millis(200));
        }
        let mut unasked = self.results.clone();
        let asked = (0..self.sent).map(execution);
        let lost = asked.filter(|id| unasked.remove(id).is_none()).count();
        let twice: usize = self.results.values().map(|count| count - 1).sum();
        Found {
            lost,
            doubled: twice + unasked.len() + self.wrong,
            behind: self.behind(),
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    fn behind(&self) -> usize {
        let join = Join {
            group: GROUP_PROCESSORS.into(),
            topics: vec![TRIGGERS.into(), HOPS.into()],
            records_max: 1,
            bytes_max: 1,
        };
        let mut member = self.direct.consumer(join).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut left = 2 * PARTITIONS as usize;
        let mut behind = 0;
        while left > 0 {
            assert!(Instant::now() < deadline, "{left} partitions did not come");
            let Polled::Assigned(assigned) = member.poll(Duration::from_millis(100)).unwrap()
            else {
                continue;
            };
            for found in assigned {
                left -= 1;
                let (_, end) = self.direct.offsets(&found.partition).unwrap();
                let committed = found.committed.map(|position| position.next_offset);
                behind += usize::from(committed != Some(end));
            }
        }
        behind
    }
}

fn apply(runtime: &Runtime, store: &Store) {
    let text = format!(
        "weir: 1\nname: {GRAPH}\ntriggers:\n  t: {{ manual: {{}} }}\nsteps:\n  copy: {{ uses: copy, from: [t], isolation: batch }}\n"
    );
    let parsed = graph::parse(&text, "g.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    let canonical = parsed
        .resolve(&mut Modules(runtime, store))
        .unwrap()
        .canonical()
        .unwrap();
    let new = NewVersion {
        tenant: "default".into(),
        graph: GRAPH.into(),
        version: graph::version(&canonical),
        canonical,
        source: text,
        webhooks: vec![],
        at_ms: 1,
        ..NewVersion::default()
    };
    runtime.block_on(store.apply(new)).unwrap();
}

fn partitions(topic: &str) -> impl Iterator<Item = Partition> {
    (0..PARTITIONS).map(move |number| Partition {
        topic: topic.into(),
        number,
    })
}

fn execution(number: u64) -> ExecutionId {
    ExecutionId::derive(1_000 + number, "default", GRAPH, "t", &number.to_string())
}

/// What is older than a topic's retention is deleted under the lanes' feet.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_millis() as i64
}

fn trigger(number: u64) -> Outgoing {
    let key = Bytes::from(format!("key-{}", number % 97));
    let trigger = Trigger {
        tenant: "default".into(),
        graph: GRAPH.into(),
        trigger: "t".into(),
        trigger_id: number.to_string(),
        execution: execution(number),
        time_us: now_ms() as u64 * 1_000,
        origin: None,
        key: Some(key),
        content_type: "application/json".into(),
        headers: vec![],
        data: Payload::Inline(Bytes::from(number.to_string())),
    };
    outgoing(&trigger)
}

/// Of now, to wherever its key belongs.
pub(crate) fn outgoing(trigger: &Trigger) -> Outgoing {
    Outgoing {
        topic: TRIGGERS.into(),
        partition: None,
        record: Record {
            key: trigger.key.clone(),
            value: Some(trigger.encode()),
            headers: vec![],
            timestamp_ms: now_ms(),
        },
    }
}
