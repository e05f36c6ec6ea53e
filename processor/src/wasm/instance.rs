//! One instance of a module and the store it lives in.

use std::sync::Arc;

use bytes::Bytes;
use schemas::ExecutionId;
use wasmtime::Store;

use super::audit::Asked;
use super::bindings::types;
use super::bindings::{Linked, types::Failure};
use super::call::{Broken, Call, Outcome, StepOutput};
use super::engine;
use super::logs::printable;
use super::module::Module;
use super::outside::Outside;
use super::state::{Memory, State};
use super::trap::{self, Circumstances};

/// Beyond `limits.output`: what lists and records weigh on the host, and a log line.
const FUEL_SLACK: usize = 4 << 20;
/// Bytes of a failure's reason.
const REASON_BYTES_MAX: usize = 4 << 10;

pub(super) struct Instance {
    store: Store<State>,
    linked: Linked,
    pub(super) calls: u32,
}

/// A call's end and whether the instance may serve another.
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    pub(super) reusable: bool,
}

impl Instance {
    /// An instance for this call; what its start functions do counts as part of the call.
    pub(super) fn start(
        engine: &engine::Inner,
        module: &Module,
        call: &Call<'_>,
        outside: &Arc<dyn Outside>,
    ) -> Result<Self, (Broken, String, Box<State>)> {
        let mut store = Store::new(&engine.wasm, State::new(&module.inner, call, outside));
        store.limiter(|state| &mut state.memory);
        begin(&mut store, engine, call);
        match module.inner.pre.instantiate(&mut store) {
            Ok(linked) => Ok(Self {
                store,
                linked,
                calls: 0,
            }),
            Err(error) => {
                let mut state = Box::new(store.into_data());
                let logs = state.logs.lock().peek().to_vec();
                let about = Circumstances {
                    call,
                    memory_limit: state.memory.limit,
                    memory_refused: state.memory.refused,
                    logs: &logs,
                };
                let (broken, message) = trap::classify_start(&error, &about);
                state.wasi = None;
                state.grants = None;
                Err((broken, message, state))
            }
        }
    }

    /// `audited`: what it asks for over HTTP is kept, with the answers.
    pub(super) fn call(
        &mut self,
        engine: &engine::Inner,
        call: &Call<'_>,
        audited: bool,
    ) -> (Ran, Vec<Asked>) {
        if self.calls > 0 {
            begin(&mut self.store, engine, call);
        }
        let keeps = self.store.data_mut().grants.as_mut().and_then(|grants| {
            let http = grants.http.as_mut().filter(|_| audited)?;
            Some(http.keep())
        });
        let ran = self.run(engine, call);
        let asked = keeps.map_or_else(Vec::new, |kept| std::mem::take(&mut *kept.lock()));
        (ran, asked)
    }

    fn run(&mut self, engine: &engine::Inner, call: &Call<'_>) -> Ran {
        self.calls = self.calls.saturating_add(1);
        let execution = hyphenated(call.execution);
        let context = types::Context {
            tenant: call.tenant,
            graph: call.graph,
            version: call.version,
            execution: std::str::from_utf8(&execution).expect("hex digits and hyphens"),
            step: call.step,
            attempt: call.attempt,
            time_us: call.time_us,
        };
        let returned = with_input(call, |input| {
            self.linked.call_handle(&mut self.store, context, input)
        });
        match returned {
            Ok(Ok(outputs)) => match check(engine, call, &outputs) {
                Ok(()) => Ran {
                    outcome: Outcome::Outputs(outputs.into_iter().map(output).collect()),
                    reusable: self.reusable(engine),
                },
                Err((broken, message)) => Ran {
                    outcome: Outcome::Broken(broken, message),
                    reusable: false,
                },
            },
            Ok(Err(failure)) => Ran {
                outcome: failed(failure),
                reusable: self.reusable(engine),
            },
            Err(error) => {
                let state = self.store.data();
                let mut logs = state.logs.lock();
                let about = Circumstances {
                    call,
                    memory_limit: state.memory.limit,
                    memory_refused: state.memory.refused,
                    logs: logs.peek(),
                };
                let (broken, message) = trap::classify(&error, &about);
                Ran {
                    outcome: Outcome::Broken(broken, message),
                    reusable: false,
                }
            }
        }
    }

    pub(super) fn state(&self) -> &State {
        self.store.data()
    }

    fn reusable(&self, engine: &engine::Inner) -> bool {
        self.calls < engine.config.reuse_calls_max
            && self.store.data().memory.used <= reused_up_to(engine, &self.store.data().memory)
    }
}

