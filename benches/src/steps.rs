//! One call of a step: on a fresh instance and on a reused one, next to the same work without WebAssembly.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use processor::wasm::{
    Call, CallNumber, Called, Engine, EngineConfig, Module, Nowhere, Outcome, Pool, StepEvent,
};
use schemas::graph::{Isolation, Limits};
use schemas::{Event, ExecutionId};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::meter::{load, median, round_us};
use crate::place;
use crate::report::{Row, Target};

const ROUNDS: usize = 9;
const JSON_BYTES: usize = 1 << 10;

/// A guest of the processor's tests, and the event that it is called with.
pub struct Guest {
    module: Module,
    pool: Pool,
    event: Event,
    settings: String,
    _engine: Engine,
}

impl Guest {
    pub fn load(name: &str, data: Vec<u8>) -> Result<Self> {
        let path = place::root().join(format!("processor/tests/guests/{name}.wasm"));
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::of(&bytes, data)
    }

    /// Any component.
    pub(crate) fn of(bytes: &[u8], data: Vec<u8>) -> Result<Self> {
        let engine = Engine::new(EngineConfig {
            instances_max: 16,
            ..EngineConfig::default()
        })?;
        let module = engine.load(&hex::encode(Sha256::digest(bytes)), bytes)?;
        let pool = Pool::new(&engine, 4, Arc::new(Nowhere));
        let event = Event {
            content_type: "application/json".into(),
            data: data.into(),
            ..Event::default()
        };
        Ok(Self {
            module,
            pool,
            event,
            settings: "{}".to_owned(),
            _engine: engine,
        })
    }

    pub(crate) fn with_settings(self, settings: String) -> Self {
        Self { settings, ..self }
    }

    pub fn call(&mut self, isolation: Isolation) -> Called {
        let input = [StepEvent {
            edge: "trigger",
            event: &self.event,
        }];
        let call = Call {
            tenant: "default",
            graph: "bench",
            version: "0123abcd",
            execution: ExecutionId([8; 16]),
            step: "step",
            attempt: 1,
            time_us: 1_700_000_000_000_000,
            input: &input,
            limits: Limits {
                memory_bytes: 128 << 20,
                ..Limits::default()
            },
            isolation,
            log: true,
            settings: &self.settings,
            number: CallNumber {
                segment: None,
                number: 0,
            },
            secrets: &[],
            http_allow: &[],
        };
        self.pool.call(&self.module, &call)
    }

    /// A call on a reused instance that has to emit something.
    pub(crate) fn check_call(&mut self) -> Result<()> {
        let called = self.call(Isolation::Batch);
        ensure!(
            matches!(&called.outcome, Outcome::Outputs(outputs) if !outputs.is_empty()),
            "the guest did not answer as expected: {called:?}"
        );
        Ok(())
    }

    /// It does what it should, and reuses its instance when it may.
    fn check(&mut self) -> Result<()> {
        for (isolation, fresh) in [
            (Isolation::Record, true),
            (Isolation::Batch, true),
            (Isolation::Batch, false),
        ] {
            let called = self.call(isolation);
            ensure!(
                matches!(called.outcome, Outcome::Outputs(_)) && called.fresh == fresh,
                "the guest did not answer as expected: {called:?}"
            );
        }
        Ok(())
    }

    fn round_us(&mut self, isolation: Isolation) -> f64 {
        round_us(|| {
            black_box(self.call(isolation));
        })
    }
}

