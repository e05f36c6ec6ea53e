//! Dead letters with their originals.

use schemas::ExecutionId;
use schemas::records::{Payload, Trigger};
use serde_json::{Value, json};

use crate::support::Server;

fn insert(server: &mut Server, number: i64, kind: &str, value: &[u8]) {
    let insert = sqlx::query(
        r#"insert into weir_dead_letters (id, tenant, graph, version, execution, step, kind, reason, attempt, topic, "partition", "offset",
             key, value, headers, died_at_ms)
           values ($1, 'default', 'orders', 'ab', null, 's', $2, 'why', 1, 'weir.triggers', 0, $3, x'00ff', $4, '[["h",{"base16":"ff"}]]', $5)"#,
    );
    let insert = insert
        .bind(format!("0-{number}"))
        .bind(kind)
        .bind(number)
        .bind(value)
        .bind(1_700_000_000_000 + number);
    server
        .runtime
        .block_on(insert.execute(&mut server.history))
        .unwrap();
}

#[test]
fn newest_first_page_by_page() {
    let mut server = Server::start();
    for number in 0..12 {
        insert(
            &mut server,
            number,
            if number % 2 == 0 { "trap" } else { "time-out" },
            b"x",
        );
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/dead-letters?limit=5&graph=orders".to_owned();
    loop {
        let page = server.get(&path);
        seen.extend(
            page.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page.body["next"].as_str() else {
            break;
        };
        path = format!("/api/v1/dead-letters?limit=5&graph=orders&cursor={next}");
    }
    assert_eq!(
        seen,
        (0..12).rev().map(|n| format!("0-{n}")).collect::<Vec<_>>(),
        "by time, not by the text of the id"
    );
    assert_eq!(
        server.get("/api/v1/dead-letters?kind=trap").body["items"]
            .as_array()
            .map(Vec::len),
        Some(6)
    );
    assert_eq!(
        server.get("/api/v1/dead-letters?graph=none").body,
        json!({"items": [], "next": null})
    );
    assert_eq!(server.get("/api/v1/dead-letters?cursor=x").status, 400);
}

#[test]
fn the_original_is_shown() {
    let mut server = Server::start();
    let trigger = Trigger {
        tenant: "default".into(),
        graph: "orders".into(),
        trigger: "hand".into(),
        trigger_id: "t-1".into(),
        execution: ExecutionId::derive(1, "default", "orders", "hand", "t-1"),
        time_us: 1_000,
        origin: None,
        key: None,
        content_type: "application/json".into(),
        headers: Vec::new(),
        data: Payload::Inline(bytes::Bytes::from_static(b"{\"a\":1}")),
    };
    insert(&mut server, 1, "trap", &trigger.encode());
    insert(&mut server, 2, "record", b"no record");
    let readable = server.get("/api/v1/dead-letters/0-1").body;
    assert_eq!(readable["record"]["trigger_id"], json!("t-1"));
    assert_eq!(
        (&readable["record"]["data"], &readable["record"]["encoding"]),
        (&json!({"a": 1}), &json!("json"))
    );
    assert_eq!(readable["key"], json!({"base16": "00ff"}));
    assert_eq!(readable["headers"], json!([["h", {"base16": "ff"}]]));
    let damaged = server.get("/api/v1/dead-letters/0-2").body;
    assert_eq!(
        (&damaged["record"], &damaged["value"]),
        (&Value::Null, &json!("no record"))
    );
    assert_eq!(server.get("/api/v1/dead-letters/0-3").status, 404);
}
