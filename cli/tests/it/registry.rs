//! `weir serve` with a schema registry: others read Weir's records by it, and what it says where there is none.

use std::sync::Arc;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use bytes::Bytes;
use schemas::records::{SegmentResult, Trigger};
use serde_json::{Value, json};
use topics::catalog::{RESULTS, TRIGGERS};
use topics::{Kafka, KafkaConfig, Log, Partition, Polled};
use xtask::services::{kafka, registry, strangers};

use crate::serve::Serve;
use crate::weir::{file, free_port, guest, run, until};

/// The values of a topic's records, as readers of committed records see them; there are so many.
fn values(log: &Kafka, topic: &str, count: usize) -> Vec<Bytes> {
    let from = (0..log.partitions(topic).unwrap()).map(|number| {
        let topic = Arc::from(topic);
        (Partition { topic, number }, 0)
    });
    let mut reader = log.reader(from.collect(), 1_000).unwrap();
    let mut found = Vec::new();
    until("all records are read", || {
        if let Polled::Records(records) = reader.poll(Duration::from_millis(100)).unwrap() {
            found.extend(records.into_iter().filter_map(|r| r.record.value));
        }
        found.len() >= count
    });
    assert_eq!(found.len(), count);
    found
}

fn get(url: &str) -> Value {
    ureq::get(url)
        .call()
        .unwrap()
        .body_mut()
        .read_json()
        .unwrap()
}

/// The datum as apache-avro reads it with the schema that the registry has under the record's id.
fn by_others(url: &str, record: &Bytes) -> Vec<(String, Avro)> {
    assert_eq!(record[0], 0);
    let id = u32::from_be_bytes(*record[1..].first_chunk().unwrap());
    assert!(id < 1 << 31, "an id of the registry's: {id}");
    let schema = get(&format!("{url}/schemas/ids/{id}"));
    let schema = Schema::parse_str(schema["schema"].as_str().unwrap()).unwrap();
    let mut body = &record[5..];
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let value = reader.read_value(&mut body).unwrap();
    assert!(body.is_empty(), "{} bytes are left", body.len());
    let Avro::Record(fields) = value else {
        panic!("{value:?}")
    };
    fields
}

fn field<'a>(fields: &'a [(String, Avro)], name: &str) -> &'a Avro {
    let found = fields.iter().find(|(field, _)| field == name);
    &found.unwrap_or_else(|| panic!("no {name}: {fields:?}")).1
}

