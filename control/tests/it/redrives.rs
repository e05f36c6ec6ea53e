//! Dead letters redriven and purged, on the embedded log.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::Redrives;
use schemas::ExecutionId;
use schemas::records::{Payload, Trigger, headers};
use serde_json::{Value, json};
use topics::{Embedded, Fetched, Log, Partition, Polled, catalog};

use crate::support::{Server, graph, guest};

/// A server whose redrives come to a log that can be read.
struct Bench {
    server: Server,
    log: Arc<dyn Log>,
}

impl Bench {
    fn new() -> Self {
        let log: Arc<dyn Log> = Arc::new(Embedded::memory());
        log.create_topics(&catalog::topics()).unwrap();
        let of_log = log.clone();
        let server = Server::start_with(move |state| {
            let runtime = tokio::runtime::Handle::current();
            let redrives = Redrives::start(of_log, state.store.clone(), runtime).unwrap();
            control::ControlState {
                redrives: Some(Arc::new(redrives)),
                ..state
            }
        });
        let bench = Self { server, log };
        bench.until("redrives are ready", |bench| {
            let ready = bench.server.get("/readyz").body;
            ready["dependencies"]["redrives"]["ready"] == true
        });
        bench.applied("orders");
        bench
    }

    fn applied(&self, name: &str) {
        static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
        let digest = self.server.module(MODULE.get_or_init(|| guest("echo")));
        let answer = self.server.apply(&graph(name, &digest));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A letter `0-number` whose original is this.
    fn letter(&mut self, number: i64, kind: &str, graph: &str, value: &[u8]) {
        let insert = sqlx::query(
            r#"insert into weir_dead_letters (id, tenant, graph, version, execution, step, kind, reason, attempt, topic, "partition",
                 "offset", key, value, headers, died_at_ms)
               values ($1, 'default', $2, null, null, 's', $3, 'why', 1, 'weir.triggers', 0, $4, $5, $6, '[["h",{"base16":"ff"}]]', $7)"#,
        );
        let insert = insert
            .bind(format!("0-{number}"))
            .bind(graph)
            .bind(kind)
            .bind(number)
            .bind(b"key".as_slice())
            .bind(value)
            .bind(1_700_000_000_000 + number);
        self.server
            .runtime
            .block_on(insert.execute(&mut self.server.history))
            .unwrap();
    }

    fn trigger_letter(&mut self, number: i64, kind: &str) {
        let value = trigger("orders", number).encode();
        self.letter(number, kind, "orders", &value);
    }

    fn redrive(&self, body: &Value) -> crate::support::Answer {
        self.server.post("/api/v1/dead-letters/redrive", body)
    }

    /// All that stands in a topic, by partition.
    fn read(&self, topic: &str) -> Vec<Fetched> {
        let mut found = Vec::new();
        for number in 0..self.log.partitions(topic).unwrap() {
            let partition = Partition {
                topic: topic.into(),
                number,
            };
            let (start, end) = self.log.offsets(&partition).unwrap();
            let mut reader = self.log.reader(vec![(partition, start)], 1_000).unwrap();
            let mut next = start;
            while next < end {
                if let Polled::Records(records) = reader.poll(Duration::from_secs(1)).unwrap() {
                    next = records.last().map_or(end, |last| last.offset + 1);
                    found.extend(records);
                }
            }
        }
        found
    }

    fn triggers(&self, count: usize) -> Vec<(Fetched, Trigger)> {
        self.until("all are written", |bench| {
            bench.read(catalog::TRIGGERS).len() >= count
        });
        let decode = |fetched: Fetched| {
            let trigger = Trigger::decode(fetched.record.value.as_ref().unwrap()).unwrap();
            (fetched, trigger)
        };
        self.read(catalog::TRIGGERS)
            .into_iter()
            .map(decode)
            .collect()
    }
}

fn trigger(graph: &str, number: i64) -> Trigger {
    Trigger {
        tenant: "default".into(),
        graph: graph.into(),
        trigger: "hand".into(),
        trigger_id: format!("t-{number}"),
        execution: ExecutionId::derive(1, "default", graph, "hand", &number.to_string()),
        time_us: 1_000,
        origin: None,
        key: Some(Bytes::from_static(b"key")),
        content_type: "application/json".into(),
        headers: Vec::new(),
        data: Payload::Inline(Bytes::from(format!("{{\"number\":{number}}}"))),
    }
}

