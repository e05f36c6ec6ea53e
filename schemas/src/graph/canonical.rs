//! The canonical form of a graph and its version.
//!
//! The form is JSON with sorted keys and no insignificant white space. Fields with a default are written out, so that a
//! default that changes later never changes what a stored version means; optional fields that are absent are left out, so
//! that a field added later never changes the version of a graph without it. Durations and sizes stand in their largest unit,
//! `from` names ports (`x.out`), every `uses` is a digest and every webhook's schema is inlined. The order of triggers, steps
//! and sinks, comments and the way the file was written do not matter; the order of `from`, `ports` and other lists does.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::file::{self, GraphFile, SinkFile, StepFile, TriggerFile};
use super::inline;
use super::parse::Source;
use super::problem::Report;
use super::{
    Backoff, Graph, Isolation, Problems, RetryOrder, Scheme, Sink, SinkKind, Step, StepOnError,
    Trigger, TriggerKind, WriteMode, units,
};

/// What `Graph::resolve` asks for.
pub trait Resolve {
    /// The digest (`sha256:<64 hex>`) of the module that `uses` names, or why there is none.
    fn module(&mut self, uses: &str) -> Result<String, String>;
    /// The text of a file that the graph names, or why there is none.
    fn file(&mut self, path: &str) -> Result<String, String>;
    /// The graph that `uses: graph:…` names (what stands behind the colon), resolved itself, or why there is none.
    fn graph(&mut self, named: &str) -> Result<Graph, String> {
        Err(format!("there is no graph \"{named}\" here"))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// A module is named by something else than its digest.
    #[error("the step \"{step}\" uses \"{uses}\", which is no digest; resolve the graph first")]
    Unresolved { step: String, uses: String },
    /// A webhook's or topic sink's schema is still a file's path.
    #[error("{part} \"{name}\" names the schema file \"{file}\"; resolve the graph first")]
    NotInlined {
        /// `trigger` or `sink`.
        part: &'static str,
        name: String,
        file: String,
    },
    /// The bytes are no graph.
    #[error("{0}")]
    Problems(#[from] Problems),
    /// The bytes are not JSON.
    #[error("this is not the canonical form of a graph: it is not JSON")]
    NotJson,
}

/// The version of a graph: the sha256 of its canonical form, in hex.
pub fn version(canonical: &[u8]) -> String {
    hex::encode(Sha256::digest(canonical))
}

/// 64 lower-case hex digits.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Graph {
    pub fn canonical(&self) -> Result<Vec<u8>, CanonicalError> {
        for step in &self.steps {
            if !step.uses.strip_prefix("sha256:").is_some_and(is_digest) {
                return Err(CanonicalError::Unresolved {
                    step: step.name.clone(),
                    uses: step.uses.clone(),
                });
            }
        }
        let files = self
            .triggers
            .iter()
            .map(|t| ("trigger", &t.name, trigger_schema(t)));
        let files = files.chain(self.sinks.iter().map(|s| ("sink", &s.name, sink_schema(s))));
        for (part, name, schema) in files {
            if let Some(file) = schema.filter(|schema| is_path(schema)) {
                return Err(CanonicalError::NotInlined {
                    part,
                    name: name.clone(),
                    file: file.to_owned(),
                });
            }
        }
        let value = serde_json::to_value(self.to_file())
            .expect("maps with text keys and finite numbers are JSON");
        Ok(write(&value).into_bytes())
    }

    /// Proves a canonical form again. What older versions of Weir wrote is read for ever, so the bytes need not be what
    /// `canonical` would write today.
    pub fn from_canonical(bytes: &[u8]) -> Result<Graph, CanonicalError> {
        let value = serde_json::from_slice(bytes).map_err(|_| CanonicalError::NotJson)?;
        let graph = super::parse::from_json(value, "canonical form")?;
        graph.canonical()?;
        Ok(graph)
    }

    /// Turns every `uses` into a digest and inlines every webhook's schema; what fails is reported at its line.
    pub fn resolve(&self, with: &mut dyn Resolve) -> Result<Graph, Problems> {
        let mut graph = self.clone();
        let source: Arc<Source> = Arc::clone(&self.origin.0);
        let mut report = Report::new(&source.text);
        let mut subs = BTreeMap::new();
        for step in &mut graph.steps {
            let at = self.origin.place(&format!("steps/{}/uses", step.name));
            if let Some(named) = step.uses.strip_prefix(inline::GRAPH) {
                match with.graph(named) {
                    Ok(sub) => {
                        subs.insert(step.name.clone(), sub.to_file());
                    }
                    Err(why) => report.add(
                        at,
                        format!(
                            "the graph \"{named}\" of step \"{}\" cannot be used: {why}",
                            step.name
                        ),
                        "write graph:NAME@VERSION of a graph that was applied, or graph:./FILE.yaml",
                    ),
                }
                continue;
            }
            match with.module(&step.uses) {
                Ok(digest) if digest.strip_prefix("sha256:").is_some_and(is_digest) => {
                    step.uses = digest
                }
                Ok(other) => report.add(
                    at,
                    format!(
                        "\"{}\" was resolved to \"{other}\", which is no digest",
                        step.uses
                    ),
                    None,
                ),
                Err(why) => {
                    let help = "build the module or push it first, and check the spelling";
                    report.add(
                        at,
                        format!(
                            "the module \"{}\" of step \"{}\" cannot be used: {why}",
                            step.uses, step.name
                        ),
                        help,
                    );
                }
            }
        }
        let origin = &self.origin;
        for trigger in &mut graph.triggers {
            let at = format!("triggers/{}/webhook/schema", trigger.name);
            if let TriggerKind::Webhook(webhook) = &mut trigger.kind {
                inline(
                    &mut webhook.schema,
                    "JSON",
                    origin.place(&at),
                    with,
                    &mut report,
                );
            }
        }
        for sink in &mut graph.sinks {
            let at = format!("sinks/{}/topic/schema", sink.name);
            if let SinkKind::Topic { schema, .. } = &mut sink.kind {
                inline(schema, "Avro", origin.place(&at), with, &mut report);
            }
        }
        if !report.is_clean() {
            return Err(report.finish(&source.file));
        }
        if subs.is_empty() {
            return Ok(graph);
        }
        match inline::expand(graph.to_file(), &subs) {
            Ok(file) => {
                let value = serde_json::to_value(file)
                    .expect("maps with text keys and finite numbers are JSON");
                super::parse::from_json(value, &source.file)
            }
            Err(misfit) => {
                let at = self.origin.place(&format!("steps/{}", misfit.step));
                report.add(at, misfit.message, None);
                Err(report.finish(&source.file))
            }
        }
    }

    fn to_file(&self) -> GraphFile {
        GraphFile {
            weir: Some(1),
            name: Some(self.name.clone()),
            triggers: Some(
                self.triggers
                    .iter()
                    .map(|trigger| (trigger.name.clone(), trigger_file(trigger)))
                    .collect(),
            ),
            steps: self
                .steps
                .iter()
                .map(|step| (step.name.clone(), step_file(step)))
                .collect(),
            sinks: self
                .sinks
                .iter()
                .map(|sink| (sink.name.clone(), sink_file(sink)))
                .collect(),
            on_error: match self.on_error {
                super::OnError::DeadLetter => file::OnErrorFile::DeadLetter,
                super::OnError::Discard => file::OnErrorFile::Discard,
                super::OnError::Pause => file::OnErrorFile::Pause,
            },
            limits: graph_limits(self.limits),
        }
    }
}

/// Left out where nothing was said, so that the version of a graph without it is what it always was.
fn graph_limits(limits: super::GraphLimits) -> Option<file::GraphLimitsFile> {
    let usual = super::GraphLimits::default();
    (limits != usual).then(|| file::GraphLimitsFile {
        time: (limits.time != usual.time).then(|| units::write_duration(limits.time)),
        calls: other(limits.calls, usual.calls),
    })
}

fn other(value: u32, usual: u32) -> Option<u32> {
    (value != usual).then_some(value)
}

/// Two graphs are equal when they say the same; where they were read from does not matter.
impl PartialEq for Graph {
    fn eq(&self, other: &Self) -> bool {
        let value = |graph: &Graph| serde_json::to_value(graph.to_file()).ok();
        value(self) == value(other)
    }
}

fn trigger_schema(trigger: &Trigger) -> Option<&str> {
    match &trigger.kind {
        TriggerKind::Webhook(webhook) => webhook.schema.as_deref(),
        _ => None,
    }
}

fn sink_schema(sink: &Sink) -> Option<&str> {
    match &sink.kind {
        SinkKind::Topic { schema, .. } => schema.as_deref(),
        _ => None,
    }
}

fn is_path(schema: &str) -> bool {
    !schema.starts_with('{')
}

/// Puts the text of the file that is named in the place of its name.
fn inline(
    schema: &mut Option<String>,
    kind: &str,
    at: super::problem::Span,
    with: &mut dyn Resolve,
    report: &mut Report,
) {
    let Some(name) = schema.clone().filter(|schema| is_path(schema)) else {
        return;
    };
    let text = with.file(&name);
    let read = text.and_then(|text| match serde_json::from_str::<Value>(&text) {
        Ok(schema @ Value::Object(_)) => Ok(write(&schema)),
        Ok(_) => Err("it is JSON, but no object".to_owned()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    });
    match read {
        Ok(text) => *schema = Some(text),
        Err(why) => report.add(
            at,
            format!("the schema file \"{name}\" cannot be used: {why}"),
            &*format!(
                "{} {kind} Schema file, seen from the graph file",
                if kind == "Avro" { "an" } else { "a" }
            ),
        ),
    }
}

fn object(text: &str) -> serde_json::Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    }
}

