//! A rehearsal: one trigger run to its end in the caller's thread, by the very code that lanes run, on a graph that is given. No log, no
//! store; nothing of it is written. For tests of graphs, for a look at each step, and for running past triggers again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use schemas::Event;
use schemas::graph::StepIndex;
use schemas::records::{Payload, SegmentResult};
use topics::catalog::{self, DEAD_LETTERS, HOPS, RESULTS};
use topics::registry::{Known, SchemaId};
use topics::{Fetched, Outgoing, Partition, Record};

use crate::ProcessorConfig;
use crate::definitions::Loaded;
use crate::error::ProcessorError;
use crate::execute::{Active, Executor, Graphs, Notes, State, Steps, Subscriber, Way};
use crate::wasm::{Call, Called, Engine, Log, Outcome, Outside, Pool};

/// Segments of one execution, retries that wait on a topic included.
const SEGMENTS_MAX: usize = 10_000;

/// A graph that is rehearsed.
pub struct Rehearsal {
    executor: Executor,
    calls: Arc<Mutex<Vec<Traced>>>,
}

/// All that an execution came to.
#[derive(Debug, Default)]
pub struct Rehearsed {
    /// Of each segment, in the order in which they ran, with the bytes that would have been written.
    pub results: Vec<(SegmentResult, Bytes)>,
    /// What topic sinks would have written.
    pub topic_records: Vec<Outgoing>,
    pub dead_letters: Vec<Record>,
    /// Each call of a step, in order.
    pub calls: Vec<Traced>,
}

/// One call of a step.
#[derive(Clone, Debug)]
pub struct Traced {
    pub step: String,
    pub attempt: u32,
    /// Edge and event.
    pub input: Vec<(String, Event)>,
    pub outcome: Outcome,
    pub logs: Vec<Log>,
    pub took: Duration,
}

impl Rehearsal {
    /// `subscriber`: who a record of a user's topic is for.
    pub fn new(
        engine: &Engine,
        loaded: Arc<Loaded>,
        subscriber: Option<Subscriber>,
        outside: Arc<dyn Outside>,
    ) -> Self {
        let calls: Arc<Mutex<Vec<Traced>>> = Arc::default();
        let config = ProcessorConfig::default();
        let steps = Tracing {
            pool: Pool::new(engine, config.instances_kept, outside),
            calls: calls.clone(),
        };
        let only = Only {
            loaded,
            subscribers: subscriber.into_iter().collect(),
        };
        let notes = Arc::new(Notes::default());
        let executor = Executor::with(Arc::new(only), Box::new(steps), config, notes);
        Self {
            executor: executor.without_waits(),
            calls,
        }
    }

    /// Runs a trigger's record, and all that comes of it. An error is our own: a step's failure is a result.
    pub fn run(&mut self, trigger: &Fetched) -> Result<Rehearsed, ProcessorError> {
        self.calls.lock().clear();
        let mut done = Rehearsed::default();
        let mut waiting = VecDeque::from([trigger.clone()]);
        let mut offset = 0;
        while let Some(record) = waiting.pop_front() {
            if done.results.len() >= SEGMENTS_MAX {
                break;
            }
            for outgoing in self
                .executor
                .execute(&record, Way::Run, record.record.timestamp_ms)?
            {
                match &*outgoing.topic {
                    RESULTS => {
                        let bytes = outgoing.record.value.unwrap_or_default();
                        if let Ok(result) = SegmentResult::decode(&bytes) {
                            done.results.push((result, bytes));
                        }
                    }
                    DEAD_LETTERS => done.dead_letters.push(outgoing.record),
                    topic if topic == HOPS || catalog::holds_detours(topic) => {
                        offset += 1;
                        waiting.push_back(Fetched {
                            partition: Partition {
                                topic: outgoing.topic.clone(),
                                number: 0,
                            },
                            offset,
                            record: outgoing.record,
                        });
                    }
                    _ => done.topic_records.push(outgoing),
                }
            }
        }
        done.calls = std::mem::take(&mut *self.calls.lock());
        Ok(done)
    }
}

impl Rehearsed {
    /// The first failure.
    pub fn failure(&self) -> Option<&schemas::records::Failure> {
        self.results
            .iter()
            .find_map(|(result, _)| result.failure.as_ref())
    }

    /// All outputs that a history would show, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &schemas::records::Output> {
        self.results.iter().flat_map(|(result, _)| &result.outputs)
    }
}

/// An output's data, where they travelled in the record.
pub fn inline(data: &Payload) -> Option<&Bytes> {
    match data {
        Payload::Inline(data) => Some(data),
        Payload::Reference { .. } => None,
    }
}

/// The one graph there is, always active.
struct Only {
    loaded: Arc<Loaded>,
    subscribers: Vec<Subscriber>,
}

impl Graphs for Only {
    fn active(&self, _: &str, _: &str) -> Result<Option<Active>, ProcessorError> {
        Ok(Some(Active {
            loaded: self.loaded.clone(),
            state: State::Active,
        }))
    }

    /// Whatever a hop or redriven trigger asks for: this is what is to be looked at.
    fn version(&self, _: [u8; 32]) -> Result<Option<Arc<Loaded>>, ProcessorError> {
        Ok(Some(self.loaded.clone()))
    }

    fn subscribers(&self, _: &str) -> Result<Arc<[Subscriber]>, ProcessorError> {
        Ok(self.subscribers.clone().into())
    }

    fn schema(&self, _: SchemaId) -> Known {
        Known::Not("a rehearsal asks no schema registry".into())
    }

    fn epoch(&self) -> u64 {
        0
    }
}

struct Tracing {
    pool: Pool,
    calls: Arc<Mutex<Vec<Traced>>>,
}

impl Steps for Tracing {
    fn call(&mut self, loaded: &Loaded, index: StepIndex, call: &Call<'_>) -> Called {
        let started = Instant::now();
        let called = self.pool.call(&loaded.modules[index], call);
        let took = started.elapsed();
        let input = call.input.iter();
        self.calls.lock().push(Traced {
            step: call.step.to_owned(),
            attempt: call.attempt,
            input: input
                .map(|one| (one.edge.to_owned(), one.event.clone()))
                .collect(),
            outcome: called.outcome.clone(),
            logs: called.logs.clone(),
            took,
        });
        called
    }
}
