//! A proven graph. It can only be had from `parse` and `Graph::from_canonical`, so whoever holds one may rely on every
//! invariant noted here without checking again.

use std::time::Duration;

use super::expr::Expr;
use super::parse::Origin;

/// Index into `Graph::steps`.
pub type StepIndex = usize;
/// Index into `Graph::triggers`.
pub type TriggerIndex = usize;

/// A proven graph: every name resolves, no cycle, every step reachable from a trigger, no join across a hop.
#[derive(Clone, Debug)]
pub struct Graph {
    pub name: String,
    /// In the order of the file.
    pub triggers: Vec<Trigger>,
    /// In topological order (ties: the order of the file): a step's sources stand before it.
    pub steps: Vec<Step>,
    pub sinks: Vec<Sink>,
    pub on_error: OnError,
    /// Bounds of one segment.
    pub limits: GraphLimits,
    /// Where it was read from, for problems found later.
    pub(super) origin: Origin,
}

impl Graph {
    /// The paths of its webhooks, each with its trigger's name.
    pub fn webhooks(&self) -> Vec<(String, String)> {
        let webhook = |trigger: &Trigger| match &trigger.kind {
            TriggerKind::Webhook(webhook) => Some((webhook.path.clone(), trigger.name.clone())),
            _ => None,
        };
        self.triggers.iter().filter_map(webhook).collect()
    }

    /// Its topic triggers, each with its name.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, &TopicTrigger)> {
        self.triggers
            .iter()
            .filter_map(|trigger| match &trigger.kind {
                TriggerKind::Topic(topic) => Some((trigger.name.as_str(), topic)),
                _ => None,
            })
    }

    /// The topics that its sinks write, each with the sink's name.
    pub fn topics_written(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sinks.iter().filter_map(|sink| match &sink.kind {
            SinkKind::Topic { name, .. } => Some((sink.name.as_str(), name.as_str())),
            _ => None,
        })
    }
}

#[derive(Clone, Debug)]
pub struct Trigger {
    pub name: String,
    pub kind: TriggerKind,
    /// `key:`: evaluated on the event by ingest; `None`: the execution id is the key.
    pub key: Option<Expr>,
    /// Edges out of this trigger.
    pub edges: Vec<Edge>,
    /// Sinks fed by this trigger directly (indices into `Graph::sinks`).
    pub sinks: Vec<usize>,
}

#[derive(Clone, Debug)]
pub enum TriggerKind {
    Webhook(Webhook),
    Manual,
    Cron(Cron),
    Topic(TopicTrigger),
    Postgres(PostgresTrigger),
}

#[derive(Clone, Debug)]
pub struct Webhook {
    /// Starts with `/`; the request path below `/hooks/{tenant}`.
    pub path: String,
    pub verify: Option<Verify>,
    /// A JSON Schema's text (it begins with `{`), inlined from the file that the graph names; until `Graph::resolve` that
    /// file's path.
    pub schema: Option<String>,
}

/// `verify: { scheme, secret }`; the secret is a name, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    pub scheme: Scheme,
    pub secret: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `X-Hub-Signature-256: sha256=<hex>`; the delivery id is `X-GitHub-Delivery`.
    Github,
    /// standardwebhooks.com: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    Standard,
}

#[derive(Clone, Debug)]
pub struct Cron {
    pub schedule: String,
    pub timezone: Option<String>,
    pub misfire: Option<String>,
}

#[derive(Clone, Debug)]
pub struct TopicTrigger {
    pub name: String,
    /// `avro`, `json` or `raw`.
    pub format: String,
    /// `latest`, `earliest` or an RFC 3339 time.
    pub from: String,
}

#[derive(Clone, Debug)]
pub struct PostgresTrigger {
    pub source: String,
    pub outbox: String,
}

