//! `weir topics`: makes the cluster's topics as topics.toml, and a file of the operator's over it, want them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use topics::kafka::admin::plan::{Change, Wanted, plan};
use topics::kafka::admin::{Admin, wanted};
use topics::{Disposition, KafkaConfig, LogError, catalog};

use super::rights::{User, command, needed};
use crate::args::{Global, RightsArgs, TopicsArgs, TopicsCommand};
use crate::config::{self, Overrides};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Progress, Rows};
use crate::roles::Destinations;

/// How long the brokers are waited for.
const REACH: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);

/// Exit code 0: all is, or has been made, as wanted; 1: something is left.
pub(super) fn topics(
    command: &TopicsCommand,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    match command {
        TopicsCommand::Plan(args) => {
            print(output, &Asked::new(args, global)?.changes()?)?;
            Ok(Exit::Ok)
        }
        TopicsCommand::Apply { args, yes } => {
            let asked = Asked::new(args, global)?;
            let changes = asked.changes()?;
            print(output, &changes)?;
            apply(&asked, &changes, *yes, output.progress())
        }
        TopicsCommand::Rights(args) => {
            rights(args, global, output)?;
            Ok(Exit::Ok)
        }
    }
}

/// Asks nobody.
fn rights(args: &RightsArgs, global: &Global, output: &mut Output) -> anyhow::Result<()> {
    let flags = args
        .brokers
        .iter()
        .map(|brokers| ("kafka.brokers", brokers.clone().into()));
    let overrides = Overrides::of_process(flags.collect());
    let config = config::load(global.config.as_ref(), overrides)?;
    let clients = config.kafka.clients();
    let user = clients.as_ref().and_then(principal).unwrap_or("USER");
    let brokers = clients
        .as_ref()
        .map_or("HOST:PORT", |kafka| &*kafka.brokers);
    let all: Vec<User> = User::all().collect();
    let users = if args.users.is_empty() {
        all
    } else {
        args.users.clone()
    };
    let destinations = Destinations::new(&config.destinations)?;
    let rows = needed(&catalog::topics(), &destinations.sinks(), users)
        .iter()
        .map(|(resource, operations)| {
            let (kind, name, pattern) = resource.told();
            let names: Vec<&str> = operations.iter().map(|o| o.name()).collect();
            let command = command(brokers, user, resource, operations);
            json!({"resource": kind, "name": name, "pattern": pattern, "operations": names.join(","), "command": command})
        })
        .collect();
    Ok(print_columns(
        output,
        rows,
        &["resource", "name", "pattern", "operations"],
    )?)
}

/// The user by whose name Kafka knows these clients, where they have one by SASL.
pub(super) fn principal(kafka: &KafkaConfig) -> Option<&str> {
    let mut properties = kafka.properties.iter();
    let named = properties.find(|(name, _)| name == "sasl.username");
    named.map(|(_, user)| &**user)
}

/// The clients' settings, by flag, environment and file.
pub(super) fn kafka(brokers: Option<&String>, global: &Global) -> anyhow::Result<KafkaConfig> {
    let flags = brokers.map(|brokers| ("kafka.brokers", brokers.clone().into()));
    let overrides = Overrides::of_process(flags.into_iter().collect());
    let config = config::load(global.config.as_ref(), overrides)?;
    Ok(config.kafka.clients().ok_or_else(|| {
        Failure::usage("where is Kafka? say --brokers HOST:PORT, WEIR_KAFKA__BROKERS, or brokers in [kafka] of weir.toml")
    })?)
}

pub(super) fn unreachable(brokers: &str, error: LogError) -> Failure {
    match error {
        LogError::Unavailable { reason } => Failure::new(
            Exit::Unreachable,
            format!("cannot reach kafka at {brokers}: {reason}"),
        ),
        error if error.disposition() == Disposition::Retry => {
            Failure::new(Exit::Unreachable, format!("kafka at {brokers}: {error}"))
        }
        error => Failure::failed(error.to_string()),
    }
}

/// The topics as they are wanted; a wrong file is the user's error.
pub(super) fn wanted_topics(file: Option<&PathBuf>) -> anyhow::Result<Vec<Wanted>> {
    let text = match file {
        None => None,
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?,
        ),
    };
    let name = file
        .map(|path| format!("{}: ", path.display()))
        .unwrap_or_default();
    Ok(wanted(text.as_deref()).map_err(|e| Failure::usage(format!("{name}{e}")))?)
}

type Changes = Vec<(String, Change)>;

/// What is wanted, and where.
struct Asked {
    admin: Admin,
    wanted: Vec<Wanted>,
}

impl Asked {
    fn new(args: &TopicsArgs, global: &Global) -> anyhow::Result<Self> {
        let wanted = wanted_topics(args.file.as_ref())?;
        let kafka = kafka(args.brokers.as_ref(), global)?;
        let failed = |error| unreachable(&kafka.brokers, error);
        let admin = Admin::new(&kafka).map_err(failed)?;
        admin.cluster(REACH).map_err(failed)?;
        Ok(Self { admin, wanted })
    }

