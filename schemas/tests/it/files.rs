//! Graph files that are right, and what they become.

use schemas::graph::{Isolation, SinkKind, StepOnError, TriggerKind, WriteMode, parse};

/// The example of the design.
pub(crate) const ORDERS: &str = include_str!("orders.yaml");

#[test]
fn the_example_is_read_with_every_field() {
    let graph = parse(ORDERS, "orders.yaml").unwrap();
    assert_eq!(graph.name, "orders");
    assert_eq!(
        graph
            .triggers
            .iter()
            .map(|t| t.name.as_str())
            .collect::<Vec<_>>(),
        ["shop", "nightly", "bus", "changes", "hand"]
    );
    assert_eq!(
        graph
            .steps
            .iter()
            .map(|s| s.name.as_str())
            .collect::<Vec<_>>(),
        ["check", "price", "fraud", "stamp", "bill"]
    );
    let step = |name: &str| graph.steps.iter().find(|step| step.name == name).unwrap();
    let price = step("price");
    assert_eq!(
        (
            price.limits.time.as_millis(),
            price.limits.memory_bytes,
            price.limits.output_bytes
        ),
        (2_000, 64 << 20, 8 << 20)
    );
    assert_eq!(price.retry.attempts, 5);
    assert_eq!(price.from, ["check.ok"]);
    assert_eq!(step("check").settings, r#"{"currency":"EUR"}"#);
    assert_eq!(step("check").ports[0].name, "ok");
    assert_eq!(step("stamp").from, ["price.out", "fraud.out"]);
    assert!(step("stamp").join && !price.join);
    assert_eq!(step("fraud").secrets, ["FRAUD_KEY"]);
    assert_eq!(step("fraud").http_allow, ["api.fraud.example"]);
    assert_eq!(
        (step("fraud").isolation, step("fraud").on_error),
        (Isolation::Record, StepOnError::Fail)
    );
    assert_eq!(
        step("bill").hop.as_ref().unwrap().text(),
        "event.data.customer"
    );
    assert!(
        matches!(&graph.triggers[0].kind, TriggerKind::Webhook(hook) if hook.path == "/orders")
    );
    assert!(
        matches!(&graph.sinks[0].kind, SinkKind::Postgres { mode: WriteMode::Upsert, key, .. } if key == &["id"])
    );
    // Edges and sinks, both ways.
    assert!(
        graph
            .triggers
            .iter()
            .all(|trigger| trigger.edges.len() == 1 && trigger.edges[0].to == 0)
    );
    let edges: Vec<_> = step("check").ports[0]
        .edges
        .iter()
        .map(|edge| (edge.to, edge.name.as_str()))
        .collect();
    assert_eq!(edges, [(1, "check.ok"), (2, "check.ok")]);
    assert_eq!(step("stamp").ports[0].sinks, [0, 1, 2]);
    assert!(step("bill").ports[0].edges.is_empty());
}

#[test]
fn json_is_read_as_yaml_is() {
    let json = r#"{"weir":1,"name":"a","triggers":{"hand":{"manual":{}}},"steps":{"one":{"uses":"x","from":["hand"]}}}"#;
    let yaml = "weir: 1\nname: a\ntriggers: {hand: {manual: }}\nsteps:\n  one:\n    uses: x\n    from:\n      - hand\n";
    assert_eq!(
        parse(json, "a.json").unwrap(),
        parse(yaml, "a.yaml").unwrap()
    );
}

#[test]
fn steps_stand_in_topological_order_and_ties_in_that_of_the_file() {
    let graph = parse(
        "weir: 1\nname: a\ntriggers: {t: {manual: {}}}\nsteps:\n  z: {uses: x, from: [m]}\n  m: {uses: x, from: [t]}\n  b: {uses: x, from: [t]}\n  a: {uses: x, from: [t, z]}\n",
        "a",
    )
    .unwrap();
    assert_eq!(
        graph
            .steps
            .iter()
            .map(|s| s.name.as_str())
            .collect::<Vec<_>>(),
        ["m", "z", "b", "a"]
    );
    assert_eq!(
        graph.triggers[0]
            .edges
            .iter()
            .map(|edge| edge.to)
            .collect::<Vec<_>>(),
        [0, 2, 3]
    );
}

/// What may look wrong and is right.
#[test]
fn accepted() {
    let head = "weir: 1\nname: a\ntriggers: {t: {manual: {}}, u: {topic: {name: x, format: raw, from: '2026-01-31T00:00:00+01:00'}}}\n";
    for rest in [
        "sinks: {s: {postgres: {to: d, table: t}, from: [t]}}",
        "steps: {s: {uses: x, from: [t], join: all}}",
        "steps: {s: {uses: x, from: [t], join: all, hop: event.key}}",
        // Both branches lie behind the same hop.
        "steps: {h: {uses: x, from: [t], hop: event.key}, a: {uses: x, from: [h]}, b: {uses: x, from: [h]}, j: {uses: x, from: [a, b], join: all}}",
        // Not a join: it may take from both sides of a hop.
        "steps: {h: {uses: x, from: [t], hop: event.key}, s: {uses: x, from: [h, t]}}",
        "steps: {s: {uses: x, from: [t], settings: {deep: [{a: 1.5, b: null, c: true}]}}}",
        "steps: {s: &s {uses: x, from: [t]}, r: *s}",
        "steps: {s: {uses: x, from: [t], when: 'event.data.items.exists(i, i.price > 3)'}}",
    ] {
        parse(&format!("{head}{rest}\n"), "a")
            .unwrap_or_else(|problems| panic!("{rest}\n{problems}"));
    }
}

#[test]
fn a_thousand_steps_are_read_and_one_more_is_not() {
    let graph = |count: usize| {
        let steps: String = (0..count)
            .map(|i| {
                format!(
                    "  s{i}: {{uses: x, from: [{}]}}\n",
                    if i == 0 {
                        "t".into()
                    } else {
                        format!("s{}", i - 1)
                    }
                )
            })
            .collect();
        format!("weir: 1\nname: a\ntriggers: {{t: {{manual: {{}}}}}}\nsteps:\n{steps}")
    };
    assert_eq!(parse(&graph(1_000), "a").unwrap().steps.len(), 1_000);
    assert!(
        parse(&graph(1_001), "a")
            .unwrap_err()
            .to_string()
            .contains("at most 1000")
    );
}
