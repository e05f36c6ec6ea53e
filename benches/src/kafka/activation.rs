//! From `apply`'s answer until every processor runs the new version: a control plane, two processors, Kafka and Postgres.

use std::time::Instant;

use anyhow::Result;
use xtask::services::postgres;

use super::cluster::{PARTITIONS, cluster};
use super::serve::Serve;
use crate::meter::load;
use crate::place;
use crate::report::{Row, Target};

pub(crate) const NAMES: &[&str] = &["activation.ms"];
const VERSIONS: usize = 30;
const PROCESSORS: usize = 2;

pub(crate) fn run() -> Result<Vec<Row>> {
    let cluster = cluster()?;
    cluster.weir_topics(PARTITIONS)?;
    let postgres = postgres::Temporary::start()?;
    let scratch = place::scratch()?;
    let start = |role: &str| Serve::start(cluster, &postgres.url(), role, &[], scratch.path());
    let control = start("control")?;
    let processors: Vec<Serve> = (0..PROCESSORS)
        .map(|_| start("processor"))
        .collect::<Result<_>>()?;
    for serve in &processors {
        serve.until("is ready", || serve.get("/readyz").is_ok())?;
    }
    control.until("answers", || control.get("/api/v1/graphs").is_ok())?;
    let module = std::fs::read(place::root().join("processor/tests/guests/copy.wasm"))?;
    let digest = control.put_module(&module)?;
    crate::say(&format!("  {VERSIONS} versions, one after another …"));
    let mut took = Vec::with_capacity(VERSIONS);
    for number in 0..VERSIONS {
        let epoch = control.apply(&graph(&digest, number))?;
        let answered = Instant::now();
        for serve in &processors {
            serve.until("follows", || serve.epoch().is_ok_and(|at| at >= epoch))?;
        }
        took.push(answered.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let (median, slowest) = (took[VERSIONS / 2], took[VERSIONS - 1]);
    let note = format!(
        "the slowest of {VERSIONS} versions, median {median:.0} ms: from the answer of apply until the last of {PROCESSORS} processors has followed it, by their metrics; each in a process of its own, a real broker, Postgres; {}",
        load()
    );
    Ok(vec![
        Row::new(NAMES[0], slowest, "ms")
            .target(Target::AtMost(1_000.0))
            .note(note),
    ])
}

/// Each another version.
fn graph(module: &str, number: usize) -> String {
    let millis = 1_000 + number;
    format!(
        "weir: 1\nname: activated\ntriggers:\n  t: {{ manual: {{}} }}\nsteps:\n  one: {{ uses: \"{module}\", from: [t], isolation: batch, limits: {{ time: {millis}ms }} }}\n"
    )
}
