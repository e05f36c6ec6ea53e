//! The kernel: what one segment of a graph does with one event. Pure: no I/O, no clock, no randomness, no async.
//!
//! Steps stand in topological order, so walking them once settles every branch before whatever joins it: a step is
//! reached when all that could feed it has run. Whoever drives a `Run` asks `next_call`, makes the call, tells `settle`, until
//! `next_call` gives `None`. The same input and the same answers give the same bytes.
//!
//! Invariant: nothing of a failed segment leaves it; `finish` gives outputs and hops only when no step has failed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use schemas::graph::{
    ERROR_PORT, Edge, Graph, RetryOn, RetryOrder, Scope, SinkKind, Step, StepIndex, StepOnError,
    TriggerIndex,
};
use schemas::records::{Attempt, EdgeEvent, Failure, FailureKind, LogLine, Output, Payload};
use schemas::{Event, ExecutionId};
use sha2::{Digest, Sha256};

use crate::backoff;
use crate::wasm::{Broken, Level, Log, Outcome, StepOutput};

/// Bounds of one segment. A bound reached is a failure of the execution, never of the lane.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub calls_max: u32,
    /// Data of all events that wait inside the segment at once, and of all its outputs.
    pub bytes_max: usize,
    pub outputs_max: usize,
    pub logs_max: usize,
    pub logs_bytes_max: usize,
    /// A longer reason is cut: it travels in headers and rows.
    pub reason_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            calls_max: 10_000,
            bytes_max: 64 << 20,
            outputs_max: 10_000,
            logs_max: 1_000,
            logs_bytes_max: 64 << 10,
            reason_bytes_max: 4 << 10,
        }
    }
}

/// Where a segment starts.
#[derive(Debug)]
pub enum Entry {
    Trigger(TriggerIndex, Event),
    /// At a step that the graph marks with `hop`, with the events that travelled.
    Hop(StepIndex, Vec<(String, Event)>),
}

/// One call to make.
#[derive(Debug)]
pub struct Call<'r> {
    pub step: &'r Step,
    /// Which of `Graph::steps` it is.
    pub index: StepIndex,
    pub attempt: u32,
    /// Which of the step's calls in this segment it is; 0 for steps that nothing outside can tell apart.
    pub number: u32,
    /// How long to wait before the call: the backoff of a retry.
    pub after: Duration,
    /// Never empty. The edge's name, the event.
    pub input: &'r [(Cow<'r, str>, Event)],
}

/// A segment to start.
#[derive(Debug, PartialEq, Eq)]
pub struct Started {
    pub segment: [u8; 16],
    pub step: StepIndex,
    /// `None`: the execution id stands in for it.
    pub key: Option<Bytes>,
    pub events: Vec<EdgeEvent>,
}

/// A segment that goes on later, from its beginning: its steps are functions of their input, so what had run comes to the
/// same again.
#[derive(Debug, PartialEq, Eq)]
pub struct Suspended {
    /// The topic that it waits on.
    pub topic: &'static str,
    /// Where the calls stand that were tried before.
    pub attempts: Vec<Attempt>,
}

/// What a segment came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// It has come to nothing yet; all else is empty then.
    pub suspended: Option<Suspended>,
    pub failure: Option<Failure>,
    /// For database sinks, and those that nothing takes.
    pub outputs: Vec<Output>,
    /// For topic sinks: index into `Graph::sinks`, the event.
    pub topic_outputs: Vec<(usize, Event)>,
    pub started: Vec<Started>,
    pub logs: Vec<LogLine>,
    pub logs_dropped: u32,
}

/// The edges' names are the graph's, but for those that came with a hop.
type Events<'g> = Vec<(Cow<'g, str>, Event)>;

struct InFlight<'g> {
    step: StepIndex,
    /// Which of the step's calls in this segment it is; counted only for steps whose retries release their place, and
    /// for those that speak HTTP.
    number: u32,
    attempt: u32,
    after: Duration,
    input: Events<'g>,
}

