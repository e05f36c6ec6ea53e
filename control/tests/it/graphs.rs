//! Apply, and what can be seen of graphs and modules.

use serde_json::{Value, json};

use crate::support::{Answer, Server, digest, graph, guest};

/// Everything that the answer says, as one text.
fn said(answer: &Answer) -> String {
    answer.body.to_string()
}

#[test]
fn a_graph_is_applied_once_and_shown() {
    let server = Server::start();
    let copy = server.module(&guest("copy"));
    let source = graph("orders", &copy);
    let first = server.apply(&source);
    assert_eq!(first.status, 200, "{}", said(&first));
    assert_eq!(
        (&first.body["name"], &first.body["changed"]),
        (&json!("orders"), &json!(true))
    );

    let again = server.apply(&format!("# the same, with a comment\n{source}"));
    assert_eq!(again.body["changed"], json!(false));
    assert_eq!(
        (&again.body["epoch"], &again.body["version"]),
        (&first.body["epoch"], &first.body["version"])
    );

    let shown = server.get("/api/v1/graphs/orders");
    assert_eq!(shown.status, 200);
    assert_eq!(shown.body["version"], first.body["version"]);
    assert_eq!(shown.body["source"], json!(source));
    assert_eq!(
        shown.body["triggers"],
        json!([{"name": "hand", "kind": "manual"}])
    );
    assert_eq!(shown.body["definition"]["name"], json!("orders"));
    assert_eq!(shown.body["history"].as_array().map(Vec::len), Some(1));

    // The definition that the server shows is one that it takes, and the same version.
    let definition = server.post(
        "/api/v1/graphs",
        &json!({"definition": shown.body["definition"], "source": source}),
    );
    assert_eq!(definition.status, 200, "{}", said(&definition));
    assert_eq!(
        (&definition.body["changed"], &definition.body["version"]),
        (&json!(false), &first.body["version"])
    );
}

