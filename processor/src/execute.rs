//! One record → the records it becomes. Drives the kernel with the WASM engine; an `Err` is our own trouble, and the batch
//! runs again. A user's failure is data: a failed result and a dead letter.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use schemas::graph::StepIndex;
use schemas::records::{
    DeadLetter, EdgeEvent, Failure, FailureKind, Hop, Payload, RecordError, SegmentResult, Trigger,
};
use schemas::{Event, ExecutionId};
use topics::catalog::{DEAD_LETTERS, HOPS, RESULTS, TRIGGERS};
use topics::{Fetched, Outgoing, Record, Topic};

use crate::ProcessorConfig;
use crate::definitions::{Definitions, Loaded};
use crate::error::ProcessorError;
use crate::run::{Entry, Finished, Run};
use crate::wasm::{Broken, Call, Called, Outcome, Pool, StepEvent};

/// The graphs in use.
pub trait Graphs: Send + Sync {
    /// The active version of a graph; `None`: there is no such graph.
    fn active(&self, tenant: &str, graph: &str) -> Result<Option<Arc<Loaded>>, ProcessorError>;
    /// A version by its id; `None`: nobody knows it.
    fn version(&self, version: [u8; 32]) -> Result<Option<Arc<Loaded>>, ProcessorError>;
    /// Changes whenever `active` may answer otherwise than before.
    fn epoch(&self) -> u64;
}

impl Graphs for Definitions {
    fn active(&self, tenant: &str, graph: &str) -> Result<Option<Arc<Loaded>>, ProcessorError> {
        self.active(tenant, graph)
    }
    fn version(&self, version: [u8; 32]) -> Result<Option<Arc<Loaded>>, ProcessorError> {
        self.version(version)
    }
    fn epoch(&self) -> u64 {
        self.epoch()
    }
}

/// What calls steps: the WASM engine, or the simulation's closures.
pub trait Steps: Send {
    fn call(&mut self, loaded: &Loaded, index: StepIndex, call: &Call<'_>) -> Called;
}

impl Steps for Pool {
    fn call(&mut self, loaded: &Loaded, index: StepIndex, call: &Call<'_>) -> Called {
        self.call(&loaded.modules[index], call)
    }
}

/// What a worker needs for its records. One per worker thread.
pub struct Executor {
    definitions: Arc<dyn Graphs>,
    config: ProcessorConfig,
    steps: Box<dyn Steps>,
    recent: Option<Recent>,
    results: Topic,
    hops: Topic,
    dead_letters: Topic,
}

/// The graph of the last trigger: the next one mostly belongs to it too, and what all workers share is left alone.
struct Recent {
    epoch: u64,
    tenant: String,
    graph: String,
    loaded: Arc<Loaded>,
}

/// A segment's identity: what its trigger or hop says.
struct Subject {
    tenant: String,
    graph: String,
    trigger: String,
    trigger_id: String,
    execution: ExecutionId,
    time_us: u64,
    segment: [u8; 16],
    origin: Option<String>,
    attempt: u32,
}

impl Subject {
    fn of_trigger(trigger: Trigger) -> Self {
        Self {
            tenant: trigger.tenant,
            graph: trigger.graph,
            trigger: trigger.trigger,
            trigger_id: trigger.trigger_id,
            execution: trigger.execution,
            time_us: trigger.time_us,
            segment: trigger.execution.0,
            origin: trigger.origin,
            attempt: 1,
        }
    }

    fn of_hop(hop: &Hop) -> Self {
        Self {
            tenant: hop.tenant.clone(),
            graph: hop.graph.clone(),
            trigger: hop.trigger.clone(),
            trigger_id: hop.trigger_id.clone(),
            execution: hop.execution,
            time_us: hop.time_us,
            segment: hop.segment,
            origin: None,
            attempt: hop.attempt,
        }
    }
}

impl Executor {
    pub(crate) fn new(definitions: Arc<Definitions>, config: ProcessorConfig) -> Self {
        let pool = Pool::new(definitions.engine(), config.instances_kept);
        Self::with(definitions, Box::new(pool), config)
    }

    pub fn with(
        definitions: Arc<dyn Graphs>,
        steps: Box<dyn Steps>,
        config: ProcessorConfig,
    ) -> Self {
        let (results, hops, dead_letters) = (RESULTS.into(), HOPS.into(), DEAD_LETTERS.into());
        Self {
            definitions,
            config,
            steps,
            recent: None,
            results,
            hops,
            dead_letters,
        }
    }