/// Calls on fresh instances in a second, by two threads next to one.
fn two_threads(name: &str, data: &[u8]) -> Result<Row> {
    let calls = |threads: usize| -> Result<f64> {
        let guests = (0..threads).map(|_| Guest::load(name, data.to_vec()));
        let guests = guests.collect::<Result<Vec<_>>>()?;
        let started = Instant::now();
        let counts = std::thread::scope(|scope| {
            let work = |mut guest: Guest| {
                move || {
                    let mut calls = 0u64;
                    while started.elapsed() < SPELL {
                        for _ in 0..100 {
                            black_box(guest.call(Isolation::Record));
                        }
                        calls += 100;
                    }
                    calls
                }
            };
            let running: Vec<_> = guests
                .into_iter()
                .map(|guest| scope.spawn(work(guest)))
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or(0))
                .sum::<u64>()
        });
        Ok(counts as f64 / started.elapsed().as_secs_f64())
    };
    let mut ratios = Vec::new();
    for _ in 0..PAIRS {
        let one = calls(1)?;
        ratios.push(calls(2)? / one);
    }
    let all: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    Ok(
        Row::new("step.rust.fresh_two_threads", median(&mut ratios), "×")
            .target(Target::AtLeast(1.8))
            .note(format!(
                "calls of two threads over those of one, median of {PAIRS} pairs ({}); {}",
                all.join(", "),
                load()
            )),
    )
}

/// How long threads call.
const SPELL: Duration = Duration::from_secs(1);
const PAIRS: usize = 5;

/// A JSON object of exactly 1 KiB.
pub fn json() -> Vec<u8> {
    let item = |n: u32| json!({ "sku": format!("item-{n}"), "quantity": n, "price": 9.75, "gift": n.is_multiple_of(2) });
    let mut value = json!({
        "id": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        "customer": { "name": "Octo Cat", "email": "octocat@example.com", "vip": true },
        "items": (0..10).map(item).collect::<Vec<_>>(),
        "total": 97.5,
        "note": "",
    });
    let short = JSON_BYTES - value.to_string().len();
    value["note"] = "n".repeat(short).into();
    value.to_string().into_bytes()
}

/// What the guest `json` does, without WebAssembly.
pub fn native(data: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(data).ok()?;
    value
        .as_object_mut()?
        .insert("enriched".into(), json!({ "by": "step", "n": 42 }));
    serde_json::to_vec(&value).ok()
}

pub(crate) fn empty() -> Result<Vec<Row>> {
    let mut guest = Guest::load("empty", Vec::new())?;
    guest.check()?;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| guest.round_us(Isolation::Batch))
        .collect();
    let note = format!("µs of CPU, median of {ROUNDS} rounds; one event without data, no outputs");
    Ok(vec![
        Row::new("step.empty.reused_us", median(&mut rounds), "µs")
            .target(Target::AtMost(1.0))
            .note(note),
    ])
}

pub(crate) fn rust() -> Result<Vec<Row>> {
    let data = json();
    ensure!(
        native(&data).is_some() && data.len() == JSON_BYTES,
        "the JSON is not as planned"
    );
    let mut guest = Guest::load("json", data.clone())?;
    guest.check()?;
    // Side by side, so that whatever else the machine does meets all three.
    let (mut fresh, mut reused, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        fresh.push(guest.round_us(Isolation::Record));
        reused.push(guest.round_us(Isolation::Batch));
        bare.push(round_us(|| {
            black_box(native(black_box(&data)));
        }));
    }
    let (fresh, reused, bare) = (median(&mut fresh), median(&mut reused), median(&mut bare));
    let native = "the same with serde_json, without WebAssembly";
    let note = format!("native {bare:.2} µs; µs of CPU, median of {ROUNDS} rounds; 1 KiB of JSON");
    let both = two_threads("json", &data)?;
    Ok(vec![
        Row::new("step.rust.fresh_minus_reused_us", fresh - reused, "µs")
            .target(Target::AtMost(5.0))
            .note(format!("{fresh:.2} µs less {reused:.2} µs")),
        both,
        Row::new("step.rust.fresh_over_reused", fresh / reused, "×")
            .peer("the same code on a reused instance", 1.0)
            .target(Target::AtMost(3.0))
            .note(format!("{fresh:.2} µs over {reused:.2} µs")),
        Row::new("step.rust.fresh_us", fresh, "µs")
            .peer(native, bare)
            .note(note.clone()),
        Row::new("step.rust.reused_us", reused, "µs")
            .peer(native, bare)
            .note(note),
    ])
}
