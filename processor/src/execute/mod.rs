//! One record → the records it becomes. Drives the kernel with the WASM engine; an `Err` is our own trouble, and the batch
//! runs again. A user's failure is data: a failed result and a dead letter.
//!
//! `subject` is what a record asks for, `records` and `topic_sinks` what it becomes; `payloads` is what lies outside of records.

mod payloads;
mod records;
mod subject;
mod topic_sinks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use schemas::Event;
use schemas::graph::{
    Graph, Isolation, Limits, OnError, Scope, StepIndex, TopicTrigger, TriggerIndex, TriggerKind,
};
use schemas::records::{Detour, Failure, FailureKind, Hop, Payload, Trigger};
use store::Reference;
use topics::catalog::{self, DEAD_LETTERS, HOPS, PARKED, RESULTS, TRIGGERS};
use topics::registry::{Known, SchemaId, framing};
use topics::{Fetched, Outgoing, Partition, Record, Topic};

use crate::ProcessorConfig;
use crate::definitions::{Definitions, Demotion, Loaded};
use crate::error::ProcessorError;
use crate::large::{Large, Outage};
use crate::run::{Entry, Run};
use crate::wasm::{Broken, Call, CallNumber, Called, Outcome, Pool, StepEvent};
use subject::{JSON, Resumed, Start, Subject, TOMBSTONE, digest, raw_event, topic_trigger};

/// Whether a graph runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active,
    /// Its records are parked.
    Paused,
    /// Its parked records are being released: those of a partition run before what comes after them. The number tells one
    /// release from another.
    Resuming(u64),
}

/// A graph's active version, and whether it runs.
#[derive(Clone)]
pub struct Active {
    pub loaded: Arc<Loaded>,
    pub state: State,
}

/// A graph's trigger that reads a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    pub tenant: String,
    pub graph: String,
    pub trigger: String,
}

/// The graphs in use.
pub trait Graphs: Send + Sync {
    /// The active version of a graph; `None`: there is no such graph.
    fn active(&self, tenant: &str, graph: &str) -> Result<Option<Active>, ProcessorError>;
    /// A version by its id; `None`: nobody knows it.
    fn version(&self, version: [u8; 32]) -> Result<Option<Arc<Loaded>>, ProcessorError>;
    /// Who reads a user's topic, in an order that stays.
    fn subscribers(&self, topic: &str) -> Result<Arc<[Subscriber]>, ProcessorError>;
    /// What is known of the schema that a record of a user's topic was written with.
    fn schema(&self, id: SchemaId) -> Known;
    /// A step is not to be reused any more.
    fn demote(&self, _loaded: &Loaded, _step: StepIndex, _of: Demotion<'_>) {}
    /// What comes for this graph from now on is parked.
    fn pause(
        &self,
        _: (&str, &str),
        _execution: &str,
        _reason: &str,
    ) -> Result<(), ProcessorError> {
        Ok(())
    }
    /// Changes whenever what an executor remembers of a graph may not hold any more: with the epoch, and with a pause that this process made.
    fn generation(&self) -> u64 {
        self.epoch()
    }
    /// Changes whenever `active` or `subscribers` may answer otherwise than before.
    fn epoch(&self) -> u64;
}

impl Graphs for Definitions {
    fn active(&self, tenant: &str, graph: &str) -> Result<Option<Active>, ProcessorError> {
        self.active(tenant, graph)
    }
    fn version(&self, version: [u8; 32]) -> Result<Option<Arc<Loaded>>, ProcessorError> {
        self.version(version)
    }
    fn subscribers(&self, topic: &str) -> Result<Arc<[Subscriber]>, ProcessorError> {
        self.subscribers(topic)
    }
    fn schema(&self, id: SchemaId) -> Known {
        self.schema(id)
    }
    fn epoch(&self) -> u64 {
        self.epoch()
    }
    fn demote(&self, loaded: &Loaded, step: StepIndex, of: Demotion<'_>) {
        self.demote(loaded, step, of);
    }
    fn pause(
        &self,
        graph: (&str, &str),
        execution: &str,
        reason: &str,
    ) -> Result<(), ProcessorError> {
        self.pause(graph, execution, reason)
    }
    fn generation(&self) -> u64 {
        self.generation()
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

/// What is done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Run,
    /// It ended its process again and again: a dead letter.
    Condemned,
    /// It was parked, and its turn has come.
    Released,
    /// It was parked, and its graph is gone: a dead letter.
    Buried,
}

/// (tenant, graph) → the number of the release.
type Released = HashMap<(String, String), u64>;

/// What the lanes of a process know and their workers have to: shared, seldom written.
#[derive(Default)]
pub struct Notes {
    /// The releases (by the number of [`State::Resuming`]) that are over for a partition and graph: what comes from there
    /// runs at once.
    released: RwLock<HashMap<Partition, Released>>,
    /// User topics that could not be written, until when, and why.
    barred: RwLock<HashMap<Topic, (Instant, String)>>,
    /// The ids of user topics, as lanes have them.
    ids: RwLock<HashMap<Topic, topics::TopicId>>,
    pub(crate) outage: Outage,
}

impl Notes {
    pub(crate) fn release(&self, from: &Partition, tenant: &str, graph: &str, number: u64) {
        let mut released = self.released.write();
        let of = released.entry(from.clone()).or_default();
        of.insert((tenant.to_owned(), graph.to_owned()), number);
    }

