//! Graphs and the schema registry: what topic sinks with Avro write, and whether there is a registry to read Avro with.

use schemas::avro::Avro;
use schemas::graph::{Graph, SinkKind, TriggerKind};
use serde_json::{Value, json};
use store::SinkSchema;
use topics::registry::{Registry, RegistryError};

use crate::problem::{Problem, Result};
use crate::router::ControlState;

const AVRO: &str = "avro";

/// The schemas of a graph's topic sinks; those that the graph brings are registered.
pub(crate) async fn check(state: &ControlState, graph: &Graph) -> Result<Vec<SinkSchema>> {
    let mut problems = Vec::new();
    for trigger in &graph.triggers {
        let is_avro = matches!(&trigger.kind, TriggerKind::Topic(topic) if topic.format == AVRO);
        if is_avro && state.registry.is_none() {
            problems.push(problem("trigger", &trigger.name, NO_REGISTRY));
        }
    }
    let mut wanted = Vec::new();
    for sink in &graph.sinks {
        let SinkKind::Topic {
            name,
            format,
            schema,
            ..
        } = &sink.kind
        else {
            continue;
        };
        match (&state.registry, &**format) {
            (Some(registry), AVRO) => {
                let subject = format!("{name}-value");
                match look(registry, &subject, schema.as_deref()).await? {
                    Ok(()) => wanted.push((sink, subject, schema.as_deref())),
                    Err(why) => problems.push(problem("sink", &sink.name, &why)),
                }
            }
            (None, AVRO) => problems.push(problem("sink", &sink.name, NO_REGISTRY)),
            _ => {}
        }
    }
    if !problems.is_empty() {
        let detail = format!("graph \"{}\" cannot read or write Avro", graph.name);
        return Err(Problem::unprocessable(detail, problems));
    }
    let mut found = Vec::with_capacity(wanted.len());
    for (sink, subject, schema) in wanted {
        let Some(registry) = &state.registry else {
            continue;
        };
        let (id, schema) = match schema {
            Some(schema) => {
                let id = registry.register(&subject, schema).await;
                (id.map_err(unanswered)?, schema.to_owned())
            }
            None => match registry.latest(&subject).await.map_err(unanswered)? {
                Some(latest) => latest,
                // it was there a moment ago
                None => return Err(Problem::unavailable(none_registered(&subject))),
            },
        };
        found.push(SinkSchema {
            sink: sink.name.clone(),
            id,
            schema,
        });
    }
    Ok(found)
}

const NO_REGISTRY: &str = "format avro needs a schema registry, and this server has none; set [registry] url in its weir.toml, or use json or raw";

/// Whether a sink could be written; the inner error says what is wrong with the graph.
async fn look(
    registry: &Registry,
    subject: &str,
    schema: Option<&str>,
) -> Result<Result<(), String>> {
    let Some(schema) = schema else {
        let latest = registry.latest(subject).await.map_err(unanswered)?;
        return Ok(match latest {
            None => Err(none_registered(subject)),
            Some((id, schema)) => Avro::parse(&schema, &[]).map(drop).map_err(|e| {
                format!("schema {id}, the newest of \"{subject}\", cannot be used: {e}")
            }),
        });
    };
    if let Err(e) = Avro::parse(schema, &[]) {
        return Ok(Err(format!("its schema is no Avro schema: {e}")));
    }
    match registry.compatible(subject, schema).await {
        Ok(()) => Ok(Ok(())),
        Err(RegistryError::Incompatible { reason, .. }) => Ok(Err(format!(
            "its schema is not compatible with what is registered under \"{subject}\": {reason}; change the schema, or the subject's compatibility level"
        ))),
        Err(error @ RegistryError::Invalid { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(unanswered(error)),
    }
}

fn none_registered(subject: &str) -> String {
    format!(
        "nothing is registered under \"{subject}\"; give the sink a schema (schema: FILE.avsc), or register one"
    )
}

fn problem(part: &str, name: &str, text: &str) -> Value {
    json!({part: name, "message": format!("{part} \"{name}\": {text}")})
}

fn unanswered(error: RegistryError) -> Problem {
    Problem::unavailable(error.to_string())
}
