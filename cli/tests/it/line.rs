//! The whole line once, as the README tells it: the example, its webhooks, the commands that look at what came out.

use std::collections::HashSet;

use crate::http::{Http, deliver, signature};
use crate::weir::{Start, Weir, file, guest, root, run, until};

#[test]
fn the_example_takes_github_s_payloads_once() {
    let data = tempfile::tempdir().unwrap();
    let graphs = [root().join("examples/github-activity/graph.yaml")];
    let folder = data.path().join("data");
    let start = Start::new(&folder, &graphs);
    let weir = Weir::start(&start);
    let mut http = Http::connect(weir.port).unwrap();

    let payloads = payloads();
    let mut send = || -> Vec<(u16, String, Option<String>)> {
        payloads
            .iter()
            .enumerate()
            .map(|(number, (event, body))| {
                let answer = deliver(
                    &mut http,
                    "/hooks/default/github",
                    event,
                    &format!("d-{number}"),
                    body,
                )
                .unwrap();
                let execution = answer.json()["execution"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                (
                    answer.status,
                    execution,
                    answer.header("location").map(str::to_owned),
                )
            })
            .collect()
    };
    let first = send();
    for (status, execution, location) in &first {
        assert_eq!(*status, 202);
        assert_eq!(
            location.as_deref(),
            Some(format!("/api/v1/executions/{execution}").as_str())
        );
    }
    let ids: HashSet<&String> = first.iter().map(|(_, id, _)| id).collect();
    assert_eq!(ids.len(), payloads.len(), "one execution each");
    assert_eq!(send(), first, "sent again: the same ids");

    for (_, id, _) in &first {
        let execution = weir
            .run(&["exec", "get", id, "--wait", "60s", "-o", "json"])
            .ok()
            .json();
        assert_eq!(execution["status"], "succeeded", "{execution}");
        assert_eq!(
            execution["outputs"].as_array().unwrap().len(),
            1,
            "{execution}"
        );
    }
    let listed = weir
        .run(&[
            "exec",
            "list",
            "--graph",
            "github-activity",
            "--limit",
            "1000",
            "-o",
            "json",
        ])
        .ok()
        .json();
    let listed = listed
        .as_array()
        .or(listed["items"].as_array())
        .unwrap()
        .len();
    assert_eq!(listed, payloads.len(), "no new rows");
    let graphs = weir.run(&["graph", "list"]).ok();
    assert!(graphs.out.contains("github-activity"), "{}", graphs.out);
    weir.stop();

    // Started again on the same folder, it still knows.
    let weir = Weir::start(&start);
    weir.run(&["exec", "get", &first[0].1, "-o", "json"]).ok();
    let mut http = Http::connect(weir.port).unwrap();
    let (event, body) = &payloads[0];
    let again = deliver(&mut http, "/hooks/default/github", event, "d-0", body).unwrap();
    assert_eq!(again.json()["execution"], first[0].1.as_str());
}

/// The hand-written payloads of the example: what a machine without npm sends.
fn payloads() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("examples/github-activity/payloads"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let value: serde_json::Value =
                serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            (
                value["event"].as_str().unwrap().to_owned(),
                serde_json::to_vec(&value["payload"]).unwrap(),
            )
        })
        .collect()
}