    /// Everything that this record becomes, in order. `now_ms`: the log's timestamp of what is written.
    pub fn execute(
        &mut self,
        from: &Fetched,
        now_ms: i64,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let value = from.record.value.clone().unwrap_or_default();
        if &*from.partition.topic == TRIGGERS {
            match Trigger::decode(&value) {
                Ok(trigger) => self.trigger(from, trigger, now_ms),
                Err(e) => Ok(vec![self.unreadable(from, &e, now_ms)]),
            }
        } else {
            match Hop::decode(&value) {
                Ok(hop) => self.hop(from, hop, now_ms),
                Err(e) => Ok(vec![self.unreadable(from, &e, now_ms)]),
            }
        }
    }

    /// A record that has ended its process again and again: a dead letter and, where it can be told whose it was, a
    /// failed result. Nothing of it is run; it is decoded, as every reader of the dead letter will do.
    pub fn condemn(&self, from: &Fetched, now_ms: i64) -> Result<Vec<Outgoing>, ProcessorError> {
        let reason = format!(
            "the process that ran this record died {} times in a row; mend the step, then redrive the dead letter",
            crate::isolation::DEATHS_MAX
        );
        let value = from.record.value.clone().unwrap_or_default();
        let subject = if &*from.partition.topic == TRIGGERS {
            Trigger::decode(&value).map(Subject::of_trigger)
        } else {
            Hop::decode(&value).map(|hop| Subject::of_hop(&hop))
        };
        // Its graph is not loaded: that may be what kills.
        Ok(match subject {
            Ok(subject) => {
                self.refused(from, &subject, None, FailureKind::HostCrash, reason, now_ms)
            }
            Err(e) => vec![self.unreadable(from, &e, now_ms)],
        })
    }

    fn trigger(
        &mut self,
        from: &Fetched,
        trigger: Trigger,
        now_ms: i64,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let recent = self.active(&trigger)?;
        let became = self.run_trigger(from, trigger, recent.as_ref().map(|r| &*r.loaded), now_ms);
        self.recent = recent;
        became
    }

    fn active(&mut self, trigger: &Trigger) -> Result<Option<Recent>, ProcessorError> {
        let epoch = self.definitions.epoch();
        if let Some(recent) = self
            .recent
            .take_if(|r| r.epoch == epoch && r.graph == trigger.graph && r.tenant == trigger.tenant)
        {
            return Ok(Some(recent));
        }
        let loaded = self.definitions.active(&trigger.tenant, &trigger.graph)?;
        Ok(loaded.map(|loaded| Recent {
            epoch,
            tenant: trigger.tenant.clone(),
            graph: trigger.graph.clone(),
            loaded,
        }))
    }

    fn run_trigger(
        &mut self,
        from: &Fetched,
        trigger: Trigger,
        loaded: Option<&Loaded>,
        now_ms: i64,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let event = match &trigger.data {
            Payload::Inline(data) => Ok(trigger.event(data.clone())),
            Payload::Reference { .. } => {
                Err("the payload is kept in the store, which this version cannot read yet")
            }
        };
        let subject = Subject::of_trigger(trigger);
        let Some(loaded) = loaded else {
            let reason = format!(
                "graph \"{}\" does not exist; apply it, then redrive the dead letter",
                subject.graph
            );
            return Ok(self.refused(from, &subject, None, FailureKind::GraphGone, reason, now_ms));
        };
        let Some(index) = loaded
            .graph
            .triggers
            .iter()
            .position(|t| t.name == subject.trigger)
        else {
            let reason = format!(
                "the active version of graph \"{}\" has no trigger \"{}\"",
                subject.graph, subject.trigger
            );
            return Ok(self.refused(
                from,
                &subject,
                Some(loaded),
                FailureKind::GraphGone,
                reason,
                now_ms,
            ));
        };
        match event {
            Ok(event) => self.segment(from, &subject, loaded, Entry::Trigger(index, event), now_ms),
            Err(reason) => Ok(self.refused(
                from,
                &subject,
                Some(loaded),
                FailureKind::Record,
                reason.into(),
                now_ms,
            )),
        }
    }