#[test]
fn graphs_are_listed_page_by_page() {
    let server = Server::start();
    let copy = server.module(&guest("copy"));
    for name in ["c", "a", "b"] {
        assert_eq!(server.apply(&graph(name, &copy)).status, 200);
    }
    let names = |answer: &Answer| {
        answer.body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| g["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = server.get("/api/v1/graphs?limit=2");
    assert_eq!(
        (names(&first), &first.body["next"]),
        (vec!["a".to_owned(), "b".to_owned()], &json!("b"))
    );
    let second = server.get("/api/v1/graphs?limit=2&after=b");
    assert_eq!(
        (names(&second), &second.body["next"]),
        (vec!["c".to_owned()], &Value::Null)
    );
    assert_eq!(server.get("/api/v1/graphs?limit=0").status, 400);
    assert_eq!(server.get("/api/v1/graphs?limit=many").status, 400);
}

#[test]
fn what_is_not_there_is_404() {
    let server = Server::start();
    let answer = server.get("/api/v1/graphs/nope");
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (404, "application/problem+json")
    );
    assert!(answer.body["detail"].as_str().unwrap().contains("\"nope\""));
}

#[test]
fn a_wrong_graph_is_refused_with_its_problems() {
    let server = Server::start();
    let wrong = server.apply("weir: 1\nname: g\ntriggers:\n  hand: { manual: {} }\nsteps:\n  a: { uses: x, from: [nobody] }\n");
    assert_eq!(
        (wrong.status, wrong.content_type.as_str()),
        (422, "application/problem+json")
    );
    let problems = wrong.body["problems"].as_array().unwrap();
    assert!(
        problems
            .iter()
            .any(|p| p["message"].as_str().unwrap().contains("nobody") && p["line"] == 6),
        "{}",
        said(&wrong)
    );

    for body in [
        json!({"definition": {"name": 1}}),
        json!({"definition": []}),
        json!({"source": ""}),
    ] {
        assert_eq!(server.post("/api/v1/graphs", &body).status, 422, "{body}");
    }
    assert_eq!(
        server.post("/api/v1/graphs", &json!({"sauce": "x"})).status,
        422
    );
    assert_eq!(
        server.post("/api/v1/graphs", &json!("no object")).status,
        422
    );
    assert!(
        server.get("/api/v1/graphs").body["items"]
            .as_array()
            .unwrap()
            .is_empty(),
        "nothing of it was kept"
    );
}

#[test]
fn a_path_is_not_the_servers_to_read() {
    let server = Server::start();
    let answer = server.apply(&graph("g", "./copy.wasm"));
    assert_eq!(answer.status, 422);
    assert!(said(&answer).contains("weir apply"), "{}", said(&answer));
}

/// The server proves the modules again, and names what is missing.
#[test]
fn modules_that_cannot_be_steps() {
    let server = Server::start();
    let refuse = |module: &[u8], words: &[&str]| {
        let uses = server.module(module);
        let answer = server.apply(&graph("g", &uses));
        assert_eq!(answer.status, 422, "{}", said(&answer));
        let said = said(&answer);
        for word in words.iter().chain(&["step \\\"only\\\""]) {
            assert!(said.contains(word), "{word} in {said}");
        }
    };
    refuse(b"#!/bin/sh\n", &["WASM"]);
    refuse(&wat::parse_str("(module)").unwrap(), &["component"]);
    refuse(&wat::parse_str("(component)").unwrap(), &["handle"]);
    refuse(&guest("log"), &["log"]);
    let absent = format!("sha256:{}", "0".repeat(64));
    let answer = server.apply(&graph("g", &absent));
    assert!(
        answer.status == 422 && said(&answer).contains(&absent),
        "{}",
        said(&answer)
    );
    assert!(
        server.get("/api/v1/graphs").body["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_granted_module_is_taken() {
    let server = Server::start();
    let uses = server.module(&guest("log"));
    let answer =
        server.apply(&graph("g", &uses).replace("from: [hand]", "from: [hand], log: true"));
    assert_eq!(answer.status, 200, "{}", said(&answer));
}

#[test]
fn what_cannot_run_yet_is_refused_by_name() {
    let server = Server::start();
    let uses = server.module(&guest("copy"));
    let source = graph("g", &uses)
        .replace(
            "hand: { manual: {} }",
            "nightly: { cron: { schedule: \"0 2 * * *\" } }",
        )
        .replace("[hand]", "[nightly]");
    let answer = server.apply(&source);
    assert_eq!(answer.status, 422);
    assert!(
        said(&answer).contains("cron") && said(&answer).contains("nightly"),
        "{}",
        said(&answer)
    );
}

#[test]
fn a_webhook_path_has_one_owner() {
    let server = Server::start();
    let uses = server.module(&guest("copy"));
    let hook = |name: &str| graph(name, &uses).replace("manual: {}", "webhook: { path: /in }");
    assert_eq!(server.apply(&hook("first")).status, 200);
    let second = server.apply(&hook("second"));
    assert_eq!(second.status, 409, "{}", said(&second));
    assert!(said(&second).contains("/in") && said(&second).contains("first"));
}

#[test]
fn modules_are_what_their_digest_says() {
    let server = Server::start();
    let absent = digest(b"absent");
    let wrong = server.put(&format!("/api/v1/modules/{absent}"), b"something else");
    assert_eq!(wrong.status, 422);
    assert!(said(&wrong).contains(&absent) && said(&wrong).contains(&digest(b"something else")));
    let here = server.module(b"here");
    assert_eq!(
        server.module(b"here"),
        here,
        "sending it again changes nothing"
    );
    let missing = server.post(
        "/api/v1/modules/missing",
        &json!({ "digests": [here, absent] }),
    );
    assert_eq!(missing.body, json!({ "missing": [absent] }));
    assert_eq!(
        server.get("/api/v1/modules").body,
        json!({"items": [{"digest": here, "bytes": 4, "names": []}], "next": null})
    );
}
