//! The templates of `weir new`, called by Weir's pool and by wasmtime with nothing around it: what Weir adds to a call. Built here, by
//! `weir new` and `weir build`, once for each state of the SDK.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use schemas::graph::Isolation;
use serde_json::Value;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Config, Engine, OptLevel, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::meter::{load, median, round_of};
use crate::place;
use crate::report::{Row, Target};
use crate::steps::Guest;

mod bindings {
    #![allow(missing_docs, unreachable_pub, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        inline: "
            package weir:bench;
            world bare {
                include weir:step/step@1.0.0;
                import weir:step/log@1.0.0;
                import weir:step/settings@1.0.0;
                import weir:step/secrets@1.0.0;
            }
        ",
        world: "weir:bench/bare",
        imports: { default: trappable },
    });
}

use bindings::weir::step::types::{Context as StepContext, Event};
use bindings::weir::step::{log, secrets, settings, types};

const ROUNDS: usize = 7;
/// Calls of one round: engines' own housekeeping has its share in it.
const CALLS: u64 = 2_000;
const EVENT_BYTES: usize = 1 << 10;

pub(crate) fn c() -> Result<Vec<Row>> {
    let made = template("c")?;
    let mut guest = Guest::of(&made.component, made.event)?.with_settings(made.settings);
    let (mut fresh, mut reused) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        fresh.push(round_of(20_000, || {
            black_box(guest.call(Isolation::Record));
        }));
        reused.push(round_of(20_000, || {
            black_box(guest.call(Isolation::Batch));
        }));
    }
    let (fresh, reused) = (median(&mut fresh), median(&mut reused));
    Ok(vec![
        Row::new("step.c.fresh_minus_reused_us", fresh - reused, "µs")
            .target(Target::AtMost(5.0))
            .note(format!(
                "the template; {fresh:.2} µs less {reused:.2} µs; {}",
                load()
            )),
    ])
}

pub(crate) fn js() -> Result<Vec<Row>> {
    over_bare("js", "step.js.over_bare")
}

pub(crate) fn python() -> Result<Vec<Row>> {
    over_bare("python", "step.python.over_bare")
}

pub(crate) fn go() -> Result<Vec<Row>> {
    over_bare("go", "step.go.over_bare")
}

fn over_bare(lang: &str, name: &str) -> Result<Vec<Row>> {
    let made = template(lang)?;
    let mut bare = Bare::new(&made)?;
    let mut guest = Guest::of(&made.component, made.event)?.with_settings(made.settings);
    for _ in 0..CALLS {
        bare.call()?;
        guest.check_call()?;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(round_of(CALLS, || {
            black_box(guest.call(Isolation::Batch));
        }));
        theirs.push(round_of(CALLS, || {
            black_box(bare.call().is_ok());
        }));
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    Ok(vec![
        Row::new(name, ours / theirs, "×")
            .peer("wasmtime with the same component and nothing around it", 1.0)
            .target(Target::AtMost(1.2))
            .note(format!(
                "{ours:.1} µs over {theirs:.1} µs of CPU, reused, the template on an event of 1 KiB; median of {ROUNDS} rounds of {CALLS}; {}",
                load()
            )),
    ])
}

/// A language's template.
struct Template {
    component: Vec<u8>,
    settings: String,
    /// 1 KiB that its step takes.
    event: Vec<u8>,
}

/// The component of a language's template, and an event of 1 KiB for it.
fn template(lang: &str) -> Result<Template> {
    let (weir, _) = place::weir()?;
    let folder: PathBuf = place::root().join("target/bench-steps").join(lang);
    let run = |args: &[&str]| -> Result<()> {
        let done = Command::new(&weir).args(args).output()?;
        ensure!(
            done.status.success(),
            "weir {} failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    };
    let place = folder.to_str().context("the checkout's path is no text")?;
    if !folder.is_dir() {
        run(&["new", "bench", "--lang", lang, "--dir", place])?;
    }
    run(&["build", place])?;
    let component = std::fs::read(folder.join("step.wasm"))?;
    let input = std::fs::read_to_string(folder.join("input.jsonl"))?;
    let mut event: Value = serde_json::from_str(input.lines().next().unwrap_or_default())?;
    let short = EVENT_BYTES.saturating_sub(event.to_string().len() + 10);
    event["note"] = "n".repeat(short).into();
    let text = std::fs::read_to_string(folder.join("graph.yaml"))?;
    let graph = schemas::graph::parse(&text, "graph.yaml").map_err(|e| anyhow::anyhow!("{e}"))?;
    let step = graph
        .steps
        .first()
        .context("the template's graph has no step")?;
    Ok(Template {
        component,
        settings: step.settings.clone(),
        event: event.to_string().into_bytes(),
    })
}

/// Wasmtime, WASI, and nothing else.
struct Bare {
    store: Store<State>,
    linked: bindings::Bare,
    context: StepContext,
    event: Event,
}

struct State {
    ctx: WasiCtx,
    table: ResourceTable,
    settings: String,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.ctx,
            table: &mut self.table,
        }
    }
}

impl types::Host for State {}

impl log::Host for State {
    fn write(&mut self, _: log::Level, message: String) -> wasmtime::Result<()> {
        black_box(message);
        Ok(())
    }
}

impl settings::Host for State {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(self.settings.clone())
    }
}

impl secrets::Host for State {
    fn get(&mut self, _: String) -> wasmtime::Result<String> {
        Ok(String::new())
    }
}

impl Bare {
    fn new(made: &Template) -> Result<Self> {
        let words = |error: wasmtime::Error| anyhow::anyhow!("{error:#}");
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .epoch_interruption(true)
            .cranelift_nan_canonicalization(true);
        let engine = Engine::new(&config).map_err(words)?;
        let component = Component::from_binary(&engine, &made.component).map_err(words)?;
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).map_err(words)?;
        bindings::Bare::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)
            .map_err(words)?;
        let state = State {
            ctx: WasiCtx::builder().build(),
            table: ResourceTable::new(),
            settings: made.settings.clone(),
        };
        let mut store = Store::new(&engine, state);
        store.set_epoch_deadline(u64::MAX >> 1);
        let linked = bindings::Bare::instantiate(&mut store, &component, &linker).map_err(words)?;
        Ok(Self {
            store,
            linked,
            context: StepContext {
                tenant: "default".into(),
                graph: "bench".into(),
                version: "0123abcd".into(),
                execution: "08080808-0808-0808-0808-080808080808".into(),
                step: "step".into(),
                attempt: 1,
                time_us: 1_700_000_000_000_000,
            },
            event: Event {
                edge: "trigger".into(),
                key: None,
                content_type: "application/json".into(),
                headers: Vec::new(),
                data: made.event.clone(),
            },
        })
    }

    fn call(&mut self) -> Result<usize> {
        let input = std::slice::from_ref(&self.event);
        let done = self
            .linked
            .call_handle(&mut self.store, &self.context, input);
        match done.map_err(|error| anyhow::anyhow!("{error:#}"))? {
            Ok(outputs) => Ok(outputs.len()),
            Err(failure) => anyhow::bail!("the template's step failed: {failure:?}"),
        }
    }
}