    fn hop(
        &mut self,
        from: &Fetched,
        hop: Hop,
        now_ms: i64,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let loaded = self.definitions.version(hop.version)?;
        let subject = Subject::of_hop(&hop);
        let Some(loaded) = loaded else {
            let reason = format!(
                "version {} of graph \"{}\" is not in the store",
                hex::encode(hop.version),
                subject.graph
            );
            return Ok(self.refused(from, &subject, None, FailureKind::GraphGone, reason, now_ms));
        };
        let Some(step) = loaded.graph.steps.iter().position(|s| s.name == hop.step) else {
            let reason = format!("graph \"{}\" has no step \"{}\"", subject.graph, hop.step);
            return Ok(self.refused(
                from,
                &subject,
                Some(&loaded),
                FailureKind::Record,
                reason,
                now_ms,
            ));
        };
        let events = hop.events.into_iter().map(|e| (e.edge, e.event)).collect();
        self.segment(from, &subject, &loaded, Entry::Hop(step, events), now_ms)
    }

    fn segment(
        &mut self,
        from: &Fetched,
        subject: &Subject,
        loaded: &Loaded,
        entry: Entry,
        now_ms: i64,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let mut run = Run::new(&loaded.graph, subject.segment, entry, self.config.bounds);
        while let Some(call) = run.next_call() {
            if !call.after.is_zero() {
                std::thread::sleep(call.after); // bounded by backoff::MAX; a retry in place holds up its key on purpose
            }
            let called = self.call(subject, loaded, call.index, call.attempt, call.input);
            if let Outcome::Broken(Broken::HostBusy, _) = called.outcome {
                return Err(ProcessorError::Busy {
                    step: call.step.name.clone(),
                });
            }
            run.settle(called.outcome, called.logs, called.logs_dropped);
        }
        Ok(self.written(from, subject, Some(loaded), run.finish(), now_ms))
    }