/// An edge to a step. A hop edge goes through the topic `weir.hops`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    pub to: StepIndex,
    /// The name the step sees in `event.edge`: `trigger` or `step.port`.
    pub name: String,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub name: String,
    /// What `uses` said: a path or a name before `apply`, `sha256:<hex>` in a canonical graph.
    pub uses: String,
    /// Never empty; `["out"]` where the graph names none.
    pub ports: Vec<Port>,
    /// Names of the edges into this step, in the order of `from`: `trigger` or `step.port`. Never empty.
    pub from: Vec<String>,
    /// Runs once for all events of all its edges instead of once per event.
    pub join: bool,
    /// `when:`: evaluated per event; false makes the branch silent.
    pub when: Option<Expr>,
    /// `hop:`: the step's input travels through `weir.hops`, keyed by this expression.
    pub hop: Option<Expr>,
    /// `settings:` as one JSON object's text (`{}` where none).
    pub settings: String,
    pub limits: Limits,
    pub retry: Retry,
    pub isolation: Isolation,
    pub on_error: StepOnError,
    /// `log: true` grants `weir:step/log`.
    pub log: bool,
    /// `http: { allow }`: hosts.
    pub http_allow: Vec<String>,
    /// Names of secrets granted.
    pub secrets: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub edges: Vec<Edge>,
    /// Indices into `Graph::sinks`. A port with no edge and no sink is a terminal one: its outputs are in the Result.
    pub sinks: Vec<usize>,
}

/// Bounds of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub time: Duration,
    pub memory_bytes: u64,
    /// Sum of all outputs of one call; also the largest body of an HTTP request and of its answer.
    pub output_bytes: u64,
    /// Outputs of one call.
    pub outputs: u32,
    /// HTTP requests of one call.
    pub requests: u32,
    /// Lines of its log that are kept.
    pub log_lines: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(1),
            memory_bytes: 64 << 20,
            output_bytes: 8 << 20,
            outputs: 10_000,
            requests: 100,
            log_lines: 1_000,
        }
    }
}

/// Bounds of one segment: from a trigger or hop to the next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphLimits {
    /// All its calls together, waiting between tries included.
    pub time: Duration,
    /// How many calls; a fan-out that makes more fails.
    pub calls: u32,
}

impl Default for GraphLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            calls: 10_000,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all; 1: no retry.
    pub attempts: u32,
    pub backoff: Backoff,
    pub order: RetryOrder,
    /// What is tried again beside what the step itself asks for.
    pub on: Vec<RetryOn>,
}

/// A failure that a step did not mean, and that its graph wants tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    Timeout,
    Trap,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            backoff: Backoff::Exponential,
            order: RetryOrder::Keep,
            on: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    Constant,
    Exponential,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOrder {
    Keep,
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A fresh instance for every call.
    Record,
    /// An instance reused within a lane for the same tenant, graph version and step.
    Batch,
}

/// What a failed execution becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// A failed Result and a dead letter.
    DeadLetter,
    /// A failed Result only.
    Discard,
    /// A failed Result, a dead letter, and the graph is paused.
    Pause,
}

/// What a failed step means for its execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOnError {
    Fail,
    /// The step counts as silent; the execution goes on.
    Continue,
    /// The failure leaves the step as an event on its port [`ERROR_PORT`]; the execution goes on.
    Route,
}

/// Where failures leave a step with `on_error: route`.
pub const ERROR_PORT: &str = "error";

#[derive(Clone, Debug)]
pub struct Sink {
    pub name: String,
    pub kind: SinkKind,
    /// Names of the edges into this sink, as in `Step::from`.
    pub from: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum SinkKind {
    Postgres {
        to: String,
        table: String,
        mode: WriteMode,
        key: Vec<String>,
        columns: Vec<String>,
    },
    Scylla {
        to: String,
        table: String,
    },
    Topic {
        name: String,
        key: Option<Expr>,
        format: String,
        /// An Avro schema's text (it begins with `{`), inlined from the file that the graph names; until `Graph::resolve`
        /// that file's path. `None`: the newest one that is registered for the topic.
        schema: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    Insert,
    Upsert,
    Delete,
}
