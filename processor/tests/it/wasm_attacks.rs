//! Steps that misbehave: each ends as a clear outcome in time, and the next call works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use processor::wasm::{Broken, EngineConfig, EngineError, Outcome};
use schemas::graph::Isolation;

use crate::wasm::{Steps, digest, pool};
use crate::wasm_text::{component, output_at};

#[test]
fn accidents_are_told_apart() {
    let mut steps = Steps::new();
    let bad = steps.guest("bad");
    for isolation in [Isolation::Record, Isolation::Batch] {
        steps.isolation = isolation;
        for (what, broken, says) in [
            (
                "bomb",
                Broken::OutOfMemory,
                "64 MiB (`limits: { memory }` allows more)",
            ),
            ("recurse", Broken::Trap, "recursion"),
            ("deep", Broken::StackOverflow, "calls itself too deeply"),
            ("panic", Broken::Trap, "panicked or aborted"),
            ("trap", Broken::Trap, "unreachable"),
            (
                "huge",
                Broken::OutputTooLarge,
                "8 MiB at once (`limits: { output }` allows more)",
            ),
            (
                "header",
                Broken::OutputTooLarge,
                "100000 headers; 1000 are allowed",
            ),
        ] {
            let (kind, message) = steps.broken(&bad, &format!(r#"{{"do":"{what}"}}"#));
            assert_eq!(kind, broken, "{what}: {message}");
            assert!(message.contains(says), "{what}: {message}");
            assert_eq!(steps.text(&bad, "{}"), r#"{"calls":1}"#, "after {what}");
            steps.pool.clear();
        }
        assert_eq!(
            steps.broken(&bad, r#"{"do":"same","n":16}"#).0,
            Broken::OutputTooLarge
        );
        let (kind, message) = steps.broken(&bad, r#"{"do":"many","n":10001}"#);
        assert_eq!(kind, Broken::OutputTooLarge);
        assert!(message.contains("10001 outputs"), "{message}");
    }
    let Outcome::Outputs(outputs) = steps.call(&bad, r#"{"do":"many"}"#).outcome else {
        panic!()
    };
    assert_eq!(outputs.len(), 10_000);
    // The kernel knows the ports, not the engine.
    assert!(matches!(
        steps.call(&bad, r#"{"do":"port"}"#).outcome,
        Outcome::Outputs(_)
    ));
    assert!(matches!(
        steps.call(&bad, r#"{"do":"nameless"}"#).outcome,
        Outcome::Outputs(_)
    ));
}

#[test]
fn a_limit_is_what_the_call_says() {
    let mut steps = Steps::new();
    let bad = steps.guest("bad");
    steps.limits.output_bytes = 100;
    assert_eq!(
        steps.broken(&bad, r#"{"do":"huge","n":101}"#).0,
        Broken::OutputTooLarge
    );
    assert_eq!(
        steps.text(&bad, r#"{"do":"huge","n":97}"#).len(),
        97,
        "and 3 bytes of port"
    );
    steps.limits.output_bytes = 200 << 20;
    steps.limits.memory_bytes = 200 << 20;
    assert_eq!(steps.text(&bad, r#"{"do":"huge"}"#).len(), 50 << 20);
    steps.limits.memory_bytes = 1 << 40;
    let (kind, message) = steps.broken(&bad, r#"{"do":"bomb"}"#);
    assert_eq!(kind, Broken::OutOfMemory);
    assert!(
        message.contains("256 MiB"),
        "the engine's ceiling: {message}"
    );
}

#[test]
fn a_loop_is_stopped_and_others_go_on() {
    let mut steps = Steps::new();
    let bad = steps.guest("bad");
    let (engine, module, stopped) = (steps.engine.clone(), bad.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut steps = Steps {
                pool: pool(&engine, 4),
                engine: engine.clone(),
                ..Steps::new()
            };
            let mut rounds = 0u32;
            while !stopped.load(Ordering::Acquire) || rounds < 3 {
                steps.text(&module, r#"{"do":"spin","n":10000}"#);
                rounds += 1;
            }
        });
        for isolation in [Isolation::Record, Isolation::Batch, Isolation::Batch] {
            steps.isolation = isolation;
            steps.limits.time = Duration::from_millis(60);
            let (kind, message) = steps.broken(&bad, r#"{"do":"loop"}"#);
            assert_eq!(kind, Broken::Timeout);
            assert!(
                message.contains("60ms") && message.contains("limits: { time }"),
                "{message}"
            );
            steps.limits.time = Duration::from_secs(60);
            assert_eq!(steps.text(&bad, "{}"), r#"{"calls":1}"#);
            steps.pool.clear();
        }
        stopped.store(true, Ordering::Release);
        other.join().unwrap();
    });
}

#[test]
fn a_start_function_that_loops_is_stopped_too() {
    let mut steps = Steps::new();
    steps.limits.time = Duration::from_millis(50);
    let module = steps.load(&component(
        "(func $start (loop br 0)) (start $start)",
        "i32.const 0",
    ));
    assert_eq!(steps.broken(&module, "").0, Broken::Timeout);
    let module = steps.load(&component(
        "(func $start unreachable) (start $start)",
        "i32.const 0",
    ));
    assert_eq!(steps.broken(&module, "").0, Broken::Trap);
}

#[test]
fn outputs_that_alias_one_memory_cannot_be_multiplied() {
    let mut steps = Steps::new();
    // 10,000 outputs, each with the same 256 KiB.
    let outputs = "
        (local $at i32)
        (local.set $at (i32.const 65536))
        (loop $next
            (i32.store offset=40 (local.get $at) (i32.const 0))
            (i32.store offset=44 (local.get $at) (i32.const 262144))
            (local.set $at (i32.add (local.get $at) (i32.const 48)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 545536))))
        (i32.store (i32.const 1032) (i32.const 65536))
        (i32.store (i32.const 1036) (i32.const 10000))
        (i32.const 1024)";
    let module = steps.load(&component("", outputs));
    let (kind, message) = steps.broken(&module, "");
    assert_eq!(kind, Broken::OutputTooLarge, "{message}");
    assert!(message.contains("8 MiB"), "{message}");
}

#[test]
fn what_cannot_be_read_is_a_protocol_error() {
    let mut steps = Steps::new();
    let list = |pointer: u32, len: u32| {
        format!(
            "(i32.store (i32.const 1032) (i32.const {pointer})) (i32.store (i32.const 1036) (i32.const {len})) (i32.const 1024)"
        )
    };
    for (what, handle) in [
        ("a list outside of memory", list(1 << 30, 1)),
        ("a list longer than memory", list(2048, u32::MAX / 2)),
        ("an unaligned list", list(2049, 1)),
        (
            "a result outside of memory",
            "(i32.const 0x7ffffff8)".into(),
        ),
        ("an unaligned result", "(i32.const 1025)".into()),
        (
            "no such case",
            "(i32.store8 (i32.const 1024) (i32.const 7)) (i32.const 1024)".into(),
        ),
        (
            "a port that is not UTF-8",
            format!("{} {}", output_at(2048, (4096, 2), (0, 0)), list(2048, 1)),
        ),
        (
            "a port outside of memory",
            format!(
                "{} {}",
                output_at(2048, (u32::MAX - 8, 16), (0, 0)),
                list(2048, 1)
            ),
        ),
        (
            "data outside of memory",
            format!(
                "{} {}",
                output_at(2048, (0, 0), (16, u32::MAX / 2)),
                list(2048, 1)
            ),
        ),
    ] {
        let module = steps.load(&component(r#"(data (i32.const 4096) "\ff\fe")"#, &handle));
        let (kind, message) = steps.broken(&module, "");
        assert_eq!(kind, Broken::Protocol, "{what}: {message}");
        assert!(!message.contains('\n'), "{what}: {message}");
    }
}

#[test]
fn a_guest_that_lies_about_its_allocations_is_stopped() {
    let mut steps = Steps::new();
    for (what, realloc) in [
        ("outside", "(i32.const 0x7ffffff0)"),
        ("unaligned", "(i32.const 1027)"),
        ("trap", "unreachable"),
    ] {
        let module = steps.load(&crate::wasm_text::component_with_realloc(
            "",
            "i32.const 0",
            realloc,
        ));
        let (kind, _) = steps.broken(&module, "x");
        assert!(
            matches!(kind, Broken::Protocol | Broken::Trap),
            "{what}: {kind:?}"
        );
    }
}

#[test]
fn memory_is_counted_before_the_first_instruction() {
    let mut steps = Steps::new();
    let nothing = "(i32.store (i32.const 1032) (i32.const 0)) (i32.store (i32.const 1036) (i32.const 0)) (i32.const 1024)";
    // It begins with 4 MiB.
    let module = steps.load(&component("", nothing));
    steps.limits.memory_bytes = 1 << 20;
    let (kind, message) = steps.broken(&module, "");
    assert_eq!(kind, Broken::OutOfMemory, "{message}");
    assert!(message.contains("1 MiB"), "{message}");
    steps.limits.memory_bytes = 4 << 20;
    assert_eq!(
        steps.call(&module, "").outcome,
        Outcome::Outputs(Vec::new())
    );

    let module = steps.load(&component(
        "",
        "(drop (memory.grow (i32.const 1))) unreachable",
    ));
    assert_eq!(steps.broken(&module, "").0, Broken::OutOfMemory);
    // Refused growth is no failure in itself.
    let module = steps.load(&component(
        "",
        &format!("(drop (memory.grow (i32.const 1))) {nothing}"),
    ));
    assert_eq!(
        steps.call(&module, "").outcome,
        Outcome::Outputs(Vec::new())
    );
    // A table is memory of the host.
    let grow = "(loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1)))) unreachable";
    let module = steps.load(&component("(table $t 0 funcref)", grow));
    assert_eq!(steps.broken(&module, "").0, Broken::OutOfMemory);
}

#[test]
fn what_is_no_step_is_refused_at_load() {
    let steps = Steps::new();
    let load = |bytes: &[u8]| steps.engine.load(&digest(bytes), bytes).unwrap_err();
    let text = |text: &str| wat::parse_str(text).unwrap();
    assert!(matches!(load(b"not wasm"), EngineError::Compile(_)));
    assert!(matches!(load(&[]), EngineError::Compile(_)));
    assert!(
        matches!(load(&text("(module)")), EngineError::Compile(_)),
        "a core module is no component"
    );
    assert!(
        matches!(load(&text("(component)")), EngineError::World(_)),
        "no handle"
    );
    let unknown = load(&text(r#"(component (import "shop:stock/api" (func)))"#));
    assert!(
        matches!(&unknown, EngineError::World(message) if message.contains("shop:stock/api")),
        "{unknown}"
    );
    let threads = component("(memory $shared 1 1 shared)", "i32.const 0");
    assert!(
        matches!(load(&threads), EngineError::Compile(_)),
        "shared memory"
    );
    let large =
        text("(component (core module $m (memory 60000)) (core instance (instantiate $m)))");
    assert!(
        matches!(load(&large), EngineError::Compile(_)),
        "more memory than any instance may have"
    );
    let bytes = crate::wasm::guest("empty");
    assert!(matches!(
        steps.engine.load(&digest(b"other"), &bytes),
        Err(EngineError::Digest { .. })
    ));
    let cut = &bytes[..bytes.len() / 2];
    assert!(matches!(load(cut), EngineError::Compile(_)));

    let steps = Steps::with(EngineConfig {
        instances_max: 1,
        module_bytes_max: 1_000,
        audit_one_in: 0,
        ..EngineConfig::default()
    });
    assert!(matches!(
        steps.engine.load(&digest(&bytes), &bytes),
        Err(EngineError::TooLarge { max: 1_000, .. })
    ));
}

#[test]
fn no_free_instance_is_the_hosts_trouble() {
    let mut steps = Steps::with(EngineConfig {
        instances_max: 1,
        audit_one_in: 0,
        ..EngineConfig::default()
    });
    steps.isolation = Isolation::Batch;
    let bad = steps.guest("bad");
    steps.call(&bad, "{}");
    let mut elsewhere = pool(&steps.engine, 4);
    std::mem::swap(&mut elsewhere, &mut steps.pool);
    for _ in 0..3 {
        let (kind, message) = steps.broken(&bad, "{}");
        assert_eq!(kind, Broken::HostBusy, "{message}");
    }
    elsewhere.clear();
    assert_eq!(steps.text(&bad, "{}"), r#"{"calls":1}"#);
    // A pool makes room of its own.
    steps.place[3] = "other";
    assert_eq!(steps.text(&bad, "{}"), r#"{"calls":1}"#);
    assert_eq!(steps.pool.kept(), 1);
}

#[test]
fn nothing_is_lost_over_many_calls_that_fail() {
    let mut steps = Steps::with(EngineConfig {
        instances_max: 3,
        memory_max_bytes: 64 << 20,
        audit_one_in: 0,
        ..EngineConfig::default()
    });
    steps.limits.memory_bytes = 4 << 20;
    steps.limits.output_bytes = 1 << 10;
    let (bad, wasi) = (steps.guest("bad"), steps.guest("wasi"));
    let orders = [
        "trap", "reject", "huge", "count", "panic", "many", "recurse",
    ]
    .map(|what| format!(r#"{{"do":"{what}","n":2000}}"#));
    let mut round = |calls: usize| {
        for n in 0..calls {
            steps.isolation = if n % 3 == 0 {
                Isolation::Batch
            } else {
                Isolation::Record
            };
            let outcome = steps
                .call(
                    if n % 50 == 0 { &wasi } else { &bad },
                    &orders[n % orders.len()],
                )
                .outcome;
            assert!(
                !matches!(
                    outcome,
                    Outcome::Broken(Broken::HostBusy | Broken::Timeout, _)
                ),
                "{outcome:?}"
            );
        }
    };
    round(1_000);
    let before = resident_bytes();
    round(10_000);
    // Other tests run beside this one: a loose bound, which one leaked wasm page per call would still break.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 10_000 * (64 << 10), "{grown} bytes more");
}

fn resident_bytes() -> usize {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else {
        return 0;
    };
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
