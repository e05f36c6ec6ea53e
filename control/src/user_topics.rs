//! The topics that a graph reads and writes: whether they are granted, whether they are there, and where reading starts.
//! What a version may do is asked anew each time that it is to become active: grants and topics come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemas::graph::Graph;
use serde_json::{Value, json};
use store::{NewSubscription, TopicStart};
use topics::{Log, LogError, Partition, Topic, TopicSpec};

use crate::clock;
use crate::grants::{Grants, Use};
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT};

/// What becomes of a graph that names a topic which does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingTopics {
    /// The topic is made, with so many partitions.
    Created { partitions: u32 },
    /// The graph is refused, with the line that makes the topic on these brokers.
    Refused { brokers: String },
}

/// What a graph has to do with topics.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) subscriptions: Vec<NewSubscription>,
    pub(crate) writes: Vec<String>,
    pub(crate) starts: Vec<TopicStart>,
}

/// A topic that a graph names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    /// `trigger` or `sink`.
    part: &'static str,
    /// The trigger's or the sink's.
    name: String,
    topic: String,
    /// Of a trigger.
    from: Option<Since>,
}

/// Where a topic's first subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Latest,
    Earliest,
    TimeMs(i64),
}

/// Asks the log about the topics of a graph that is to become active; makes those that are missing where that is done.
pub(crate) async fn check(state: &ControlState, graph: &Graph) -> Result<Checked> {
    let named = named(graph, &state.grants).map_err(|problems| refused(&graph.name, problems))?;
    let subscriptions = named
        .iter()
        .filter(|named| named.from.is_some())
        .map(|named| NewSubscription {
            trigger: named.name.clone(),
            topic: named.topic.clone(),
        });
    let writes = named.iter().filter(|named| named.from.is_none());
    let writes: BTreeSet<String> = writes.map(|named| named.topic.clone()).collect();
    let mut checked = Checked {
        subscriptions: subscriptions.collect(),
        writes: writes.into_iter().collect(),
        starts: Vec::new(),
    };
    if named.is_empty() {
        return Ok(checked);
    }
    let (log, missing) = (state.log.clone(), state.missing_topics.clone());
    let asked = tokio::task::spawn_blocking(move || ask(&log, &missing, &named)).await;
    let asked = asked.map_err(|panic| {
        Problem::internal(&format!(
            "the look at the graph's topics broke off: {panic}"
        ))
    })?;
    checked.starts = asked?.map_err(|problems| refused(&graph.name, problems))?;
    Ok(checked)
}

fn refused(graph: &str, problems: Vec<Value>) -> Problem {
    Problem::unprocessable(
        format!("the topics of graph \"{graph}\" cannot be read or written"),
        problems,
    )
}

/// The topics, as far as the graph and the grants say; or all that is wrong.
fn named(graph: &Graph, grants: &Grants) -> Result<Vec<Named>, Vec<Value>> {
    let mut all = Vec::new();
    let mut problems = Vec::new();
    let mut reads: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for (name, topic) in graph.subscriptions() {
        let at = |text: &str| problem("trigger", name, text);
        if !grants.allow(TENANT, Use::Read, &topic.name) {
            problems.push(at(&not_granted(Use::Read, &topic.name)));
        }
        match since(&topic.from) {
            None => problems.push(at(&format!(
                "\"{}\" is no time; write latest, earliest or a time such as 2026-01-31T00:00:00Z",
                topic.from
            ))),
            from => all.push(Named {
                part: "trigger",
                name: name.to_owned(),
                topic: topic.name.clone(),
                from,
            }),
        }
        match reads.get(topic.name.as_str()) {
            Some((other, start)) if *start != topic.from => problems.push(at(&format!(
                "reads topic \"{}\" from {}, and trigger \"{other}\" from {start}; a topic is read once: give both the same \"from\"",
                topic.name, topic.from
            ))),
            Some(_) => {}
            None => {
                reads.insert(&topic.name, (name, &topic.from));
            }
        }
    }
    for (name, topic) in graph.topics_written() {
        if !grants.allow(TENANT, Use::Write, topic) {
            problems.push(problem("sink", name, &not_granted(Use::Write, topic)));
        }
        all.push(Named {
            part: "sink",
            name: name.to_owned(),
            topic: topic.to_owned(),
            from: None,
        });
    }
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(problems)
    }
}

