//! Executions as they are derived from the history.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Execution, Server, id};

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["execution"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn newest_first_page_by_page() {
    let mut server = Server::start();
    let all: Vec<String> = (0..7).map(id).collect();
    for execution in &all {
        server.execution(Execution {
            execution,
            ..Execution::default()
        });
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/executions?limit=3".to_owned();
    loop {
        let page = server.get(&path);
        seen.extend(ids(&page));
        let Some(next) = page.body["next"].as_str() else {
            break;
        };
        path = format!("/api/v1/executions?limit=3&cursor={next}");
    }
    let newest_first: Vec<String> = all.into_iter().rev().collect();
    assert_eq!(seen, newest_first);
}

#[test]
fn filters() {
    let mut server = Server::start();
    server.execution(Execution {
        execution: &id(1),
        ..Execution::default()
    });
    server.execution(Execution {
        execution: &id(2),
        failure: Some("trap"),
        trigger_id: "d-2",
        ..Execution::default()
    });
    server.execution(Execution {
        execution: &id(3),
        started: &["later"],
        ..Execution::default()
    });
    server.execution(Execution {
        execution: &id(4),
        graph: "other",
        ..Execution::default()
    });
    server.execution(Execution {
        execution: &id(5),
        tenant: "somebody",
        ..Execution::default()
    });
    for (query, found) in [
        ("", vec![4, 3, 2, 1]),
        ("graph=orders", vec![3, 2, 1]),
        ("status=failed", vec![2]),
        ("status=running", vec![3]),
        ("graph=orders&status=succeeded", vec![1]),
        ("trigger_id=d-2", vec![2]),
        ("since=1700000000003", vec![4, 3]),
        ("since=2023-11-14T22:13:20.004Z", vec![4]),
        ("since=1m", vec![]),
        ("graph=none", vec![]),
    ] {
        let found: Vec<String> = found.into_iter().map(id).collect();
        assert_eq!(
            ids(&server.get(&format!("/api/v1/executions?{query}"))),
            found,
            "{query}"
        );
    }
    for wrong in ["status=odd", "since=soon", "cursor=zzz", "limit=1001"] {
        assert_eq!(
            server.get(&format!("/api/v1/executions?{wrong}")).status,
            400,
            "{wrong}"
        );
    }
}

/// More executions than one request looks at: the pages go on until all have been looked at.
#[test]
fn a_rare_status_is_found_behind_many_others() {
    let mut server = Server::start();
    server.sql(
        r#"with recursive n (i) as (select 0 union all select i + 1 from n where i < 4999)
           insert into weir_executions select printf('%08x-0000-8000-8000-000000000000', i + 1), printf('%08x-0000-8000-8000-000000000000', i + 1),
             'default', 'orders', 'ab', 'hand', 't', case when i = 10 then 'failed' else 'succeeded' end, null, 'trap', 'r', 1, '[]', '[]', 0, null, 0, 0 from n"#,
    );
    let mut path = "/api/v1/executions?status=failed&limit=5".to_owned();
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = server.get(&path);
        found.extend(ids(&page));
        pages += 1;
        let Some(next) = page.body["next"].as_str() else {
            break;
        };
        path = format!("/api/v1/executions?status=failed&limit=5&cursor={next}");
    }
    assert_eq!(found, ["0000000b-0000-8000-8000-000000000000"]);
    assert!(pages > 1, "one request does not look at all of them");
}

#[test]
fn one_execution_with_all_that_came_of_it() {
    let mut server = Server::start();
    let (first, second) = (id(1), id(2));
    server.execution(Execution {
        execution: &first,
        started: &[&second],
        ..Execution::default()
    });
    let path = format!("/api/v1/executions/{first}");
    let running = server.get(&path);
    assert_eq!(
        (&running.body["status"], &running.body["missing"]),
        (&json!("running"), &json!([second]))
    );
    assert_eq!(running.body["finished_at"], Value::Null);

    server.execution(Execution {
        execution: &first,
        segment: Some(&second),
        failure: Some("trap"),
        ..Execution::default()
    });
    let insert = sqlx::query(
        "insert into weir_outputs (execution, segment, number, tenant, graph, step, port, sinks, key, content_type, headers, data)
         values ($1, $1, 0, 'default', 'orders', 's', 'out', '[]', x'ff', 'application/json', '[[\"h\",\"v\"]]', '{\"total\":1.50}'),
                ($1, $1, 1, 'default', 'orders', 's', 'out', '[]', 'k', 'text/plain', '[]', '007'),
                ($1, $1, 2, 'default', 'orders', 's', 'out', '[]', null, 'application/json', '[]', x'c3')",
    );
    server
        .runtime
        .block_on(insert.bind(&first).execute(&mut server.history))
        .unwrap();
    let failed = server.get(&path);
    assert_eq!(failed.body["status"], json!("failed"));
    assert_eq!(
        failed.body["failure"],
        json!({"step": "s", "kind": "trap", "reason": "why", "attempt": 1})
    );
    assert_eq!(
        failed.body["triggered_at"],
        json!("2023-11-14T22:13:20.123Z")
    );
    assert_eq!(
        failed.body["segments"][0]["logs"],
        json!([{"step": "s", "level": "info", "message": "hi"}])
    );
    let outputs = failed.body["outputs"].as_array().unwrap();
    let shown: Vec<(&Value, &Value, &Value)> = outputs
        .iter()
        .map(|o| (&o["encoding"], &o["data"], &o["key"]))
        .collect();
    assert_eq!(
        shown[0],
        (
            &json!("json"),
            &json!({"total": 1.5}),
            &json!({"base16": "ff"})
        )
    );
    assert_eq!((shown[1].0, shown[1].2), (&json!("text"), &json!("k")));
    assert_eq!(shown[2], (&json!("base16"), &json!("c3"), &Value::Null));
    assert_eq!(failed.body["more_outputs"], json!(false));
}

#[test]
fn what_is_not_known_yet() {
    let server = Server::start();
    let answer = server.get(&format!("/api/v1/executions/{}", id(1)));
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (404, "application/problem+json")
    );
    assert!(
        answer.retry_after.is_some() && answer.body["detail"].as_str().unwrap().contains("(yet)")
    );
    assert_eq!(server.get("/api/v1/executions/nonsense").status, 400);
    assert_eq!(
        server
            .get(&format!("/api/v1/executions/{}?wait=long", id(1)))
            .status,
        400
    );
}

/// The request is there first; the rows come while it waits.
#[test]
fn waiting_for_it_to_complete() {
    let mut server = Server::start();
    let url = format!("{}/api/v1/executions/{}?wait=60s", server.url, id(1));
    let (asked, may_write) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        asked.send(()).unwrap();
        ureq::get(url)
            .call()
            .unwrap()
            .body_mut()
            .read_json::<Value>()
            .unwrap()
    });
    may_write.recv_timeout(Duration::from_secs(30)).unwrap();
    let (first, second) = (id(1), id(2));
    server.execution(Execution {
        execution: &first,
        started: &[&second],
        ..Execution::default()
    });
    server.execution(Execution {
        execution: &first,
        segment: Some(&second),
        ..Execution::default()
    });
    assert_eq!(waiter.join().unwrap()["status"], json!("succeeded"));
}

/// Another tenant's execution is as unknown as none.
#[test]
fn another_tenants_execution_is_not_shown() {
    let mut server = Server::start();
    server.execution(Execution {
        execution: &id(1),
        tenant: "somebody",
        ..Execution::default()
    });
    assert_eq!(
        server.get(&format!("/api/v1/executions/{}", id(1))).status,
        404
    );
}