fn trigger_file(trigger: &Trigger) -> TriggerFile {
    let mut file = TriggerFile {
        key: trigger.key.as_ref().map(|key| key.text().to_owned()),
        ..TriggerFile::default()
    };
    match &trigger.kind {
        TriggerKind::Webhook(webhook) => {
            let verify = webhook.verify.as_ref().map(|verify| file::VerifyFile {
                scheme: match verify.scheme {
                    Scheme::Github => file::SchemeFile::Github,
                    Scheme::Standard => file::SchemeFile::Standard,
                },
                secret: verify.secret.clone(),
            });
            let schema = webhook.schema.as_deref().map(schema_value);
            file.webhook = Some(file::WebhookFile {
                path: webhook.path.clone(),
                verify,
                schema,
            });
        }
        TriggerKind::Manual => file.manual = Some(file::ManualFile {}),
        TriggerKind::Cron(cron) => {
            let (schedule, timezone, misfire) = (
                cron.schedule.clone(),
                cron.timezone.clone(),
                cron.misfire.clone(),
            );
            file.cron = Some(file::CronFile {
                schedule,
                timezone,
                misfire,
            });
        }
        TriggerKind::Topic(topic) => {
            let format = format_file(&topic.format);
            file.topic = Some(file::TopicFile {
                name: topic.name.clone(),
                format,
                from: topic.from.clone(),
            });
        }
        TriggerKind::Postgres(postgres) => {
            file.postgres = Some(file::PostgresFile {
                source: postgres.source.clone(),
                outbox: postgres.outbox.clone(),
            });
        }
    }
    file
}

