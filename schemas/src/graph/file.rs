//! The graph file as serde reads and writes it: the one place that knows its fields. Its JSON Schema drives the first pass
//! over a file ([`super::shape`]); its serialisation, with the keys sorted, is the canonical form.
//!
//! What is `Option` here and has no default is left out of the canonical form when absent; everything else is written out,
//! so that a default that changes later never changes what a stored version means.

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};

/// A Weir graph: triggers start executions, steps work on their events, sinks write what comes out.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(title = "Weir graph")]
#[serde(deny_unknown_fields)]
pub(super) struct GraphFile {
    /// The version of this file format: 1.
    #[schemars(required, range(min = 1, max = 1))]
    pub(super) weir: Option<u32>,
    /// The graph's name: a-z, 0-9, `_` and `-`, at most 63 characters.
    #[schemars(required, regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,62}$"))]
    pub(super) name: Option<String>,
    /// What starts an execution, by name.
    #[schemars(required)]
    pub(super) triggers: Option<BTreeMap<String, TriggerFile>>,
    /// What works on events, by name.
    #[serde(default)]
    pub(super) steps: BTreeMap<String, StepFile>,
    /// Where results go, by name.
    #[serde(default)]
    pub(super) sinks: BTreeMap<String, SinkFile>,
    /// What becomes of a failed execution.
    #[serde(default)]
    pub(super) on_error: OnErrorFile,
    /// Bounds of one execution, or of its part between two hops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<GraphLimitsFile>,
}

/// Bounds of one execution, or of its part between two hops.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "GraphLimits")]
#[serde(deny_unknown_fields, default)]
pub(super) struct GraphLimitsFile {
    /// All its calls together, such as `30s`; `1m` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<String>,
    /// How many calls of steps; 10000 without it.
    #[schemars(range(min = 1, max = 100000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls: Option<u32>,
}

/// What starts an execution. Exactly one of `webhook`, `cron`, `topic`, `postgres` and `manual`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Trigger")]
#[serde(deny_unknown_fields)]
pub(super) struct TriggerFile {
    /// An HTTP request to `/hooks/{tenant}{path}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) webhook: Option<WebhookFile>,
    /// A schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cron: Option<CronFile>,
    /// A record that anyone produced to a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<TopicFile>,
    /// A row of an outbox table in Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) postgres: Option<PostgresFile>,
    /// The API or `weir run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manual: Option<ManualFile>,
    /// A CEL expression over the event; events of the same key stay in order. Without it each execution is its own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
}

/// An HTTP request to `/hooks/{tenant}{path}`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookFile {
    /// The path below `/hooks/{tenant}`; begins with `/`.
    #[schemars(regex(pattern = r"^/"))]
    pub(super) path: String,
    /// How the sender's signature is checked. Without it anyone may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) verify: Option<VerifyFile>,
    /// A JSON Schema that the body must satisfy: a file's path, or the schema itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<BodySchemaFile>,
}

/// A file's path, or the schema itself.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "BodySchema")]
#[serde(untagged)]
pub(super) enum BodySchemaFile {
    /// The path of a JSON Schema file, seen from the graph file.
    Path(String),
    /// The JSON Schema itself.
    Inline(serde_json::Map<String, serde_json::Value>),
}

/// How a webhook's signature is checked.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Verify")]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyFile {
    /// Whose way of signing.
    pub(super) scheme: SchemeFile,
    /// The name of the secret, never its value.
    pub(super) secret: String,
}

