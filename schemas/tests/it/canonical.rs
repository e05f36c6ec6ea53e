//! The canonical form and the version: what they depend on, and what they do not.

use std::collections::BTreeMap;

use proptest::prelude::*;
use schemas::graph::{CanonicalError, Graph, Resolve, parse, version};

use crate::files::ORDERS;

/// Every module is found, with a digest made of its name; the files are those given.
#[derive(Default)]
struct Store {
    files: BTreeMap<&'static str, &'static str>,
}

impl Resolve for Store {
    fn module(&mut self, uses: &str) -> Result<String, String> {
        if uses.contains("missing") {
            return Err("there is no such file".to_owned());
        }
        Ok(format!("sha256:{}", version(uses.as_bytes())))
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        self.files
            .get(path)
            .map(|text| (*text).to_owned())
            .ok_or_else(|| "there is no such file".to_owned())
    }
}

fn resolved(text: &str) -> Graph {
    let mut store = Store {
        files: BTreeMap::from([("order.json", r#"{ "type": "object", "required": ["id"] }"#)]),
    };
    parse(text, "g.yaml")
        .unwrap_or_else(|problems| panic!("{problems}"))
        .resolve(&mut store)
        .unwrap()
}

fn version_of(text: &str) -> String {
    version(&resolved(text).canonical().unwrap())
}

const SMALL: &str = "weir: 1\nname: a\ntriggers: {t: {manual: {}}, u: {manual: {}}}\nsteps: {s: {uses: x, from: [t, u], settings: {b: 1, a: [2]}}, r: {uses: y, from: [s]}}\n";

#[test]
fn the_form_is_fixed() {
    let canonical = String::from_utf8(resolved(SMALL).canonical().unwrap()).unwrap();
    insta::assert_snapshot!(canonical);
    insta::assert_snapshot!(version(canonical.as_bytes()));
}

#[test]
fn how_it_is_written_does_not_matter() {
    let same = [
        "{\"name\": \"a\", \"weir\": 1, \"steps\": {\"r\": {\"from\": [\"s.out\"], \"uses\": \"y\"}, \"s\": {\"uses\": \"x\", \"settings\": {\"a\": [2], \"b\": 1}, \"from\": [\"t\", \"u\"]}}, \"triggers\": {\"u\": {\"manual\": {}}, \"t\": {\"manual\": {}}}}",
        "# a comment\nweir: 1\nname: a\ntriggers:\n  t: {manual: }\n  u: {manual: {}}\nsteps:\n  s:\n    uses: x\n    from: [t, u]\n    settings: {b: 1, a: [2]}\n    log: false\n    limits: {time: 1000ms, memory: 65536KiB}\n    ports: [out]\n  r: {uses: y, from: [s], retry: {attempts: 1}, isolation: record, on_error: fail}\nsinks: {}\non_error: dead-letter\n",
    ];
    for text in same {
        assert_eq!(version_of(text), version_of(SMALL), "{text}");
    }
}

#[test]
fn what_it_says_matters() {
    let changes = [
        ("name: a", "name: b"),
        ("[t, u]", "[u, t]"),
        ("b: 1", "b: 1.0"),
        ("uses: y", "uses: z"),
        ("from: [s]", "from: [s], log: true"),
        ("from: [s]", "from: [s], when: 'true'"),
        ("from: [s]", "from: [s], limits: {time: 2s}"),
        ("t: {manual: {}}", "t: {manual: {}, key: event.key}"),
    ];
    for (from, to) in changes {
        assert!(SMALL.contains(from));
        assert_ne!(
            version_of(&SMALL.replace(from, to)),
            version_of(SMALL),
            "{to}"
        );
    }
}

#[test]
fn the_example_goes_there_and_back() {
    let graph = resolved(ORDERS);
    let canonical = graph.canonical().unwrap();
    let back = Graph::from_canonical(&canonical).unwrap();
    assert_eq!(back, graph);
    assert_eq!(back.canonical().unwrap(), canonical);
    assert!(
        String::from_utf8(canonical)
            .unwrap()
            .contains(r#""schema":{"required":["id"],"type":"object"}"#)
    );
}

#[test]
fn only_digests_have_a_canonical_form() {
    assert!(
        matches!(parse(SMALL, "g").unwrap().canonical(), Err(CanonicalError::Unresolved { step, .. }) if step == "s")
    );
    let named = String::from_utf8(resolved(SMALL).canonical().unwrap())
        .unwrap()
        .replace("sha256:", "md5:");
    assert!(matches!(
        Graph::from_canonical(named.as_bytes()),
        Err(CanonicalError::Unresolved { .. })
    ));
    for bad in [&b"weir: 1"[..], b"", b"\xff", b"{}", b"[]"] {
        assert!(Graph::from_canonical(bad).is_err());
    }
}

#[test]
fn what_cannot_be_resolved_is_said_at_its_line() {
    let text = ORDERS.replace("uses: fraud@1", "uses: ./missing.wasm");
    let problems = parse(&text, "orders.yaml")
        .unwrap()
        .resolve(&mut Store::default())
        .unwrap_err();
    insta::assert_snapshot!(problems.to_string());
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    /// Any settings, ports and edges to earlier steps: proven again, the canonical form is the same to the byte.
    #[test]
    fn the_canonical_form_goes_there_and_back(
        steps in prop::collection::vec((any::<u64>(), 1usize..4, value(), 1u64..300_000, any::<[bool; 4]>()), 1..12),
    ) {
        let mut file = serde_json::json!({"weir": 1, "name": "p", "triggers": {"t": {"manual": {}}}, "steps": {}});
        let mut ports: Vec<String> = vec!["t".into()];
        for (i, (pick, count, settings, time, [join, when, log, batch])) in steps.into_iter().enumerate() {
            let names: Vec<String> = (0..count).map(|port| format!("p{port}")).collect();
            let mut step = serde_json::json!({
                "uses": format!("sha256:{}", version(&i.to_be_bytes())),
                "from": [ports[usize::try_from(pick % ports.len() as u64).unwrap()]],
                "ports": names,
                "settings": {"any": settings},
                "limits": {"time": format!("{time}ms")},
                "log": log,
            });
            if join { step["join"] = "all".into(); }
            if when { step["when"] = "event.data.a == 'ä\\n'".into(); }
            if batch { step["isolation"] = "batch".into(); }
            file["steps"][format!("s{i}")] = step;
            ports.extend(names.iter().map(|port| format!("s{i}.{port}")));
        }
        let graph = Graph::from_canonical(file.to_string().as_bytes()).unwrap();
        let canonical = graph.canonical().unwrap();
        let back = Graph::from_canonical(&canonical).unwrap();
        prop_assert_eq!(&back, &graph);
        prop_assert_eq!(back.canonical().unwrap(), canonical);
    }
}