fn schema_value(schema: &str) -> file::BodySchemaFile {
    match is_path(schema) {
        false => file::BodySchemaFile::Inline(object(schema)),
        true => file::BodySchemaFile::Path(schema.to_owned()),
    }
}

fn format_file(word: &str) -> file::FormatFile {
    match word {
        "avro" => file::FormatFile::Avro,
        "json" => file::FormatFile::Json,
        _ => file::FormatFile::Raw,
    }
}

fn step_file(step: &Step) -> StepFile {
    let usual = super::Limits::default();
    StepFile {
        uses: step.uses.clone(),
        ports: step.ports.iter().map(|port| port.name.clone()).collect(),
        from: step.from.clone(),
        when: step.when.as_ref().map(|when| when.text().to_owned()),
        join: step.join.then_some(file::JoinFile::All),
        hop: step.hop.as_ref().map(|hop| hop.text().to_owned()),
        settings: object(&step.settings),
        limits: file::LimitsFile {
            time: units::write_duration(step.limits.time),
            memory: units::write_size(step.limits.memory_bytes),
            output: units::write_size(step.limits.output_bytes),
            outputs: other(step.limits.outputs, usual.outputs),
            requests: other(step.limits.requests, usual.requests),
            logs: other(step.limits.log_lines, usual.log_lines),
        },
        retry: file::RetryFile {
            attempts: step.retry.attempts,
            backoff: match step.retry.backoff {
                Backoff::Constant => file::BackoffFile::Constant,
                Backoff::Exponential => file::BackoffFile::Exponential,
            },
            order: match step.retry.order {
                RetryOrder::Keep => file::OrderFile::Keep,
                RetryOrder::Release => file::OrderFile::Release,
            },
            on: step
                .retry
                .on
                .iter()
                .map(|on| match on {
                    super::RetryOn::Timeout => file::RetryOnFile::Timeout,
                    super::RetryOn::Trap => file::RetryOnFile::Trap,
                })
                .collect(),
        },
        isolation: match step.isolation {
            Isolation::Record => file::IsolationFile::Record,
            Isolation::Batch => file::IsolationFile::Batch,
        },
        http: file::HttpFile {
            allow: step.http_allow.clone(),
        },
        secrets: step.secrets.clone(),
        log: step.log,
        on_error: match step.on_error {
            StepOnError::Fail => file::StepOnErrorFile::Fail,
            StepOnError::Continue => file::StepOnErrorFile::Continue,
            StepOnError::Route => file::StepOnErrorFile::Route,
        },
    }
}