#[test]
fn a_request_is_one_redrive_in_the_order_of_deaths() {
    let mut bench = Bench::new();
    for number in 0..450 {
        bench.trigger_letter(number, if number % 2 == 0 { "trap" } else { "rejected" });
    }
    let body = json!({"filter": {"graph": "orders", "kind": "trap"}, "request": "one"});
    let accepted = bench.redrive(&body);
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    assert_eq!(accepted.body["letters"], 225);
    let id = accepted.body["redrive"].as_str().unwrap().to_owned();
    let again = bench.redrive(&body);
    assert_eq!((again.status, &again.body["redrive"]), (202, &json!(id)));
    let other = json!({"filter": {"graph": "orders"}, "request": "one"});
    let other = bench.redrive(&other);
    assert_eq!(other.status, 422, "{}", other.body);

    let written = bench.triggers(225);
    assert_eq!(written.len(), 225);
    let numbers: Vec<&str> = written
        .iter()
        .map(|(_, trigger)| trigger.origin.as_deref().unwrap())
        .collect();
    let expected: Vec<String> = (0..450).step_by(2).map(|n| format!("0-{n}")).collect();
    assert_eq!(numbers, expected, "of one key, so of one partition");
    let (fetched, first) = &written[0];
    assert_eq!(first.trigger_id, format!("redrive:{id}:0-0"));
    let named: BTreeMap<&str, &[u8]> = fetched
        .record
        .headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(named["h"], b"\xff");
    assert_eq!(named[headers::REDRIVE], id.as_bytes());
    bench.until("all are known to be written", |bench| {
        let progress = bench.server.get(&format!("/api/v1/redrives/{id}")).body;
        progress["emitted"] == 225
    });

    // those that were redriven are passed over, unless they are asked for
    let rest = json!({"filter": {"graph": "orders"}, "request": "two"});
    assert_eq!(bench.redrive(&rest).body["letters"], 225);
    let none = json!({"filter": {"graph": "orders"}, "request": "three"});
    assert_eq!(bench.redrive(&none).body["letters"], 0);
    let all = json!({"filter": {"graph": "orders", "since": "2023-11-14T22:13:20.440Z", "all": true}, "request": "four"});
    assert_eq!(bench.redrive(&all).body["letters"], 10);
    let by_id = json!({"ids": ["0-3"], "request": "five"});
    let by_id = bench.redrive(&by_id);
    assert_eq!(by_id.body["letters"], 1);
    let written = bench.triggers(225 + 225 + 10 + 1);
    assert_eq!(written.len(), 461);
    let executions: std::collections::HashSet<_> =
        written.iter().map(|(_, t)| t.execution).collect();
    assert_eq!(executions.len(), 461, "each is an execution of its own");
    let shown = bench.server.get("/api/v1/dead-letters/0-3").body;
    assert_eq!(shown["redrive"], by_id.body["redrive"]);
    assert!(shown["redriven_at"].is_string());
}

