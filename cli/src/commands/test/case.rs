//! `*.test.yaml`, as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use crate::exit::Failure;

/// The cases of one file, and the graph that they are for.
pub(super) struct Suite {
    pub(super) graph: PathBuf,
    pub(super) cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The graph's file, seen from this one; without it the one of the same name (`x.test.yaml` → `x.yaml`), or `graph.yaml`.
    graph: Option<PathBuf>,
    cases: Vec<Case>,
}

/// One trigger, and what is to come of it. What is not said is not looked at, but for a failure, which has to be expected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    /// Which trigger; may be left out where there is one, or one manual one.
    pub(super) trigger: Option<String>,
    /// The time that the steps see, RFC 3339.
    #[serde(default = "at")]
    pub(super) at: String,
    pub(super) key: Option<String>,
    #[serde(default = "json")]
    pub(super) content_type: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// The event's data: JSON, or text as it is with another content type.
    pub(super) data: Option<Value>,
    /// A file with the data instead, seen from this one.
    pub(super) file: Option<PathBuf>,
    /// Secrets that the steps may read.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, String>,
    /// Answers to HTTP requests; whatever else is asked is refused, and the case fails.
    #[serde(default)]
    pub(super) http: Vec<Mock>,
    #[serde(default)]
    pub(super) expect: Expect,
}

/// An answer to a request.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mock {
    /// `GET https://api.example.com/x?y=1`
    pub(super) request: String,
    /// What the request's body has to be: JSON, or text.
    pub(super) body: Option<Value>,
    #[serde(default)]
    pub(super) answer: Answer,
    /// No answer: `timeout` or `connect`.
    pub(super) fail: Option<Fail>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: Value,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: ok(),
            headers: BTreeMap::new(),
            body: Value::Null,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fail {
    Timeout,
    Connect,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// All outputs, in order: what database sinks take, and what nothing takes.
    pub(super) outputs: Option<Vec<Piece>>,
    /// All records of topic sinks, in order.
    pub(super) topics: Option<Vec<Piece>>,
    pub(super) dead_letter: Option<Letter>,
    /// Lines that are logged, in order, among others.
    #[serde(default)]
    pub(super) logs: Vec<Line>,
}

/// An output or a record; what is not said is not compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Piece {
    pub(super) step: Option<String>,
    pub(super) port: Option<String>,
    /// Of a topic sink: its topic.
    pub(super) topic: Option<String>,
    pub(super) key: Option<String>,
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) data: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Letter {
    pub(super) step: Option<String>,
    pub(super) kind: Option<String>,
    /// A part of the reason.
    pub(super) reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) step: Option<String>,
    pub(super) level: Option<String>,
    /// A part of the message.
    pub(super) message: String,
}

impl Suite {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let written: Written = serde_saphyr::from_str(&text)
            .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let name = file
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let same = name.replace(".test.", ".");
        let graph = match written.graph {
            Some(graph) => folder.join(graph),
            None if folder.join(&same).is_file() => folder.join(&same),
            None if folder.join("graph.yaml").is_file() => folder.join("graph.yaml"),
            None => {
                return Err(Failure::failed(format!(
                    "{}: for which graph? there is neither {same} nor graph.yaml beside it; say `graph: FILE`",
                    file.display()
                ))
                .into());
            }
        };
        Ok(Self {
            graph,
            cases: written.cases,
        })
    }
}

fn at() -> String {
    "2026-01-01T00:00:00Z".to_owned()
}

fn json() -> String {
    "application/json".to_owned()
}

fn ok() -> u16 {
    200
}