fn sink_file(sink: &Sink) -> SinkFile {
    let mut file = SinkFile {
        postgres: None,
        scylla: None,
        topic: None,
        from: sink.from.clone(),
    };
    match &sink.kind {
        SinkKind::Postgres {
            to,
            table,
            mode,
            key,
            columns,
        } => {
            let mode = match mode {
                WriteMode::Insert => file::ModeFile::Insert,
                WriteMode::Upsert => file::ModeFile::Upsert,
                WriteMode::Delete => file::ModeFile::Delete,
            };
            let (to, table, key, columns) =
                (to.clone(), table.clone(), key.clone(), columns.clone());
            file.postgres = Some(file::PostgresSinkFile {
                to,
                table,
                mode,
                key,
                columns,
            });
        }
        SinkKind::Scylla { to, table } => {
            file.scylla = Some(file::ScyllaSinkFile {
                to: to.clone(),
                table: table.clone(),
            });
        }
        SinkKind::Topic {
            name,
            key,
            format,
            schema,
        } => {
            let key = key.as_ref().map(|key| key.text().to_owned());
            file.topic = Some(file::TopicSinkFile {
                name: name.clone(),
                key,
                format: format_file(format),
                schema: schema.as_deref().map(schema_value),
            });
        }
    }
    file
}

/// JSON with sorted keys and no white space, whatever order `serde_json` keeps its maps in.
pub(super) fn write(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&str, &Value> = map
                .iter()
                .map(|(key, value)| (key.as_str(), value))
                .collect();
            let entry =
                |(key, value): (&str, &Value)| format!("{}:{}", Value::from(key), write(value));
            format!(
                "{{{}}}",
                sorted.into_iter().map(entry).collect::<Vec<_>>().join(",")
            )
        }
        Value::Array(list) => format!("[{}]", list.iter().map(write).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}