    pub(crate) fn is_released(&self, from: &Partition, subject: (&str, &str), number: u64) -> bool {
        let released = self.released.read();
        let name = (subject.0.to_owned(), subject.1.to_owned());
        released
            .get(from)
            .and_then(|of| of.get(&name))
            .is_some_and(|known| *known == number)
    }

    /// A partition that has gone, or comes anew: nothing is known of it.
    pub(crate) fn forget(&self, from: &Partition) {
        self.released.write().remove(from);
    }

    pub(crate) fn bar(&self, topic: &Topic, until: Instant, why: String) {
        self.barred.write().insert(topic.clone(), (until, why));
    }

    /// Why a topic is not to be written just now.
    pub(crate) fn barred(&self, topic: &str) -> Option<String> {
        let barred = self.barred.read();
        let (until, why) = barred.get(topic)?;
        (*until > Instant::now()).then(|| why.clone())
    }

    pub(crate) fn know_id(&self, topic: &Topic, id: &topics::TopicId) {
        if self.ids.read().get(topic) != Some(id) {
            self.ids.write().insert(topic.clone(), id.clone());
        }
    }

    fn id(&self, topic: &Topic) -> topics::TopicId {
        self.ids
            .read()
            .get(topic)
            .cloned()
            .unwrap_or_else(|| topic.clone())
    }
}

/// What a worker needs for its records. One per worker thread.
pub struct Executor {
    definitions: Arc<dyn Graphs>,
    config: ProcessorConfig,
    steps: Box<dyn Steps>,
    /// Its thread may wait for answers of HTTP; else a record that would is left to others ([`ProcessorError::Waits`]).
    may_wait: bool,
    /// Does not wait before it tries again: nobody is there to be spared.
    hurries: bool,
    notes: Arc<Notes>,
    /// Where payloads are that are too large for a record.
    large: Option<Large>,
    recent: Option<Recent>,
    /// The last graph that this executor had paused, and the epoch then.
    paused: Option<(u64, String, String)>,
    results: Topic,
    hops: Topic,
    dead_letters: Topic,
    parked: Topic,
}

/// The graph of the last trigger: the next one mostly belongs to it too, and what all workers share is left alone.
struct Recent {
    epoch: u64,
    tenant: String,
    graph: String,
    active: Active,
}

/// A record as it was first read, and what it does not say itself.
#[derive(Clone, Copy)]
struct Given<'a> {
    /// Where it was read now.
    read: &'a Partition,
    from: &'a Fetched,
    detour: Option<&'a Detour>,
    way: Way,
    now_ms: i64,
}

impl Executor {
    pub(crate) fn new(
        definitions: Arc<Definitions>,
        config: ProcessorConfig,
        notes: Arc<Notes>,
        may_wait: bool,
    ) -> Self {
        let pool = Pool::new(
            definitions.engine(),
            config.instances_kept,
            definitions.outside(),
        );
        let large = definitions.large();
        Self {
            large,
            may_wait,
            ..Self::with(definitions, Box::new(pool), config, notes)
        }
    }

