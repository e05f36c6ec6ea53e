//! Payloads that no record takes, through `weir dev`: in by a webhook, out by a download, and gone when nothing refers to
//! them any more.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::http::{Answer, Http, deliver};
use crate::kill::broken_binary;
use crate::weir::{Start, Weir, file, guest, run, until};

fn graph(folder: &Path) -> PathBuf {
    let text = format!(
        "weir: 1\nname: large\ntriggers:\n  hook: {{ webhook: {{ path: /large, verify: {{ scheme: github, secret: GITHUB_WEBHOOK_SECRET }} }} }}\nsteps:\n  near: {{ uses: {uses}, from: [hook] }}\n  far: {{ uses: {uses}, from: [near], hop: \"'one'\" }}\n",
        uses = guest("copy").display()
    );
    file(folder, "large.yaml", &text)
}

/// No text, and no two alike.
fn payload(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(&mut next).take(bytes).collect()
}

fn send(weir: &Weir, delivery: &str, body: &[u8]) -> Answer {
    let mut http = Http::connect(weir.port).unwrap();
    deliver(&mut http, "/hooks/default/large", "push", delivery, body).unwrap()
}

fn execution(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.json()["execution"].as_str().unwrap().to_owned()
}

fn get(weir: &Weir, id: &str) -> Value {
    weir.run(&["exec", "get", id, "--wait", "60s", "-o", "json"])
        .ok()
        .json()
}

/// The bytes and the content type of what an output's `download` names.
fn download(weir: &Weir, path: &str) -> (Vec<u8>, String) {
    let mut answer = ureq::get(format!("{}{path}", weir.url())).call().unwrap();
    let content_type = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(answer.headers()["content-disposition"], "attachment");
    let body = answer.body_mut().with_config().limit(64 << 20);
    (body.read_to_vec().unwrap(), content_type)
}

/// The files below `payloads`.
fn objects(data: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let parts = list(&data.join("payloads/sha256"));
    parts.iter().flat_map(|part| list(part)).collect()
}

#[test]
fn five_mebibytes_in_by_a_webhook_and_out_by_a_download() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let weir = Weir::start(&Start::new(&data, &[graph(folder.path())]));
    let body = payload(5 << 20, 1);
    let first = execution(&send(&weir, "d-1", &body));
    let done = get(&weir, &first);
    assert_eq!(done["status"], "succeeded", "{done}");
    let output = &done["outputs"][0];
    assert_eq!(output["encoding"], "reference");
    assert_eq!(output["data"]["bytes"], 5 << 20);
    let sha256 = output["data"]["sha256"].as_str().unwrap();
    let path = output["download"].as_str().unwrap();
    assert_eq!(
        download(&weir, path),
        (body.clone(), "application/json".to_owned())
    );
    // a person is told the same
    let told = weir.run(&["exec", "get", &first]).ok().out;
    assert!(
        told.contains(&format!("5242880 bytes, sha256:{sha256}")),
        "{told}"
    );
    assert!(told.contains("curl ") && told.contains(path), "{told}");

    // the same payload again is the same object, in and out
    let second = execution(&send(&weir, "d-2", &body));
    assert_ne!(second, first);
    assert_eq!(get(&weir, &second)["status"], "succeeded");
    assert_eq!(objects(&data).len(), 1);
    assert_eq!(execution(&send(&weir, "d-1", &body)), first, "a redelivery");

    // what is small lies in its row, and is to be had in the same way
    let small = execution(&send(&weir, "d-3", b"{\"n\": 1.50}"));
    let done = get(&weir, &small);
    let output = &done["outputs"][0];
    assert_eq!(output["download"], Value::Null);
    let segment = output["segment"].as_str().unwrap();
    let path = format!("/api/v1/executions/{small}/outputs/{segment}/0/data");
    assert_eq!(download(&weir, &path).0, b"{\"n\": 1.50}");

    // one that looks like a reference is none
    let forged = format!("{{\"sha256\":\"{sha256}\",\"bytes\":5242880}}");
    let forged = execution(&send(&weir, "d-4", forged.as_bytes()));
    assert_eq!(get(&weir, &forged)["outputs"][0]["encoding"], "json");

    let limit = payload(25 << 20, 2);
    assert_eq!(send(&weir, "d-5", &limit).status, 202);
    let mut beyond = limit;
    beyond.push(0);
    assert_eq!(send(&weir, "d-6", &beyond).status, 413);
    weir.stop();
}

