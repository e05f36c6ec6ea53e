//! The WASM engine: what a step gets to see, what it gives back, how instances are reused. The guests are in `tests/guests`.

use std::sync::Arc;
use std::time::Duration;

use processor::wasm::{
    Broken, Call, CallNumber, Called, Engine, EngineConfig, Module, Nowhere, Outcome, Outside,
    Pool, StepEvent, StepOutput,
};
use schemas::graph::{Isolation, Limits};
use schemas::{Event, ExecutionId};

/// An engine, a pool and what most calls have in common.
pub(crate) struct Steps {
    pub(crate) engine: Engine,
    pub(crate) pool: Pool,
    pub(crate) limits: Limits,
    pub(crate) isolation: Isolation,
    pub(crate) log: bool,
    pub(crate) attempt: u32,
    pub(crate) time_us: u64,
    pub(crate) trigger: &'static str,
    pub(crate) place: [&'static str; 4],
    pub(crate) settings: &'static str,
    pub(crate) secrets: Vec<String>,
    pub(crate) http_allow: Vec<String>,
}

/// A pool whose steps reach nothing.
pub(crate) fn pool(engine: &Engine, kept_max: usize) -> Pool {
    Pool::new(engine, kept_max, Arc::new(Nowhere))
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self::with(EngineConfig {
            instances_max: 16,
            // some guests of these tests keep a count, to show that they are reused
            audit_one_in: 0,
            ..EngineConfig::default()
        })
    }

    /// Whose steps reach this.
    pub(crate) fn reaching(config: EngineConfig, outside: Arc<dyn Outside>) -> Self {
        let steps = Self::with(config);
        Self {
            pool: Pool::new(&steps.engine, 4, outside),
            ..steps
        }
    }

    pub(crate) fn with(config: EngineConfig) -> Self {
        let engine = Engine::new(config).unwrap();
        let pool = pool(&engine, 4);
        Self {
            engine,
            pool,
            // Machines that run tests are busy: only tests of the time limit may depend on it.
            limits: Limits {
                time: Duration::from_secs(60),
                ..Limits::default()
            },
            isolation: Isolation::Record,
            log: true,
            attempt: 1,
            time_us: 1_700_000_000_123_456,
            trigger: "d-1",
            place: ["default", "orders", "0123abcd", "price"],
            settings: "{}",
            secrets: Vec::new(),
            http_allow: Vec::new(),
        }
    }

    pub(crate) fn load(&self, bytes: &[u8]) -> Module {
        self.engine.load(&digest(bytes), bytes).unwrap()
    }

    pub(crate) fn guest(&self, name: &str) -> Module {
        self.load(&guest(name))
    }