    pub fn with(
        definitions: Arc<dyn Graphs>,
        steps: Box<dyn Steps>,
        config: ProcessorConfig,
        notes: Arc<Notes>,
    ) -> Self {
        Self {
            definitions,
            config,
            steps,
            may_wait: true,
            hurries: false,
            notes,
            large: None,
            recent: None,
            paused: None,
            results: RESULTS.into(),
            hops: HOPS.into(),
            dead_letters: DEAD_LETTERS.into(),
            parked: PARKED.into(),
        }
    }

    /// For rehearsals: tries again at once.
    pub(crate) fn without_waits(self) -> Self {
        Self {
            hurries: true,
            ..self
        }
    }

    /// Everything that this record becomes, in order. `now_ms`: the log's timestamp of what is written.
    pub fn execute(
        &mut self,
        from: &Fetched,
        way: Way,
        now_ms: i64,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let became = self.became(from, way, now_ms);
        self.notes.outage.learn(from, &became);
        became
    }

    fn became(
        &mut self,
        from: &Fetched,
        way: Way,
        now_ms: i64,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        if !catalog::holds_detours(&from.partition.topic) {
            return self.given(Given {
                read: &from.partition,
                from,
                detour: None,
                way,
                now_ms,
            });
        }
        match original(from) {
            Ok((original, detour)) => self.given(Given {
                read: &from.partition,
                from: &original,
                detour: Some(&detour),
                way,
                now_ms,
            }),
            Err(e) => Ok(vec![self.unreadable(from, None, e.to_string(), now_ms)]),
        }
    }

    fn given(&mut self, given: Given<'_>) -> Result<Vec<Outgoing>, ProcessorError> {
        let Given { from, now_ms, .. } = given;
        let value = || from.record.value.clone().unwrap_or_default();
        match &*from.partition.topic {
            TRIGGERS => match Trigger::decode(&value()) {
                Ok(trigger) => self.trigger(given, trigger),
                Err(e) => Ok(vec![self.unreadable(from, None, e.to_string(), now_ms)]),
            },
            HOPS => match Hop::decode(&value()) {
                Ok(hop) => self.hop(given, hop),
                Err(e) => Ok(vec![self.unreadable(from, None, e.to_string(), now_ms)]),
            },
            _ => self.record(given),
        }
    }

    fn trigger(
        &mut self,
        given: Given<'_>,
        trigger: Trigger,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let (data, reference) = match &trigger.data {
            Payload::Inline(data) => (data.clone(), None),
            Payload::Reference { sha256, bytes } => {
                let (sha256, bytes) = (*sha256, *bytes);
                (Bytes::new(), Some(Reference { sha256, bytes }))
            }
        };
        let start = Start::Trigger(trigger.event(data), reference);
        let subject = Subject::of_trigger(trigger);
        let mut resumed = given.detour.map(Resumed::of).unwrap_or_default();
        if resumed.version.is_none() {
            resumed.version = asked_version(&given.from.record);
        }
        self.run(given, &subject, start, resumed)
    }

    fn hop(&mut self, given: Given<'_>, hop: Hop) -> Result<Vec<Outgoing>, ProcessorError> {
        let subject = Subject::of_hop(&hop, given.from);
        let start = Start::Hop {
            version: hop.version,
            step: hop.step,
            events: hop.events,
        };
        let resumed = given.detour.map(Resumed::of).unwrap_or_default();
        self.run(given, &subject, start, resumed)
    }

    /// A record of a user's topic: an execution for each trigger that reads it; after a detour for the one it waited for.
    fn record(&mut self, given: Given<'_>) -> Result<Vec<Outgoing>, ProcessorError> {
        if let Some(detour) = given.detour {
            let name = (&*detour.tenant, &*detour.graph, &*detour.trigger);
            return self.record_for(given, &detour.topic_id, name, Resumed::of(detour));
        }
        let topic = &given.from.partition.topic;
        let (subscribers, id) = (self.definitions.subscribers(topic)?, self.notes.id(topic));
        let mut became = Vec::new();
        for Subscriber {
            tenant,
            graph,
            trigger,
        } in subscribers.iter()
        {
            let name = (&**tenant, &**graph, &**trigger);
            became.extend(self.record_for(given, &id, name, Resumed::default())?);
        }
        Ok(became)
    }

    fn record_for(
        &mut self,
        given: Given<'_>,
        topic_id: &str,
        name: (&str, &str, &str),
        resumed: Resumed,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let subject = Subject::of_record(given.from, topic_id, name);
        // the event is made once the version is known: that says how the topic is written
        let start = Start::Trigger(Event::default(), None);
        self.run(given, &subject, start, resumed)
    }

