//! Pause, resume, rollback, delete.

use serde_json::{Value, json};

use crate::support::{Answer, Server, graph, guest};

/// `changed` and `state` of a 200.
fn done(answer: &Answer) -> (bool, &str) {
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["name"], "g");
    let (changed, state) = (&answer.body["changed"], &answer.body["state"]);
    (changed.as_bool().unwrap(), state.as_str().unwrap())
}

fn refused(answer: &Answer, status: u16, word: &str) {
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (status, "application/problem+json")
    );
    assert!(detail.contains(word), "{word} in {detail}");
}

fn names(answer: &Answer) -> Vec<String> {
    let items = answer.body["items"].as_array().unwrap();
    let name = |item: &Value| item["name"].as_str().unwrap().to_owned();
    items.iter().map(name).collect()
}

const G: &str = "/api/v1/graphs/g";

#[test]
fn a_graph_is_paused_and_resumed() {
    let server = Server::start();
    let copy = server.module(&guest("copy"));
    let applied = server.apply(&graph("g", &copy));
    assert_eq!(done(&applied), (true, "active"));
    let act = |what: &str| server.post(&format!("{G}/{what}"), &json!({}));
    assert_eq!(done(&act("resume")), (false, "active"));
    assert_eq!(done(&act("pause")), (true, "paused"));
    assert_eq!(done(&act("pause")), (false, "paused"));
    let shown = server.get(G);
    assert_eq!(shown.body["state"], "paused");
    let since = shown.body["paused_at"].as_str().unwrap().to_owned();
    assert!(since.starts_with("20") && since.ends_with('Z'), "{since}");
    assert!(shown.body["source"].as_str().unwrap().contains("name: g"));
    let listed = server.get("/api/v1/graphs").body["items"][0].clone();
    assert_eq!(
        (&listed["state"], &listed["paused_at"]),
        (&json!("paused"), &json!(since))
    );
    let applied = server.apply(&graph("g", &copy).replace("only", "other"));
    assert_eq!(done(&applied), (true, "paused"), "it stays so");
    assert_eq!(done(&act("resume")), (true, "resuming"));
    let history = server.get(G).body["history"].clone();
    let kinds: Vec<&str> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["resumed", "applied", "paused", "applied"]);
    assert_eq!(history[0]["state"], "resuming");
    refused(
        &server.post("/api/v1/graphs/none/pause", &json!({})),
        404,
        "\"none\"",
    );
}

#[test]
fn a_graph_goes_back() {
    let server = Server::start();
    let copy = server.module(&guest("copy"));
    let first = server.apply(&graph("g", &copy)).body["version"].clone();
    let second = server.apply(&graph("g", &copy).replace("only", "other"));
    let back = |body: &Value| server.post(&format!("{G}/rollback"), body);
    let went = back(&json!({}));
    assert_eq!(done(&went), (true, "active"));
    assert_eq!(went.body["version"], first);
    let shown = server.get(G);
    assert!(
        shown.body["source"].as_str().unwrap().contains("only"),
        "the text of that version: {}",
        shown.body
    );
    assert_eq!(shown.body["history"][0]["kind"], "rolled-back");
    refused(&back(&json!({})), 404, "--to");
    let prefix = &second.body["version"].as_str().unwrap()[..8];
    assert_eq!(
        back(&json!({ "to": prefix })).body["version"],
        second.body["version"]
    );
    assert_eq!(
        done(&back(&json!({ "to": prefix }))),
        (false, "active"),
        "there already"
    );
    refused(&back(&json!({"to": "abc"})), 404, "first 6");
    refused(&back(&json!({"to": "000000"})), 404, "graph history");
    refused(&back(&json!({"two": "x"})), 422, "\"to\"");
    refused(
        &server.post("/api/v1/graphs/none/rollback", &json!({})),
        404,
        "\"none\"",
    );
}

#[test]
fn a_graph_is_deleted_and_applied_again() {
    let server = Server::start();
    let copy = server.module(&guest("copy"));
    let hook = |name: &str| graph(name, &copy).replace("manual: {}", "webhook: { path: /in }");
    assert_eq!(server.apply(&hook("g")).status, 200);
    assert_eq!(server.apply(&hook("h")).status, 409, "the path is taken");
    assert_eq!(done(&server.delete(G)), (true, "deleted"));
    assert_eq!(done(&server.delete(G)), (false, "deleted"));
    assert_eq!(server.apply(&hook("h")).status, 200, "the path is free");
    assert_eq!(names(&server.get("/api/v1/graphs")), ["h"]);
    assert_eq!(
        names(&server.get("/api/v1/graphs?deleted=true")),
        ["g", "h"]
    );
    assert_eq!(server.get("/api/v1/graphs?deleted=perhaps").status, 400);
    let shown = server.get(G);
    assert_eq!(
        (shown.status, &shown.body["state"]),
        (200, &json!("deleted"))
    );
    refused(
        &server.post(&format!("{G}/pause"), &json!({})),
        404,
        "apply it",
    );
    refused(&server.delete("/api/v1/graphs/none"), 404, "\"none\"");
    assert_eq!(
        done(&server.apply(&graph("g", &copy))),
        (true, "active"),
        "back again"
    );

    // What it has parked has to become dead letters first.
    assert_eq!(
        done(&server.post(&format!("{G}/pause"), &json!({}))),
        (true, "paused")
    );
    assert_eq!(done(&server.delete(G)), (true, "deleted"));
    let early = server.apply(&graph("g", &copy));
    refused(&early, 409, "parked");
    assert_eq!(early.retry_after.as_deref(), Some("1"));
}