/// One segment on its way.
pub struct Run<'g> {
    graph: &'g Graph,
    bounds: Bounds,
    segment: [u8; 16],
    /// The step that this segment was started at: its input has hopped already.
    entered: Option<StepIndex>,
    /// Events that wait for each step, in the order they arrived.
    waiting: Vec<VecDeque<(Cow<'g, str>, Event)>>,
    /// The step being walked.
    at: StepIndex,
    in_flight: Option<InFlight<'g>>,
    calls: u32,
    /// Of each step whose calls are counted; shorter than the steps where none has been called.
    numbers: Vec<u32>,
    /// What was tried before this segment was suspended.
    attempts: Vec<Attempt>,
    bytes: usize,
    logs_bytes: usize,
    done: Finished,
}

impl<'g> Run<'g> {
    /// `segment`: this segment's id; the execution's id for the first one.
    pub fn new(graph: &'g Graph, segment: [u8; 16], entry: Entry, bounds: Bounds) -> Self {
        let mut run = Self {
            graph,
            bounds,
            segment,
            entered: None,
            waiting: vec![VecDeque::new(); graph.steps.len()],
            at: 0,
            in_flight: None,
            calls: 0,
            numbers: Vec::new(),
            attempts: Vec::new(),
            bytes: 0,
            logs_bytes: 0,
            done: Finished::default(),
        };
        match entry {
            Entry::Trigger(index, event) => {
                let trigger = &graph.triggers[index];
                run.emit(&trigger.name, "out", &trigger.edges, &trigger.sinks, event);
            }
            Entry::Hop(step, events) => {
                run.entered = Some(step);
                run.at = step;
                let events: VecDeque<_> = events
                    .into_iter()
                    .map(|(edge, event)| (Cow::Owned(edge), event))
                    .collect();
                run.bytes = events.iter().map(|(_, event)| event.data.len()).sum();
                run.waiting[step] = events;
            }
        }
        run
    }

    /// A segment that was suspended goes on: these calls have been tried before.
    #[must_use]
    pub fn resumed(mut self, attempts: Vec<Attempt>) -> Self {
        self.attempts = attempts;
        self
    }