    fn call(
        &mut self,
        subject: &Subject,
        loaded: &Loaded,
        index: StepIndex,
        attempt: u32,
        input: &[(Cow<'_, str>, Event)],
    ) -> Called {
        let step = &loaded.graph.steps[index];
        let one;
        let many: Vec<StepEvent<'_>>;
        let input: &[StepEvent<'_>] = match input {
            [(edge, event)] => {
                one = [StepEvent { edge, event }];
                &one
            }
            events => {
                many = events
                    .iter()
                    .map(|(edge, event)| StepEvent { edge, event })
                    .collect();
                &many
            }
        };
        self.steps.call(
            loaded,
            index,
            &Call {
                tenant: &subject.tenant,
                graph: &subject.graph,
                version: &loaded.version_hex,
                execution: subject.execution,
                step: &step.name,
                attempt,
                time_us: subject.time_us,
                input,
                limits: step.limits,
                isolation: step.isolation,
                log: step.log,
                settings: &step.settings,
            },
        )
    }

    /// The records of a settled segment: its result, its hops, and a dead letter if it failed.
    fn written(
        &self,
        from: &Fetched,
        subject: &Subject,
        loaded: Option<&Loaded>,
        done: Finished,
        now_ms: i64,
    ) -> Vec<Outgoing> {
        let result = SegmentResult {
            tenant: subject.tenant.clone(),
            graph: subject.graph.clone(),
            version: loaded.map_or([0; 32], |l| l.version),
            trigger: subject.trigger.clone(),
            trigger_id: subject.trigger_id.clone(),
            execution: subject.execution,
            time_us: subject.time_us,
            segment: subject.segment,
            origin: subject.origin.clone(),
            failure: done.failure,
            outputs: done.outputs,
            started: done.started.iter().map(|s| s.segment).collect(),
            logs: done.logs,
            logs_dropped: done.logs_dropped,
        };
        let value = result.encode();
        if result.failure.is_none() && value.len() > self.config.result_bytes_max {
            let reason = format!(
                "the outputs of this segment come to {} bytes, more than the {} that a result can carry; emit less, or keep large data elsewhere and emit a reference",
                value.len(),
                self.config.result_bytes_max
            );
            return self.refused(
                from,
                subject,
                loaded,
                FailureKind::OutputTooLarge,
                reason,
                now_ms,
            );
        }
        let mut out =
            Vec::with_capacity(1 + done.started.len() + usize::from(result.failure.is_some()));
        for started in done.started {
            let hop = self.hop_record(subject, loaded, started, now_ms);
            let bytes = hop.record.key.as_ref().map_or(0, Bytes::len)
                + hop.record.value.as_ref().map_or(0, Bytes::len);
            if bytes > self.config.result_bytes_max {
                let reason = format!(
                    "a hop comes to {bytes} bytes, more than the {} that one can carry; emit less, or keep large data elsewhere and emit a reference",
                    self.config.result_bytes_max
                );
                return self.refused(
                    from,
                    subject,
                    loaded,
                    FailureKind::OutputTooLarge,
                    reason,
                    now_ms,
                );
            }
            out.push(hop);
        }
        if let Some(failure) = &result.failure {
            out.push(self.dead_letter(from, Some(subject), loaded, failure, now_ms));
        }
        let record = Record {
            key: from.record.key.clone(),
            value: Some(value),
            headers: traces(from),
            timestamp_ms: now_ms,
        };
        out.push(Outgoing {
            topic: self.results.clone(),
            partition: None,
            record,
        });
        out
    }

    fn hop_record(
        &self,
        subject: &Subject,
        loaded: Option<&Loaded>,
        started: crate::run::Started,
        now_ms: i64,
    ) -> Outgoing {
        let hop = Hop {
            tenant: subject.tenant.clone(),
            graph: subject.graph.clone(),
            version: loaded.map_or([0; 32], |l| l.version),
            trigger: subject.trigger.clone(),
            trigger_id: subject.trigger_id.clone(),
            execution: subject.execution,
            time_us: subject.time_us,
            segment: started.segment,
            step: loaded.map_or_else(String::new, |l| l.graph.steps[started.step].name.clone()),
            attempt: 1,
            events: started
                .events
                .into_iter()
                .map(|(edge, event)| EdgeEvent {
                    edge,
                    event,
                    reference: None,
                })
                .collect(),
        };
        let key = started
            .key
            .unwrap_or_else(|| Bytes::copy_from_slice(&subject.execution.0));
        let record = Record {
            key: Some(key),
            value: Some(hop.encode()),
            headers: Vec::new(),
            timestamp_ms: now_ms,
        };
        Outgoing {
            topic: self.hops.clone(),
            partition: None,
            record,
        }
    }

    /// A failed result and a dead letter for a record that came to nothing else: its graph cannot run it, or what it
    /// became cannot be written.
    fn refused(
        &self,
        from: &Fetched,
        subject: &Subject,
        loaded: Option<&Loaded>,
        kind: FailureKind,
        reason: String,
        now_ms: i64,
    ) -> Vec<Outgoing> {
        let failure = Failure {
            step: None,
            kind,
            reason,
            attempt: subject.attempt,
        };
        self.written(
            from,
            subject,
            loaded,
            Finished {
                failure: Some(failure),
                ..Finished::default()
            },
            now_ms,
        )
    }

    /// A dead letter for bytes that are no record of ours: there is no execution to report on.
    fn unreadable(&self, from: &Fetched, why: &RecordError, now_ms: i64) -> Outgoing {
        let failure = Failure {
            step: None,
            kind: FailureKind::Record,
            reason: why.to_string(),
            attempt: 1,
        };
        self.dead_letter(from, None, None, &failure, now_ms)
    }

    fn dead_letter(
        &self,
        from: &Fetched,
        subject: Option<&Subject>,
        loaded: Option<&Loaded>,
        failure: &Failure,
        now_ms: i64,
    ) -> Outgoing {
        let letter = DeadLetter {
            tenant: subject.map_or_else(|| "default".to_owned(), |s| s.tenant.clone()),
            topic: from.partition.topic.to_string(),
            partition: from.partition.number,
            offset: from.offset,
            kind: failure.kind,
            reason: failure.reason.clone(),
            attempt: failure.attempt,
            graph: subject.map(|s| s.graph.clone()),
            version: loaded.map(|l| l.version_hex.clone()),
            execution: subject.map(|s| s.execution),
            step: failure.step.clone(),
        };
        let mut headers = from.record.headers.clone();
        headers.extend(letter.headers());
        let record = Record {
            key: from.record.key.clone(),
            value: from.record.value.clone(),
            headers,
            timestamp_ms: now_ms,
        };
        Outgoing {
            topic: self.dead_letters.clone(),
            partition: None,
            record,
        }
    }
}

/// The W3C trace headers travel on.
fn traces(from: &Fetched) -> Vec<(String, Bytes)> {
    from.record
        .headers
        .iter()
        .filter(|(name, _)| name == "traceparent" || name == "tracestate")
        .cloned()
        .collect()
}
