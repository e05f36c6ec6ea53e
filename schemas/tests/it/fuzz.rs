//! T27, the part of what comes from anybody: records, users' Avro, graph files, expressions, modules. Whatever the bytes, it is a value or an
//! error.

use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::Event;
use schemas::avro::Avro;
use schemas::graph::{self, Expr, Graph, Scope};
use schemas::records::{Hop, SegmentResult, Trigger};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn mutated(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(out.len() + 1);
            match self.below(5) {
                0 if at < out.len() => out[at] = self.next() as u8,
                1 if at < out.len() => out[at] ^= 1 << self.below(8),
                2 => out.truncate(at),
                3 => out.insert(at, self.next() as u8),
                _ => {
                    let some = (out.len() - at).min(self.below(32));
                    out.extend_from_within(at..at + some);
                }
            }
        }
        out
    }
}

fn full() -> bool {
    std::env::var_os("WEIR_PROOFS").is_some()
}

/// Calls `parse` with mutations of the seeds; how many.
fn fuzz(seeds: &[&[u8]], seed: u64, mut parse: impl FnMut(Vec<u8>)) -> u64 {
    let mut random = Random(seed);
    let spell = Duration::from_millis(if full() { 120_000 } else { 500 });
    let (started, mut tried) = (Instant::now(), 0);
    while started.elapsed() < spell {
        let at = random.below(seeds.len());
        parse(random.mutated(seeds[at]));
        tried += 1;
    }
    tried
}

#[test]
fn whatever_parsers_are_given() {
    let started = Instant::now();
    let seed = 0x000f_0221;
    let trigger = Trigger {
        tenant: "default".into(),
        graph: "orders".into(),
        trigger: "shop".into(),
        trigger_id: "d-1".into(),
        execution: schemas::ExecutionId([7; 16]),
        time_us: 1,
        origin: Some("x".into()),
        key: Some(Bytes::from_static(b"k")),
        content_type: "application/json".into(),
        headers: vec![("a".into(), Bytes::from_static(b"b"))],
        data: schemas::records::Payload::Inline(Bytes::from_static(b"{}")),
    }
    .encode();
    let mut counts = Vec::new();
    counts.push(fuzz(&[&trigger], seed, |bytes| {
        let bytes = Bytes::from(bytes);
        drop(Trigger::decode(&bytes));
        let _subject = Trigger::subject(&bytes);
        drop(Hop::decode(&bytes));
        drop(SegmentResult::decode(&bytes));
    }));
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","string"]},{"name":"b","type":{"type":"array","items":"long"}},
        {"name":"c","type":{"type":"map","values":"double"}},{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}"#;
    let avro = Avro::parse(schema, &[]).unwrap();
    let value = [
        2, 4, b'h', b'i', 4, 2, 4, 0, 2, 2, b'k', 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 4, 1, 2,
    ];
    counts.push(fuzz(&[&value], seed, |bytes| {
        let mut json = Vec::new();
        if avro.to_json(&Bytes::from(bytes), &mut json).is_ok() {
            serde_json::from_slice::<serde_json::Value>(&json).unwrap();
        }
    }));
    counts.push(fuzz(&[schema.as_bytes()], seed, |bytes| {
        if let Ok(text) = String::from_utf8(bytes) {
            drop(Avro::parse(&text, &[]));
        }
    }));
    let orders = include_str!("../../../examples/orders/graph.yaml");
    let github = include_str!("../../../examples/github-activity/graph.yaml");
    counts.push(fuzz(
        &[orders.as_bytes(), github.as_bytes()],
        seed,
        |bytes| {
            if let Ok(text) = String::from_utf8(bytes) {
                drop(graph::parse(&text, "fuzz.yaml"));
            }
            drop(Graph::from_canonical(b"{}"));
        },
    ));
    let event = Event {
        content_type: "application/json".into(),
        data: Bytes::from_static(br#"{"total":3,"list":[1,2,3],"name":"a"}"#),
        ..Event::default()
    };
    let expressions: [&[u8]; 3] = [
        b"event.data.total > 1000 && has(event.data.name)",
        b"event.data.list.exists(x, x == 2) ? event.data.name + 'b' : string(event.data.total)",
        b"size(event.headers['a']) * 3 / 2 == 1",
    ];
    counts.push(fuzz(&expressions, seed, |bytes| {
        if let Ok(text) = String::from_utf8(bytes)
            && let Ok(expr) = Expr::parse(&text)
        {
            drop(expr.eval_bool(&Scope::new(&event, "t")));
            drop(expr.eval_key(&Scope::new(&event, "t")));
        }
    }));
    let module = include_bytes!("../../../examples/orders/steps/tier.wasm");
    counts.push(fuzz(&[&module[..]], seed, |bytes| {
        drop(schemas::module::inspect(&bytes));
    }));
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    if let Some(folder) = std::env::var_os("WEIR_PROOFS") {
        // as xtask::proof::Row, which this crate cannot know: it stands below it
        let row = serde_json::json!({
            "id": "T27", "title": "fuzzed: records, users' Avro and its schemas, graph files, expressions, modules", "injected": counts.len(),
            "expected": format!("no panic; {} inputs", counts.iter().sum::<u64>()), "lost": 0, "duplicated": 0, "passed": true,
            "seconds": started.elapsed().as_secs(), "seed": seed,
        });
        std::fs::write(
            std::path::Path::new(&folder).join("T27.json"),
            row.to_string(),
        )
        .unwrap();
    }
}