    /// Runs a segment, or does what the graph's state asks for instead.
    fn run(
        &mut self,
        given: Given<'_>,
        subject: &Subject,
        start: Start,
        resumed: Resumed,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        match given.way {
            Way::Run | Way::Released => {}
            // its graph is not loaded: that may be what kills
            Way::Condemned => {
                let reason = format!(
                    "the process that ran this record died {} times in a row; mend the step, then redrive the dead letter",
                    crate::isolation::DEATHS_MAX
                );
                return Ok(self.refused(given, subject, None, FailureKind::HostCrash, reason));
            }
            Way::Buried => {
                let reason = gone(&subject.graph, "was deleted while it was paused");
                return Ok(self.refused(given, subject, None, FailureKind::GraphGone, reason));
            }
        }
        let recent = self.active(subject)?;
        let became = self.run_in(
            given,
            subject,
            start,
            resumed,
            recent.as_ref().map(|r| &r.active),
        );
        self.recent = recent;
        became
    }

    fn active(&mut self, subject: &Subject) -> Result<Option<Recent>, ProcessorError> {
        let epoch = self.definitions.generation();
        if let Some(recent) = self
            .recent
            .take_if(|r| r.epoch == epoch && r.graph == subject.graph && r.tenant == subject.tenant)
        {
            return Ok(Some(recent));
        }
        let active = self.definitions.active(&subject.tenant, &subject.graph)?;
        Ok(active.map(|active| Recent {
            epoch,
            tenant: subject.tenant.clone(),
            graph: subject.graph.clone(),
            active,
        }))
    }

    fn run_in(
        &mut self,
        given: Given<'_>,
        subject: &Subject,
        start: Start,
        resumed: Resumed,
        active: Option<&Active>,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let Some(active) = active else {
            let reason = gone(&subject.graph, "does not exist");
            return Ok(self.refused(given, subject, None, FailureKind::GraphGone, reason));
        };
        if self.parks(given, subject, active.state) {
            return Ok(vec![self.park(given, subject, &resumed)]);
        }
        let pinned = match &start {
            Start::Hop { version, .. } => Some(*version),
            Start::Trigger(..) => resumed.version,
        };
        let Some(version) = pinned.filter(|version| *version != active.loaded.version) else {
            return self.start(given, subject, &active.loaded, start, resumed);
        };
        let Some(loaded) = self.definitions.version(version)? else {
            let reason = format!(
                "version {} of graph \"{}\" is not in the store",
                hex::encode(version),
                subject.graph
            );
            return Ok(self.refused(given, subject, None, FailureKind::GraphGone, reason));
        };
        self.start(given, subject, &loaded, start, resumed)
    }

    /// Whether the graph's state keeps this record from running now.
    fn parks(&self, given: Given<'_>, subject: &Subject, state: State) -> bool {
        if given.way == Way::Released {
            return false;
        }
        match state {
            State::Active => false,
            State::Paused => true,
            State::Resuming(number) => {
                let name = (&*subject.tenant, &*subject.graph);
                !self.notes.is_released(given.read, name, number)
            }
        }
    }