    /// The next call; `None` when the segment is settled. Asking again before `settle` gives the same call.
    pub fn next_call(&mut self) -> Option<Call<'_>> {
        while self.in_flight.is_none() {
            let over = self.done.failure.is_some() || self.done.suspended.is_some();
            if over || self.at >= self.graph.steps.len() {
                return None;
            }
            self.advance();
        }
        let flight = self.in_flight.as_ref()?;
        Some(Call {
            step: &self.graph.steps[flight.step],
            index: flight.step,
            attempt: flight.attempt,
            number: flight.number,
            after: flight.after,
            input: &flight.input,
        })
    }

    /// Takes one input off the step being walked, or goes on to the next step.
    fn advance(&mut self) {
        let index = self.at;
        let step = &self.graph.steps[index];
        if self.waiting[index].is_empty() {
            self.at += 1;
            return;
        }
        let waiting = &mut self.waiting[index];
        let input: Events<'g> = if step.join || waiting.len() == 1 {
            std::mem::take(waiting).into()
        } else {
            waiting.pop_front().into_iter().collect()
        };
        self.bytes -= size(&input);
        // A hop's condition was asked before it travelled.
        if self.entered == Some(index) {
            return self.call(index, input);
        }
        match admitted(step, input) {
            Err(reason) => self.fail(Some(index), FailureKind::Expression, reason, 1),
            Ok(input) if input.is_empty() => {}
            Ok(input) if step.hop.is_some() => self.hop(index, input),
            Ok(input) => self.call(index, input),
        }
    }

    fn call(&mut self, step: StepIndex, input: Events<'g>) {
        let calls_max = self.bounds.calls_max.min(self.graph.limits.calls);
        if self.calls >= calls_max {
            let reason = format!(
                "the execution needs more than {calls_max} calls in one segment (the graph's `limits: {{ calls }}` allows more)"
            );
            return self.fail(Some(step), FailureKind::TooManyCalls, reason, 1);
        }
        self.calls += 1;
        let of = &self.graph.steps[step];
        let counted = of.retry.order == RetryOrder::Release || !of.http_allow.is_empty();
        let (number, attempt) = if counted { self.tried(step) } else { (0, 1) };
        self.in_flight = Some(InFlight {
            step,
            number,
            attempt,
            after: Duration::ZERO,
            input,
        });
    }

    /// The number of the step's next call, and which try of it this is.
    fn tried(&mut self, step: StepIndex) -> (u32, u32) {
        if self.numbers.len() <= step {
            self.numbers.resize(step + 1, 0);
        }
        let number = self.numbers[step];
        self.numbers[step] += 1;
        let name = &self.graph.steps[step].name;
        let before = self
            .attempts
            .iter()
            .find(|a| a.step == *name && a.call == number);
        (number, before.map_or(1, |before| before.attempt))
    }

    /// The call is to be made again later; until then the segment gives up its place.
    fn suspend(&mut self, flight: &InFlight<'g>, delay_ms: Option<u64>) {
        let step = &self.graph.steps[flight.step];
        let mut attempts = std::mem::take(&mut self.attempts);
        attempts.retain(|a| a.step != step.name || a.call != flight.number);
        attempts.push(Attempt {
            step: step.name.clone(),
            call: flight.number,
            attempt: flight.attempt + 1,
        });
        self.done.suspended = Some(Suspended {
            topic: backoff::topic(&step.retry, flight.attempt, delay_ms),
            attempts,
        });
    }

    fn hop(&mut self, index: StepIndex, events: Events<'g>) {
        let step = &self.graph.steps[index];
        let Some(expression) = &step.hop else { return };
        let (edge, first) = &events[0];
        match expression.eval_key(&Scope::new(first, edge)) {
            Err(e) => self.fail(
                Some(index),
                FailureKind::Expression,
                format!("`hop`: {e}"),
                1,
            ),
            Ok(key) => {
                let segment = segment_id(&self.segment, &step.name, self.done.started.len());
                self.done.started.push(Started {
                    segment,
                    step: index,
                    key,
                    events: events
                        .into_iter()
                        .map(|(edge, event)| EdgeEvent {
                            edge: edge.into_owned(),
                            event,
                            reference: None,
                        })
                        .collect(),
                });
            }
        }
    }

    /// What the call that `next_call` gave came to.
    pub fn settle(&mut self, outcome: Outcome, logs: Vec<Log>, logs_dropped: u32) {
        let Some(mut flight) = self.in_flight.take() else {
            return;
        };
        let step = &self.graph.steps[flight.step];
        self.done.logs_dropped += logs_dropped;
        for log in logs {
            if self.done.logs.len() < self.bounds.logs_max
                && self.logs_bytes + log.message.len() <= self.bounds.logs_bytes_max
            {
                self.logs_bytes += log.message.len();
                self.done.logs.push(LogLine {
                    step: step.name.clone(),
                    level: level_word(log.level).to_owned(),
                    message: log.message,
                });
            } else {
                self.done.logs_dropped += 1;
            }
        }
        let (kind, reason, again) = match outcome {
            Outcome::Outputs(outputs) => return self.route(flight, outputs),
            Outcome::Retry { delay_ms, reason } => (FailureKind::Retries, reason, Some(delay_ms)),
            Outcome::Reject(reason) => (FailureKind::Rejected, reason, None),
            Outcome::Fatal(reason) => (FailureKind::Fatal, reason, None),
            Outcome::Broken(broken, reason) => {
                let again = retried(broken).is_some_and(|on| step.retry.on.contains(&on));
                (kind_of(broken), reason, again.then_some(None))
            }
        };
        if let Some(delay_ms) = again
            && flight.attempt < step.retry.attempts
        {
            if step.retry.order == RetryOrder::Release {
                return self.suspend(&flight, delay_ms);
            }
            flight.after = backoff::delay(&step.retry, flight.attempt, delay_ms);
            flight.attempt += 1;
            self.in_flight = Some(flight);
            return;
        }
        match step.on_error {
            // `fatal` is about the graph, not about this event: it is never passed over.
            _ if kind == FailureKind::Fatal => {}
            StepOnError::Fail => {}
            StepOnError::Continue => return,
            StepOnError::Route => return self.route_failure(&flight, kind, &reason),
        }
        self.fail(Some(flight.step), kind, reason, flight.attempt);
    }

    /// The segment's time is up: the call that `next_call` gave is not made.
    pub fn expire(&mut self) {
        let Some(flight) = self.in_flight.take() else {
            return;
        };
        let reason = format!(
            "the execution's calls took longer than {:?} together (the graph's `limits: {{ time }}` allows more)",
            self.graph.limits.time
        );
        self.fail(
            Some(flight.step),
            FailureKind::Timeout,
            reason,
            flight.attempt,
        );
    }

    /// A failure as an event on the step's port `error`: what failed, and the event that it failed on.
    fn route_failure(&mut self, flight: &InFlight<'g>, kind: FailureKind, reason: &str) {
        let graph = self.graph;
        let step = &graph.steps[flight.step];
        let Some(port) = step.ports.iter().find(|port| port.name == ERROR_PORT) else {
            return;
        };
        let (edge, first) = &flight.input[0];
        let event = Event {
            key: first.key.clone(),
            content_type: "application/json".to_owned(),
            headers: first.headers.clone(),
            data: failed_event(&step.name, kind, reason, flight.attempt, edge, first),
        };
        self.emit(&step.name, &port.name, &port.edges, &port.sinks, event);
    }

    fn route(&mut self, flight: InFlight<'g>, outputs: Vec<StepOutput>) {
        let graph = self.graph;
        let step = &graph.steps[flight.step];
        let (_, first) = &flight.input[0];
        for output in outputs {
            let Some(port) = step.ports.iter().find(|port| port.name == output.port) else {
                let known: Vec<&str> = step.ports.iter().map(|p| p.name.as_str()).collect();
                let reason = format!(
                    "the step emitted on port \"{}\", which the graph does not name; its ports are: {}; add it to `ports` or emit on one of them",
                    output.port,
                    known.join(", ")
                );
                return self.fail(
                    Some(flight.step),
                    FailureKind::Protocol,
                    reason,
                    flight.attempt,
                );
            };
            let event = Event {
                key: output.key.or_else(|| first.key.clone()),
                content_type: output
                    .content_type
                    .unwrap_or_else(|| first.content_type.clone()),
                headers: output.headers,
                data: output.data,
            };
            self.emit(&step.name, &port.name, &port.edges, &port.sinks, event);
            if self.done.failure.is_some() {
                return;
            }
        }
    }

    /// An event that leaves a port: to the steps behind its edges and to its sinks.
    fn emit(&mut self, step: &str, port: &str, edges: &'g [Edge], sinks: &[usize], event: Event) {
        let Some((last, others)) = edges.split_last() else {
            return self.output(step, port, sinks, true, event);
        };
        for edge in others {
            self.hand(edge.to, &edge.name, event.clone());
        }
        // mostly one step takes it, and nobody else
        if sinks.is_empty() {
            return self.hand(last.to, &last.name, event);
        }
        self.hand(last.to, &last.name, event.clone());
        self.output(step, port, sinks, false, event);
    }

    fn hand(&mut self, to: StepIndex, edge: &'g str, event: Event) {
        self.bytes += event.data.len();
        self.waiting[to].push_back((Cow::Borrowed(edge), event));
        if self.bytes > self.bounds.bytes_max {
            let reason = format!(
                "the events inside one execution come to more than {} MiB",
                self.bounds.bytes_max >> 20
            );
            self.fail(Some(to), FailureKind::OutputTooLarge, reason, 1);
        }
    }

    /// `untaken`: no edge takes it; with no sink either it is an output of the execution.
    fn output(&mut self, step: &str, port: &str, sinks: &[usize], untaken: bool, event: Event) {
        let mut databases = Vec::new();
        for &sink in sinks {
            match self.graph.sinks[sink].kind {
                SinkKind::Topic { .. } => self.done.topic_outputs.push((sink, event.clone())),
                SinkKind::Postgres { .. } | SinkKind::Scylla { .. } => {
                    databases.push(self.graph.sinks[sink].name.clone())
                }
            }
        }
        if databases.is_empty() && !(untaken && sinks.is_empty()) {
            return;
        }
        if self.done.outputs.len() >= self.bounds.outputs_max {
            let reason = format!(
                "the execution has more than {} outputs in one segment",
                self.bounds.outputs_max
            );
            return self.fail(None, FailureKind::OutputTooLarge, reason, 1);
        }
        self.done.outputs.push(Output {
            step: step.to_owned(),
            port: port.to_owned(),
            number: self.done.outputs.len() as u32,
            sinks: databases,
            key: event.key,
            content_type: event.content_type,
            headers: event.headers,
            data: Payload::Inline(event.data),
        });
    }

    fn fail(
        &mut self,
        step: Option<StepIndex>,
        kind: FailureKind,
        mut reason: String,
        attempt: u32,
    ) {
        if reason.len() > self.bounds.reason_bytes_max {
            reason.truncate(reason.floor_char_boundary(self.bounds.reason_bytes_max));
            reason.push('…');
        }
        let step = step.map(|index| self.graph.steps[index].name.clone());
        self.done.failure.get_or_insert(Failure {
            step,
            kind,
            reason,
            attempt,
        });
    }

    /// Everything that leaves the segment. Of a failed one only the failure and the logs; of one that goes on later nothing.
    pub fn finish(self) -> Finished {
        let done = self.done;
        if done.suspended.is_some() {
            return Finished {
                suspended: done.suspended,
                ..Finished::default()
            };
        }
        if done.failure.is_none() {
            return done;
        }
        Finished {
            failure: done.failure,
            logs: done.logs,
            logs_dropped: done.logs_dropped,
            ..Finished::default()
        }
    }
}