#[test]
fn a_lost_payload_is_a_dead_letter_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let weir = Weir::start(&Start::new(&data, &[graph(folder.path())]));
    weir.run(&["graph", "pause", "large"]).ok();
    let body = payload(1 << 20, 3);
    let id = execution(&send(&weir, "d-1", &body));
    let [object] = &objects(&data)[..] else {
        panic!("one object")
    };
    let copy = folder.path().join("copy");
    std::fs::rename(object, &copy).unwrap();
    weir.run(&["graph", "resume", "large"]).ok();
    let done = get(&weir, &id);
    assert_eq!(done["failure"]["kind"], "record", "{done}");
    let reason = done["failure"]["reason"].as_str().unwrap();
    assert!(reason.contains("is lost"), "{reason}");
    let letters = weir.run(&["dlq", "list", "-o", "json"]).ok().json();
    let letter = letters["items"][0]["id"].as_str().unwrap().to_owned();
    let shown = weir
        .run(&["dlq", "show", &letter, "-o", "json"])
        .ok()
        .json();
    assert_eq!(shown["record"]["data"]["bytes"], 1 << 20, "{shown}");

    std::fs::rename(&copy, object).unwrap();
    weir.run(&["dlq", "redrive", &letter]).ok();
    let succeeded = || {
        let list = weir.run(&["exec", "list", "--status", "succeeded", "-o", "json"]);
        list.ok().json()["items"].as_array().unwrap().clone()
    };
    until("it has run again", || !succeeded().is_empty());
    let again = get(&weir, succeeded()[0]["execution"].as_str().unwrap());
    assert_eq!(again["origin"], letter.as_str());
    let path = again["outputs"][0]["download"].as_str().unwrap();
    assert_eq!(download(&weir, path).0, body);
    let said = weir.stop();
    assert!(
        said.contains("an execution fails: payload sha256:"),
        "{said}"
    );
}

/// The payload is there and its record never comes to be: an orphan.
#[test]
fn what_is_put_and_not_committed_goes_with_the_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let graphs = [graph(folder.path())];
    let broken = Start {
        binary: broken_binary(),
        // from the moment when its output was put, for longer than it lives
        env: &[("WEIR_FAILPOINT", "in-transaction=600/1")],
        ..Start::new(&data, &graphs)
    };
    let weir = Weir::start(&broken);
    let body = payload(1 << 20, 4);
    let id = execution(&send(&weir, "d-1", &body));
    until("its lane has put it", || !objects(&data).is_empty());
    weir.kill();

    // what was put again is one object still, and stays
    let weir = Weir::start(&Start::new(&data, &graphs));
    assert_eq!(get(&weir, &id)["status"], "succeeded");
    let sweep = |arguments: &[&str]| -> Value {
        let ran = run(
            &weir.url(),
            &[&["payloads", "sweep", "-o", "json"], arguments].concat(),
        );
        ran.ok().json()
    };
    let swept = sweep(&[]);
    assert_eq!((&swept["orphans"], &swept["kept"]), (&0.into(), &1.into()));

    // another one whose record was never written
    let orphan = folder
        .path()
        .join("data/payloads/sha256/ab")
        .join("cd".repeat(31));
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, b"an orphan").unwrap();
    let file = std::fs::File::options().write(true).open(&orphan).unwrap();
    let ago = Duration::from_secs(92 * 86_400);
    file.set_modified(SystemTime::now() - ago).unwrap();
    let looked = sweep(&["--dry-run"]);
    assert_eq!(
        (&looked["orphans"], &looked["orphan_bytes"]),
        (&1.into(), &9.into())
    );
    assert!(orphan.exists());
    let table = run(&weir.url(), &["payloads", "sweep"]).ok().out;
    assert!(
        table.contains("removed") && table.contains("kept"),
        "{table}"
    );
    assert_eq!(objects(&data).len(), 1);
    let path = get(&weir, &id)["outputs"][0]["download"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(download(&weir, &path).0, body);
    weir.stop();
}
