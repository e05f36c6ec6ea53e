//! The audit of reused instances: a step that keeps something between calls is found, and the fresh answer counts.

use std::sync::Arc;

use processor::wasm::{EngineConfig, Nowhere, Outcome};
use schemas::graph::Isolation;

use crate::upstream::Upstream;
use crate::wasm::Steps;

fn steps(audit_one_in: u32) -> Steps {
    let config = EngineConfig {
        instances_max: 16,
        audit_one_in,
        ..EngineConfig::default()
    };
    let mut steps = Steps::reaching(config, Arc::new(Nowhere));
    steps.isolation = Isolation::Batch;
    steps
}

#[test]
fn what_shows_at_once_is_found_at_the_first_reuse() {
    let mut steps = steps(1_000_000);
    let keeps = steps.guest("keeps");
    let first = steps.call(&keeps, r#"{"from":1}"#);
    assert!(first.fresh && first.demoted.is_none());
    let second = steps.call(&keeps, r#"{"from":1}"#);
    assert_eq!(second.demoted.as_deref(), Some("output 1 differs"));
    let Outcome::Outputs(outputs) = second.outcome else {
        panic!("it answers");
    };
    assert_eq!(&outputs[0].data[..], b"1", "the fresh answer counts");
    assert_eq!(steps.pool.kept(), 0, "the instance is not used again");
}

#[test]
fn what_shows_late_is_found_by_the_sample() {
    let mut steps = steps(8);
    let keeps = steps.guest("keeps");
    let mut found = None;
    for call in 1..=2_000u32 {
        // another execution each time
        steps.time_us += 1_000;
        let called = steps.call(&keeps, r#"{"from":100}"#);
        if called.demoted.is_some() {
            found = Some(call);
            break;
        }
    }
    let found = found.expect("one of eight calls is audited");
    assert!(found >= 100, "{found}: it keeps nothing that shows before");
}

#[test]
fn a_step_that_keeps_nothing_is_never_found() {
    let mut steps = steps(1);
    let (json, wasi) = (steps.guest("json"), steps.guest("wasi"));
    for _ in 0..50 {
        steps.time_us += 1_000;
        let called = steps.call(&json, r#"{"a":1}"#);
        assert!(called.demoted.is_none(), "{called:?}");
        let called = steps.call(&wasi, r#"{"do":"random"}"#);
        assert!(called.demoted.is_none(), "{called:?}");
    }
}

#[test]
fn an_audited_call_asks_nobody_twice() {
    let upstream = Upstream::start();
    let config = EngineConfig {
        instances_max: 16,
        audit_one_in: 1,
        ..EngineConfig::default()
    };
    let mut steps = Steps::reaching(config, upstream.world());
    steps.isolation = Isolation::Batch;
    steps.http_allow = vec![upstream.host()];
    let http = steps.guest("http");
    for call in 1..=20 {
        steps.time_us += 1_000;
        let data = format!(r#"{{"urls":["{}"]}}"#, upstream.url("/count"));
        let called = steps.call(&http, &data);
        assert!(called.demoted.is_none(), "{called:?}");
        let Outcome::Outputs(outputs) = called.outcome else {
            panic!("it answers");
        };
        let expected = format!(r#"["200 {call}"]"#);
        assert_eq!(String::from_utf8_lossy(&outputs[0].data), expected);
    }
}