/// Beyond it an instance is replaced: before it comes near its own limit, where a guest that gathers a little with each call would trap.
fn reused_up_to(engine: &engine::Inner, memory: &Memory) -> u64 {
    engine.config.reuse_memory_bytes.min(memory.limit / 4 * 3)
}

fn begin(store: &mut Store<State>, engine: &engine::Inner, call: &Call<'_>) {
    store.set_epoch_deadline(engine.ticker.ticks(call.limits.time));
    let output_bytes = usize::try_from(call.limits.output_bytes).unwrap_or(usize::MAX);
    store.set_hostcall_fuel(output_bytes.saturating_add(FUEL_SLACK));
    store.data_mut().begin(
        call,
        call.limits.memory_bytes.min(engine.config.memory_max_bytes),
    );
}

/// Lends the events to `f` without copying; one event and no headers, the usual, allocates nothing.
fn with_input<R>(call: &Call<'_>, f: impl FnOnce(&[types::Event<'_>]) -> R) -> R {
    let headers: Vec<Vec<(&str, &[u8])>> = if call
        .input
        .iter()
        .all(|event| event.event.headers.is_empty())
    {
        Vec::new()
    } else {
        call.input
            .iter()
            .map(|event| {
                event
                    .event
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_ref()))
                    .collect()
            })
            .collect()
    };
    let event = |n: usize| {
        let event = &call.input[n];
        types::Event {
            edge: event.edge,
            key: event.event.key.as_deref(),
            content_type: &event.event.content_type,
            headers: headers.get(n).map_or(&[][..], Vec::as_slice),
            data: &event.event.data,
        }
    };
    match call.input.len() {
        1 => f(&[event(0)]),
        n => f(&(0..n).map(event).collect::<Vec<_>>()),
    }
}

fn check(
    engine: &engine::Inner,
    call: &Call<'_>,
    outputs: &[types::Output],
) -> Result<(), (Broken, String)> {
    let allowed = usize::try_from(call.limits.outputs).unwrap_or(usize::MAX);
    let outputs_max = engine.config.outputs_max.min(allowed);
    let headers_max = engine.config.headers_max;
    if outputs.len() > outputs_max {
        return Err(trap::output_too_large(&format!(
            "emitted {} outputs in one call; {outputs_max} are allowed (`limits: {{ outputs }}`)",
            outputs.len()
        )));
    }
    let mut total = 0u64;
    for output in outputs {
        if output.headers.len() > headers_max {
            let n = output.headers.len();
            return Err(trap::output_too_large(&format!(
                "emitted an output with {n} headers; {headers_max} are allowed"
            )));
        }
        let headers: usize = output
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let key = output.key.as_ref().map_or(0, Vec::len);
        let content_type = output.content_type.as_ref().map_or(0, String::len);
        total += (output.port.len() + key + content_type + headers + output.data.len()) as u64;
    }
    let limit = call.limits.output_bytes;
    if total > limit {
        let (total, limit) = (trap::bytes(total), trap::bytes(limit));
        return Err(trap::output_too_large(&format!(
            "emitted {total} in one call, more than {limit} (`limits: {{ output }}` allows more)"
        )));
    }
    Ok(())
}

fn output(output: types::Output) -> StepOutput {
    StepOutput {
        port: output.port,
        key: output.key.map(Bytes::from),
        content_type: output.content_type,
        headers: output
            .headers
            .into_iter()
            .map(|(name, value)| (name, Bytes::from(value)))
            .collect(),
        data: Bytes::from(output.data),
    }
}

fn failed(failure: Failure) -> Outcome {
    let cut = |reason: String| printable(&reason, REASON_BYTES_MAX);
    match failure {
        Failure::Retry((delay_ms, reason)) => Outcome::Retry {
            delay_ms,
            reason: cut(reason),
        },
        Failure::Reject(reason) => Outcome::Reject(cut(reason)),
        Failure::Fatal(reason) => Outcome::Fatal(cut(reason)),
    }
}

/// The id as `Display` shows it, without allocating.
fn hyphenated(id: ExecutionId) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (n, byte) in id.0.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_reads_as_everywhere() {
        let id = ExecutionId::derive(1_700_000_000_123, "t", "g", "h", "1");
        assert_eq!(
            std::str::from_utf8(&hyphenated(id)).ok(),
            Some(id.to_string().as_str())
        );
    }
}