#[test]
fn others_read_weirs_records_by_the_registry() {
    let kafka = kafka::Temporary::start().unwrap();
    let mut server = registry::Temporary::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let with_registry = file(
        folder.path(),
        "with.toml",
        &format!("[registry]\nurl = \"{}\"\n", server.url()),
    );
    let without = file(folder.path(), "without.toml", "");
    let started = |settings: &std::path::Path| {
        Serve::start(
            folder.path(),
            &[
                "--config",
                settings.to_str().unwrap(),
                "--brokers",
                kafka.brokers(),
                "--store",
                &store,
                "--create-topics",
            ],
        )
    };
    let log = Kafka::new(KafkaConfig {
        brokers: kafka.brokers().to_owned(),
        ..KafkaConfig::default()
    })
    .unwrap();
    let graph = file(
        folder.path(),
        "graph.yaml",
        &format!(
            "weir: 1\nname: served\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  copy: {{ uses: {}, from: [hand] }}\n",
            guest("copy").display()
        ),
    );
    let input = file(folder.path(), "in.ndjson", &"{\"n\": 1}\n".repeat(5));
    let run_five = |serve: &Serve| {
        let arguments = [
            "run",
            "served",
            "--input",
            input.to_str().unwrap(),
            "--timeout",
            "60s",
            "-o",
            "json",
        ];
        let ran = run(&serve.url(), &arguments);
        assert_eq!(ran.code, 0, "{}\n{}", ran.err, serve.said());
        assert_eq!(ran.lines().len(), 5, "{}", ran.out);
    };

    // at first without one
    let serve = started(&without);
    serve.ready();
    run(&serve.url(), &["apply", graph.to_str().unwrap()]).ok();
    run_five(&serve);
    assert_eq!(serve.stop(), Some(0));
    let before = values(&log, RESULTS, 5);
    assert!(before.iter().all(|record| record[1] == 0x80));

    // one that is not there is waited for
    server.kill().unwrap();
    let serve = started(&with_registry);
    until("it says that the registry is not there", || {
        serve.said().contains("cannot register Weir's schemas")
    });
    let (status, ready) = serve.get("/readyz").unwrap();
    assert_eq!(status, 503);
    let reason = ready["dependencies"]["registry"]["reason"].as_str();
    let reason = reason.unwrap();
    assert!(
        reason.contains(&server.url()) && reason.contains("no connection"),
        "{reason}"
    );
    server.restart().unwrap();
    serve.ready();

    // then what is written is everybody's, and what was written before is still read
    run_five(&serve);
    assert_eq!(serve.stop(), Some(0));
    let mut results = values(&log, RESULTS, 10);
    results.retain(|record| record[1] != 0x80);
    assert_eq!(results.len(), 5);
    for record in &results {
        let ours = SegmentResult::decode(record).unwrap();
        let theirs = by_others(&server.url(), record);
        assert_eq!(field(&theirs, "graph"), &Avro::String("served".into()));
        let execution = Avro::Fixed(16, ours.execution.0.to_vec());
        assert_eq!(field(&theirs, "execution"), &execution);
        let Avro::Array(outputs) = field(&theirs, "outputs") else {
            panic!("{theirs:?}")
        };
        assert_eq!(outputs.len(), 1);
    }
    // and as Confluent's own deserialiser does; those of before name no schema of the registry
    let lines = strangers::script("avro_read", &[kafka.brokers(), &server.url(), RESULTS], "");
    let parse = |line: &String| serde_json::from_str(line).unwrap();
    let theirs: Vec<Value> = lines.unwrap().iter().map(parse).collect();
    assert_eq!(theirs.len(), 10);
    for record in &results {
        let ours = SegmentResult::decode(record).unwrap();
        let execution = hex::encode(ours.execution.0);
        let of = |value: &&Value| value["value"]["execution"] == *execution;
        let found: Vec<&Value> = theirs.iter().filter(of).collect();
        let [theirs] = found[..] else {
            panic!("{theirs:?}")
        };
        assert_eq!(theirs["value"]["graph"], "served");
        assert_eq!(theirs["value"]["outputs"].as_array().unwrap().len(), 1);
    }
    let triggers = values(&log, TRIGGERS, 10);
    let triggers: Vec<&Bytes> = triggers.iter().filter(|r| r[1] != 0x80).collect();
    assert_eq!(triggers.len(), 5);
    for record in triggers {
        let ours = Trigger::decode(record).unwrap();
        let theirs = by_others(&server.url(), record);
        assert_eq!(field(&theirs, "trigger_id"), &Avro::String(ours.trigger_id));
    }

    // and again by one that has none any more
    let serve = started(&without);
    serve.ready();
    run_five(&serve);
    assert_eq!(serve.stop(), Some(0));
}

#[test]
fn the_doctor_looks_at_the_registry() {
    let server = registry::Temporary::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("127.0.0.1:{}", free_port());
    let asked = |url: &str| {
        let settings = file(
            folder.path(),
            "weir.toml",
            &format!("[registry]\nurl = \"{url}\"\npassword = \"hunter2\"\nuser = \"weir\"\n"),
        );
        let arguments = [
            "doctor",
            "--config",
            settings.to_str().unwrap(),
            "--brokers",
            &nobody,
            "-o",
            "json",
        ];
        let ran = run("http://127.0.0.1:1", &arguments);
        assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"));
        let found = ran.json();
        let checks = found.as_array().unwrap();
        let check = checks.iter().find(|check| check["check"] == "registry");
        check.unwrap_or_else(|| panic!("{found}")).clone()
    };
    let check = asked(&server.url());
    assert_eq!(check["status"], "ok", "{check}");
    assert!(check["found"].as_str().unwrap().contains("BACKWARD"));

    let put = ureq::put(format!("{}/config", server.url()));
    put.send_json(json!({"compatibility": "NONE"})).unwrap();
    let check = asked(&server.url());
    assert_eq!(check["status"], "warn", "{check}");
    assert!(check["advice"].as_str().unwrap().contains("BACKWARD"));

    let check = asked(&format!("http://weir:hunter2@{nobody}"));
    assert_eq!(check["status"], "fail", "{check}");
    let check = asked("registry:8081");
    assert_eq!(check["status"], "fail", "{check}");
    assert!(
        check["found"]
            .as_str()
            .unwrap()
            .contains("http://HOST:PORT")
    );
}