#[test]
fn what_a_webhook_refuses() {
    let data = tempfile::tempdir().unwrap();
    let graphs = [root().join("examples/github-activity/graph.yaml")];
    let weir = Weir::start(&Start::new(&data.path().join("data"), &graphs));
    let mut http = Http::connect(weir.port).unwrap();
    let mut check = |path: &str, signed: &str, id: &str, body: &[u8], status: u16| {
        let headers = [
            ("content-type", "application/json"),
            ("x-github-event", "push"),
            ("x-github-delivery", id),
            ("x-hub-signature-256", signed),
        ];
        let answer = http.post(path, &headers, body).unwrap();
        assert_eq!(answer.status, status, "{}", answer.body);
        if status != 202 {
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json")
            );
        }
        http = Http::connect(weir.port).unwrap(); // a refusal may close the connection
    };
    let good = signature(crate::weir::SECRET, b"{}");
    check("/hooks/default/github", &good, "a", b"{}", 202);
    check(
        "/hooks/default/github",
        &signature("wrong", b"{}"),
        "b",
        b"{}",
        401,
    );
    check("/hooks/default/github", "", "b", b"{}", 401);
    check("/hooks/default/nothing", &good, "b", b"{}", 404);
    check(
        "/hooks/default/github",
        &signature(crate::weir::SECRET, b"{ }"),
        "a",
        b"{ }",
        422,
    );
    // Announced, and refused before a byte of it is sent.
    let announced = (26 << 20).to_string();
    let mut http = Http::connect(weir.port).unwrap();
    let refused = http.announce("/hooks/default/github", &announced).unwrap();
    assert_eq!(refused.status, 413, "{}", refused.body);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
}

#[test]
fn a_second_weir_on_the_same_folder_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let _weir = Weir::start(&Start::new(data.path(), &[]));
    let Err(said) = Weir::try_start(&Start::new(data.path(), &[])) else {
        panic!("two on one folder")
    };
    assert!(said.contains("another weir is running on"), "{said}");
}

#[test]
fn commands_say_what_is_wrong_and_how_to_go_on() {
    let nobody = format!("http://127.0.0.1:{}", crate::weir::free_port());
    let unreachable = run(&nobody, &["graph", "list"]);
    assert_eq!(unreachable.code, 5, "{}", unreachable.err);
    assert!(unreachable.err.contains("weir dev"), "{}", unreachable.err);

    let folder = tempfile::tempdir().unwrap();
    let broken = file(
        folder.path(),
        "broken.yaml",
        "weir: 1\nname: x\ntriggers:\n  hand: { manual: {} }\nsteps:\n  a: { uses: ./a.wasm, from: [hnd] }\n",
    );
    let refused = run(&nobody, &["validate", broken.to_str().unwrap()]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("broken.yaml") && refused.err.contains("hand"),
        "{}",
        refused.err
    );

    let not_wasm = file(folder.path(), "a.wasm", "hello");
    let graph = file(
        folder.path(),
        "a.yaml",
        &format!(
            "weir: 1\nname: x\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  a: {{ uses: {}, from: [hand] }}\n",
            not_wasm.display()
        ),
    );
    let refused = run(&nobody, &["validate", graph.to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert_eq!(run(&nobody, &["validate", "--no-such-flag"]).code, 2);
}

#[test]
fn a_graph_is_applied_run_and_looked_at() {
    let data = tempfile::tempdir().unwrap();
    let weir = Weir::start(&Start::new(&data.path().join("data"), &[]));
    let text = format!(
        "weir: 1\nname: hello\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  copy: {{ uses: {}, from: [hand], when: 'event.data.n > 1' }}\n",
        guest("copy").display()
    );
    let graph = file(data.path(), "hello.yaml", &text);
    let applied = weir
        .run(&["apply", graph.to_str().unwrap(), "-o", "json"])
        .ok();
    assert!(applied.out.contains("hello"), "{}", applied.out);
    let input = file(data.path(), "in.ndjson", "{\"n\":1}\n{\"n\":2}\n");
    let ran = weir
        .run(&[
            "run",
            "hello",
            "--input",
            input.to_str().unwrap(),
            "-o",
            "json",
        ])
        .ok();
    let lines = ran.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[0]["outputs"].as_array().unwrap().len(),
        0,
        "`when` was false"
    );
    assert_eq!(lines[1]["outputs"][0]["data"]["n"], 2);
    assert_eq!(weir.run(&["graph", "get", "nothing"]).code, 3);

    // Without a server: the same, in memory.
    let ran = run(
        "http://127.0.0.1:9",
        &[
            "run",
            graph.to_str().unwrap(),
            "--input",
            input.to_str().unwrap(),
            "-o",
            "json",
        ],
    )
    .ok();
    assert_eq!(ran.lines()[1]["outputs"][0]["data"]["n"], 2);
}

#[test]
fn idle_memory_and_metrics() {
    let data = tempfile::tempdir().unwrap();
    let weir = Weir::start(&Start::new(data.path(), &[]));
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.pid())).unwrap();
    let rss: u64 = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    eprintln!("weir dev idle: {} MiB", rss >> 10);
    until("metrics are served", || {
        let mut http = Http::connect(weir.port).unwrap();
        http.post("/metrics", &[], b"")
            .is_ok_and(|a| a.status == 405)
    });
}