    pub(crate) fn call_events(&mut self, module: &Module, input: &[StepEvent<'_>]) -> Called {
        let [tenant, graph, version, step] = self.place;
        let execution =
            ExecutionId::derive(self.time_us / 1_000, tenant, graph, "hook", self.trigger);
        let (attempt, time_us, limits, isolation, log) = (
            self.attempt,
            self.time_us,
            self.limits,
            self.isolation,
            self.log,
        );
        let call = Call {
            tenant,
            graph,
            version,
            execution,
            step,
            attempt,
            time_us,
            input,
            limits,
            isolation,
            log,
            settings: self.settings,
            secrets: &self.secrets,
            http_allow: &self.http_allow,
            number: CallNumber {
                segment: None,
                number: 0,
            },
        };
        self.pool.call(module, &call)
    }

    pub(crate) fn call(&mut self, module: &Module, data: &str) -> Called {
        let event = Event {
            content_type: "application/json".into(),
            data: data.to_owned().into(),
            ..Event::default()
        };
        self.call_events(
            module,
            &[StepEvent {
                edge: "trigger",
                event: &event,
            }],
        )
    }

    /// The only output's data.
    pub(crate) fn text(&mut self, module: &Module, data: &str) -> String {
        match self.call(module, data).outcome {
            Outcome::Outputs(outputs) if outputs.len() == 1 => {
                String::from_utf8(outputs[0].data.to_vec()).unwrap()
            }
            other => panic!("{data}: {other:?}"),
        }
    }

    pub(crate) fn broken(&mut self, module: &Module, data: &str) -> (Broken, String) {
        match self.call(module, data).outcome {
            Outcome::Broken(broken, message) => (broken, message),
            other => panic!("{data}: {other:?}"),
        }
    }
}

pub(crate) fn guest(name: &str) -> Vec<u8> {
    std::fs::read(format!(
        "{}/tests/guests/{name}.wasm",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(bytes))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_step_sees_its_call_and_all_of_its_events() {
    let mut steps = Steps::new();
    let echo = steps.guest("echo");
    let first = Event {
        key: Some("k".into()),
        content_type: "text/plain".into(),
        headers: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        data: "hello".into(),
    };
    let second = Event {
        content_type: "application/json".into(),
        ..Event::default()
    };
    let input = [
        StepEvent {
            edge: "trigger",
            event: &first,
        },
        StepEvent {
            edge: "check.ok",
            event: &second,
        },
    ];
    let Outcome::Outputs(outputs) = steps.call_events(&echo, &input).outcome else {
        panic!()
    };
    let execution =
        ExecutionId::derive(1_700_000_000_123, "default", "orders", "hook", "d-1").to_string();
    let expected = serde_json::json!({
        "context": {
            "tenant": "default", "graph": "orders", "version": "0123abcd", "execution": execution,
            "step": "price", "attempt": 1, "time_us": 1_700_000_000_123_456u64,
        },
        "input": [
            { "edge": "trigger", "key": "k", "content_type": "text/plain", "headers": [["a", "1"], ["a", "2"]], "data": "hello" },
            { "edge": "check.ok", "key": null, "content_type": "application/json", "headers": [], "data": "" },
        ],
    });
    assert_eq!(
        json(std::str::from_utf8(&outputs[0].data).unwrap()),
        expected
    );
}

#[test]
fn an_event_comes_back_whole() {
    let mut steps = Steps::new();
    let copy = steps.guest("copy");
    let event = Event {
        key: Some(vec![0, 255].into()),
        content_type: "x/y".into(),
        headers: vec![("h".into(), vec![1, 2, 3].into())],
        data: (0..=255u8).cycle().take(100_000).collect::<Vec<_>>().into(),
    };
    let called = steps.call_events(
        &copy,
        &[StepEvent {
            edge: "trigger",
            event: &event,
        }],
    );
    let expected = StepOutput {
        port: "out".into(),
        key: event.key.clone(),
        content_type: Some(event.content_type.clone()),
        headers: event.headers.clone(),
        data: event.data.clone(),
    };
    assert_eq!(called.outcome, Outcome::Outputs(vec![expected]));
    assert_eq!(
        steps.call_events(&copy, &[]).outcome,
        Outcome::Outputs(Vec::new()),
        "no event at all"
    );
}

#[test]
fn outputs_keep_their_order_and_ports() {
    let mut steps = Steps::new();
    let fan = steps.guest("fan");
    let Outcome::Outputs(outputs) = steps
        .call(&fan, r#"{"ports":["b","a","b"],"keys":true}"#)
        .outcome
    else {
        panic!()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seen: Vec<_> = outputs
        .iter()
        .map(|output| {
            format!(
                "{} {} {}",
                output.port,
                text(&output.data),
                text(output.key.as_deref().unwrap_or_default())
            )
        })
        .collect();
    assert_eq!(seen, [r#"b {"n":0} b"#, r#"a {"n":1} a"#, r#"b {"n":2} b"#]);
    let empty = steps.guest("empty");
    assert_eq!(
        steps.call(&empty, "anything").outcome,
        Outcome::Outputs(Vec::new())
    );
}

#[test]
fn failures_on_purpose_are_told_apart() {
    let mut steps = Steps::new();
    let bad = steps.guest("bad");
    for isolation in [Isolation::Record, Isolation::Batch] {
        steps.isolation = isolation;
        let outcome = |steps: &mut Steps, data| steps.call(&bad, data).outcome;
        assert_eq!(
            outcome(&mut steps, r#"{"do":"reject"}"#),
            Outcome::Reject("asked to reject".into())
        );
        assert_eq!(
            outcome(&mut steps, r#"{"do":"fatal"}"#),
            Outcome::Fatal("asked to be fatal".into())
        );
        let retry = |delay_ms| Outcome::Retry {
            delay_ms,
            reason: "asked to retry".into(),
        };
        assert_eq!(outcome(&mut steps, r#"{"do":"retry"}"#), retry(None));
        assert_eq!(
            outcome(&mut steps, r#"{"do":"retry","n":250}"#),
            retry(Some(250))
        );
    }
    let Outcome::Reject(reason) = steps.call(&bad, r#"{"do":"long","n":100000}"#).outcome else {
        panic!()
    };
    assert!(
        reason.len() <= 4 << 10 && reason.ends_with('…'),
        "{} bytes",
        reason.len()
    );
}

#[test]
fn record_means_a_fresh_instance_for_every_call() {
    let mut steps = Steps::new();
    let bad = steps.guest("bad");
    for _ in 0..3 {
        assert_eq!(steps.text(&bad, "{}"), r#"{"calls":1}"#);
    }
    assert!(steps.call(&bad, "{}").fresh);
    assert_eq!(steps.pool.kept(), 0);
}

#[test]
fn batch_reuses_an_instance_until_it_breaks() {
    let mut steps = Steps::new();
    steps.isolation = Isolation::Batch;
    let bad = steps.guest("bad");
    assert!(steps.call(&bad, "{}").fresh);
    assert!(!steps.call(&bad, "{}").fresh);
    assert_eq!(steps.text(&bad, "{}"), r#"{"calls":3}"#);
    // A failure on purpose is a normal return.
    steps.call(&bad, r#"{"do":"reject"}"#);
    assert_eq!(steps.text(&bad, "{}"), r#"{"calls":5}"#);
    for breaks in ["trap", "panic", "huge", "header", "recurse"] {
        steps.broken(&bad, &format!(r#"{{"do":"{breaks}"}}"#));
        assert_eq!(steps.text(&bad, "{}"), r#"{"calls":1}"#, "after {breaks}");
    }
}

#[test]
fn an_instance_is_never_shared_between_tenants_graphs_versions_steps_or_modules() {
    let mut steps = Steps::with(EngineConfig {
        instances_max: 16,
        audit_one_in: 0,
        ..EngineConfig::default()
    });
    steps.pool = pool(&steps.engine, 10);
    steps.isolation = Isolation::Batch;
    let (bad, empty) = (steps.guest("bad"), steps.guest("empty"));
    let home = steps.place;
    steps.call(&bad, "{}");
    for part in 0..4 {
        steps.place = home;
        steps.place[part] = "other";
        assert_eq!(steps.text(&bad, "{}"), r#"{"calls":1}"#, "part {part}");
    }
    steps.place = home;
    assert!(
        steps.call(&empty, "{}").fresh,
        "another module of the same step"
    );
    assert_eq!(steps.text(&bad, "{}"), r#"{"calls":2}"#);
    assert_eq!(steps.pool.kept(), 6);
    // Another worker has its own.
    let mut other = pool(&steps.engine, 10);
    std::mem::swap(&mut other, &mut steps.pool);
    assert_eq!(steps.text(&bad, "{}"), r#"{"calls":1}"#);
}

#[test]
fn kept_instances_are_few_and_the_least_used_goes() {
    let mut steps = Steps::new();
    steps.pool = pool(&steps.engine, 2);
    steps.isolation = Isolation::Batch;
    let bad = steps.guest("bad");
    for (step, calls) in [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3), ("b", 1)] {
        steps.place[3] = step;
        assert_eq!(
            steps.text(&bad, "{}"),
            format!(r#"{{"calls":{calls}}}"#),
            "{step}"
        );
    }
    assert_eq!(steps.pool.kept(), 2);
    steps.pool.clear();
    assert_eq!(steps.pool.kept(), 0);
}

#[test]
fn a_kept_instance_is_replaced_after_many_calls_or_much_memory() {
    let config = EngineConfig {
        instances_max: 4,
        reuse_calls_max: 3,
        reuse_memory_bytes: 8 << 20,
        audit_one_in: 0,
        ..EngineConfig::default()
    };
    let mut steps = Steps::with(config);
    steps.isolation = Isolation::Batch;
    let bad = steps.guest("bad");
    for calls in [1, 2, 3, 1, 2] {
        assert_eq!(steps.text(&bad, "{}"), format!(r#"{{"calls":{calls}}}"#));
    }
    steps.pool.clear();
    steps.text(&bad, "{}");
    assert_eq!(
        steps.text(&bad, r#"{"do":"grow","n":10000000}"#),
        r#"{"calls":2}"#
    );
    assert_eq!(
        steps.text(&bad, "{}"),
        r#"{"calls":1}"#,
        "what leaked is gone"
    );
}

#[test]
fn logs_are_kept_in_order_within_a_budget() {
    let mut steps = Steps::new();
    let log = steps.guest("log");
    for isolation in [Isolation::Record, Isolation::Batch, Isolation::Batch] {
        steps.isolation = isolation;
        let called = steps.call(&log, "{}");
        let lines: Vec<_> = called
            .logs
            .iter()
            .map(|line| format!("{:?} {}", line.level, line.message))
            .collect();
        assert_eq!(
            lines,
            [
                "Debug a debug line",
                "Info an info line",
                "Warn a warning",
                "Error an error line"
            ]
        );
        assert_eq!(called.logs_dropped, 0);
    }
    let called = steps.call(&log, r#"{"lines":5000,"bytes":10}"#);
    assert_eq!((called.logs.len(), called.logs_dropped), (1_000, 4_004));
    let called = steps.call(&log, r#"{"lines":100,"bytes":5000}"#);
    assert!(
        called
            .logs
            .iter()
            .map(|line| line.message.len())
            .sum::<usize>()
            <= 64 << 10
    );
    assert_eq!(called.logs.len() + called.logs_dropped as usize, 104);
    assert!(
        matches!(called.outcome, Outcome::Outputs(_)),
        "a flood of logs is not an error"
    );
}

#[test]
fn log_without_the_grant_is_refused_before_the_step_runs() {
    let mut steps = Steps::new();
    steps.log = false;
    let log = steps.guest("log");
    assert!(log.imports_log());
    let called = steps.call(&log, "{}");
    let Outcome::Broken(Broken::Protocol, message) = called.outcome else {
        panic!("{:?}", called.outcome)
    };
    assert!(
        message.contains("weir:step/log")
            && message.contains("log: true")
            && message.contains("price"),
        "{message}"
    );
    assert!(called.logs.is_empty());
    let bad = steps.guest("bad");
    assert_eq!(
        steps.text(&bad, "{}"),
        r#"{"calls":1}"#,
        "others need no grant"
    );
}

#[test]
fn a_module_is_loaded_once() {
    let steps = Steps::new();
    let first = steps.guest("empty");
    let bytes = guest("empty");
    let again = steps
        .engine
        .load(&format!("sha256:{}", digest(&bytes)), &bytes)
        .unwrap();
    assert_eq!(first.digest(), again.digest());
    assert_eq!(steps.engine.stats().compiled, 1);
}
