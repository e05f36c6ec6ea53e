//! Requests that are not taken: each with its status, and with nothing written.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use ingest::IngestConfig;
use serde_json::json;
use store::{Options, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use topics::{Append, Appended, Log, LogError, Outgoing};

use crate::inbox::Faulty;
use crate::line::{GRAPH, Line, apply, memory};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_exist() {
    let line = Line::new().await;
    for path in [
        "/hooks/default/none",
        "/hooks/other/open/orders",
        "/hooks/default/open",
        "/hooks/default/open/orders/",
    ] {
        let answer = line.post(path, &[], "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["status"], 404);
    }
    let answer = line
        .send(Method::GET, "/hooks/default/open/orders", &[], "")
        .await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.headers["allow"], "POST");
    assert!(line.triggers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_too_large() {
    let line = Line::new().await;
    // nowhere to put a larger one
    let limit = 512 << 10;
    let answer = line
        .post(
            "/hooks/default/open/orders",
            &[],
            Bytes::from(vec![b'1'; limit]),
        )
        .await;
    assert_eq!(answer.status, 202, "the limit itself is allowed");
    // Announced: refused before a byte of it is sent.
    let mut stream = TcpStream::connect(line.address).await.unwrap();
    let head = format!(
        "POST /hooks/default/open/orders HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        limit + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");

    // Chunked, so that no length is announced: refused while it is read, not after the last byte.
    let mut stream = TcpStream::connect(line.address).await.unwrap();
    stream.write_all(b"POST /hooks/default/open/orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = [b"10000\r\n".to_vec(), vec![b'1'; 1 << 16], b"\r\n".to_vec()].concat();
    for _ in 0..8 {
        stream.write_all(&chunk).await.unwrap();
    }
    // One byte over the limit, and no end: nothing is left unread when the answer comes.
    stream.write_all(b"1\r\n1\r\n").await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
    assert_eq!(line.triggers().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come() {
    let store = Store::memory().await.unwrap();
    apply(&store, GRAPH).await;
    let line = Line::with(
        memory(),
        store,
        IngestConfig {
            body_timeout_ms: 20,
            ..IngestConfig::default()
        },
    )
    .await;
    let mut stream = TcpStream::connect(line.address).await.unwrap();
    stream
        .write_all(
            b"POST /hooks/default/open/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf",
        )
        .await
        .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 408");
    assert!(line.triggers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_the_schema_does_not_allow() {
    let line = Line::new().await;
    let answer = line
        .post("/hooks/default/strict", &[], r#"{"id": 1, "#)
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.body["errors"][0],
        json!({"path": "", "message": "no JSON at line 1, column 10"})
    );
    let answer = line
        .post(
            "/hooks/default/strict",
            &[],
            r#"{"id": 1, "lines": [{"price": 1}, {"price": "geheim"}]}"#,
        )
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.body["errors"][0]["path"], "/lines/1/price");
    assert!(
        !answer.body.to_string().contains("geheim"),
        "{}",
        answer.body
    );
    let answer = line.post("/hooks/default/strict", &[], "{}").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["errors"][0]["path"]),
        (422, &json!(""))
    );
    assert_eq!(
        line.post("/hooks/default/strict", &[], r#"{"id": 1}"#)
            .await
            .status,
        202
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_cannot_be_made() {
    let line = Line::new().await;
    for body in [r#"{"client": "geheim"}"#, "no json", ""] {
        let answer = line
            .post(
                "/hooks/default/keyed",
                &[("content-type", "application/json")],
                body,
            )
            .await;
        assert_eq!(answer.status, 422, "{body}");
        assert!(
            answer.body["detail"]
                .as_str()
                .unwrap()
                .contains("event.data.customer"),
            "{}",
            answer.body
        );
        assert!(
            !answer.body.to_string().contains("geheim"),
            "{}",
            answer.body
        );
    }
    let long = "k".repeat(256);
    assert_eq!(
        line.post(
            "/hooks/default/open/orders",
            &[("idempotency-key", &long)],
            ""
        )
        .await
        .status,
        400
    );
    assert!(line.triggers().is_empty());
}

/// The store is full: refused with a time to come back, and what was acknowledged before is emitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        bytes_max: Some(2 << 20),
        ..Options::default()
    };
    let store = Store::open_with(&folder.path().join("store.db"), &options)
        .await
        .unwrap();
    apply(&store, GRAPH).await;
    let line = Line::with(memory(), store, IngestConfig::default()).await;
    let mut taken = 0;
    let refused = loop {
        let key = format!("k-{taken}");
        let body = Bytes::from(vec![b'1'; 200 << 10]);
        let answer = line
            .post(
                "/hooks/default/open/orders",
                &[("idempotency-key", &key)],
                body,
            )
            .await;
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
        assert!(taken < 100);
    };
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(taken > 1);
    let source = line.source();
    line.until(taken).await;
    line.drained().await;
    assert_eq!(
        line.post(
            "/hooks/default/open/orders",
            &[("idempotency-key", "later")],
            "1"
        )
        .await
        .status,
        202
    );
    line.drained().await;
    source.stop().await;
    assert_eq!(line.triggers().len(), taken + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written() {
    struct Full;
    impl Append for Full {
        fn append(&self, _: Vec<Outgoing>) -> Appended<'_> {
            Box::pin(async {
                Err(LogError::Full {
                    place: "log".to_owned(),
                })
            })
        }
    }
    let store = Store::memory().await.unwrap();
    apply(&store, GRAPH).await;
    let log: Arc<dyn Log> = Arc::new(Faulty {
        appender: Some(Arc::new(Full)),
        ..Faulty::new(memory())
    });
    let line = Line::with(log, store, IngestConfig::default()).await;
    let answer = line.post("/hooks/default/open/orders", &[], "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
}
