//! Graphs that read and write users' topics.

use std::sync::Arc;

use control::{Granted, Grants, MissingTopics};
use serde_json::json;
use store::Store;
use topics::{Embedded, Log, Outgoing, Record, TopicSpec};

use crate::support::{Answer, Server, guest};

struct Bench {
    server: Server,
    store: Store,
    log: Arc<dyn Log>,
    copy: String,
}

impl Bench {
    fn new(grants: Grants, missing: MissingTopics) -> Self {
        let log: Arc<dyn Log> = Arc::new(Embedded::memory());
        let (mut store, given) = (None, log.clone());
        let server = Server::start_with(|state| {
            store = Some(state.store.clone());
            control::ControlState {
                log: given,
                grants,
                missing_topics: missing,
                ..state
            }
        });
        let copy = server.module(&guest("copy"));
        Self {
            server,
            store: store.unwrap(),
            log,
            copy,
        }
    }

    fn dev() -> Self {
        Self::new(
            Grants::everything(),
            MissingTopics::Created { partitions: 4 },
        )
    }

    fn serve(read: &[&str], write: &[&str]) -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let granted = Granted {
            tables: vec![],
            topics_read: list(read),
            topics_write: list(write),
        };
        Self::new(
            Grants::from_iter([("default".to_owned(), granted)]),
            MissingTopics::Refused {
                brokers: "kafka:9092".to_owned(),
            },
        )
    }

    /// `reads`: what stands in `topic: { … }` of triggers a, b, …; `writes`: of sinks.
    fn apply(&self, name: &str, reads: &[&str], writes: &[&str]) -> Answer {
        let letters = ["a", "b", "c"];
        let mut text = format!("weir: 1\nname: {name}\ntriggers:\n");
        for (letter, topic) in letters.iter().zip(reads) {
            text += &format!("  {letter}: {{ topic: {{ {topic} }} }}\n");
        }
        let from = letters[..reads.len()].join(", ");
        text += &format!(
            "steps:\n  only: {{ uses: \"{}\", from: [{from}] }}\n",
            self.copy
        );
        if !writes.is_empty() {
            text += "sinks:\n";
        }
        for (letter, topic) in letters.iter().zip(writes) {
            text += &format!("  to-{letter}: {{ topic: {{ {topic} }}, from: [only] }}\n");
        }
        self.server.apply(&text)
    }

    fn topic(&self, name: &str, partitions: u32, times_ms: &[i64]) {
        self.log
            .create_topics(&[TopicSpec::new(name, partitions)])
            .unwrap();
        let records = times_ms.iter().map(|time_ms| Outgoing {
            topic: name.into(),
            partition: Some(0),
            record: Record {
                timestamp_ms: *time_ms,
                ..Record::default()
            },
        });
        let appender = self.log.appender();
        let append = appender.append(records.collect());
        self.server.runtime.block_on(append).unwrap();
    }

    fn starts(&self) -> Vec<(String, Vec<i64>)> {
        let subscribed = self.store.topics_subscribed();
        let subscribed = self.server.runtime.block_on(subscribed).unwrap();
        subscribed
            .into_iter()
            .map(|one| (one.topic, one.starts))
            .collect()
    }
}

fn refused(answer: &Answer, words: &[&str]) {
    let said = answer.body.to_string();
    assert_eq!(answer.status, 422, "{said}");
    for word in words {
        assert!(said.contains(word), "{word} in {said}");
    }
}

/// 2023-11-14T22:13:20Z.
const T: i64 = 1_700_000_000_000;

