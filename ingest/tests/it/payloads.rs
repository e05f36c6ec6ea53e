//! Bodies that no record takes.

use std::path::Path;

use http::StatusCode;
use ingest::IngestConfig;
use schemas::records::Payload;
use store::{PayloadSettings, Payloads, Reference, Store, Sweep};

use crate::line::{GRAPH, Line, apply, memory};

fn folder(path: &Path) -> Payloads {
    Payloads::open(&PayloadSettings::of(format!("file:{}", path.display()))).unwrap()
}

async fn line(path: &Path, config: IngestConfig) -> (Line, Payloads) {
    let store = Store::memory().await.unwrap();
    apply(&store, GRAPH).await;
    let payloads = folder(path);
    let line = Line::with_payloads(memory(), store, config, Some(payloads.clone())).await;
    (line, payloads)
}

fn body(mib: usize, end: &str) -> String {
    format!(
        "{{\"id\": 1, \"text\": \"{}{end}\"}}",
        "x".repeat(mib << 20)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_is_put_before_its_record_refers_to_it() {
    let root = tempfile::tempdir().unwrap();
    let (line, payloads) = line(root.path(), IngestConfig::default()).await;
    let source = line.source();
    let large = body(5, "a");
    // with a signature and an id, twice; with a schema; by hand; in a batch
    let first = line.github("d-1", &large).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.body);
    let again = line.github("d-1", &large).await;
    assert_eq!(again.execution(), first.execution());
    let other = line.github("d-1", &body(5, "b")).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    for path in [
        "/hooks/default/strict",
        "/api/v1/graphs/orders/triggers/hand",
        "/api/v1/graphs/orders/triggers/hand/batch",
    ] {
        let taken = line.post(path, &[], large.clone()).await;
        assert_eq!(taken.status, StatusCode::ACCEPTED, "{path} {}", taken.body);
    }
    line.until(4).await;
    let reference = Reference::of(large.as_bytes());
    for record in line.records() {
        assert!(record.record.value.unwrap().len() < 1_000);
    }
    for trigger in line.triggers() {
        let expected = Payload::Reference {
            sha256: reference.sha256,
            bytes: reference.bytes,
        };
        assert_eq!(trigger.data, expected);
    }
    assert_eq!(payloads.get(&reference).await.unwrap(), large.as_bytes());
    let swept = payloads.sweep(Sweep::Look).await.unwrap();
    assert_eq!(
        swept.kept, 2,
        "one for each content, also of the one that was refused"
    );
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_everything() {
    let root = tempfile::tempdir().unwrap();
    let config = IngestConfig {
        body_bytes_max: 1 << 20,
        ..IngestConfig::default()
    };
    let (line, payloads) = line(root.path(), config).await;
    for path in [
        "/hooks/default/open/orders",
        "/api/v1/graphs/orders/triggers/hand/batch",
    ] {
        let refused = line.post(path, &[], body(1, "")).await;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(refused.body["detail"].as_str().unwrap().contains("1048576"));
    }
    assert_eq!(payloads.sweep(Sweep::Look).await.unwrap().kept, 0);
    assert!(line.triggers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_the_setting_is_named() {
    let line = Line::new().await;
    for path in [
        "/hooks/default/open/orders",
        "/api/v1/graphs/orders/triggers/hand",
    ] {
        let refused = line.post(path, &[], body(1, "")).await;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("[payloads] url"), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_does_not_answer_takes_nothing() {
    let store = Store::memory().await.unwrap();
    apply(&store, GRAPH).await;
    let settings = PayloadSettings {
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        access_key: Some("a".to_owned()),
        secret_key: Some("b".to_owned()),
        ..PayloadSettings::of("s3://weir")
    };
    let payloads = Payloads::open(&settings).unwrap();
    let config = IngestConfig::default();
    let line = Line::with_payloads(memory(), store, config, Some(payloads)).await;
    let refused = line.github("d-1", &body(1, "")).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers.contains_key("retry-after"));
    // a small one needs no such place
    let taken = line.post("/hooks/default/open/orders", &[], "{}").await;
    assert_eq!(taken.status, StatusCode::ACCEPTED);
    assert_eq!(line.triggers().len(), 1);
}

/// More than are held at once wait for each other, and all are taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once() {
    let root = tempfile::tempdir().unwrap();
    let config = IngestConfig {
        large_bodies_max: 2,
        ..IngestConfig::default()
    };
    let (line, payloads) = line(root.path(), config).await;
    let bodies: Vec<String> = (0..6).map(|n| body(1, &n.to_string())).collect();
    let sent = bodies
        .iter()
        .map(|body| line.post("/hooks/default/open/orders", &[], body.clone()));
    for answer in futures_util::future::join_all(sent).await {
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
    assert_eq!(payloads.sweep(Sweep::Look).await.unwrap().kept, 6);
}
