//! The API key, and readiness.

use serde_json::json;

use crate::support::{Server, readiness};

#[test]
fn the_api_asks_for_its_key() {
    let server = Server::start_with(|mut state| {
        state.api_key = Some("correct horse".into());
        state
    });
    for path in [
        "/api/v1/graphs",
        "/api/v1/executions",
        "/api/v1/dead-letters/x",
        "/api/v1/modules",
    ] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, answer.content_type.as_str()),
            (401, "application/problem+json"),
            "{path}"
        );
    }
    assert_eq!(
        server.get_with_key("/api/v1/graphs", "Bearer wrong").status,
        401
    );
    assert_eq!(
        server
            .get_with_key("/api/v1/graphs", "Basic correct horse")
            .status,
        401
    );
    assert_eq!(
        server
            .get_with_key("/api/v1/graphs", "Bearer correct horse")
            .status,
        200
    );
    assert_eq!(server.get("/healthz").status, 200, "a probe has no key");
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn readiness_names_who_is_not_ready() {
    let server = Server::start_with(|mut state| {
        state
            .readiness
            .push(("lanes", readiness(|| Err("no partitions yet".into()))));
        state
    });
    let answer = server.get("/readyz");
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        json!({"ready": false, "dependencies": {
            "store": {"ready": true}, "history": {"ready": true}, "lanes": {"ready": false, "reason": "no partitions yet"}
        }})
    );
}

#[test]
fn a_history_that_is_not_there_is_said_so() {
    let server = Server::start_with(|mut state| {
        state.history = control::History::open(std::path::Path::new("does/not/exist.sqlite"));
        state
    });
    let answer = server.get("/api/v1/executions");
    assert_eq!(
        (answer.status, answer.retry_after.is_some()),
        (503, true),
        "{}",
        answer.body
    );
    assert_eq!(server.get("/readyz").status, 503);
    assert!(server.folder().exists());
}
