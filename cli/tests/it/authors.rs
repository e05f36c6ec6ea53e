//! What authors of steps do all day: cases beside a graph, traces, modules by name, secrets, sub-graphs, a graph that is applied again when
//! its file changes, replays.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::weir::{Ran, Start, Weir, binary, file, guest, root, run, until};

const NOWHERE: &str = "http://127.0.0.1:1";

/// A folder with guests beside which graphs are written.
fn folder(guests: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in guests {
        std::fs::copy(guest(name), folder.path().join(format!("{name}.wasm"))).unwrap();
    }
    folder
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn dev(folder: &Path, graphs: &[PathBuf], env: &[(&str, &str)]) -> Weir {
    let data = folder.join("data");
    Weir::start(&Start {
        env,
        ..Start::new(&data, graphs)
    })
}

/// Fires one event and gives the finished execution.
fn fire(weir: &Weir, folder: &Path, graph: &str, event: &str) -> Value {
    let input = file(folder, "event.ndjson", event);
    let ran = weir.run(&["run", graph, "--input", path(&input), "-o", "json"]);
    let id = ran.lines()[0]["execution"].as_str().unwrap().to_owned();
    weir.run(&["exec", "get", &id, "--wait", "30s", "-o", "json"])
        .ok()
        .json()
}

#[test]
fn the_examples_cases_pass_and_a_wrong_one_is_shown() {
    let orders = root().join("examples/orders");
    let passed = run(NOWHERE, &["test", path(&orders), "-o", "json"])
        .ok()
        .json();
    let items = passed["items"].as_array().unwrap();
    assert!(
        items.len() >= 3 && items.iter().all(|item| item["passed"] == true),
        "{passed}"
    );

    let folder = folder(&["json", "bad"]);
    let graph = "weir: 1\nname: g\ntriggers: { t: { manual: {} } }\nsteps: { one: { uses: ./json.wasm, from: [t] } }\n";
    file(folder.path(), "g.yaml", graph);
    let cases = "cases:\n  - name: wrong\n    data: { a: 1 }\n    expect: { outputs: [{ data: { a: 2 } }] }\n  - name: right\n    data: { a: 1 }\n    expect: { outputs: [{ data: { a: 1, enriched: { by: step, n: 42 } } }] }\n";
    let suite = file(folder.path(), "g.test.yaml", cases);
    let report = folder.path().join("report.xml");
    let ran = run(NOWHERE, &["test", path(&suite), "--junit", path(&report)]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    for part in ["FAILED", "wrong", "-       \"a\": 2", "+       \"a\": 1"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(ran.err.contains("1 passed, 1 failed"), "{}", ran.err);
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("tests=\"2\" failures=\"1\""), "{report}");
    // a file that cannot be read is named, with its place
    let broken = file(folder.path(), "b.test.yaml", "cases:\n  - nam: x\n");
    let ran = run(NOWHERE, &["test", path(&broken)]);
    assert!(
        ran.code == 1 && ran.err.contains("b.test.yaml") && ran.err.contains("nam"),
        "{}",
        ran.err
    );
}

#[test]
fn a_case_mocks_http_and_secrets_and_expects_letters_and_logs() {
    let folder = folder(&["http", "asks", "log", "bad"]);
    let graph = "weir: 1
name: g
triggers: { t: { manual: {} } }
steps:
  call: { uses: ./http.wasm, from: [t], when: 'has(event.data.urls)', http: { allow: [api.example.com] } }
  key: { uses: ./asks.wasm, from: [t], when: 'has(event.data.secret)', secrets: [KEY] }
  log: { uses: ./log.wasm, from: [t], when: 'has(event.data.lines)', log: true }
  bad: { uses: ./bad.wasm, from: [t], when: 'has(event.data.do)' }
";
    file(folder.path(), "graph.yaml", graph);
    let cases = r#"cases:
  - name: answers
    data: { urls: ["https://api.example.com/a", "https://api.example.com/b", "https://other.example/"] }
    http:
      - { request: GET https://api.example.com/a, answer: { status: 201, body: { x: 1 } } }
      - { request: GET https://api.example.com/b, fail: timeout }
    expect: { outputs: [{ step: call, data: ['201 {"x":1}', "ErrorCode::HttpResponseTimeout", "ErrorCode::HttpRequestDenied"] }] }
  - name: secret
    data: { secret: KEY }
    secrets: { KEY: hunter2 }
    expect: { outputs: [{ step: key, data: 7 }] }
  - name: logs
    data: { lines: 0 }
    expect: { logs: [{ step: log, level: warn, message: a warning }, { message: an error }] }
  - name: letter
    data: { do: reject }
    expect: { dead_letter: { step: bad, kind: rejected, reason: asked to } }
"#;
    let suite = file(folder.path(), "graph.test.yaml", cases);
    let ran = run(NOWHERE, &["test", path(&suite)]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let cases = "cases:\n  - name: nobody answers\n    data: { urls: [\"https://api.example.com/a\"] }\n  - name: nobody asks\n    data: {}\n    http: [{ request: GET https://api.example.com/a }]\n";
    let suite = file(folder.path(), "graph.test.yaml", cases);
    let ran = run(NOWHERE, &["test", path(&suite)]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.out
            .contains("an unexpected request: GET https://api.example.com/a"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("a request that was never made"),
        "{}",
        ran.out
    );
}

#[test]
fn a_trace_shows_each_step_and_writes_nothing() {
    let orders = root().join("examples/orders/graph.yaml");
    let folder = tempfile::tempdir().unwrap();
    let input = file(folder.path(), "e.ndjson", "{\"id\":1}\n");
    let args = ["run", path(&orders), "--input", path(&input), "--trace"];
    let ran = run(NOWHERE, &args);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    for part in [
        "check",
        "in   shop: {\"id\":1}",
        "rejects:",
        "FAILED at check",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(ran.err.contains("nothing was written"), "{}", ran.err);
}

#[test]
fn modules_have_names_that_graphs_use_and_graphs_stand_in_graphs() {
    let folder = folder(&["json", "copy"]);
    let weir = dev(folder.path(), &[], &[]);
    let module = folder.path().join("json.wasm");
    let pushed = weir
        .run(&[
            "module",
            "push",
            path(&module),
            "enrich@1.2.0",
            "-o",
            "json",
        ])
        .ok();
    let digest = pushed.json()["digest"].clone();
    let copy = folder.path().join("copy.wasm");
    let taken = weir.run(&["module", "push", path(&copy), "enrich@1.2.0"]);
    assert!(
        taken.code == 1 && taken.err.contains("keeps it"),
        "{}",
        taken.err
    );
    weir.run(&["module", "push", path(&copy), "enrich@1.10.0"])
        .ok();
    weir.run(&["module", "push", path(&copy), "enrich@2.0.0"])
        .ok();
    let inspected = |name: &str| {
        weir.run(&["module", "inspect", name, "-o", "json"])
            .ok()
            .json()
    };
    assert_eq!(inspected("enrich@1.2")["digest"], digest);
    assert_eq!(
        inspected("enrich@1")["names"],
        json!(["enrich@1.10.0", "enrich@2.0.0"])
    );
    let list = weir.run(&["module", "list", "-o", "json"]).ok().json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);

    let inner = "weir: 1\nname: inner\ntriggers: { hand: { manual: {} } }\nsteps:\n  first: { uses: enrich@1.2.0, from: [hand] }\n  last: { uses: ./copy.wasm, from: [first] }\n";
    let inner = file(folder.path(), "inner.yaml", inner);
    weir.run(&["apply", path(&inner)]).ok();
    let outer = "weir: 1\nname: outer\ntriggers: { t: { manual: {} } }\nsteps:\n  sub: { uses: 'graph:inner', from: [t], when: 'event.data.a > 0' }\n  end: { uses: ./copy.wasm, from: [sub] }\n";
    let outer = file(folder.path(), "outer.yaml", outer);
    weir.run(&["apply", path(&outer)]).ok();
    let done = fire(&weir, folder.path(), "outer", "{\"a\":1}\n");
    assert_eq!(done["outputs"][0]["step"], "end");
    assert_eq!(done["outputs"][0]["data"]["enriched"]["n"], 42);
    let silent = fire(&weir, folder.path(), "outer", "{\"a\":0}\n");
    assert_eq!(
        (&silent["status"], &silent["outputs"]),
        (&json!("succeeded"), &json!([]))
    );
    let shown = weir
        .run(&["graph", "get", "outer", "-o", "json"])
        .ok()
        .json();
    let steps = shown["steps"].as_array().unwrap().iter();
    let mut names: Vec<&str> = steps.map(|step| step["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["end", "sub--first", "sub--last"]);
    weir.stop();
}

fn with_input(weir: &Weir, args: &[&str], input: &str) -> Ran {
    use std::io::Write as _;
    let mut child = Command::new(binary())
        .args(args)
        .env("WEIR_URL", weir.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    Ran {
        code: done.status.code().unwrap(),
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
    }
}

#[test]
fn a_secret_reaches_its_step_and_nothing_else() {
    let folder = folder(&["asks"]);
    let graph = "weir: 1\nname: g\ntriggers: { t: { manual: {} } }\nsteps: { one: { uses: ./asks.wasm, from: [t], secrets: [FRAUD_KEY] } }\n";
    let graph = file(folder.path(), "g.yaml", graph);
    let weir = dev(folder.path(), &[graph], &[]);
    let event = "{\"secret\":\"FRAUD_KEY\"}\n";
    let before = fire(&weir, folder.path(), "g", event);
    assert_eq!(before["status"], "failed");
    assert!(
        before["failure"]["reason"]
            .as_str()
            .unwrap()
            .contains("weir secret set FRAUD_KEY"),
        "{before}"
    );
    let value = "a-very-secret-value";
    let set = with_input(
        &weir,
        &["secret", "set", "FRAUD_KEY"],
        &format!("{value}\n"),
    );
    assert_eq!(set.code, 0, "{}", set.err);
    let list = weir.run(&["secret", "list"]).ok();
    assert!(list.out.contains("FRAUD_KEY") && !list.out.contains(value));
    // what was looked up a moment ago is known for five seconds
    until("the step sees it", || {
        fire(&weir, folder.path(), "g", event)["status"] == "succeeded"
    });
    let length = value.len().to_string();
    assert_eq!(
        fire(&weir, folder.path(), "g", event)["outputs"][0]["data"]
            .to_string()
            .trim_matches('"'),
        length
    );
    weir.run(&["secret", "remove", "FRAUD_KEY"]).ok();
    assert_eq!(weir.run(&["secret", "remove", "FRAUD_KEY"]).code, 3);
    let said = weir.stop();
    assert!(!said.contains(value));
    // nor does it lie anywhere on disk as it is
    let found = Command::new("grep")
        .args(["-rlF", value, path(&folder.path().join("data"))])
        .output()
        .unwrap();
    assert!(
        found.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&found.stdout)
    );
}

#[test]
fn a_graph_is_applied_again_when_its_file_or_module_changes() {
    let folder = folder(&["json", "copy"]);
    let text = "weir: 1\nname: g\ntriggers: { t: { manual: {} } }\nsteps: { one: { uses: ./json.wasm, from: [t] } }\n";
    let graph = file(folder.path(), "g.yaml", text);
    let weir = dev(folder.path(), &[graph], &[]);
    let enriched = || {
        fire(&weir, folder.path(), "g", "{\"a\":1}\n")["outputs"][0]["data"]["enriched"].is_object()
    };
    assert!(enriched());
    // another module under the same name
    std::fs::copy(guest("copy"), folder.path().join("json.wasm")).unwrap();
    until("the module is seen", || !enriched());
    file(
        folder.path(),
        "g.yaml",
        &text.replace("json", "copy").replace("one:", "two:"),
    );
    until("the graph is seen", || {
        fire(&weir, folder.path(), "g", "{\"a\":1}\n")["outputs"][0]["step"] == "two"
    });
    // what is wrong is said, and what was active goes on
    file(folder.path(), "g.yaml", "weir: 1\nname: g\n");
    std::thread::sleep(std::time::Duration::from_millis(800));
    assert_eq!(
        fire(&weir, folder.path(), "g", "{\"a\":1}\n")["outputs"][0]["step"],
        "two"
    );
    let said = weir.stop();
    assert!(
        said.contains("applied again") && said.contains("is not applied; what was active goes on"),
        "{said}"
    );
}

#[test]
fn past_executions_are_run_again_and_compared() {
    let folder = folder(&["json", "copy", "wasi", "http"]);
    let text = "weir: 1\nname: g\ntriggers: { t: { manual: {} } }\nsteps:\n  one: { uses: ./json.wasm, from: [t] }\n  far: { uses: ./wasi.wasm, from: [one], hop: event.key }\n";
    let graph = file(folder.path(), "g.yaml", text);
    let weir = dev(folder.path(), std::slice::from_ref(&graph), &[]);
    let done = fire(&weir, folder.path(), "g", "{\"do\":\"random\",\"a\":1}\n");
    let id = done["execution"].as_str().unwrap();
    let watched = weir.run(&["exec", "watch", id]).ok();
    assert!(watched.out.contains("succeeded"), "{}", watched.out);
    let again = weir.run(&["exec", "replay", id, "-o", "json"]).ok().json();
    assert_eq!(again["same"], true, "{again}");
    assert_eq!(again["used"]["modules"].as_array().unwrap().len(), 2);
    // another version, that is nowhere applied
    let other = file(
        folder.path(),
        "other.yaml",
        &text.replace("./wasi.wasm", "./copy.wasm"),
    );
    let again = weir
        .run(&["exec", "replay", id, "--graph", path(&other), "--diff"])
        .ok();
    assert!(again.out.contains("OTHERWISE"), "{}", again.out);
    let executions = || {
        let list = weir
            .run(&[
                "exec", "list", "--graph", "g", "--limit", "100", "-o", "json",
            ])
            .ok();
        list.json()["items"].as_array().unwrap().len()
    };
    assert_eq!(executions(), 1, "nothing was written");
    for n in 0..20 {
        fire(&weir, folder.path(), "g", &format!("{{\"a\":{n}}}\n"));
    }
    let args = [
        "replay",
        "--topic",
        topics::catalog::TRIGGERS,
        "--graph",
        "g",
        "--dry-run",
        "--diff",
        "-o",
        "json",
    ];
    let range = weir.run(&args).ok().json();
    let found = &range["items"][0];
    assert_eq!(
        (&found["run"], &found["same"], &found["other"]),
        (&json!(21), &json!(21), &json!(0)),
        "{range}"
    );
    // for real: a new execution that names its origin, once
    let asked = [
        "exec",
        "replay",
        id,
        "--allow-http",
        "--request",
        "r-1",
        "-o",
        "json",
    ];
    let sent = weir.run(&asked).ok().json();
    let new = sent["items"][0]["execution"].as_str().unwrap().to_owned();
    let twice = weir.run(&asked).ok().json();
    assert_eq!(
        (
            &twice["items"][0]["execution"],
            &twice["items"][0]["duplicate"]
        ),
        (&json!(new), &json!(true))
    );
    let done = weir
        .run(&["exec", "get", &new, "--wait", "30s", "-o", "json"])
        .ok()
        .json();
    assert_eq!(
        (&done["status"], &done["origin"]),
        (&json!("succeeded"), &json!(id)),
        "{done}"
    );
    assert_eq!(executions(), 22);
    weir.stop();
}
