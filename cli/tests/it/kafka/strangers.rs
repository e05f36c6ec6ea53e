//! Clients of other kinds see Weir's records as any other's: committed ones only, keys, values and headers as they are.

use std::process::Command;

use schemas::records::{DeadLetter, FailureKind, SegmentResult};
use serde_json::{Value, json};
use topics::catalog::{DEAD_LETTERS, RESULTS, TRIGGERS, TopicSpec};
use topics::{Log as _, partitioner};
use xtask::services::strangers;

use super::cluster::Cluster;
use super::ledger::Ledger;
use super::process::{Process, Recipe};
use crate::weir::until;

const ORDERS: &str = "strangers.orders";

/// All committed records of topics, as Python's client reads them.
fn read(cluster: &Cluster, topics: &[&str]) -> Vec<Value> {
    let lines = strangers::script("read", &[cluster.brokers(), &topics.join(",")], "").unwrap();
    let parse = |line: &String| serde_json::from_str(line).unwrap();
    lines.iter().map(parse).collect()
}

/// Writes them in one transaction with Python's client.
fn write(cluster: &Cluster, records: &[Value]) {
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    let arguments = [cluster.brokers(), "a-stranger"];
    strangers::script("write", &arguments, &lines.join("\n")).unwrap();
}

/// What kcat prints of a topic: `partition offset key-length value-length headers`, a line each.
fn kcat(cluster: &Cluster, topic: &str) -> Vec<String> {
    let mut kcat: Command = strangers::kcat().unwrap();
    kcat.args(["-b", cluster.brokers(), "-C", "-e", "-q", "-t", topic]);
    kcat.args(["-X", "isolation.level=read_committed"]);
    let output = kcat.args(["-f", "%p %o %K %S %h\n"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(|text| hex::decode(text).unwrap())
}

fn headers(record: &Value) -> Vec<(String, bytes::Bytes)> {
    let list = record["headers"].as_array().unwrap().iter();
    let header = |header: &Value| {
        let value = bytes(&header[1]).unwrap_or_default();
        (header[0].as_str().unwrap().to_owned(), value.into())
    };
    list.map(header).collect()
}

#[test]
fn other_clients_see_results_and_dead_letters_as_they_are() {
    let cluster = Cluster::shared();
    let ledger = Ledger::new("strangers");
    cluster.apply("strangers", "copy", "");
    cluster
        .log
        .create_topics(&[TopicSpec::new(ORDERS, 2)])
        .unwrap();
    let processes = Process::start_all(&cluster, &Recipe::processor(), 1);
    let follower = ledger.follow(&cluster);

    // a record of theirs on a topic of theirs, which Weir leaves alone, and the same where it does not belong
    let theirs = |topic: &str| {
        json!({
            "topic": topic, "partition": 1, "key": "00ff", "value": hex::encode("no record"),
            "headers": [["b", "31"], ["traceparent", hex::encode("00-x")], ["a", "ff00"], ["b", "31"],
                        ["empty", ""], ["weir-dead-step", hex::encode("mine")]],
        })
    };
    let empty = json!({"topic": TRIGGERS, "partition": 1, "key": null, "value": null, "headers": [["x", "31"]]});
    write(&cluster, &[theirs(ORDERS), theirs(TRIGGERS), empty]);
    let triggers: Vec<_> = (0..20).map(|number| ledger.trigger(number)).collect();
    let appender = cluster.log.appender();
    cluster.runtime.block_on(appender.append(triggers)).unwrap();
    until("all have run", || ledger.results() == 20);

    let mut letters = Vec::new();
    let here = |letter: &Value| {
        let about = DeadLetter::from_headers(&headers(letter)).unwrap();
        about.topic == TRIGGERS && about.partition == 1 && about.kind == FailureKind::Record
    };
    until("both are dead", || {
        letters = read(&cluster, &[DEAD_LETTERS]);
        // other tests' lie here as well
        letters.retain(|l| here(l) && (l["key"] == "00ff" || l["headers"][0][0] == "x"));
        letters.len() == 2
    });
    drop(follower);
    Process::stop_all(processes);

    let orders = read(&cluster, &[ORDERS]);
    assert_eq!(orders.len(), 1, "{orders:?}");
    assert_eq!(orders[0]["headers"], theirs(ORDERS)["headers"]);
    let of_key = |key: Value| letters.iter().find(|l| l["key"] == key).unwrap();
    let letter = of_key("00ff".into());
    let (given, found) = (theirs(TRIGGERS), letter["headers"].as_array().unwrap());
    assert_eq!(letter["value"], given["value"]);
    let own = given["headers"].as_array().unwrap();
    assert_eq!(
        found[..own.len()],
        own[..],
        "in their order, twice what was twice"
    );
    assert_eq!(found[own.len()][0], "weir-dead-tenant");
    let about = DeadLetter::from_headers(&headers(letter)).unwrap();
    assert_eq!(about.step, None, "their header of that name is not ours");
    assert!(
        found
            .iter()
            .skip(own.len())
            .any(|h| h[0] == "weir-dead-offset")
    );
    let letter = of_key(Value::Null);
    assert_eq!(
        (&letter["value"], &letter["headers"][0]),
        (&Value::Null, &json!(["x", "31"]))
    );

    // results, where each key's partition is the one that every client computes
    let mut of_graph = 0;
    let partitions = cluster.log.partitions(RESULTS).unwrap();
    for record in read(&cluster, &[RESULTS]) {
        let value = bytes(&record["value"]).unwrap_or_default();
        let Ok(result) = SegmentResult::decode(&value.into()) else {
            continue;
        };
        if result.graph == "strangers" {
            of_graph += 1;
            let key = bytes(&record["key"]).unwrap();
            let expected = partitioner::partition_of(&key, partitions);
            assert_eq!(record["partition"], expected);
        }
    }
    assert_eq!(of_graph, 20);

    let seen = kcat(&cluster, DEAD_LETTERS);
    let place = format!("{} {} ", letter["partition"], letter["offset"]);
    let seen: Vec<&String> = seen.iter().filter(|l| l.starts_with(&place)).collect();
    let [line] = seen[..] else {
        panic!("once: {seen:?}");
    };
    // -1: none
    assert!(
        line.starts_with(&format!("{place}-1 -1 x=1,weir-dead-tenant=default,")),
        "{line}"
    );
}