/// A way of signing webhooks.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Scheme")]
#[serde(rename_all = "kebab-case")]
pub(super) enum SchemeFile {
    /// `X-Hub-Signature-256`, as GitHub signs.
    Github,
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`, as standardwebhooks.com says.
    Standard,
}

/// A schedule.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Cron")]
#[serde(deny_unknown_fields)]
pub(super) struct CronFile {
    /// Five fields: minute, hour, day of the month, month, day of the week.
    pub(super) schedule: String,
    /// An IANA name such as `Europe/Berlin`; UTC without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timezone: Option<String>,
    /// What to do about fire times that passed while nothing ran, such as `fire-once`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) misfire: Option<String>,
}

/// Records of a topic.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "TopicTrigger")]
#[serde(deny_unknown_fields)]
pub(super) struct TopicFile {
    /// The topic's name; names that begin with `weir` are Weir's own.
    pub(super) name: String,
    /// How the values are written.
    pub(super) format: FormatFile,
    /// Where a partition that was never read starts: `latest`, `earliest` or an RFC 3339 time.
    #[serde(default = "latest")]
    pub(super) from: String,
}

/// How a topic's values are written.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Format")]
#[serde(rename_all = "kebab-case")]
pub(super) enum FormatFile {
    /// Avro in the Confluent wire format.
    Avro,
    /// JSON.
    Json,
    /// Bytes as they are.
    Raw,
}

/// Rows of an outbox table.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "PostgresTrigger")]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresFile {
    /// The database, as `weir.toml` names it.
    pub(super) source: String,
    /// The outbox table.
    pub(super) outbox: String,
}

/// Started by hand.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Manual")]
#[serde(deny_unknown_fields)]
pub(super) struct ManualFile {}

/// A node of the graph: a module and its settings.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Step")]
#[serde(deny_unknown_fields)]
pub(super) struct StepFile {
    /// The module: a path, a name with a version, or `sha256:…`; or a graph: `graph:NAME@VERSION`.
    pub(super) uses: String,
    /// The ports the step emits on; `out` without it.
    #[serde(default = "port_out")]
    pub(super) ports: Vec<String>,
    /// Where its events come from: triggers, steps (their port `out`) or `step.port`.
    pub(super) from: Vec<String>,
    /// A CEL condition over each event; where it is false the step does not run for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) when: Option<String>,
    /// `all`: run once, with the events of all edges, when each has settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) join: Option<JoinFile>,
    /// A CEL expression: the step's input travels through a topic, keyed by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hop: Option<String>,
    /// Handed to the step as JSON.
    #[serde(default)]
    pub(super) settings: serde_json::Map<String, serde_json::Value>,
    /// Bounds of one call.
    #[serde(default)]
    pub(super) limits: LimitsFile,
    /// What to do when the step asks to be tried again.
    #[serde(default)]
    pub(super) retry: RetryFile,
    /// How instances are shared between calls.
    #[serde(default)]
    pub(super) isolation: IsolationFile,
    /// Grants HTTP to the hosts named.
    #[serde(default)]
    pub(super) http: HttpFile,
    /// Names of the secrets that the step may read.
    #[serde(default)]
    pub(super) secrets: Vec<String>,
    /// Grants `weir:step/log`.
    #[serde(default)]
    pub(super) log: bool,
    /// What a failure of this step means for the execution.
    #[serde(default)]
    pub(super) on_error: StepOnErrorFile,
}

/// How a step gathers its edges.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Join")]
#[serde(rename_all = "kebab-case")]
pub(super) enum JoinFile {
    /// Once, when every edge has settled.
    All,
}

/// Bounds of one call.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Limits")]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsFile {
    /// Time of one call, such as `500ms`, `2s` or `1m`.
    pub(super) time: String,
    /// Memory of one instance, such as `64MiB`.
    pub(super) memory: String,
    /// All outputs of one call together, such as `8MiB`; also one HTTP request or answer.
    pub(super) output: String,
    /// Outputs of one call; 10000 without it.
    #[schemars(range(min = 1, max = 10000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outputs: Option<u32>,
    /// HTTP requests of one call; 100 without it.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<u32>,
    /// Lines of its log that are kept; 1000 without it.
    #[schemars(range(max = 1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logs: Option<u32>,
}

impl Default for LimitsFile {
    fn default() -> Self {
        let limits = super::Limits::default();
        Self {
            time: super::units::write_duration(limits.time),
            memory: super::units::write_size(limits.memory_bytes),
            output: super::units::write_size(limits.output_bytes),
            outputs: None,
            requests: None,
            logs: None,
        }
    }
}

/// What to do when the step asks to be tried again.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Retry")]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryFile {
    /// Tries in all; 1: none again.
    #[schemars(range(min = 1, max = 100))]
    pub(super) attempts: u32,
    /// How the pause between tries grows.
    pub(super) backoff: BackoffFile,
    /// What later events of the same key do meanwhile.
    pub(super) order: OrderFile,
    /// What is tried again beside what the step itself asks for: `timeout`, `trap`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) on: Vec<RetryOnFile>,
}

impl Default for RetryFile {
    fn default() -> Self {
        Self {
            attempts: super::Retry::default().attempts,
            backoff: BackoffFile::default(),
            order: OrderFile::default(),
            on: Vec::new(),
        }
    }
}

/// A failure that a step did not mean.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "RetryOn")]
#[serde(rename_all = "kebab-case")]
pub(super) enum RetryOnFile {
    /// The call ran longer than it may.
    Timeout,
    /// The step panicked, or ran out of memory or stack.
    Trap,
}

/// How the pause between tries grows.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Backoff")]
#[serde(rename_all = "kebab-case")]
pub(super) enum BackoffFile {
    /// Always the same.
    Constant,
    /// Longer each time.
    #[default]
    Exponential,
}

/// What later events of the same key do while one is tried again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "RetryOrder")]
#[serde(rename_all = "kebab-case")]
pub(super) enum OrderFile {
    /// They wait.
    #[default]
    Keep,
    /// They overtake.
    Release,
}

/// How instances of a step are shared between calls.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Isolation")]
#[serde(rename_all = "kebab-case")]
pub(super) enum IsolationFile {
    /// A fresh instance for every call.
    #[default]
    Record,
    /// One instance for many calls of the same step.
    Batch,
}

/// HTTP that a step may speak.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Http")]
#[serde(deny_unknown_fields)]
pub(super) struct HttpFile {
    /// The hosts it may call.
    pub(super) allow: Vec<String>,
}

/// What a failure of a step means for its execution.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "StepOnError")]
#[serde(rename_all = "kebab-case")]
pub(super) enum StepOnErrorFile {
    /// The execution fails.
    #[default]
    Fail,
    /// The step counts as silent.
    Continue,
    /// The failure goes out as an event on the step's port `error`.
    Route,
}

/// What becomes of a failed execution.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "OnError")]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnErrorFile {
    /// A failed result, and a dead letter with the original bytes.
    #[default]
    DeadLetter,
    /// A failed result only.
    Discard,
    /// As `dead-letter`, and the graph is paused.
    Pause,
}

/// Where results go. Exactly one of `postgres`, `scylla` and `topic`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Sink")]
#[serde(deny_unknown_fields)]
pub(super) struct SinkFile {
    /// A table in Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) postgres: Option<PostgresSinkFile>,
    /// A table in ScyllaDB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scylla: Option<ScyllaSinkFile>,
    /// A topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<TopicSinkFile>,
    /// Whose events it takes, as in a step's `from`.
    pub(super) from: Vec<String>,
}

/// A table in Postgres.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "PostgresSink")]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresSinkFile {
    /// The destination, as `weir.toml` names it.
    pub(super) to: String,
    /// The table, with or without its schema.
    pub(super) table: String,
    /// What an event does to the table.
    #[serde(default)]
    pub(super) mode: ModeFile,
    /// The columns that name a row; needed for `upsert` and `delete`.
    #[serde(default)]
    pub(super) key: Vec<String>,
    /// The columns to write; all fields of the event without it.
    #[serde(default)]
    pub(super) columns: Vec<String>,
}

/// What an event does to a table.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "WriteMode")]
#[serde(rename_all = "kebab-case")]
pub(super) enum ModeFile {
    /// Adds a row.
    #[default]
    Insert,
    /// Adds a row or replaces the one of the same key.
    Upsert,
    /// Removes the row of the same key.
    Delete,
}

/// A table in ScyllaDB.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "ScyllaSink")]
#[serde(deny_unknown_fields)]
pub(super) struct ScyllaSinkFile {
    /// The destination, as `weir.toml` names it.
    pub(super) to: String,
    /// The table, with its keyspace.
    pub(super) table: String,
}

/// A topic that results go to.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "TopicSink")]
#[serde(deny_unknown_fields)]
pub(super) struct TopicSinkFile {
    /// The topic's name; names that begin with `weir` are Weir's own.
    pub(super) name: String,
    /// A CEL expression over the event that gives the record's key; the event's own key without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// How the values are written.
    pub(super) format: FormatFile,
    /// With `format: avro`, the Avro schema: a file's path, or the schema itself. It is registered under `TOPIC-value`;
    /// without it the newest one there is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<BodySchemaFile>,
}

fn latest() -> String {
    "latest".to_owned()
}

fn port_out() -> Vec<String> {
    vec!["out".to_owned()]
}

/// Draft 2020-12.
pub(super) fn json_schema() -> serde_json::Value {
    SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<GraphFile>()
        .to_value()
}
