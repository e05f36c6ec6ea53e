//! What the simulated users send, and the graph that it runs through: records of every kind that has an outcome of its own.

use std::sync::Arc;

use bytes::Bytes;
use processor::wasm::{Broken, Call, Called, Outcome, StepOutput};
use processor::{
    Active, Demoted, Graphs, Loaded, ProcessorError, Releasing, State, Steps, Streams, Subscribed,
    Subscriber,
};
use schemas::ExecutionId;
use schemas::graph::{self, Graph, StepIndex};
use schemas::records::{Payload, Trigger};
use topics::catalog::TRIGGERS;
use topics::registry::{Known, SchemaId};
use topics::{Fetched, Outgoing, Record};

use crate::random::Random;

const GRAPH: &str = "weir: 1
name: g
triggers:
  t: { manual: {} }
steps:
  check: { uses: check, ports: [out, far], from: [t] }
  far: { uses: far, from: [check.far], hop: event.data.to }
";

/// What a trigger asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Copy,
    /// So many hops.
    Hops(u8),
    Reject,
    Trap,
    /// Kills the process that runs it.
    Killer,
    /// No trigger at all.
    Garbage,
    /// In a transaction that is aborted: nobody may ever see it.
    Aborted,
}

/// One record on the triggers' topic.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    pub(crate) execution: ExecutionId,
    pub(crate) outgoing: Outgoing,
}

pub(crate) fn order(number: u64, random: &mut Random, kind: Kind) -> Order {
    let key = format!("k{}", random.below(7));
    let word = match kind {
        Kind::Copy | Kind::Garbage => "copy".to_owned(),
        Kind::Hops(hops) => format!("hops{hops}"),
        Kind::Reject => "reject".to_owned(),
        Kind::Trap => "trap".to_owned(),
        Kind::Killer => "kill".to_owned(),
        Kind::Aborted => "aborted".to_owned(),
    };
    let execution = ExecutionId::derive(1_000 + number, "default", "g", "t", &number.to_string());
    let data = format!(
        "{{\"n\":{number},\"do\":\"{word}\",\"to\":\"h{}\"}}",
        random.below(5)
    );
    let trigger = Trigger {
        tenant: "default".into(),
        graph: "g".into(),
        trigger: "t".into(),
        trigger_id: number.to_string(),
        execution,
        time_us: 1_000 * number,
        origin: None,
        key: Some(Bytes::from(key.clone())),
        content_type: "application/json".into(),
        headers: vec![],
        data: Payload::Inline(Bytes::from(data)),
    };
    let value = if kind == Kind::Garbage {
        Bytes::from(format!("no trigger {number}"))
    } else {
        trigger.encode()
    };
    let record = Record {
        key: Some(Bytes::from(key)),
        value: Some(value),
        headers: vec![("n".to_owned(), Bytes::from(number.to_string()))],
        timestamp_ms: number as i64,
    };
    let outgoing = Outgoing {
        topic: TRIGGERS.into(),
        partition: None,
        record,
    };
    Order {
        kind,
        execution,
        outgoing,
    }
}

/// Whether running this record kills the process.
pub(crate) fn kills(value: &[u8]) -> bool {
    let word = b"\"do\":\"kill\"";
    value.windows(word.len()).any(|window| window == word)
}

/// The one graph.
pub(crate) struct OneGraph(Arc<Loaded>);

struct Digests;

impl graph::Resolve for Digests {
    fn module(&mut self, _: &str) -> Result<String, String> {
        Ok(format!("sha256:{}", "0".repeat(64)))
    }
    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(format!("no file {path}"))
    }
}

impl OneGraph {
    pub(crate) fn load() -> Self {
        let parsed: Graph = graph::parse(GRAPH, "g.yaml").expect("a graph that a test parses");
        let graph = parsed.resolve(&mut Digests).expect("steps without files");
        let canonical = graph.canonical().expect("every step is resolved");
        let version_hex = graph::version(&canonical);
        let mut version = [0; 32];
        hex::decode_to_slice(&version_hex, &mut version).expect("a digest in hex");
        Self(Arc::new(Loaded {
            version,
            version_hex,
            graph,
            modules: Vec::new(),
            waits: false,
            demoted: Demoted::default(),
            schemas: Vec::new(),
        }))
    }
}

impl Graphs for OneGraph {
    fn active(&self, _: &str, graph: &str) -> Result<Option<Active>, ProcessorError> {
        let active = || Active {
            loaded: self.0.clone(),
            state: State::Active,
        };
        Ok((graph == "g").then(active))
    }

    fn subscribers(&self, _: &str) -> Result<Arc<[Subscriber]>, ProcessorError> {
        Ok(Arc::new([]))
    }

    fn schema(&self, _: SchemaId) -> Known {
        Known::Not("no record names one".into())
    }
    fn version(&self, version: [u8; 32]) -> Result<Option<Arc<Loaded>>, ProcessorError> {
        Ok((version == self.0.version).then(|| self.0.clone()))
    }

    fn epoch(&self) -> u64 {
        0
    }
}

/// Graphs that never change, and read no topics of users.
pub(crate) struct Still;

impl Streams for Still {
    fn epoch(&self) -> u64 {
        1
    }

    fn subscribed(&self) -> Result<Arc<[Subscribed]>, ProcessorError> {
        Ok(Arc::new([]))
    }

    fn releasing(&self) -> Result<Arc<[Releasing]>, ProcessorError> {
        Ok(Arc::new([]))
    }

    fn readable(&self, _: &Fetched) -> Result<(), String> {
        Ok(())
    }
}

/// The steps as closures.
pub(crate) struct Closures;

impl Steps for Closures {
    fn call(&mut self, _: &Loaded, _: StepIndex, call: &Call<'_>) -> Called {
        let event = &call.input[0].event;
        let asked: serde_json::Value = serde_json::from_slice(&event.data).unwrap_or_default();
        let output = |port: &str| StepOutput {
            port: port.to_owned(),
            key: None,
            content_type: None,
            headers: Vec::new(),
            data: event.data.clone(),
        };
        let outcome = match asked["do"].as_str().unwrap_or_default() {
            _ if call.step == "far" => Outcome::Outputs(vec![output("out")]),
            "copy" => Outcome::Outputs(vec![output("out")]),
            "hops1" => Outcome::Outputs(vec![output("far")]),
            "hops2" => Outcome::Outputs(vec![output("far"), output("far")]),
            "trap" => Outcome::Broken(Broken::Trap, "a trap".to_owned()),
            _ => Outcome::Reject("rejected".to_owned()),
        };
        Called {
            outcome,
            logs: Vec::new(),
            logs_dropped: 0,
            fresh: true,
            demoted: None,
        }
    }
}
