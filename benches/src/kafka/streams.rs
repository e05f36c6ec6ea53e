//! The three steps of `examples/orders`, ours against Kafka Streams: in one run, on one broker, in turns.
//!
//! Both sides are a process of their own that takes orders from a topic that was loaded before, and what counts is the
//! inputs whose outputs are committed, as the broker tells. After each pass every output is read back: each order must be
//! there once, and what was made of it must be the same bytes on both sides.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use rdkafka::Message as _;
use topics::catalog::TRIGGERS;

use super::child::Settings;
use super::cluster::{Cluster, Loaded, PARTITIONS, cluster};
use super::orders;
use super::ours::{self, Check, Samples};
use super::pass::{Passed, Running, measure};
use crate::meter::{load, median};
use crate::place;
use crate::report::{Row, Target};
use xtask::services::maven;
use xtask::services::process::succeed;

/// A figure of a pass.
type Of = fn(&Passed) -> f64;

const INPUT: &str = "orders";
const GRAPH: &str = "orders";

/// How much of it; the environment makes it smaller for a try.
struct Size {
    warm: u64,
    records: u64,
    rounds: usize,
}

impl Size {
    fn read() -> Result<Self> {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text
                .parse()
                .with_context(|| format!("{name} is \"{text}\", which is no number")),
            Err(_) => Ok(default),
        };
        let records = number("WEIR_BENCH_RECORDS", 1_500_000)?;
        Ok(Self {
            warm: records / 5,
            records,
            rounds: number("WEIR_BENCH_ROUNDS", 2)?.max(1) as usize,
        })
    }

    fn until(&self) -> u64 {
        self.warm + self.records
    }

    /// A little more, so that every lane has work until the last record that is measured.
    fn all(&self) -> u64 {
        self.until() + self.records / 10
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Tree,
    Bytes,
    Batch,
    Record,
}

const SIDES: [Side; 4] = [Side::Tree, Side::Batch, Side::Bytes, Side::Record];

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Tree => "kafka streams, tree",
            Self::Bytes => "kafka streams, bytes",
            Self::Batch => "weir, batch",
            Self::Record => "weir, record",
        }
    }
}

pub(crate) const NAMES: &[&str] = &[
    "kafka_streams.records_per_s.batch",
    "kafka_streams.cpu_us_per_record.batch",
    "kafka_streams_bytes.records_per_s.batch",
    "kafka_streams_bytes.cpu_us_per_record.batch",
    "kafka_streams.records_per_s.record",
    "kafka_streams.rss_mib",
];

pub(crate) fn run() -> Result<Vec<Row>> {
    let size = Size::read()?;
    let peer = Peer::build()?;
    let cluster = cluster()?;
    cluster.weir_topics(PARTITIONS)?;
    cluster.topic(INPUT, PARTITIONS)?;
    crate::say(&format!("loading {} orders …", size.all()));
    let orders = cluster.load(INPUT, PARTITIONS, size.all(), |n| {
        (orders::key(n), orders::order(n).into_bytes())
    })?;
    let triggers = cluster.load(TRIGGERS, PARTITIONS, size.all(), |n| {
        (
            orders::key(n),
            orders::trigger(n, GRAPH, orders::order(n).into_bytes()).to_vec(),
        )
    })?;
    let mut samples = Samples::default();
    let mut passes: BTreeMap<&str, Vec<Passed>> = BTreeMap::new();
    let only = std::env::var("WEIR_BENCH_SIDES").unwrap_or_default();
    for round in 0..size.rounds {
        for side in SIDES.into_iter().filter(|side| side.name().contains(&only)) {
            let passed = match side {
                Side::Tree | Side::Bytes => {
                    peer.pass(cluster, side, round, &size, &orders, &mut samples)
                }
                Side::Batch | Side::Record => ours(cluster, side, &size, &triggers, &mut samples),
            };
            passes
                .entry(side.name())
                .or_default()
                .push(passed.with_context(|| side.name())?);
        }
    }
    for topic in [INPUT, TRIGGERS] {
        cluster.empty(topic, PARTITIONS)?;
    }
    Ok(rows(&passes, &size))
}