/// All of GitHub's own payloads where npm is there, the hand-written ones where not; the sender of `make run`.
#[test]
fn every_payload_of_github_is_taken_once() {
    let data = tempfile::tempdir().unwrap();
    let graphs = [root().join("examples/github-activity/graph.yaml")];
    let weir = Weir::start(&Start::new(&data.path().join("data"), &graphs));
    let report = xtask::github::send(
        &root(),
        &xtask::github::Options {
            url: format!("{}/hooks/default/github", weir.url()),
            secret: crate::weir::SECRET.into(),
            again: true,
            output: xtask::github::Format::Table,
        },
    )
    .unwrap();
    eprintln!("{report}");
    assert!(report.problems.is_empty(), "{report}");
    assert_eq!(report.same_again, Some(report.sent));
    let ids: HashSet<&String> = report.deliveries.iter().map(|d| &d.execution).collect();
    assert_eq!(ids.len(), report.sent);
    for id in ids {
        let execution = weir
            .run(&["exec", "get", id, "--wait", "60s", "-o", "json"])
            .ok()
            .json();
        assert_eq!(execution["status"], "succeeded", "{execution}");
    }
}

/// `make run`, but for its port and folder: it starts, sends, shows and goes on serving until it is told to stop.
#[test]
fn make_run_shows_what_landed_and_keeps_serving() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let data = tempfile::tempdir().unwrap();
    let port = crate::weir::free_port();
    let xtask = crate::weir::binary().with_file_name("xtask");
    assert!(xtask.is_file(), "build it first, as `make test` does");
    let mut child = Command::new(xtask)
        .args(["run", "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(data.path().join("data"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
    {
        said.push_str(&line);
        said.push('\n');
        if line.contains("keeps serving") {
            break;
        }
    }
    assert!(
        said.contains("accepted") && said.contains("github-activity"),
        "{said}"
    );
    let listed = run(&format!("http://127.0.0.1:{port}"), &["graph", "list"]).ok();
    assert!(listed.out.contains("github-activity"));
    let told = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
    assert!(child.wait().unwrap().success());
}

/// Empty is not null: neither as data, nor as a key.
#[test]
fn empty_outputs_land() {
    let data = tempfile::tempdir().unwrap();
    let text = format!(
        "weir: 1\nname: empty\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  bad: {{ uses: {}, from: [hand] }}\n",
        guest("bad").display()
    );
    let graph = file(data.path(), "empty.yaml", &text);
    let input = file(data.path(), "in.ndjson", "{\"do\":\"many\",\"n\":1}\n");
    let ran = run(
        "http://127.0.0.1:9",
        &[
            "run",
            graph.to_str().unwrap(),
            "--input",
            input.to_str().unwrap(),
            "-o",
            "json",
        ],
    )
    .ok();
    assert_eq!(ran.lines()[0]["outputs"][0]["data"], "");
}

/// The README's first five minutes, word for word.
#[test]
fn the_readme_s_commands_work() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let tested = readme
        .split("<!-- tested: begin -->")
        .nth(1)
        .unwrap()
        .split("<!-- tested: end -->")
        .next()
        .unwrap();
    let script: String = tested
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(script.contains("weir apply"), "{script}");
    // the weir that is tested, not one of another build
    let built = crate::weir::binary();
    let script = script.replace(
        "$PWD/target/release",
        &built.parent().unwrap().display().to_string(),
    );
    let output = std::process::Command::new("setsid")
        .args(["-w", "sh", "-eu", "-c", &script])
        .current_dir(root())
        .env(
            "WEIR_URL",
            format!("http://127.0.0.1:{}", crate::weir::free_port()),
        )
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