fn problem(part: &str, name: &str, text: &str) -> Value {
    json!({part: name, "message": format!("{part} \"{name}\": {text}")})
}

fn not_granted(how: Use, topic: &str) -> String {
    let (verb, key) = match how {
        Use::Read => ("read", "topics_read"),
        Use::Write => ("write", "topics_write"),
    };
    format!(
        "tenant \"{TENANT}\" may not {verb} topic \"{topic}\"; grant it in the server's weir.toml, under [tenants.{TENANT}]:  {key} = [\"{topic}\"]"
    )
}

fn since(text: &str) -> Option<Since> {
    match text {
        "latest" => Some(Since::Latest),
        "earliest" => Some(Since::Earliest),
        time => clock::instant(time).map(Since::TimeMs),
    }
}

/// What lanes write at once; a batch that a topic does not take fails the transaction of everything beside it.
const BATCH_BYTES: u64 = 1 << 20;

fn narrow(topic: &str, bytes_max: u64) -> String {
    format!(
        "topic \"{topic}\" takes at most {bytes_max} bytes at once (max.message.bytes), and weir writes batches of up to {BATCH_BYTES}; raise it:  kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config max.message.bytes=1048588"
    )
}

/// Blocks.
fn ask(
    log: &Arc<dyn Log>,
    missing: &MissingTopics,
    named: &[Named],
) -> Result<Result<Vec<TopicStart>, Vec<Value>>> {
    let mut problems = Vec::new();
    let mut starts: BTreeMap<&str, TopicStart> = BTreeMap::new();
    for named in named {
        let Some(partitions) = partitions(log, missing, &named.topic)? else {
            if let MissingTopics::Refused { brokers } = missing {
                let text = format!(
                    "topic \"{topic}\" does not exist; create it:  kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions 4",
                    topic = named.topic
                );
                problems.push(problem(named.part, &named.name, &text));
            }
            continue;
        };
        if named.from.is_none()
            && let Some(bytes_max) = log.batch_bytes_max(&named.topic)?
            && bytes_max < BATCH_BYTES
        {
            problems.push(problem(
                named.part,
                &named.name,
                &narrow(&named.topic, bytes_max),
            ));
        }
        if let Some(from) = named.from
            && !starts.contains_key(named.topic.as_str())
        {
            let start = start(log, &named.topic, partitions, from)?;
            starts.insert(&named.topic, start);
        }
    }
    if problems.is_empty() {
        Ok(Ok(starts.into_values().collect()))
    } else {
        Ok(Err(problems))
    }
}

/// How many partitions the topic has, once it has been made where that is done; `None`: it does not exist.
fn partitions(
    log: &Arc<dyn Log>,
    missing: &MissingTopics,
    topic: &str,
) -> Result<Option<u32>, LogError> {
    match (log.partitions(topic), missing) {
        (Ok(partitions), _) => Ok(Some(partitions)),
        (Err(LogError::MissingTopic { .. }), MissingTopics::Refused { .. }) => Ok(None),
        (Err(LogError::MissingTopic { .. }), MissingTopics::Created { partitions }) => {
            log.create_topics(&[TopicSpec::new(topic, *partitions)])?;
            log.partitions(topic).map(Some)
        }
        (Err(error), _) => Err(error),
    }
}

fn start(
    log: &Arc<dyn Log>,
    topic: &str,
    partitions: u32,
    from: Since,
) -> Result<TopicStart, LogError> {
    // before the offsets: should the topic be made anew in between, they are not those of this id
    let topic_id = log.topic_id(topic)?;
    let shared = Topic::from(topic);
    let starts = (0..partitions).map(|number| {
        let partition = Partition {
            topic: shared.clone(),
            number,
        };
        match from {
            Since::Latest => Ok(log.offsets(&partition)?.1),
            Since::Earliest => Ok(log.offsets(&partition)?.0),
            Since::TimeMs(time_ms) => log.offset_at(&partition, time_ms),
        }
    });
    Ok(TopicStart {
        topic: topic.to_owned(),
        topic_id: topic_id.to_string(),
        starts: starts.collect::<Result<_, LogError>>()?,
    })
}
