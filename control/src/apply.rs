//! The server's own proof of a graph: whatever a client has checked is checked again. Decisions only; the store's bytes
//! are given.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemas::graph::{self, CanonicalError, Graph, Problems, Resolve, TriggerKind};
use schemas::module;
use serde_json::{Value, json};

/// A graph that has been proven on its own, its modules not yet.
pub(crate) struct Definition {
    pub(crate) graph: Graph,
    pub(crate) canonical: Vec<u8>,
    pub(crate) version: String,
}

/// What is wrong, in one sentence and one by one.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) detail: String,
    pub(crate) problems: Vec<Value>,
}

/// Proves a canonical definition; its bytes may differ from the canonical form in blanks and order.
pub(crate) fn from_definition(definition: &str) -> Result<Definition, Refused> {
    let graph = Graph::from_canonical(definition.as_bytes()).map_err(refused)?;
    finish(graph)
}

/// Proves a file whose `uses` are digests and which names no other file.
pub(crate) fn from_source(source: &str) -> Result<Definition, Refused> {
    let graph = graph::parse(source, "graph").map_err(listed)?;
    finish(graph.resolve(&mut DigestsOnly).map_err(listed)?)
}

/// The digests of all modules that the graph uses, each once.
pub(crate) fn digests(graph: &Graph) -> Vec<String> {
    let mut digests: Vec<String> = graph.steps.iter().map(|step| step.uses.clone()).collect();
    digests.sort_unstable();
    digests.dedup();
    digests
}

/// Proves that every module is here, is a step, and gets what it asks for.
pub(crate) fn check_modules(
    graph: &Graph,
    modules: &BTreeMap<String, Bytes>,
) -> Result<(), Refused> {
    let inspected: BTreeMap<&str, _> = modules
        .iter()
        .map(|(digest, bytes)| (digest.as_str(), module::inspect(bytes)))
        .collect();
    let mut problems = Vec::new();
    for step in &graph.steps {
        let mut say = |text: String| {
            problems.push(
                json!({"step": step.name, "message": format!("step \"{}\": {text}", step.name)}),
            )
        };
        match inspected.get(step.uses.as_str()) {
            None => say(format!(
                "module {} is not on the server; send it first",
                step.uses
            )),
            Some(Err(problem)) => say(format!("module {}: {problem}", step.uses)),
            Some(Ok(interface)) => {
                if let Err(missing) = module::check_grants(interface, step) {
                    missing.into_iter().for_each(say);
                }
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Refused {
        detail: format!(
            "the modules of graph \"{}\" cannot run as its steps",
            graph.name
        ),
        problems,
    })
}

/// The ceiling that the engine puts on one instance.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// What the graph asks for and this version of Weir cannot run yet: one line for each, none if it can be applied.
pub fn unsupported(graph: &Graph) -> Vec<String> {
    let mut lines = Vec::new();
    for trigger in &graph.triggers {
        let kind = match &trigger.kind {
            TriggerKind::Webhook(_) | TriggerKind::Topic(_) | TriggerKind::Manual => continue,
            TriggerKind::Cron(_) => "cron",
            TriggerKind::Postgres(_) => "postgres",
        };
        lines.push(format!(
            "trigger \"{}\": {kind} triggers do not run in this version yet; use webhook, topic or manual",
            trigger.name
        ));
    }
    for step in &graph.steps {
        let mut say = |what: &str| lines.push(format!("step \"{}\": {what}", step.name));
        if step.limits.memory_bytes > MEMORY_BYTES_MAX {
            say("limits.memory: this server gives a step 256MiB at most; ask for less");
        }
    }
    lines
}

fn finish(graph: Graph) -> Result<Definition, Refused> {
    let unsupported = unsupported(&graph);
    if !unsupported.is_empty() {
        let detail = format!(
            "graph \"{}\" asks for what this version cannot run yet",
            graph.name
        );
        return Err(Refused {
            detail,
            problems: unsupported
                .into_iter()
                .map(|message| json!({ "message": message }))
                .collect(),
        });
    }
    let canonical = graph.canonical().map_err(refused)?;
    let version = graph::version(&canonical);
    Ok(Definition {
        graph,
        canonical,
        version,
    })
}

fn refused(error: CanonicalError) -> Refused {
    match error {
        CanonicalError::Problems(problems) => listed(problems),
        other => Refused {
            detail: other.to_string(),
            problems: Vec::new(),
        },
    }
}

fn listed(problems: Problems) -> Refused {
    let list = problems
        .list()
        .iter()
        .map(|problem| json!(problem))
        .collect();
    Refused {
        detail: "the graph is not valid".to_owned(),
        problems: list,
    }
}

/// The server has no files of the client.
struct DigestsOnly;

impl Resolve for DigestsOnly {
    fn module(&mut self, uses: &str) -> Result<String, String> {
        if uses.starts_with("sha256:") {
            return Ok(uses.to_owned());
        }
        Err(format!(
            "\"{uses}\" is no digest; `weir apply` turns paths into digests and sends the modules"
        ))
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(format!(
            "the server cannot read \"{path}\"; `weir apply` sends files within the graph"
        ))
    }
}
