//! T11: a graph reads a user's topic in Avro and writes another one, while processors are killed, poison comes in between
//! and the schema registry does not answer. The producer and the consumer are Confluent's Python client.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::avro::Avro;
use schemas::records::DeadLetter;
use serde_json::{Value, json};
use topics::catalog::{DEAD_LETTERS, TopicSpec};
use topics::{Log as _, Outgoing, Record};
use xtask::services::strangers::Streams;
use xtask::services::{registry, strangers};

use super::cluster::Cluster;
use super::ledger::Ledger;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::proof::{Row, full};
use crate::weir::{PATIENCE, until};

const IN: &str = "avro.in";
const OUT: &str = "avro.out";
/// Where Kafka Streams copies what it reads from the topic sink.
const COPY: &str = "avro.copy";
const FIRST: &str = r#"{"type":"record","name":"Order","fields":[{"name":"number","type":"long"},{"name":"name","type":["null","string"],"default":null}]}"#;
/// A field more, with a default: compatible.
const SECOND: &str = r#"{"type":"record","name":"Order","fields":[{"name":"number","type":"long"},{"name":"name","type":["null","string"],"default":null},{"name":"note","type":"string","default":"none"}]}"#;

fn lines(numbers: std::ops::Range<usize>) -> String {
    let line = |n: usize| {
        let name = (!n.is_multiple_of(3)).then(|| format!("order {n}"));
        json!({"key": format!("k{}", n % 50), "value": {"number": n, "name": name}}).to_string()
    };
    numbers.map(line).collect::<Vec<_>>().join("\n")
}

/// Records of others than Confluent's serialiser.
fn raw(cluster: &Cluster, values: impl IntoIterator<Item = Option<Bytes>>) {
    let records = values.into_iter().enumerate().map(|(n, value)| Outgoing {
        topic: IN.into(),
        partition: None,
        record: Record {
            key: Some(Bytes::from(format!("raw-{n}"))),
            value,
            headers: vec![("x".to_owned(), Bytes::from_static(b"\xff\0"))],
            timestamp_ms: 1_700_000_000_000,
        },
    });
    let appended = cluster.log.appender();
    cluster
        .runtime
        .block_on(appended.append(records.collect()))
        .unwrap();
}

