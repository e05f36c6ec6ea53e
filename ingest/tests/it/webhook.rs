//! Webhooks that are taken.

use bytes::Bytes;
use schemas::records::Payload;
use serde_json::json;
use tokio::task::JoinSet;

use crate::line::{GRAPH, Line, START_US, apply, counted};

const MULTI: &str = "a webhook with an id goes through the inbox and its source";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_becomes_one_record() {
    let line = Line::new().await;
    let source = line.source();
    let body = r#"{"ref": "refs/heads/main"}"#;
    let answer = line.github("d-1", body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.body, json!({"execution": answer.execution()}));
    assert_eq!(
        answer.headers["location"].to_str().unwrap(),
        format!("/api/v1/executions/{}", answer.execution())
    );
    line.drained().await;
    source.stop().await;

    let [trigger] = &line.triggers()[..] else {
        panic!("{MULTI}")
    };
    assert_eq!(trigger.execution.to_string(), answer.execution());
    let names = (
        trigger.tenant.as_str(),
        trigger.graph.as_str(),
        trigger.trigger.as_str(),
        trigger.trigger_id.as_str(),
    );
    assert_eq!(names, ("default", "orders", "github", "d-1"));
    assert_eq!(trigger.time_us, START_US);
    assert_eq!(
        trigger.data,
        Payload::Inline(Bytes::from_static(body.as_bytes()))
    );
    let headers: Vec<&str> = trigger
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        headers,
        ["x-github-delivery", "x-github-event"],
        "and no signature"
    );
    let record = &line.records()[0].record;
    assert_eq!(
        record.key.as_deref(),
        Some(answer.execution().as_bytes()),
        "the execution id stands in for a key"
    );
    assert_eq!(record.timestamp_ms, (START_US / 1_000) as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redelivery_is_the_same_execution() {
    let line = Line::new().await;
    let source = line.source();
    let first = line.github("d-1", "{}").await;
    line.drained().await;
    line.now_us
        .fetch_add(3_600_000_000, std::sync::atomic::Ordering::Relaxed);
    let second = line.github("d-1", "{}").await;
    assert_eq!(second.status, 202);
    assert_eq!(
        second.body,
        json!({"execution": first.execution(), "duplicate": true})
    );
    assert_eq!(second.headers["location"], first.headers["location"]);
    let other = line.github("d-1", "{ }").await;
    assert_eq!(other.status, 422, "the same delivery id with another body");
    let fresh = line.github("d-2", "{}").await;
    assert_ne!(
        fresh.execution(),
        first.execution(),
        "the body does not make a delivery"
    );
    line.drained().await;
    source.stop().await;
    assert_eq!(
        counted(&line.triggers()),
        [first.execution(), fresh.execution()]
            .map(|id| (id.to_owned(), 1))
            .into()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_those_at_the_same_time_one_is_new() {
    let line = std::sync::Arc::new(Line::new().await);
    let source = line.source();
    let mut senders = JoinSet::new();
    for i in 0..100 {
        let line = line.clone();
        senders.spawn(async move { (i % 20, line.github(&format!("d-{}", i % 20), "{}").await) });
    }
    let mut ids = std::collections::HashMap::new();
    let mut new = 0;
    for (delivery, answer) in senders.join_all().await {
        assert_eq!(answer.status, 202);
        let id = ids
            .entry(delivery)
            .or_insert_with(|| answer.execution().to_owned());
        assert_eq!(id, answer.execution());
        new += usize::from(answer.body.get("duplicate").is_none());
    }
    assert_eq!(new, 20);
    line.drained().await;
    source.stop().await;
    assert_eq!(
        counted(&line.triggers()),
        ids.into_values().map(|id| (id, 1)).collect()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_id_each_request_is_new_and_on_the_log() {
    let line = Line::new().await;
    let first = line
        .post(
            "/hooks/default/open/orders",
            &[("content-type", "text/plain")],
            "same",
        )
        .await;
    let second = line.post("/hooks/default/open/orders", &[], "same").await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (202, 202));
    assert_ne!(first.execution(), second.execution());
    let triggers = line.triggers();
    assert_eq!(
        counted(&triggers),
        [&first, &second]
            .map(|answer| (answer.execution().to_owned(), 1))
            .into()
    );
    assert!(
        triggers
            .iter()
            .any(|trigger| trigger.content_type == "text/plain")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_is_an_id_where_the_provider_gives_none() {
    let line = Line::new().await;
    let send = || {
        line.post(
            "/hooks/default/open/orders",
            &[("idempotency-key", "k")],
            "same",
        )
    };
    let (first, second) = (send().await, send().await);
    assert_eq!(
        second.body,
        json!({"execution": first.execution(), "duplicate": true})
    );
    assert!(line.triggers().is_empty(), "it waits in the inbox");
    let source = line.source();
    line.until(1).await;
    source.stop().await;
    assert_eq!(line.triggers().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_expression_decides_the_records_key() {
    let line = Line::new().await;
    let answer = line
        .post(
            "/hooks/default/keyed",
            &[("content-type", "application/json")],
            r#"{"customer": "c-7"}"#,
        )
        .await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(line.records()[0].record.key.as_deref(), Some(&b"c-7"[..]));
    assert_eq!(line.triggers()[0].key.as_deref(), Some(&b"c-7"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_graph_is_seen_at_once_if_told_and_soon_if_not() {
    let line = Line::new().await;
    assert_eq!(
        line.post("/hooks/default/open/orders", &[], "")
            .await
            .status,
        202
    );
    let first = apply(&line.store, &GRAPH.replace("/open/orders", "/open/2")).await;
    line.ingest
        .follow(&line.store.changes_after(first.epoch - 1, 1).await.unwrap()[0]);
    assert_eq!(
        line.post("/hooks/default/open/orders", &[], "")
            .await
            .status,
        404
    );
    assert_eq!(
        line.post("/hooks/default/open/2", &[], "").await.status,
        202
    );

    apply(&line.store, &GRAPH.replace("/open/orders", "/open/3")).await;
    line.now_us
        .fetch_add(1_000_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        line.post("/hooks/default/open/2", &[], "").await.status,
        404
    );
    assert_eq!(
        line.post("/hooks/default/open/3", &[], "").await.status,
        202
    );
}