#[test]
fn what_cannot_be_redriven_is_said_by_name_and_the_others_go_on() {
    let mut bench = Bench::new();
    bench.trigger_letter(1, "trap");
    bench.letter(2, "record", "orders", b"no record");
    let gone = trigger("gone", 3).encode();
    bench.letter(3, "graph-gone", "gone", &gone);
    let answer = bench.redrive(&json!({"ids": ["0-1", "0-2", "0-3", "0-4"], "request": "a"}));
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(
        (&answer.body["letters"], &answer.body["refused_count"]),
        (&json!(1), &json!(3))
    );
    let told: BTreeMap<&str, &str> = answer.body["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (
                item["id"].as_str().unwrap(),
                item["reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(told["0-2"].contains("purge it"), "{told:?}");
    assert!(told["0-3"].contains("apply it"), "{told:?}");
    assert!(told["0-4"].contains("there is none"), "{told:?}");
    let again = bench.redrive(&json!({"ids": ["0-1", "0-2", "0-3", "0-4"], "request": "a"}));
    assert_eq!(again.body["refused"], answer.body["refused"]);
    let none = bench.redrive(&json!({"ids": ["0-3"], "request": "b"}));
    assert_eq!(none.status, 422);
    assert!(
        none.body["problems"][0]["message"]
            .as_str()
            .unwrap()
            .contains("\"gone\"")
    );
    bench.applied("gone");
    let now = bench.redrive(&json!({"ids": ["0-3"], "request": "b"}));
    assert_eq!(now.status, 202, "{}", now.body);

    for wrong in [
        json!({"ids": ["0-1"]}),
        json!({"ids": ["0-1"], "request": ""}),
        json!({"ids": ["0-1"], "request": "a b"}),
        json!({"ids": [], "request": "x"}),
        json!({"ids": ["\u{0}"], "request": "x"}),
        json!({"filter": {}, "request": "x"}),
        json!({"filter": {"all": true}, "request": "x"}),
        json!({"filter": {"graph": "g", "since": "soon"}, "request": "x"}),
        json!({"ids": ["0-1"], "filter": {"graph": "g"}, "request": "x"}),
        json!({"ids": ["0-1"], "request": "x", "version": "newest"}),
        json!({"request": "x"}),
    ] {
        let answer = bench.redrive(&wrong);
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }
    assert_eq!(bench.server.get("/api/v1/redrives/none").status, 404);
}

#[test]
fn purged_letters_are_not_shown_and_cannot_be_redriven() {
    let mut bench = Bench::new();
    for number in 0..5 {
        bench.trigger_letter(number, if number < 2 { "trap" } else { "rejected" });
    }
    let body = json!({"filter": {"kind": "trap"}, "request": "p"});
    let purge = |body: &Value| bench.server.post("/api/v1/dead-letters/purge", body);
    let accepted = purge(&body);
    assert_eq!(
        (accepted.status, &accepted.body["letters"]),
        (202, &json!(2))
    );
    assert_eq!(purge(&body).body["purge"], accepted.body["purge"]);
    let listed = bench.server.get("/api/v1/dead-letters?limit=2").body;
    let ids = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&listed), ["0-4", "0-3"]);
    let next = listed["next"].as_str().unwrap();
    let rest = bench
        .server
        .get(&format!("/api/v1/dead-letters?limit=2&cursor={next}"))
        .body;
    assert_eq!(
        (ids(&rest), &rest["next"]),
        (vec!["0-2".to_owned()], &Value::Null)
    );
    let refused = bench.redrive(&json!({"ids": ["0-0"], "request": "r"}));
    assert_eq!(refused.status, 422);
    assert!(
        refused.body["problems"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("purged")
    );
    let again = purge(&json!({"ids": ["0-1"], "request": "q"}));
    assert_eq!(again.status, 422, "{}", again.body);
    let by_filter = bench.redrive(&json!({"filter": {"graph": "orders"}, "request": "s"}));
    assert_eq!(by_filter.body["letters"], 3);

    bench.until("the sink is told", |bench| {
        bench.read(catalog::DEAD_LETTERS).len() == 2
    });
    let told = bench.read(catalog::DEAD_LETTERS);
    for (fetched, id) in told.iter().zip(["0-0", "0-1"]) {
        assert_eq!(
            (fetched.partition.number, &fetched.record.value),
            (0, &None)
        );
        let (name, value) = &fetched.record.headers[0];
        assert_eq!((&**name, &**value), (headers::PURGE, id.as_bytes()));
    }
    // as the sink does it
    bench.server.sql("update weir_dead_letters set value = null, key = null, purged_at_ms = 7 where kind = 'trap'");
    let purged = bench.server.get("/api/v1/dead-letters?purged=true").body;
    assert_eq!(ids(&purged), ["0-1", "0-0"]);
    assert!(purged["items"][0]["purged_at"].is_string());
}

/// Whoever owns the shard next goes on from the position on the log, whatever the store knows of it.
#[test]
fn a_successor_writes_what_is_left_and_nothing_twice() {
    let mut bench = Bench::new();
    for number in 0..10 {
        bench.trigger_letter(number, "trap");
    }
    assert_eq!(
        bench
            .redrive(&json!({"ids": ["0-0", "0-1"], "request": "a"}))
            .status,
        202
    );
    bench.triggers(2);
    // another owner fences this one, writes the next letter itself, and dies without a word to the store
    let (mut other, position) = bench.log.source("redrives-0").unwrap();
    assert_eq!(position, Some(Bytes::from_static(b"2")));
    let stolen = bench.read(catalog::TRIGGERS)[0].clone();
    let stolen = topics::Outgoing {
        topic: catalog::TRIGGERS.into(),
        partition: Some(stolen.partition.number),
        record: stolen.record,
    };
    other
        .commit(vec![stolen], Bytes::from_static(b"3"))
        .unwrap();
    drop(other);
    let accepted = bench.redrive(&json!({"ids": ["0-5", "0-6", "0-7"], "request": "b"}));
    let id = accepted.body["redrive"].as_str().unwrap().to_owned();
    bench.until("all are known to be written", |bench| {
        let progress = bench.server.get(&format!("/api/v1/redrives/{id}")).body;
        progress["emitted"] == 3
    });
    let origins: Vec<String> = bench
        .triggers(5)
        .into_iter()
        .map(|(_, trigger)| trigger.origin.unwrap())
        .collect();
    assert_eq!(
        origins,
        ["0-0", "0-1", "0-0", "0-6", "0-7"],
        "letter 3, 0-5, was the other's"
    );
}
