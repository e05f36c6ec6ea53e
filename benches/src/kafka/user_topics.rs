//! Topics of users: Avro in and out against JSON in and out, and a topic sink beside the result against the result alone.

use anyhow::{Context as _, Result, ensure};
use rdkafka::Message as _;
use schemas::avro::Avro;
use topics::Log as _;
use topics::catalog::{GROUP_TOPICS, RESULTS, TRIGGERS};
use topics::registry::{Registry, RegistryConfig};
use xtask::services::registry::Temporary;

use super::child::{Settings, Topics};
use super::cluster::{Cluster, Loaded, PARTITIONS, cluster};
use super::orders;
use super::ours::{self, COPY, Check, Samples};
use super::pass::{Passed, measure};
use crate::meter::{load, median};
use crate::place;
use crate::report::{Row, Target};

pub(crate) const NAMES: &[&str] = &["avro.over_json", "topic_sink.over_none"];
const PAIRS: usize = 3;
const RECORDS: u64 = 300_000;
const WARM: u64 = 60_000;
const UNTIL: u64 = RECORDS - RECORDS / 10;
const OUT: &str = "bench.out";
const SINK: &str = "out";
/// Of `orders::order`.
const SCHEMA: &str = include_str!("order.avsc");

pub(crate) fn run() -> Result<Vec<Row>> {
    let cluster = cluster()?;
    cluster.weir_topics(PARTITIONS)?;
    cluster.topic(OUT, PARTITIONS)?;
    Ok(vec![avro(cluster)?, sink(cluster)?])
}

fn avro(cluster: &Cluster) -> Result<Row> {
    let registry = Temporary::start()?;
    let config = RegistryConfig {
        url: registry.url(),
        ..RegistryConfig::default()
    };
    let runtime = crate::log::runtime()?;
    let client = Registry::new(config, runtime.handle().clone())?;
    let id = runtime.block_on(client.register(&format!("{OUT}-value"), SCHEMA))?;
    let codec = Avro::parse(SCHEMA, &[])?;
    let framed = |n: u64| {
        let mut value = vec![0];
        value.extend_from_slice(&id.to_be_bytes());
        codec
            .from_json(orders::order(n).as_bytes(), &mut value)
            .map(|()| value)
    };
    let (mut ratios, mut told, mut number) = (Vec::new(), Vec::new(), 0);
    for pair in 0..PAIRS {
        let mut pass = |format: &str| {
            number += 1;
            let topic = format!("bench.in.{number}");
            cluster.topic(&topic, PARTITIONS)?;
            let loaded = cluster.load(&topic, PARTITIONS, RECORDS, |n| {
                // the schema is the orders' own, and a test holds them together
                let avro = || framed(n).unwrap_or_default();
                let value = if format == "json" {
                    orders::order(n).into_bytes()
                } else {
                    avro()
                };
                (orders::key(n), value)
            })?;
            let id_of_topic = cluster.log()?.topic_id(&topic)?.to_string();
            let settings = Settings {
                graph: graph(&topic, format),
                topics: Topics {
                    read: Some((topic.clone(), id_of_topic, loaded.from.clone())),
                    registry: Some(registry.url()),
                    schema: (format == "avro").then(|| (SINK.to_owned(), id, SCHEMA.to_owned())),
                },
                ..ours::copy_settings(cluster)?
            };
            let passed = through(
                cluster,
                &settings,
                GROUP_TOPICS,
                &loaded,
                &format!("{format} in and out"),
            )?;
            cluster.empty(&topic, PARTITIONS)?;
            anyhow::Ok(passed)
        };
        let (json, avro) = if pair % 2 == 0 {
            let json = pass("json")?;
            (json, pass("avro")?)
        } else {
            let avro = pass("avro")?;
            (pass("json")?, avro)
        };
        ratios.push(avro.per_s / json.per_s);
        told.push(tell(&avro, &json));
    }
    let mut row = Row::new(NAMES[0], median(&mut ratios), "×")
        .target(Target::AtLeast(0.85))
        .note(note(&told));
    row.against = format!(
        "records/s of the same graph and orders in JSON; {}",
        row.against
    );
    row.ratio = None;
    Ok(row)
}