fn rows(passes: &BTreeMap<&str, Vec<Passed>>, size: &Size) -> Vec<Row> {
    let all = |side: Side| passes.get(side.name()).map_or(&[][..], Vec::as_slice);
    let middle = |side: Side, of: fn(&Passed) -> f64| {
        median(&mut all(side).iter().map(of).collect::<Vec<_>>())
    };
    let note = |side: Side, peer: Side| {
        let told = |side: Side| {
            let told: Vec<String> = all(side)
                .iter()
                .map(|p| {
                    format!(
                        "{:.0}/s ({:.0} to {:.0}) {:.1} µs {:.0} MiB",
                        p.per_s, p.slowest, p.fastest, p.cpu_us, p.rss_mib
                    )
                })
                .collect();
            told.join("; ")
        };
        let threads = all(side).last().map_or("", |p| p.threads.as_str());
        format!(
            "{} of {} records after {} to warm up; ours {}; theirs {}; µs by thread: {threads}; {}",
            size.rounds,
            size.records,
            size.warm,
            told(side),
            told(peer),
            load()
        )
    };
    let row =
        |name: &str, unit: &str, side: Side, peer: Side, of: fn(&Passed) -> f64, target: Target| {
            Row::new(name, middle(side, of), unit)
                .peer(peer.name(), middle(peer, of))
                .ratio_target(target)
                .note(note(side, peer))
        };
    let (per_s, cpu_us, rss_mib): (Of, Of, Of) = (|p| p.per_s, |p| p.cpu_us, |p| p.rss_mib);
    vec![
        row(
            NAMES[0],
            "1/s",
            Side::Batch,
            Side::Tree,
            per_s,
            Target::AtLeast(0.9),
        ),
        row(
            NAMES[1],
            "µs",
            Side::Batch,
            Side::Tree,
            cpu_us,
            Target::AtMost(1.3),
        ),
        row(
            NAMES[2],
            "1/s",
            Side::Batch,
            Side::Bytes,
            per_s,
            Target::AtLeast(1.2),
        ),
        row(
            NAMES[3],
            "µs",
            Side::Batch,
            Side::Bytes,
            cpu_us,
            Target::AtMost(1.0),
        ),
        row(
            NAMES[4],
            "1/s",
            Side::Record,
            Side::Tree,
            per_s,
            Target::AtLeast(0.5),
        ),
        row(
            NAMES[5],
            "MiB",
            Side::Batch,
            Side::Tree,
            rss_mib,
            Target::AtMost(0.25),
        ),
    ]
}

fn ours(
    cluster: &Cluster,
    side: Side,
    size: &Size,
    triggers: &Loaded,
    samples: &mut Samples,
) -> Result<Passed> {
    let mut settings: Settings = ours::orders_settings(cluster)?;
    if side == Side::Record {
        settings.graph = settings
            .graph
            .replace("isolation: batch", "isolation: record");
    }
    ours::pass(
        cluster,
        &settings,
        triggers,
        side.name(),
        (size.warm, size.until()),
        samples,
    )
}

/// The program in `benches/peers/kafka-streams`, compiled.
struct Peer {
    class_path: String,
}

impl Peer {
    fn build() -> Result<Self> {
        let sources = place::root().join("benches/peers/kafka-streams");
        let built = place::root().join("target/peers/kafka-streams");
        let (jars, classes) = (built.join("jars"), built.join("classes"));
        if !jars.exists() {
            crate::say("fetching Kafka Streams …");
            maven::fetch(&sources.join("pom.xml"), &jars)?;
        }
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in sources.join("src/main/java/weir/bench").read_dir()? {
            files.push(entry?.path());
        }
        let jars = format!("{}/*", jars.display());
        let mut javac = Command::new("javac");
        succeed(
            javac.args(["-cp", &jars, "-d"]).arg(&classes).args(files),
            "install a JDK of Java 17 or newer",
        )?;
        Ok(Self {
            class_path: format!("{}:{jars}", classes.display()),
        })
    }

    fn pass(
        &self,
        cluster: &Cluster,
        side: Side,
        round: usize,
        size: &Size,
        orders: &Loaded,
        samples: &mut Samples,
    ) -> Result<Passed> {
        let variant = if side == Side::Tree { "tree" } else { "bytes" };
        // of this pass alone, so that it starts at the beginning
        let application = format!("peer-{variant}-{round}");
        let output = format!("priced-{variant}-{round}");
        cluster.topic(&output, PARTITIONS)?;
        let scratch = place::scratch()?;
        let mut java = Command::new("java");
        java.args([
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            &self.class_path,
            "weir.bench.Peer",
            variant,
        ]);
        java.args([cluster.brokers(), &application, INPUT, &output])
            .arg(scratch.path().join("state"));
        let mut running = Running::start(java, None, scratch.path())?;
        let counter = cluster.counter(&application, orders)?;
        let passed = measure(
            &mut running,
            &counter,
            side.name(),
            size.warm,
            size.until(),
            size.all(),
        )?;
        running.stop()?;
        let mut check = Check::new(size.all(), samples);
        cluster.read(&output, &vec![0; PARTITIONS as usize], |message| {
            check.one(
                message.key(),
                message.payload().context("an output without a value")?,
            )
        })?;
        check.end()?;
        cluster.empty(&output, PARTITIONS)?;
        Ok(passed)
    }
}
