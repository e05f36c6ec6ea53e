//! Lanes on an embedded log in memory, with graphs of the bench's own: what steps cost in them, without Kafka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use processor::wasm::{Engine, EngineConfig, Outside};
use processor::{Definitions, Processor, ProcessorConfig};
use schemas::records::{Payload, SegmentResult, Trigger};
use schemas::{ExecutionId, graph};
use store::{NewVersion, Store};
use tokio::runtime::Runtime;
use topics::catalog::{RESULTS, TRIGGERS, topics};
use topics::{Consumer, Embedded, Log, Outgoing, Partition, Polled, Record};

/// How long results may stand still before it is a failure.
const PATIENCE: Duration = Duration::from_secs(120);
const APPEND: usize = 1_000;

pub(crate) struct Lanes {
    runtime: Runtime,
    log: Arc<dyn Log>,
    store: Store,
    processor: Option<Processor>,
    results: Option<Box<dyn Consumer>>,
    number: u64,
}

struct Given(String);

impl graph::Resolve for Given {
    fn module(&mut self, _: &str) -> Result<String, String> {
        Ok(self.0.clone())
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(format!("no file {path}"))
    }
}

impl Lanes {
    pub(crate) fn new(runtime: Runtime) -> Result<Self> {
        let log: Arc<dyn Log> = Arc::new(Embedded::memory());
        log.create_topics(&topics())?;
        let store = runtime.block_on(Store::memory())?;
        let mut from = Vec::new();
        for number in 0..log.partitions(RESULTS)? {
            let partition = Partition {
                topic: RESULTS.into(),
                number,
            };
            from.push((partition, 0));
        }
        let results = log.reader(from, 10_000)?;
        Ok(Self {
            runtime,
            log,
            store,
            processor: None,
            results: Some(results),
            number: 0,
        })
    }

    /// One step, `one`, with these further fields, that uses this module.
    pub(crate) fn apply(&self, name: &str, module: &[u8], fields: &str) -> Result<()> {
        let digest = self.runtime.block_on(self.store.put_module(module))?;
        let text = format!(
            "weir: 1\nname: {name}\ntriggers: {{ t: {{ manual: {{}} }} }}\nsteps:\n  one: {{ uses: ./one.wasm, from: [t]{fields} }}\n"
        );
        let parsed = graph::parse(&text, "bench").map_err(|e| anyhow::anyhow!("{e}"))?;
        let graph = parsed
            .resolve(&mut Given(digest))
            .map_err(|e| anyhow::anyhow!("{e}"))?;
        let canonical = graph.canonical()?;
        let new = NewVersion {
            tenant: "default".into(),
            graph: name.into(),
            version: graph::version(&canonical),
            canonical,
            source: text,
            at_ms: 1,
            ..NewVersion::default()
        };
        self.runtime.block_on(self.store.apply(new))?;
        Ok(())
    }

    /// Starts the lanes. `outside`: what steps reach.
    pub(crate) fn start(
        &mut self,
        config: &ProcessorConfig,
        engine: EngineConfig,
        outside: Arc<dyn Outside>,
    ) -> Result<()> {
        let engine = Engine::new(engine)?;
        let handle = self.runtime.handle().clone();
        let definitions =
            Definitions::new(self.store.clone(), engine, handle, config).with_outside(outside);
        self.processor = Some(Processor::start(
            self.log.clone(),
            Arc::new(definitions),
            config,
        )?);
        Ok(())
    }

    /// Sends events to graphs in turn, and waits until each has its result; the time from the first to the last.
    pub(crate) fn run(&mut self, graphs: &[String], events: u64, data: &[u8]) -> Result<Duration> {
        let started = Instant::now();
        let appender = self.log.appender();
        let mut left = events;
        while left > 0 {
            let some = left.min(APPEND as u64);
            let records = (0..some).map(|_| self.record(graphs, data)).collect();
            self.runtime.block_on(appender.append(records))?;
            left -= some;
        }
        let results = self.results.as_mut().expect("made with the lanes");
        let (mut done, mut last) = (0, Instant::now());
        while done < events {
            let Polled::Records(records) = results.poll(Duration::from_millis(50))? else {
                continue;
            };
            for record in &records {
                let value = record.record.value.clone().unwrap_or_default();
                let result = SegmentResult::decode(&value)?;
                ensure!(
                    result.failure.is_none(),
                    "an execution failed: {:?}",
                    result.failure
                );
            }
            done += records.len() as u64;
            if !records.is_empty() {
                last = Instant::now();
            }
            ensure!(last.elapsed() < PATIENCE, "{done} of {events} results came");
        }
        Ok(started.elapsed())
    }

    fn record(&mut self, graphs: &[String], data: &[u8]) -> Outgoing {
        let number = self.number;
        self.number += 1;
        let graph = &graphs[usize::try_from(number).unwrap_or(0) % graphs.len()];
        let (trigger_id, time_ms) = (number.to_string(), 1_700_000_000_000 + number);
        let execution = ExecutionId::derive(time_ms, "default", graph, "t", &trigger_id);
        let trigger = Trigger {
            tenant: "default".into(),
            graph: graph.clone(),
            trigger: "t".into(),
            trigger_id,
            execution,
            time_us: time_ms * 1_000,
            origin: None,
            key: None,
            content_type: "application/json".into(),
            headers: Vec::new(),
            data: Payload::Inline(data.to_vec().into()),
        };
        Outgoing {
            topic: TRIGGERS.into(),
            partition: None,
            record: Record {
                key: Some(execution.to_string().into()),
                value: Some(trigger.encode()),
                headers: Vec::new(),
                timestamp_ms: i64::try_from(time_ms).unwrap_or(i64::MAX),
            },
        }
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some(processor) = self.processor.take() {
            processor.stop()?;
        }
        Ok(())
    }
}

/// A runtime with threads of its own.
pub(crate) fn threads(count: usize) -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(count)
        .enable_all()
        .build()?)
}

/// A module that does the same as this one and is another one: with a custom section of its own.
pub(crate) fn variant(component: &[u8], number: u64) -> Vec<u8> {
    let name = b"variant";
    let content = number.to_le_bytes();
    let mut variant = component.to_vec();
    // section 0: its length, the name's length, the name, the content
    variant.push(0);
    variant.push((1 + name.len() + content.len()) as u8);
    variant.push(name.len() as u8);
    variant.extend(name);
    variant.extend(content);
    variant
}
