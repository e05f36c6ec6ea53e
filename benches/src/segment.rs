//! One segment from record to record, as a worker runs it: a trigger is decoded, the three steps of `examples/orders` are
//! called, the result is encoded. No log, no lane.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use processor::wasm::{Engine, EngineConfig, Nowhere, Pool};
use processor::{
    Active, Demoted, Executor, Graphs, Loaded, ProcessorConfig, ProcessorError, State, Subscriber,
    Way,
};
use schemas::graph;
use sha2::{Digest as _, Sha256};
use topics::catalog::TRIGGERS;
use topics::registry::{Known, SchemaId};
use topics::{Fetched, Partition, Record};

use crate::kafka::orders;
use crate::meter::{median, round_us};
use crate::place;
use crate::report::Row;

const ROUNDS: usize = 9;
const ORDERS: u64 = 1_024;
const GRAPH: &str = "orders";

/// A worker without a lane, and the records that it is given in turn.
pub struct Segment {
    executor: Executor,
    records: Vec<Fetched>,
    next: usize,
    _engine: Engine,
}

struct One(Arc<Loaded>);

impl Graphs for One {
    fn active(&self, _: &str, _: &str) -> Result<Option<Active>, ProcessorError> {
        Ok(Some(Active {
            loaded: self.0.clone(),
            state: State::Active,
        }))
    }

    fn subscribers(&self, _: &str) -> Result<Arc<[Subscriber]>, ProcessorError> {
        Ok(Arc::new([]))
    }

    fn schema(&self, _: SchemaId) -> Known {
        Known::Not("no record names one".into())
    }

    fn version(&self, _: [u8; 32]) -> Result<Option<Arc<Loaded>>, ProcessorError> {
        Ok(Some(self.0.clone()))
    }

    fn epoch(&self) -> u64 {
        0
    }
}

impl Segment {
    pub fn load() -> Result<Self> {
        Self::load_from(&place::root().join("examples/orders"))
    }

    pub fn load_from(folder: &std::path::Path) -> Result<Self> {
        let text = std::fs::read_to_string(folder.join("graph.yaml"))?;
        let graph =
            graph::parse(&text, "graph.yaml").map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let engine = Engine::new(EngineConfig {
            instances_max: 16,
            ..EngineConfig::default()
        })?;
        let load = |uses: &str| {
            let path = folder.join(uses);
            let bytes =
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            anyhow::Ok(engine.load(&hex::encode(Sha256::digest(&bytes)), &bytes)?)
        };
        let modules = graph.steps.iter().map(|step| load(&step.uses));
        let loaded = Loaded {
            version: [7; 32],
            version_hex: hex::encode([7; 32]),
            modules: modules.collect::<Result<_>>()?,
            waits: false,
            demoted: Demoted::default(),
            schemas: Vec::new(),
            graph,
        };
        let executor = Executor::with(
            Arc::new(One(Arc::new(loaded))),
            Box::new(Pool::new(&engine, 4, Arc::new(Nowhere))),
            ProcessorConfig::default(),
            Arc::default(),
        );
        let record = |n| Fetched {
            partition: Partition {
                topic: TRIGGERS.into(),
                number: 0,
            },
            offset: n as i64,
            record: Record {
                key: Some(orders::key(n).into()),
                value: Some(orders::trigger(n, GRAPH, orders::order(n).into_bytes())),
                ..Record::default()
            },
        };
        Ok(Self {
            executor,
            records: (0..ORDERS).map(record).collect(),
            next: 0,
            _engine: engine,
        })
    }

    /// Runs the next record; the bytes of what it became.
    pub fn run(&mut self) -> Result<usize> {
        self.next = (self.next + 1) % self.records.len();
        let became = self
            .executor
            .execute(&self.records[self.next], Way::Run, 0)?;
        let bytes = |out: &topics::Outgoing| out.record.value.as_ref().map_or(0, |v| v.len());
        Ok(became.iter().map(bytes).sum())
    }
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut segment = Segment::load()?;
    let bytes = segment.run()?;
    ensure!(bytes > 800, "an order became {bytes} bytes");
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            round_us(|| {
                black_box(segment.run().is_ok());
            })
        })
        .collect();
    let note = format!(
        "µs of CPU, median of {ROUNDS} rounds; three steps on 0.8 KiB orders, isolation batch"
    );
    Ok(vec![
        Row::new("segment.orders_us", median(&mut rounds), "µs").note(note),
    ])
}