/// The events that the step's `when` lets in.
fn admitted<'g>(step: &Step, input: Events<'g>) -> Result<Events<'g>, String> {
    let Some(when) = &step.when else {
        return Ok(input);
    };
    let mut kept = Vec::with_capacity(input.len());
    for (edge, event) in input {
        if when
            .eval_bool(&Scope::new(&event, &edge))
            .map_err(|e| format!("`when`: {e}"))?
        {
            kept.push((edge, event));
        }
    }
    Ok(kept)
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

fn size(events: &[(Cow<'_, str>, Event)]) -> usize {
    events.iter().map(|(_, event)| event.data.len()).sum()
}

/// What a graph calls a failure that it may want tried again.
fn retried(broken: Broken) -> Option<RetryOn> {
    match broken {
        Broken::Timeout => Some(RetryOn::Timeout),
        Broken::Trap | Broken::OutOfMemory | Broken::StackOverflow => Some(RetryOn::Trap),
        Broken::OutputTooLarge | Broken::Protocol | Broken::HostBusy => None,
    }
}

/// `{"step", "kind", "reason", "attempt", "edge", "content_type", "data"}`: JSON data as it is, text as text, else `data_base64`.
fn failed_event(
    step: &str,
    kind: FailureKind,
    reason: &str,
    attempt: u32,
    edge: &str,
    event: &Event,
) -> Bytes {
    let mut failed = serde_json::json!({
        "step": step, "kind": kind.as_str(), "reason": reason, "attempt": attempt, "edge": edge,
        "content_type": event.content_type,
    });
    let (field, data) = match serde_json::from_slice(&event.data) {
        Ok(json) => ("data", json),
        Err(_) => match std::str::from_utf8(&event.data) {
            Ok(text) => ("data", text.into()),
            Err(_) => ("data_base64", BASE64.encode(&event.data).into()),
        },
    };
    failed[field] = data;
    Bytes::from(failed.to_string())
}

fn kind_of(broken: Broken) -> FailureKind {
    match broken {
        Broken::Trap | Broken::StackOverflow => FailureKind::Trap,
        Broken::Timeout => FailureKind::Timeout,
        Broken::OutOfMemory => FailureKind::OutOfMemory,
        Broken::OutputTooLarge => FailureKind::OutputTooLarge,
        // HostBusy is the host's trouble and never reaches the kernel: the lane aborts and runs again.
        Broken::Protocol | Broken::HostBusy => FailureKind::Protocol,
    }
}

/// A segment's id: 48 bits of the execution's time, then sha256 of (its parent, the step, its place among its siblings).
fn segment_id(parent: &[u8; 16], step: &str, number: usize) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(parent);
    hash.update((step.len() as u64).to_be_bytes());
    hash.update(step.as_bytes());
    hash.update((number as u64).to_be_bytes());
    let digest = hash.finalize();
    let mut id = *parent;
    id[6..].copy_from_slice(&digest[..10]);
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    ExecutionId(id).0
}

#[cfg(test)]
mod tests;