    fn start(
        &mut self,
        given: Given<'_>,
        subject: &Subject,
        loaded: &Loaded,
        start: Start,
        resumed: Resumed,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let graph = &loaded.graph;
        let entry = match start {
            Start::Hop { step, events, .. } => {
                let Some(at) = graph.steps.iter().position(|s| s.name == step) else {
                    let reason = format!("graph \"{}\" has no step \"{step}\"", subject.graph);
                    let kind = FailureKind::Record;
                    return Ok(self.refused(given, subject, Some(loaded), kind, reason));
                };
                match self.resolve_all(events)? {
                    Ok(events) => Entry::Hop(at, events),
                    Err(reason) => {
                        let kind = FailureKind::Record;
                        return Ok(self.refused(given, subject, Some(loaded), kind, reason));
                    }
                }
            }
            Start::Trigger(event, reference) if catalog::is_own(&given.from.partition.topic) => {
                let Some(at) = graph
                    .triggers
                    .iter()
                    .position(|t| t.name == subject.trigger)
                else {
                    let reason = format!(
                        "the active version of graph \"{}\" has no trigger \"{}\"",
                        subject.graph, subject.trigger
                    );
                    let kind = FailureKind::GraphGone;
                    return Ok(self.refused(given, subject, Some(loaded), kind, reason));
                };
                let event = match self.resolve(event, reference)? {
                    Ok(event) => event,
                    Err(reason) => {
                        let kind = FailureKind::Record;
                        return Ok(self.refused(given, subject, Some(loaded), kind, reason));
                    }
                };
                // a dead letter of a topic's record comes back as a trigger, its bytes as they were
                match &graph.triggers[at].kind {
                    TriggerKind::Topic(reads) => match self.read(graph, at, reads, event)? {
                        Ok(event) => Entry::Trigger(at, event),
                        Err((kind, reason)) => {
                            return Ok(self.refused(given, subject, Some(loaded), kind, reason));
                        }
                    },
                    _ => Entry::Trigger(at, event),
                }
            }
            Start::Trigger(..) => {
                let topic = &given.from.partition.topic;
                // between two versions of which only one reads the topic, the record is nobody's
                let Some((at, reads)) = topic_trigger(graph, &subject.trigger, topic) else {
                    return Ok(Vec::new());
                };
                let raw = raw_event(given.from);
                match self.read(graph, at, reads, raw)? {
                    Ok(event) => Entry::Trigger(at, event),
                    Err((kind, reason)) => {
                        return Ok(self.refused(given, subject, Some(loaded), kind, reason));
                    }
                }
            }
        };
        self.segment(given, subject, loaded, entry, resumed)
    }

    /// The event of a topic's trigger, from one whose data are a record's value; the inner error says why there is none.
    fn read(
        &self,
        graph: &Graph,
        at: TriggerIndex,
        reads: &TopicTrigger,
        raw: Event,
    ) -> Result<Result<Event, (FailureKind, String)>, ProcessorError> {
        let read = match &*reads.format {
            _ if raw.content_type == TOMBSTONE => Ok(raw),
            "json" => match serde_json::from_slice::<&serde_json::value::RawValue>(&raw.data) {
                Ok(_) => Ok(Event {
                    content_type: JSON.to_owned(),
                    ..raw
                }),
                Err(e) => Err(format!(
                    "the value is not JSON: {e}; mend its producer, or read the topic with format: raw"
                )),
            },
            "avro" => self.read_avro(raw)?,
            _ => Ok(raw),
        };
        let mut event = match read {
            Ok(event) => event,
            Err(reason) => return Ok(Err((FailureKind::Record, reason))),
        };
        let trigger = &graph.triggers[at];
        if let Some(key) = &trigger.key {
            match key.eval_key(&Scope::new(&event, &trigger.name)) {
                Ok(key) => event.key = key.or(event.key),
                Err(e) => {
                    let reason = format!("`key` of trigger \"{}\": {e}", trigger.name);
                    return Ok(Err((FailureKind::Expression, reason)));
                }
            }
        }
        Ok(Ok(event))
    }

    fn read_avro(&self, raw: Event) -> Result<Result<Event, String>, ProcessorError> {
        let (id, body) = match framing(&raw.headers, &raw.data) {
            Ok(framed) => framed,
            Err(e) => return Ok(Err(e.to_string())),
        };
        let avro = match self.definitions.schema(id) {
            Known::Schema(avro) => avro,
            Known::Not(why) => return Ok(Err(format!("schema {id}: {why}"))),
            // it was known when the record was handed out
            Known::Asking(reason) => {
                return Err(ProcessorError::Schema {
                    id: id.to_string(),
                    reason: reason.to_string(),
                });
            }
        };
        let mut json = Vec::with_capacity(body.len() * 2);
        Ok(match avro.to_json(&body, &mut json) {
            Ok(()) => Ok(Event {
                content_type: JSON.to_owned(),
                data: Bytes::from(json),
                ..raw
            }),
            Err(e) => Err(format!("the value is not what schema {id} says: {e}")),
        })
    }

