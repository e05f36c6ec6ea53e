//! Runs a module's `_initialize` once, here, and puts what it leaves in memory into the module. Go's runtime takes most of a
//! fresh instance's time to start, and starts the same way each time.
//!
//! What runs is the user's code: `init` functions and package variables. It has a clock that stands still, zeros for randomness, stderr, and
//! nothing of Weir's: settings and secrets belong to a call.

use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};

use anyhow::{Context as _, anyhow};
use wasmtime::{Caller, Config, Engine, Extern, Instance, Linker, Module, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

const PREVIEW1: &str = "wasi_snapshot_preview1";
const INITIALIZE: &str = "_initialize";
/// Not 0, which Go takes for a broken clock.
const NOW_NS: u64 = 1_000_000;
const BAD_DESCRIPTOR: i32 = 8;

pub(super) fn initialized(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut wizer = Wizer::new();
    wizer.init_func(INITIALIZE);
    let (context, instrumented) = wizer.instrument(module).map_err(ours)?;
    let engine = Engine::new(&Config::new()).map_err(ours)?;
    let module = Module::new(&engine, &instrumented).map_err(ours)?;
    let mut linker = Linker::new(&engine);
    link(&mut linker).map_err(ours)?;
    linker
        .define_unknown_imports_as_traps(&module)
        .map_err(ours)?;
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &module).map_err(ours)?;
    instance
        .get_typed_func::<(), ()>(&mut store, INITIALIZE)
        .and_then(|initialize| initialize.call(&mut store, ()))
        .map_err(ours)
        .context(
            "init functions run when the step is built, without settings, secrets, log and files",
        )?;
    let mut state = State { store, instance };
    ready(wizer.snapshot(&context, &mut state)).map_err(ours)
}

/// WASI 0.1 as far as a runtime needs it to start.
fn link(linker: &mut Linker<()>) -> wasmtime::Result<()> {
    linker.func_wrap(
        PREVIEW1,
        "clock_time_get",
        |mut caller: Caller<'_, ()>, _: i32, _: i64, to: i32| {
            put(&mut caller, to, &NOW_NS.to_le_bytes())
        },
    )?;
    linker.func_wrap(
        PREVIEW1,
        "random_get",
        |mut caller: Caller<'_, ()>, to: i32, len: i32| {
            let zeros = vec![0; usize::try_from(len)?.min(1 << 20)];
            put(&mut caller, to, &zeros)
        },
    )?;
    for sizes in ["args_sizes_get", "environ_sizes_get"] {
        linker.func_wrap(
            PREVIEW1,
            sizes,
            |mut caller: Caller<'_, ()>, count: i32, bytes: i32| {
                put(&mut caller, count, &[0; 4])?;
                put(&mut caller, bytes, &[0; 4])
            },
        )?;
    }
    for list in ["args_get", "environ_get"] {
        linker.func_wrap(PREVIEW1, list, |_: i32, _: i32| 0)?;
    }
    linker.func_wrap(PREVIEW1, "fd_write", print)?;
    linker.func_wrap(PREVIEW1, "sched_yield", || 0)?;
    linker.func_wrap(PREVIEW1, "fd_prestat_get", |_: i32, _: i32| BAD_DESCRIPTOR)?;
    linker.func_wrap(PREVIEW1, "fd_fdstat_get", |_: i32, _: i32| BAD_DESCRIPTOR)?;
    linker.func_wrap(PREVIEW1, "fd_fdstat_set_flags", |_: i32, _: i32| {
        BAD_DESCRIPTOR
    })?;
    Ok(())
}

/// What init functions print, and why they panic, is for who builds.
fn print(
    mut caller: Caller<'_, ()>,
    _fd: i32,
    parts: i32,
    count: i32,
    written: i32,
) -> wasmtime::Result<i32> {
    let mut text = Vec::new();
    for part in 0..count {
        let at = usize::try_from(parts)? + 8 * usize::try_from(part)?;
        let memory = memory(&mut caller)?;
        let word = |at: usize| {
            let bytes = memory
                .data(&caller)
                .get(at..at + 4)
                .and_then(|b| b.try_into().ok());
            bytes.map(u32::from_le_bytes).unwrap_or_default() as usize
        };
        let (from, len) = (word(at), word(at + 4));
        text.extend(
            memory
                .data(&caller)
                .get(from..from.saturating_add(len))
                .unwrap_or_default(),
        );
    }
    std::io::Write::write_all(&mut std::io::stderr(), &text)?;
    put(
        &mut caller,
        written,
        &u32::try_from(text.len())?.to_le_bytes(),
    )
}

fn put(caller: &mut Caller<'_, ()>, to: i32, bytes: &[u8]) -> wasmtime::Result<i32> {
    let memory = memory(caller)?;
    memory.write(caller, usize::try_from(to)?, bytes)?;
    Ok(0)
}

fn memory(caller: &mut Caller<'_, ()>) -> wasmtime::Result<wasmtime::Memory> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    memory.ok_or_else(|| wasmtime::Error::msg("the module exports no memory"))
}

/// What wizer asks of the instance; no other answer ever has to be awaited.
struct State {
    store: Store<()>,
    instance: Instance,
}

impl InstanceState for State {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut self.store, name);
        match global.expect("wizer exports it").get(&mut self.store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(value) => SnapshotVal::F32(value),
            Val::F64(value) => SnapshotVal::F64(value),
            Val::V128(value) => SnapshotVal::V128(value.as_u128()),
            _ => unreachable!("wizer refuses modules with other mutable globals"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut self.store, name);
        contents(memory.expect("wizer exports it").data(&self.store));
    }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the state never waits"),
    }
}

fn ours(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}