/// Values of the dead letters that came from the topic.
fn buried(cluster: &Cluster) -> Vec<Vec<u8>> {
    let lines = strangers::script("read", &[cluster.brokers(), DEAD_LETTERS], "").unwrap();
    let of_topic = |line: &String| {
        let record: Value = serde_json::from_str(line).unwrap();
        let header = |header: &Value| {
            let value = header[1].as_str().unwrap_or_default();
            let value = hex::decode(value).unwrap();
            (header[0].as_str().unwrap().to_owned(), Bytes::from(value))
        };
        let headers: Vec<_> = record["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(header)
            .collect();
        let about = DeadLetter::from_headers(&headers).ok()?;
        let value = record["value"].as_str().unwrap_or_default();
        (about.topic == IN).then(|| hex::decode(value).unwrap())
    };
    let mut values: Vec<Vec<u8>> = lines.iter().filter_map(of_topic).collect();
    values.sort();
    values
}

fn written(cluster: &Cluster, url: &str, topic: &str) -> Vec<Value> {
    let read = strangers::script("avro_read", &[cluster.brokers(), url, topic], "").unwrap();
    let parse = |line: &String| serde_json::from_str(line).unwrap();
    read.iter().map(parse).collect()
}

#[test]
fn poison_becomes_dead_letters_and_an_outage_of_the_registry_only_waits() {
    let cluster = Cluster::shared();
    let (records, outage, kills) = if full() {
        (30_000, 60, 8)
    } else {
        (2_000, 5, 2)
    };
    let begun = Instant::now();
    let mut seed = Seed::new("T11");
    let registry = registry::Temporary::start().unwrap();
    let url = registry.url();
    let topics = [IN, OUT, COPY].map(|name| TopicSpec::new(name, 4));
    cluster.log.create_topics(&topics).unwrap();
    let with = |recipe: Recipe| {
        recipe
            .with("WEIR_REGISTRY__URL", &url)
            .with("WEIR_TENANTS__DEFAULT__TOPICS_READ", IN)
            .with("WEIR_TENANTS__DEFAULT__TOPICS_WRITE", OUT)
    };
    let control = Process::start(&cluster, &with(Recipe::control()));
    until("the API answers", || {
        control.get("/api/v1/graphs").is_some()
    });
    let module = cluster.module("copy");
    let source = format!(
        "weir: 1\nname: avro\ntriggers:\n  bus: {{ topic: {{ name: {IN}, format: avro, from: earliest }} }}\nsteps:\n  copy: {{ uses: \"{module}\", from: [bus], isolation: batch }}\nsinks:\n  out: {{ topic: {{ name: {OUT}, key: string(event.data.number), format: avro, schema: {SECOND} }}, from: [copy] }}\n"
    );
    let applied = control.post("/api/v1/graphs", &json!({ "source": source }));
    assert_eq!(applied["changed"], true, "{applied}");
    let other = Ledger::new("beside");
    cluster.apply("beside", "copy", "");
    let recipe = with(Recipe::processor());
    let mut processes = Process::start_all(&cluster, &recipe, 2);
    let follower = other.follow(&cluster);

    let write = |schema: &str, numbers: std::ops::Range<usize>| -> u32 {
        let arguments = [cluster.brokers(), &url, IN, schema];
        let said = strangers::script("avro_write", &arguments, &lines(numbers)).unwrap();
        said[0].parse().unwrap()
    };
    let half = records / 2;
    let first = write(FIRST, 0..half);
    let framed = |id: u32, body: &[u8]| {
        let mut value = vec![0];
        value.extend_from_slice(&id.to_be_bytes());
        value.extend_from_slice(body);
        Bytes::from(value)
    };
    let poison = [
        Bytes::from_static(b"\x07no wire format"),
        Bytes::from_static(b"\0\0\x01"),
        framed(987_654, b"\x02\0"),
        // a union's branch that there is not, and a text cut short
        framed(first, b"\x02\x04"),
        framed(first, b"\x02\x02\x14abc"),
        framed(first, b"\x02\0 and more"),
        Bytes::new(),
    ];
    raw(&cluster, poison.iter().cloned().map(Some));
    let mut expected: Vec<Vec<u8>> = poison.iter().map(|value| value.to_vec()).collect();
    expected.sort();
    until("all poison is buried", || buried(&cluster) == expected);

    // a schema that no processor has seen yet, and then nobody to ask
    let second = write(SECOND, half..half + 1);
    assert_ne!(first, second);
    until("the first half is written", || {
        written(&cluster, &url, OUT).len() > half
    });
    for process in processes.drain(..) {
        process.kill();
    }
    registry.freeze().unwrap();
    // processors of before an outage know what they know: these have to ask
    let late = Recipe {
        env: recipe.env.clone(),
        ..recipe.clone()
    };
    registry.thaw().unwrap();
    processes = Process::start_all(&cluster, &late, 2);
    registry.freeze().unwrap();
    let avro = Avro::parse(SECOND, &[]).unwrap();
    let value = |n: usize| {
        let mut body = Vec::new();
        let datum = json!({"number": n, "name": null, "note": "late"});
        avro.from_json(datum.to_string().as_bytes(), &mut body)
            .unwrap();
        Some(framed(second, &body))
    };
    raw(&cluster, (half + 1..records).map(value));
    let appended = cluster.log.appender();
    let beside: Vec<_> = (0..500).map(|n| other.trigger(n)).collect();
    cluster.runtime.block_on(appended.append(beside)).unwrap();
    let down = Instant::now();
    let goes_on = other.settle(500, PATIENCE);
    std::thread::sleep(Duration::from_secs(outage).saturating_sub(down.elapsed()));
    let in_outage = buried(&cluster).len() - expected.len();
    registry.thaw().unwrap();
    for _ in 0..kills {
        std::thread::sleep(seed.between(Duration::from_millis(300), Duration::from_millis(1_200)));
        let victim = seed.below(processes.len());
        processes.swap_remove(victim).kill();
        processes.push(Process::start(&cluster, &late));
    }
    let folder = cluster.folder().join("streams");
    let streams = Streams::start(cluster.brokers(), "a-reader", (OUT, COPY), &folder).unwrap();
    let mut found = Vec::new();
    until("everything is written", || {
        found = written(&cluster, &url, OUT);
        found.len() >= records
    });
    drop(follower);
    processes.push(control);
    Process::stop_all(processes);
    found = written(&cluster, &url, OUT);
    let mut copied = Vec::new();
    until("Kafka Streams has read everything", || {
        copied = written(&cluster, &url, COPY);
        copied.len() >= found.len()
    });
    drop(streams);
    let sorted = |mut records: Vec<Value>| {
        records.sort_by_key(Value::to_string);
        records
    };
    let same = sorted(copied) == sorted(found.clone());
    let mut times: HashMap<u64, usize> = HashMap::new();
    for record in &found {
        let number = record["value"]["number"].as_u64().unwrap();
        assert_eq!(record["key"], number.to_string());
        let late = number as usize > half;
        let note = if late { "late" } else { "none" };
        assert_eq!(record["value"]["note"], note, "{record}");
        assert!(record["headers"]["weir-execution"].is_string(), "{record}");
        *times.entry(number).or_default() += 1;
    }
    let lost = (0..records as u64)
        .filter(|n| !times.contains_key(n))
        .count();
    let doubled: usize = times.values().map(|times| times - 1).sum();
    let unchanged = buried(&cluster) == expected;
    eprintln!(
        "T11: {records} records, {lost} lost, {doubled} doubled, poison unchanged: {unchanged}"
    );
    let passed = lost + doubled + in_outage == 0 && unchanged && goes_on && same;
    Row {
        id: "T11",
        title: "poison Avro, an unknown schema, a registry that does not answer",
        injected: poison.len() + 1 + kills,
        expected: format!(
            "{records} records of Confluent's producer in Avro, one each on the topic sink, and as Kafka Streams reads them: {same}; {} bad ones as dead letters, bytes unchanged; {outage} s without an answer of the registry: {in_outage} dead letters, other graphs go on",
            poison.len()
        ),
        lost,
        duplicated: doubled,
        passed,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep().unwrap();
    assert!(
        passed,
        "{lost} lost, {doubled} doubled, {in_outage} in the outage, the same to Kafka Streams: {same}"
    );
}