    fn segment(
        &mut self,
        given: Given<'_>,
        subject: &Subject,
        loaded: &Loaded,
        entry: Entry,
        resumed: Resumed,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        if loaded.waits && !self.may_wait {
            return Err(ProcessorError::Waits);
        }
        let mut run = Run::new(&loaded.graph, subject.segment, entry, self.config.bounds)
            .resumed(resumed.attempts);
        let until = Instant::now() + loaded.graph.limits.time;
        while let Some(call) = run.next_call() {
            if !call.after.is_zero() && !self.hurries {
                std::thread::sleep(call.after); // bounded by backoff::MAX; a retry in place holds up its key on purpose
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                run.expire();
                continue;
            }
            let mut called = self.call(subject, loaded, &call, left);
            if let Some(difference) = called.demoted.take() {
                let of = Demotion {
                    tenant: &subject.tenant,
                    graph: &subject.graph,
                    execution: subject.execution.to_string(),
                    difference,
                };
                self.definitions.demote(loaded, call.index, of);
            }
            if let Outcome::Broken(Broken::HostBusy, _) = called.outcome {
                return Err(ProcessorError::Busy {
                    step: call.step.name.clone(),
                });
            }
            run.settle(called.outcome, called.logs, called.logs_dropped);
        }
        let mut done = run.finish();
        if let Some(suspended) = done.suspended.take() {
            return Ok(vec![self.suspend(given, subject, loaded, suspended)]);
        }
        self.put_large(&mut done)?;
        if let Some(failure) = &done.failure
            && (failure.kind == FailureKind::Fatal || loaded.graph.on_error == OnError::Pause)
        {
            self.pause(subject, failure)?;
        }
        Ok(self.written(given, subject, Some(loaded), done))
    }

    /// Before the failure is committed: if that does not happen, the record is parked, and fails again after the resume.
    fn pause(&mut self, subject: &Subject, failure: &Failure) -> Result<(), ProcessorError> {
        let at = (
            self.definitions.generation(),
            subject.tenant.clone(),
            subject.graph.clone(),
        );
        // once for all that fail before the pause is known here
        if self.paused.as_ref() == Some(&at) {
            return Ok(());
        }
        let step = failure.step.as_deref().unwrap_or("-");
        let reason = format!("step \"{step}\": {}: {}", failure.kind, failure.reason);
        let graph = (&*subject.tenant, &*subject.graph);
        self.definitions
            .pause(graph, &subject.execution.to_string(), &reason)?;
        self.paused = Some(at);
        Ok(())
    }

    fn call(
        &mut self,
        subject: &Subject,
        loaded: &Loaded,
        asked: &crate::run::Call<'_>,
        left: Duration,
    ) -> Called {
        let (step, input) = (asked.step, asked.input);
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
            asked.index,
            &Call {
                tenant: &subject.tenant,
                graph: &subject.graph,
                version: &loaded.version_hex,
                execution: subject.execution,
                step: &step.name,
                attempt: asked.attempt,
                number: CallNumber {
                    segment: (subject.segment != subject.execution.0).then_some(subject.segment),
                    number: asked.number,
                },
                time_us: subject.time_us,
                input,
                limits: Limits {
                    time: step.limits.time.min(left),
                    ..step.limits
                },
                isolation: match step.isolation {
                    Isolation::Batch if loaded.demoted.has(asked.index) => Isolation::Record,
                    as_said => as_said,
                },
                log: step.log,
                settings: &step.settings,
                secrets: &step.secrets,
                http_allow: &step.http_allow,
            },
        )
    }
}

/// The record that took a detour, as it was first read, and what the detour added.
fn original(from: &Fetched) -> Result<(Fetched, Detour), schemas::records::RecordError> {
    let mut headers = from.record.headers.clone();
    let detour = Detour::take(&mut headers)?;
    let original = Fetched {
        partition: Partition {
            topic: Topic::from(&*detour.topic),
            number: detour.partition,
        },
        offset: detour.offset,
        record: Record {
            key: from.record.key.clone(),
            value: from.record.value.clone(),
            headers,
            timestamp_ms: detour.timestamp_ms,
        },
    };
    Ok((original, detour))
}

/// The version that a redriven trigger asks for.
fn asked_version(record: &Record) -> Option<[u8; 32]> {
    let (_, version) = record
        .headers
        .iter()
        .rev()
        .find(|(name, _)| name == schemas::records::headers::VERSION)?;
    digest(std::str::from_utf8(version).ok()?)
}

fn gone(graph: &str, what: &str) -> String {
    format!("graph \"{graph}\" {what}; apply it, then redrive the dead letter")
}
