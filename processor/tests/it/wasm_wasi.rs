//! WASI is linked and empty, and everything a step can observe comes from its record.

use processor::wasm::{Broken, Level, Outcome};
use schemas::graph::Isolation;
use serde_json::{Value, json};

use crate::wasm::Steps;

fn report(steps: &mut Steps, order: &str) -> Value {
    let wasi = steps.guest("wasi");
    serde_json::from_str(&steps.text(&wasi, order)).unwrap()
}

#[test]
fn there_is_nothing_outside() {
    let seen = report(&mut Steps::new(), "");
    for (what, expected) in [
        ("environment", json!([])),
        ("arguments", json!([])),
        ("cwd", Value::Null),
        ("preopens", json!([])),
        ("tcp_connect", json!("access-denied")),
        ("tcp_bind", json!("access-denied")),
        ("udp_bind", json!("access-denied")),
        ("wall_s", json!(1_700_000_000)),
        ("wall_ns", json!(123_456_000)),
    ] {
        assert_eq!(seen[what], expected, "{what}");
    }
    assert_ne!(seen["lookup"], json!("ok"));
    assert!(
        seen["monotonic_again_ns"].as_u64() > seen["monotonic_ns"].as_u64(),
        "a loop that waits for the clock ends"
    );
}

#[test]
fn the_same_call_gives_the_same_bytes_everywhere() {
    let mut first = Steps::new();
    let wasi = first.guest("wasi");
    let expected = first.text(&wasi, "");
    assert_eq!(first.text(&wasi, ""), expected, "another instance");
    assert_eq!(
        report(&mut Steps::new(), "").to_string(),
        serde_json::from_str::<Value>(&expected)
            .unwrap()
            .to_string(),
        "another engine"
    );
    // A reused instance follows its present record, not its first.
    first.isolation = Isolation::Batch;
    first.trigger = "d-2";
    first.time_us += 5_000_000;
    let second = first.text(&wasi, "");
    assert_ne!(second, expected);
    (first.trigger, first.time_us) = ("d-1", first.time_us - 5_000_000);
    assert!(!first.call(&wasi, "").fresh);
    assert_eq!(first.text(&wasi, ""), expected, "a reused instance");
}

#[test]
fn randomness_belongs_to_execution_step_and_attempt() {
    let mut steps = Steps::new();
    let first = report(&mut steps, "");
    let differs = |steps: &mut Steps, what: &str| {
        let other = report(steps, "");
        for stream in ["random", "insecure", "seed"] {
            assert_ne!(other[stream], first[stream], "{what}: {stream}");
        }
    };
    assert_ne!(first["random"], first["insecure"]);
    steps.attempt = 2;
    differs(&mut steps, "attempt");
    steps.attempt = 1;
    steps.trigger = "d-2";
    differs(&mut steps, "execution");
    steps.trigger = "d-1";
    steps.place[3] = "other";
    differs(&mut steps, "step");
    // Fixed for ever: a replay in years to come must find the same.
    assert_eq!(first["random"], json!(RANDOM));
    assert_eq!(first["seed"], json!(SEED));
}

/// Computed apart from this code, by the rule that the module `random` states.
const RANDOM: [u8; 16] = [
    2, 10, 32, 4, 192, 4, 224, 0, 4, 53, 243, 149, 216, 81, 169, 91,
];
const SEED: [u64; 2] = [2_072_957_160_749_631_122, 3_671_583_033_492_253];

#[test]
fn a_sleep_takes_no_time_and_moves_the_clock() {
    let mut steps = Steps::new();
    let awake = report(&mut steps, "");
    let slept = report(&mut steps, "sleep");
    let difference =
        slept["monotonic_ns"].as_u64().unwrap() - awake["monotonic_ns"].as_u64().unwrap();
    assert_eq!(difference, 3_600_000_000_000);
    assert_eq!(
        slept["wall_s"], awake["wall_s"],
        "the wall clock shows the record's time"
    );
}

#[test]
fn exit_is_an_accident() {
    let mut steps = Steps::new();
    let wasi = steps.guest("wasi");
    let (kind, message) = steps.broken(&wasi, "exit");
    assert_eq!(kind, Broken::Trap);
    assert!(message.contains("exit(0)"), "{message}");
}

#[test]
fn what_is_printed_is_logged() {
    let mut steps = Steps::new();
    let wasi = steps.guest("wasi");
    for isolation in [Isolation::Record, Isolation::Batch, Isolation::Batch] {
        steps.isolation = isolation;
        let called = steps.call(&wasi, "print 2");
        let lines: Vec<_> = called
            .logs
            .iter()
            .map(|line| (line.level, &line.message[..5], line.message.len()))
            .collect();
        assert_eq!(
            lines,
            [
                (Level::Info, "out 0", 99),
                (Level::Info, "out 1", 99),
                (Level::Warn, "err 0", 99),
                (Level::Warn, "err 1", 99)
            ]
        );
    }
    let called = steps.call(&wasi, "print 100000");
    assert!(
        matches!(called.outcome, Outcome::Outputs(_)),
        "{:?}",
        called.outcome
    );
    assert_eq!(called.logs.len() + called.logs_dropped as usize, 200_000);
    assert!(
        called
            .logs
            .iter()
            .map(|line| line.message.len())
            .sum::<usize>()
            <= 64 << 10
    );
}

#[test]
fn numbers_are_the_same_everywhere() {
    let mut steps = Steps::new();
    let bad = steps.guest("bad");
    let Outcome::Outputs(outputs) = steps.call(&bad, r#"{"do":"nan"}"#).outcome else {
        panic!()
    };
    assert_eq!(outputs[0].data[..], 0x7ff8_0000_0000_0000u64.to_le_bytes());
}