    fn changes(&self) -> anyhow::Result<Changes> {
        let names: Vec<&str> = self.wanted.iter().map(|t| &*t.spec.name).collect();
        let current = self
            .admin
            .topics(&names)
            .map_err(|e| Failure::failed(e.to_string()))?;
        Ok(plan(&self.wanted, &current))
    }

    /// The brokers hear of a change one after the other. Whoever looks next shall see it.
    fn settle(&self, done: &Changes, progress: Progress) -> anyhow::Result<()> {
        let deadline = Instant::now() + REACH;
        while self.changes()?.iter().any(|change| done.contains(change)) {
            if Instant::now() > deadline {
                progress.note("not every broker has heard of all of it yet");
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Does what may be done, topic by topic; the first refusal ends it.
fn apply(asked: &Asked, changes: &Changes, yes: bool, progress: Progress) -> anyhow::Result<Exit> {
    let may = |(_, change): &&(String, Change)| match change {
        Change::Cannot { .. } => false,
        Change::Partitions { .. } => yes,
        Change::Create { .. } | Change::Set { .. } => true,
    };
    let done: Changes = changes.iter().filter(may).cloned().collect();
    let mut by_topic: BTreeMap<&str, Vec<Change>> = BTreeMap::new();
    for (topic, change) in &done {
        by_topic.entry(topic).or_default().push(change.clone());
    }
    for (topic, changes) in by_topic {
        asked
            .admin
            .change(topic, &changes)
            .map_err(|e| Failure::failed(e.to_string()))?;
        progress.note(&format!("{topic}: done"));
    }
    asked.settle(&done, progress)?;
    let mut exit = Exit::Ok;
    for (topic, change) in changes.iter().filter(|change| !may(change)) {
        let instead = match change {
            Change::Cannot { instead, .. } => instead,
            _ => {
                "with more partitions each key's records go to another one, and their order breaks once; agree with --yes"
            }
        };
        progress.note(&format!(
            "{topic}: {} was not done: {instead}",
            said(change)
        ));
        exit = Exit::Failed;
    }
    Ok(exit)
}

fn print(output: &mut Output, changes: &Changes) -> std::io::Result<()> {
    let value = Value::Array(
        changes
            .iter()
            .map(|(topic, change)| row(topic, change))
            .collect(),
    );
    output.print(&value, |value| Rows {
        header: &["", "topic", "change", "note"],
        rows: value
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| {
                ["mark", "topic", "change", "note"]
                    .map(|column| row[column].as_str().unwrap_or_default().to_owned())
                    .to_vec()
            })
            .collect(),
    })
}

/// Objects as a table of some of their fields.
pub(super) fn print_columns(
    output: &mut Output,
    rows: Vec<Value>,
    columns: &'static [&'static str],
) -> std::io::Result<()> {
    output.print(&Value::Array(rows), |value| Rows {
        header: columns,
        rows: value
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| {
                let field = |column: &&str| row[*column].as_str().unwrap_or_default().to_owned();
                columns.iter().map(field).collect()
            })
            .collect(),
    })
}

fn row(topic: &str, change: &Change) -> Value {
    let (mark, action, note) = match change {
        Change::Create { .. } => ("+", "create", ""),
        Change::Set { .. } => ("~", "set", ""),
        Change::Partitions { .. } => (
            "~",
            "partitions",
            "needs --yes: the order of keys breaks once",
        ),
        Change::Cannot { instead, .. } => ("!", "cannot", &**instead),
    };
    let mut row = json!({"mark": mark, "topic": topic, "action": action, "change": said(change), "note": note});
    match change {
        Change::Create {
            partitions,
            replication,
            settings,
        } => {
            row["partitions"] = json!(partitions);
            row["replication"] = json!(replication);
            row["settings"] = json!(settings);
        }
        Change::Set { setting, from, to } => {
            row["setting"] = json!(setting);
            row["from"] = json!(from);
            row["to"] = json!(to);
        }
        Change::Partitions { from, to } => {
            row["from"] = json!(from);
            row["to"] = json!(to);
        }
        Change::Cannot { .. } => {}
    }
    row
}

/// A change in a line.
fn said(change: &Change) -> String {
    match change {
        Change::Create {
            partitions,
            replication,
            settings,
        } => {
            let settings: Vec<String> = settings
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let replication = replication.map_or("the brokers'".to_owned(), |n| n.to_string());
            format!(
                "partitions {partitions}, replication {replication}, {}",
                settings.join(", ")
            )
        }
        Change::Set { setting, from, to } => {
            format!("{setting} {} → {to}", from.as_deref().unwrap_or("(unset)"))
        }
        Change::Partitions { from, to } => format!("partitions {from} → {to}"),
        Change::Cannot { what, .. } => what.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_in_a_line() {
        let create = Change::Create {
            partitions: 4,
            replication: None,
            settings: BTreeMap::from([("retention.ms", "5".to_owned())]),
        };
        assert_eq!(
            said(&create),
            "partitions 4, replication the brokers', retention.ms=5"
        );
        let set = Change::Set {
            setting: "retention.ms",
            from: None,
            to: "5".to_owned(),
        };
        assert_eq!(said(&set), "retention.ms (unset) → 5");
        assert_eq!(row("t", &set)["mark"], "~");
        assert_eq!(row("t", &Change::Partitions { from: 1, to: 2 })["to"], 2);
    }
}
