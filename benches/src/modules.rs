//! Modules: how soon one is ready, and a thousand of them on one processor.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use processor::ProcessorConfig;
use processor::wasm::{Engine, EngineConfig, Nowhere};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::lane::{Lanes, threads, variant};
use crate::meter::{load, median};
use crate::place;
use crate::process::status_mib;
use crate::report::{Row, Target};
use crate::steps::json;
use crate::weir::Weir;

const MODULES: usize = 1_000;
const EVENTS: u64 = 30_000;
const PAIRS: usize = 3;
const ROUNDS: usize = 7;

fn guest(name: &str) -> Result<Vec<u8>> {
    let path = place::root().join(format!("processor/tests/guests/{name}.wasm"));
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A module that was compiled before, in a process that has just started.
pub(crate) fn load_again() -> Result<Vec<Row>> {
    let folder = place::scratch()?;
    let bytes = guest("json")?;
    let digest = hex::encode(Sha256::digest(&bytes));
    let config = || EngineConfig {
        cache_dir: Some(folder.path().to_owned()),
        ..EngineConfig::default()
    };
    Engine::new(config())?.load(&digest, &bytes)?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let engine = Engine::new(config())?;
        let started = Instant::now();
        let module = engine.known(&digest);
        times.push(started.elapsed().as_secs_f64() * 1e3);
        ensure!(module.is_some(), "the compiled module was not found");
    }
    let note = format!(
        "median of {ROUNDS} engines; from the compiled cache, {} KiB of component",
        bytes.len() >> 10
    );
    Ok(vec![
        Row::new("module.load_ms", median(&mut times), "ms")
            .target(Target::AtMost(5.0))
            .note(note),
    ])
}

/// From `module push` of a module that nobody has seen to the first result of a graph that uses it.
pub(crate) fn first_result() -> Result<Vec<Row>> {
    let (binary, _) = place::weir()?;
    let folder = place::scratch()?;
    let graph = folder.path().join("graph.yaml");
    std::fs::write(folder.path().join("one.wasm"), guest("json")?)?;
    std::fs::write(
        &graph,
        "weir: 1\nname: warm\ntriggers: { t: { manual: {} } }\nsteps: { one: { uses: ./one.wasm, from: [t] } }\n",
    )?;
    let weir = Weir::start(&binary, &graph, &folder.path().join("data"))?;
    let api = format!("http://{}/api/v1", weir.address);
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let module = variant(&guest("json")?, 1_000_000 + round as u64);
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&module)));
        let name = format!("fresh-{round}");
        let definition = format!(
            "{{\"weir\":1,\"name\":\"{name}\",\"triggers\":{{\"t\":{{\"manual\":{{}}}}}},\"steps\":{{\"one\":{{\"uses\":\"{digest}\",\"from\":[\"t\"]}}}}}}"
        );
        let started = Instant::now();
        ureq::put(format!("{api}/modules/{digest}")).send(&module[..])?;
        let body = format!("{{\"definition\":{definition}}}");
        ureq::post(format!("{api}/graphs"))
            .content_type("application/json")
            .send(body)?;
        let sent = ureq::post(format!("{api}/graphs/{name}/triggers/t"))
            .content_type("application/json")
            .send(&json()[..])?
            .body_mut()
            .read_json::<Value>()?;
        let id = sent["execution"]
            .as_str()
            .context("no execution is named")?;
        loop {
            let found = ureq::get(format!("{api}/executions/{id}?wait=5s"))
                .config()
                .http_status_as_error(false)
                .build()
                .call()?
                .body_mut()
                .read_json::<Value>()?;
            if found["status"] == json!("succeeded") {
                break;
            }
            ensure!(found["status"] != json!("failed"), "it failed: {found}");
            ensure!(started.elapsed().as_secs() < 60, "no result came: {found}");
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    weir.stop()?;
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let note = format!(
        "median of {ROUNDS} modules that nobody had seen, slowest {slowest:.0}; push, apply, trigger, history; weir dev; {}",
        load()
    );
    Ok(vec![
        Row::new("module.first_result_ms", median(&mut times), "ms")
            .target(Target::AtMost(1_000.0))
            .note(note),
    ])
}

/// A thousand modules in turn, next to one.
pub(crate) fn thousand() -> Result<Vec<Row>> {
    let folder = place::scratch()?;
    let mut lanes = Lanes::new(threads(2)?)?;
    let component = guest("json")?;
    let names: Vec<String> = (0..MODULES).map(|number| format!("g{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        lanes.apply(
            name,
            &variant(&component, number as u64),
            ", isolation: batch",
        )?;
    }
    let config = ProcessorConfig::default();
    let engine = EngineConfig {
        cache_dir: Some(PathBuf::from(folder.path())),
        ..EngineConfig::default()
    };
    lanes.start(&config, engine, Arc::new(Nowhere))?;
    let data = json();
    let compiled = Instant::now();
    lanes.run(&names, 2 * MODULES as u64, &data)?;
    let compiled = compiled.elapsed();
    lanes.run(&names[..1], EVENTS / 2, &data)?;
    let (mut ratios, mut rss) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let one = lanes.run(&names[..1], EVENTS, &data)?;
        let all = lanes.run(&names, EVENTS, &data)?;
        ratios.push(one.as_secs_f64() / all.as_secs_f64());
        rss.push(status_mib(std::process::id(), "VmRSS")?);
    }
    lanes.stop()?;
    let note = format!(
        "median of {PAIRS} pairs ({}), {EVENTS} events of 1 KiB each, {MODULES} graphs in turn; compiled in {:.0} s; resident after each pair: {} MiB; {}",
        ratios
            .iter()
            .map(|r| format!("{r:.2}"))
            .collect::<Vec<_>>()
            .join(", "),
        compiled.as_secs_f64(),
        rss.iter()
            .map(|mib| format!("{mib:.0}"))
            .collect::<Vec<_>>()
            .join(", "),
        load()
    );
    Ok(vec![
        Row::new("modules_1000.over_one", median(&mut ratios), "×")
            .target(Target::AtLeast(0.7))
            .note(note),
    ])
}
