//! The REST trigger.

use http::Method;
use serde_json::json;

use crate::line::{Line, counted};

const HAND: &str = "/api/v1/graphs/orders/triggers/hand";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_by_hand() {
    let line = Line::new().await;
    let answer = line.post(HAND, &[], r#"{"n": 1}"#).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let [trigger] = &line.triggers()[..] else {
        panic!("without a key it is on the log at once")
    };
    assert_eq!(
        (trigger.trigger.as_str(), trigger.content_type.as_str()),
        ("hand", "application/json")
    );

    let first = line.post(HAND, &[("idempotency-key", "k")], "1").await;
    let second = line.post(HAND, &[("idempotency-key", "k")], "1").await;
    assert_eq!(
        second.body,
        json!({"execution": first.execution(), "duplicate": true})
    );
    assert_eq!(
        line.post(HAND, &[("idempotency-key", "k")], "2")
            .await
            .status,
        422
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_meant_for_hands() {
    let line = Line::new().await;
    assert_eq!(
        line.post("/api/v1/graphs/orders/triggers/github", &[], "")
            .await
            .status,
        409
    );
    assert_eq!(
        line.post("/api/v1/graphs/orders/triggers/none", &[], "")
            .await
            .status,
        404
    );
    assert_eq!(
        line.post("/api/v1/graphs/none/triggers/hand", &[], "")
            .await
            .status,
        404
    );
    assert_eq!(line.send(Method::GET, HAND, &[], "").await.status, 405);
    assert!(line.triggers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_in_its_order() {
    let line = Line::new().await;
    let body: String = (0..1_200).map(|i| format!("{{\"i\": {i}}}\n\n")).collect();
    let answer = line.post(&format!("{HAND}/batch"), &[], body.clone()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let listed: Vec<String> = serde_json::from_value(answer.body["executions"].clone()).unwrap();
    let triggers = line.triggers();
    assert_eq!(
        counted(&triggers),
        listed.iter().map(|id| (id.clone(), 1)).collect()
    );
    let seventh = triggers
        .iter()
        .find(|trigger| trigger.execution.to_string() == listed[7])
        .unwrap();
    assert_eq!(
        seventh.data,
        schemas::records::Payload::Inline(bytes::Bytes::from_static(b"{\"i\": 7}"))
    );

    let keyed = |body: String| {
        line.post(
            "/api/v1/graphs/orders/triggers/hand/batch",
            &[("idempotency-key", "b")],
            body,
        )
    };
    let first = keyed(body.clone()).await;
    assert_eq!(
        keyed(body.clone()).await.body,
        first.body,
        "the same batch again is the same executions"
    );
    assert_eq!(keyed(body.replace('7', "8")).await.status, 422);
    let source = line.source();
    line.drained().await;
    source.stop().await;
    assert_eq!(line.triggers().len(), 2_400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_refuses_the_batch() {
    let line = Line::new().await;
    let answer = line
        .post(&format!("{HAND}/batch"), &[], "{}\n\n{\n{}")
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.body["detail"], "line 3: not JSON");
    let large = format!("{{}}\n\"{}\"", "1".repeat(512 << 10));
    assert_eq!(
        line.post(&format!("{HAND}/batch"), &[], large).await.status,
        413
    );
    assert!(line.triggers().is_empty());
    assert_eq!(
        line.post(&format!("{HAND}/batch"), &[], "").await.body,
        json!({"executions": []})
    );
}
