//! Outputs that lie outside of the history, and the sweep of those that nothing refers to.

use bytes::Bytes;
use serde_json::{Value, json};
use store::{PayloadSettings, Payloads, Reference};

use crate::support::{Execution, Server, id};

const KIB: usize = 1 << 10;

/// A server with a folder for payloads, and one payload in it.
fn server() -> (Server, tempfile::TempDir, Reference, Vec<u8>) {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file:{}", root.path().display());
    let payloads = Payloads::open(&PayloadSettings::of(url)).unwrap();
    let given = payloads.clone();
    let server = Server::start_with(|state| control::ControlState {
        payloads: Some(given),
        ..state
    });
    let data = b"0123456789abcdef".repeat(64 * KIB);
    let reference = Reference::of(&data);
    let put = payloads.put(&reference, Bytes::from(data.clone()));
    server.runtime.block_on(put).unwrap();
    (server, root, reference, data)
}

fn output(server: &mut Server, number: u64, tenant: &str, reference: &Reference, data: &str) {
    let execution = id(number);
    server.execution(Execution {
        execution: &execution,
        tenant,
        ..Execution::default()
    });
    let insert = sqlx::query(
        "insert into weir_outputs (execution, segment, number, tenant, graph, step, port, sinks, key, content_type, headers, data, sha256)
         values ($1, $1, 0, $2, 'orders', 's', 'out', '[]', null, 'text/html', '[]', $3, $4),
                ($1, $1, 1, $2, 'orders', 's', 'out', '[]', null, 'application/json', '[]', $3, null)",
    );
    let insert = insert
        .bind(execution)
        .bind(tenant.to_owned())
        .bind(data.to_owned())
        .bind(hex::encode(reference.sha256));
    let inserted = server.runtime.block_on(insert.execute(&mut server.history));
    inserted.unwrap();
}

fn data(server: &Server, execution: u64, number: &str) -> (u16, Vec<u8>, String) {
    let (url, id) = (&server.url, id(execution));
    let path = format!("{url}/api/v1/executions/{id}/outputs/{id}/{number}/data");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent.get(path).call().unwrap();
    let content_type = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let body = answer
        .body_mut()
        .with_config()
        .limit(64 << 20)
        .read_to_vec();
    // what is cut short is no body
    (
        answer.status().as_u16(),
        body.unwrap_or_default(),
        content_type,
    )
}

#[test]
fn a_row_that_refers_to_a_payload() {
    let (mut server, root, reference, payload) = server();
    let referring = json!({"sha256": hex::encode(reference.sha256), "bytes": reference.bytes});
    let text = referring.to_string();
    output(&mut server, 1, "default", &reference, &text);
    let shown = server.get(&format!("/api/v1/executions/{}", id(1))).body;
    let outputs = &shown["outputs"];
    assert_eq!(outputs[0]["encoding"], "reference");
    assert_eq!(outputs[0]["data"], referring);
    let path = format!("/api/v1/executions/{0}/outputs/{0}/0/data", id(1));
    assert_eq!(outputs[0]["download"], path.as_str());
    assert_eq!(
        data(&server, 1, "0"),
        (200, payload, "text/html".to_owned())
    );
    // one that only looks like it
    assert_eq!(outputs[1]["encoding"], "json");
    assert_eq!(outputs[1]["download"], Value::Null);
    assert_eq!(data(&server, 1, "1").1, text.as_bytes());

    // another tenant's, and what is not there
    output(&mut server, 2, "other", &reference, &text);
    for (execution, number, status) in [(2, "0", 404), (1, "2", 404), (3, "0", 404), (1, "x", 400)]
    {
        assert_eq!(
            data(&server, execution, number).0,
            status,
            "{execution} {number}"
        );
    }

    // damaged: the body ends before its length
    let name = hex::encode(reference.sha256);
    let file = root.path().join("sha256").join(&name[..2]).join(&name[2..]);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (status, body, _) = data(&server, 1, "0");
    assert_eq!((status, body.len()), (200, 0));
    bytes.pop();
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(data(&server, 1, "0").0, 410);
    // swept, or lost
    std::fs::remove_file(&file).unwrap();
    let (status, body, _) = data(&server, 1, "0");
    assert_eq!(status, 410);
    assert!(String::from_utf8(body).unwrap().contains("is lost"));
}

#[test]
fn the_sweep_by_hand() {
    let (server, root, reference, _) = server();
    let name = hex::encode(reference.sha256);
    let file = root.path().join("sha256").join(&name[..2]).join(&name[2..]);
    let ago = std::time::Duration::from_secs(92 * 86_400);
    let opened = std::fs::File::options().write(true).open(&file).unwrap();
    opened
        .set_modified(std::time::SystemTime::now() - ago)
        .unwrap();
    let sweep = |ask: Value| server.post("/api/v1/payloads/sweep", &ask).body;
    let looked = sweep(json!({"dry_run": true}));
    assert_eq!(
        (&looked["orphans"], &looked["kept"]),
        (&json!(1), &json!(0))
    );
    assert!(file.exists());
    let swept = sweep(json!({}));
    assert_eq!(swept["orphan_bytes"], reference.bytes);
    assert!(!file.exists());
    let none = Server::start().post("/api/v1/payloads/sweep", &json!({}));
    assert_eq!(none.status, 404);
    assert!(
        none.body["detail"]
            .as_str()
            .unwrap()
            .contains("[payloads] url")
    );
}