#[test]
fn reading_starts_where_the_graph_says() {
    let bench = Bench::dev();
    for topic in ["late", "early", "timed", "zoned"] {
        bench.topic(topic, 2, &[T, T + 1_000, T + 2_000]);
    }
    for (name, topic, from) in [
        ("g1", "late", "latest"),
        ("g2", "early", "earliest"),
        ("g3", "timed", "\"2023-11-14T22:13:20.500Z\""),
        ("g4", "zoned", "\"2023-11-15T00:13:22+02:00\""),
    ] {
        let reads = format!("name: {topic}, format: json, from: {from}");
        let applied = bench.apply(name, &[&reads], &[]);
        assert_eq!(applied.status, 200, "{}", applied.body);
    }
    let expected = [
        ("early", vec![0, 0]),
        ("late", vec![3, 0]),
        ("timed", vec![1, 0]),
        ("zoned", vec![2, 0]),
    ];
    assert_eq!(
        bench.starts(),
        expected.map(|(topic, starts)| (topic.to_owned(), starts))
    );
    let shown = bench.server.get("/api/v1/graphs/g1");
    assert_eq!(
        shown.body["triggers"],
        json!([{"name": "a", "kind": "topic", "topic": "late", "format": "json"}])
    );
    refused(
        &bench.apply(
            "g5",
            &["name: x, format: raw, from: \"2023-13-14T00:00:00Z\""],
            &[],
        ),
        &["trigger \\\"a\\\"", "no time"],
    );
    refused(
        &bench.apply(
            "g5",
            &[
                "name: x, format: raw, from: latest",
                "name: x, format: raw, from: earliest",
            ],
            &[],
        ),
        &["trigger \\\"b\\\"", "trigger \\\"a\\\"", "the same"],
    );
}

#[test]
fn on_one_machine_topics_are_made() {
    let bench = Bench::dev();
    let applied = bench.apply(
        "g",
        &["name: in, format: json"],
        &["name: out, format: raw"],
    );
    assert_eq!(applied.status, 200, "{}", applied.body);
    assert_eq!(bench.log.partitions("in").unwrap(), 4);
    assert_eq!(bench.log.partitions("out").unwrap(), 4);
    assert_eq!(bench.starts(), [("in".to_owned(), vec![0; 4])]);
}

#[test]
fn what_is_not_granted_or_not_there_is_refused_with_the_way_out() {
    let bench = Bench::serve(&["orders", "shop.*"], &["out"]);
    refused(
        &bench.apply(
            "g",
            &["name: secrets, format: json"],
            &["name: other, format: json"],
        ),
        &[
            "trigger \\\"a\\\"",
            "[tenants.default]",
            "topics_read = [\\\"secrets\\\"]",
            "sink \\\"to-a\\\"",
            "topics_write = [\\\"other\\\"]",
        ],
    );
    refused(
        &bench.apply(
            "g",
            &["name: shop.x, format: json"],
            &["name: out, format: json"],
        ),
        &[
            "kafka-topics.sh --bootstrap-server kafka:9092 --create --topic shop.x",
            "--topic out",
        ],
    );
    bench.topic("shop.x", 1, &[]);
    bench.topic("out", 1, &[]);
    let applied = bench.apply(
        "g",
        &["name: shop.x, format: json"],
        &["name: out, format: json"],
    );
    assert_eq!(applied.status, 200, "{}", applied.body);
    refused(
        &bench.apply("h", &["name: shop.x, format: avro"], &[]),
        &["avro", "json or raw"],
    );
}

#[test]
fn a_graph_is_not_fed_by_itself() {
    let bench = Bench::dev();
    let json = |name: &str| format!("name: {name}, format: json");
    let (a, b) = (json("a"), json("b"));
    refused(
        &bench.apply("g", &[&a], &[&a]),
        &["topic \\\"a\\\" → graph \\\"g\\\" → topic \\\"a\\\""],
    );
    assert_eq!(bench.apply("g", &[&a], &[&b]).status, 200);
    refused(
        &bench.apply("h", &[&b], &[&a]),
        &[
            "topic \\\"b\\\" → graph \\\"h\\\" → topic \\\"a\\\" → graph \\\"g\\\" → topic \\\"b\\\"",
        ],
    );
}

#[test]
fn a_version_that_is_active_again_reads_its_topics_again() {
    let bench = Bench::dev();
    bench.topic("in", 1, &[T]);
    let reads = "name: in, format: json, from: latest";
    assert_eq!(bench.apply("g", &[reads], &[]).status, 200);
    assert_eq!(
        bench.apply("g", &["name: other, format: json"], &[]).status,
        200
    );
    bench.topic("in", 1, &[T, T]);
    let back = bench.server.post("/api/v1/graphs/g/rollback", &json!({}));
    assert_eq!(back.status, 200, "{}", back.body);
    assert_eq!(bench.starts(), [("in".to_owned(), vec![3])]);
}