fn sink(cluster: &Cluster) -> Result<Row> {
    let triggers = cluster.load(TRIGGERS, PARTITIONS, RECORDS, |n| {
        let order = orders::order(n).into_bytes();
        (orders::key(n), orders::trigger(n, COPY, order).to_vec())
    })?;
    let without = ours::copy_settings(cluster)?;
    let with = Settings {
        graph: format!(
            "{}sinks:\n  {SINK}: {{ topic: {{ name: {OUT}, format: json }}, from: [copy] }}\n",
            without.graph
        ),
        ..without.clone()
    };
    let (mut ratios, mut told) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let none = || {
            let mut samples = Samples::default();
            let measured = (WARM, UNTIL);
            ours::pass(
                cluster,
                &without,
                &triggers,
                "the result alone",
                measured,
                &mut samples,
            )
        };
        let beside = || {
            let group = topics::catalog::GROUP_PROCESSORS;
            cluster.rewind(group, &triggers)?;
            through(cluster, &with, group, &triggers, "a topic sink beside it")
        };
        let (with, without) = if pair % 2 == 0 {
            let without = none()?;
            (beside()?, without)
        } else {
            let with = beside()?;
            (with, none()?)
        };
        ratios.push(with.per_s / without.per_s);
        told.push(tell(&with, &without));
    }
    cluster.empty(TRIGGERS, PARTITIONS)?;
    let mut row = Row::new(NAMES[1], median(&mut ratios), "×")
        .target(Target::AtLeast(0.80))
        .note(note(&told));
    row.against = format!(
        "records/s of the same graph without the sink; {}",
        row.against
    );
    row.ratio = None;
    Ok(row)
}

fn tell(ours: &Passed, theirs: &Passed) -> String {
    format!(
        "{:.0}/s of {:.0}/s, {:.1} µs of {:.1} µs",
        ours.per_s, theirs.per_s, ours.cpu_us, theirs.cpu_us
    )
}

fn note(told: &[String]) -> String {
    format!(
        "median of {PAIRS} pairs of {RECORDS} orders; {}; {}",
        told.join("; "),
        load()
    )
}

fn graph(topic: &str, format: &str) -> String {
    format!(
        "weir: 1\nname: {COPY}\ntriggers:\n  bus: {{ topic: {{ name: {topic}, format: {format}, from: earliest }} }}\nsteps:\n  copy: {{ uses: ./copy.wasm, from: [bus], isolation: batch }}\nsinks:\n  {SINK}: {{ topic: {{ name: {OUT}, format: {format} }}, from: [copy] }}\n"
    )
}

/// A pass whose outputs go to the topic sink; each input must be there once.
fn through(
    cluster: &Cluster,
    settings: &Settings,
    group: &str,
    loaded: &Loaded,
    what: &str,
) -> Result<Passed> {
    let before = cluster.ends(OUT, PARTITIONS)?;
    let scratch = place::scratch()?;
    let mut running = ours::start(settings, scratch.path())?;
    let counter = cluster.counter(group, loaded)?;
    let passed = measure(&mut running, &counter, what, WARM, UNTIL, loaded.count)?;
    running.stop()?;
    let mut samples = Samples::default();
    let mut check = Check::new(loaded.count, &mut samples);
    cluster.read(OUT, &before, |message| {
        let value = message.payload().context("a record without a value")?;
        ensure!(!value.is_empty(), "an empty record");
        check.one(message.key(), value)
    })?;
    check.end()?;
    cluster.empty(OUT, PARTITIONS)?;
    cluster.empty(RESULTS, PARTITIONS)?;
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_that_of_the_orders() {
        let avro = Avro::parse(SCHEMA, &[]).unwrap();
        for n in 0..100 {
            let (mut body, mut json) = (Vec::new(), Vec::new());
            let order = orders::order(n);
            avro.from_json(order.as_bytes(), &mut body).unwrap();
            avro.to_json(&body, &mut json).unwrap();
            let same: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(
                same,
                serde_json::from_str::<serde_json::Value>(&order).unwrap()
            );
        }
    }
}
