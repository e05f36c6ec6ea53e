//! What a step may use beside its input: settings, secrets and HTTP, and what it is told where it may not.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use processor::wasm::{Broken, EngineConfig, Outcome};

use crate::upstream::Upstream;
use crate::wasm::Steps;

fn steps(upstream: &Upstream) -> Steps {
    let config = EngineConfig {
        instances_max: 16,
        ..EngineConfig::default()
    };
    Steps::reaching(config, upstream.world())
}

#[test]
fn settings_are_the_graphs() {
    let mut steps = Steps::new();
    let asks = steps.guest("asks");
    assert_eq!(steps.text(&asks, "{}"), "{}");
    steps.settings = r#"{"currency":"EUR","limit":3}"#;
    assert_eq!(steps.text(&asks, "{}"), r#"{"currency":"EUR","limit":3}"#);
}

#[test]
fn a_secret_is_given_to_whom_it_is_granted() {
    let upstream = Upstream::start();
    let mut steps = steps(&upstream);
    let asks = steps.guest("asks");
    let (kind, message) = steps.broken(&asks, r#"{"secret":"KEY"}"#);
    assert_eq!(kind, Broken::Trap);
    assert!(
        message.contains("does not grant") && message.contains("`secrets`"),
        "{message}"
    );
    steps.secrets = vec!["KEY".into(), "GONE".into(), "DOWN".into()];
    assert_eq!(steps.text(&asks, r#"{"secret":"KEY"}"#), "7");
    let (_, message) = steps.broken(&asks, r#"{"secret":"GONE"}"#);
    assert!(message.contains("weir secret set GONE"), "{message}");
    // our own trouble is not the step's: the record runs again
    let (kind, message) = steps.broken(&asks, r#"{"secret":"DOWN"}"#);
    assert_eq!(kind, Broken::HostBusy, "{message}");
    let (_, message) = steps.broken(&asks, r#"{"secret":"OTHER"}"#);
    assert!(!message.contains("hunter2"), "{message}");
    // another tenant has another one, or none
    steps.place[0] = "other";
    let (_, message) = steps.broken(&asks, r#"{"secret":"KEY"}"#);
    assert!(message.contains("is not set"), "{message}");
}

#[test]
fn requests_go_out_whole_and_answers_come_whole() {
    let upstream = Upstream::start();
    let mut steps = steps(&upstream);
    steps.http_allow = vec![upstream.host()];
    let http = steps.guest("http");
    let body = "b".repeat(100_000);
    let data = format!(
        r#"{{"urls":["{0}","{0}"],"post":"{body}"}}"#,
        upstream.url("/echo")
    );
    assert_eq!(
        steps.text(&http, &data),
        format!(r#"["200 {body}","200 {body}"]"#)
    );
    let keys = upstream.keys.lock().unwrap().clone();
    assert_eq!(keys.len(), 2);
    assert!(
        keys[0].ends_with("/price/0.1") && keys[1].ends_with("/price/0.2"),
        "{keys:?}"
    );
    // the same call again, as after a crash: the same keys
    steps.text(&http, &data);
    assert_eq!(upstream.keys.lock().unwrap()[2..], keys);
}

#[test]
fn what_an_upstream_does_is_an_answer_or_an_error_and_never_a_hang() {
    let upstream = Upstream::start();
    let mut steps = steps(&upstream);
    steps.http_allow = vec![upstream.host(), "127.0.0.1:1".into()];
    let http = steps.guest("http");
    let mut ask = |url: &str| steps.text(&http, &format!(r#"{{"urls":["{url}"]}}"#));
    assert_eq!(ask(&upstream.url("/fails")), r#"["500 no"]"#);
    assert_eq!(
        ask("http://127.0.0.1:1/"),
        r#"["ErrorCode::ConnectionRefused"]"#
    );
    assert!(ask(&upstream.url("/breaks")).contains("HttpProtocolError"));
    let large = ask(&upstream.url("/large"));
    assert!(
        large.contains("HttpResponseBodySize(Some(8388608))"),
        "{large}"
    );
    // a redirect is an answer: nobody follows it
    assert_eq!(
        ask(&upstream.url("/to?http://169.254.169.254/")),
        r#"["302 "]"#
    );
}

#[test]
fn a_slow_upstream_ends_with_the_calls_time() {
    let upstream = Upstream::start();
    let mut steps = steps(&upstream);
    steps.http_allow = vec![upstream.host()];
    steps.limits.time = Duration::from_millis(300);
    let http = steps.guest("http");
    let started = Instant::now();
    let data = format!(r#"{{"urls":["{}"]}}"#, upstream.url("/slow"));
    let called = steps.call(&http, &data);
    assert!(
        started.elapsed() < Duration::from_millis(2_500),
        "it does not wait for the upstream"
    );
    match called.outcome {
        Outcome::Outputs(outputs) => {
            let text = String::from_utf8_lossy(&outputs[0].data).into_owned();
            assert!(text.contains("HttpResponseTimeout"), "{text}");
        }
        Outcome::Broken(Broken::Timeout, _) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_of_one_call_are_counted() {
    let upstream = Upstream::start();
    let mut steps = steps(&upstream);
    steps.http_allow = vec![upstream.host()];
    steps.limits.requests = 3;
    let http = steps.guest("http");
    let urls = vec![format!("\"{}\"", upstream.url("/count")); 5].join(",");
    let answers = steps.text(&http, &format!(r#"{{"urls":[{urls}]}}"#));
    assert_eq!(
        answers,
        r#"["200 1","200 2","200 3","ErrorCode::HttpRequestDenied","ErrorCode::HttpRequestDenied"]"#
    );
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 3);
}

#[test]
fn an_upstream_that_fails_again_and_again_is_left_alone() {
    let upstream = Upstream::start();
    let mut steps = steps(&upstream);
    steps.http_allow = vec![upstream.host()];
    let http = steps.guest("http");
    let urls = vec![format!("\"{}\"", upstream.url("/fails")); 15].join(",");
    let answers = steps.text(&http, &format!(r#"{{"urls":[{urls}]}}"#));
    assert_eq!(answers.matches("500 no").count(), 10, "{answers}");
    assert_eq!(
        answers.matches("DestinationUnavailable").count(),
        5,
        "{answers}"
    );
    // another tenant's is another one
    steps.place[0] = "other";
    let answers = steps.text(
        &http,
        &format!(r#"{{"urls":["{}"]}}"#, upstream.url("/count")),
    );
    assert_eq!(answers, r#"["200 11"]"#);
}
