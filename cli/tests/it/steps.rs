//! `weir new` and `weir build`: folders that are whole, components that run, and what is said where a tool is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::weir::{binary, root, run};

/// Nobody is asked.
const NOWHERE: &str = "http://127.0.0.1:1";

fn langs() -> Vec<String> {
    let file = root().join("sdk/templates/templates.toml");
    let templates: toml::Table = toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let list = templates["template"].as_array().unwrap();
    let lang = |template: &toml::Value| template["lang"].as_str().unwrap().to_owned();
    list.iter().map(lang).collect()
}

/// A new step in `folder`/price.
fn new(folder: &Path, lang: &str) -> PathBuf {
    let dir = folder.join("price");
    let place = dir.to_str().unwrap();
    let made = run(
        NOWHERE,
        &["new", "price", "--lang", lang, "--dir", place, "-o", "json"],
    )
    .ok();
    assert_eq!(made.json()["lang"], json!(lang));
    dir
}

/// Builds the folder's step, runs its graph on its input, and holds both to what the template promises: the last line is rejected.
/// `None` where a tool is missing, which is tested below.
fn built_and_run(dir: &Path) -> Option<Value> {
    let place = dir.to_str().unwrap();
    let built = run(NOWHERE, &["build", place, "-o", "json"]);
    if built.code == 1 && built.err.contains("what is missing") {
        eprintln!("{}", built.err);
        return None;
    }
    let built = built.ok().json();
    let component = std::fs::read(dir.join("step.wasm")).unwrap();
    let interface = schemas::module::inspect(&component).unwrap();
    assert_eq!(built["interface"], json!(interface));
    assert_eq!(built["bytes"], json!(component.len()));
    let (graph, input) = (dir.join("graph.yaml"), dir.join("input.jsonl"));
    let (graph, input) = (graph.to_str().unwrap(), input.to_str().unwrap());
    let ran = run(NOWHERE, &["run", graph, "--input", input, "-o", "json"]);
    let status: Vec<Value> = ran
        .lines()
        .into_iter()
        .map(|line| line["status"].clone())
        .collect();
    assert_eq!(
        status,
        ["succeeded", "succeeded", "failed"],
        "{}{}",
        ran.out,
        ran.err
    );
    assert!(ran.out.contains("rejected"), "{}", ran.out);
    Some(built)
}

#[test]
fn a_new_step_is_whole_in_every_language() {
    for lang in langs() {
        let folder = tempfile::tempdir().unwrap();
        let dir = new(folder.path(), &lang);
        for name in [
            "weir-step.toml",
            "graph.yaml",
            "input.jsonl",
            "README.md",
            ".gitignore",
        ] {
            let text = std::fs::read_to_string(dir.join(name)).unwrap();
            assert!(
                !text.is_empty() && !text.contains("{{"),
                "{lang}: {name}: {text}"
            );
        }
        let graph = dir.join("graph.yaml");
        run(
            NOWHERE,
            &["validate", "--graph-only", graph.to_str().unwrap()],
        )
        .ok();
        let again = run(
            NOWHERE,
            &[
                "new",
                "price",
                "--lang",
                &lang,
                "--dir",
                dir.to_str().unwrap(),
            ],
        );
        assert_eq!(again.code, 1);
        assert!(again.err.contains("not empty"), "{}", again.err);
    }
}

#[test]
fn what_cannot_be_made_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    for (args, code, said) in [
        (
            vec!["new", "Price", "--lang", "go"],
            2,
            "cannot be a step's name",
        ),
        (
            vec!["new", "price", "--lang", "cobol"],
            2,
            "there are js, ts, python, rust, go, c",
        ),
        (vec!["build", place], 3, "it has no weir-step.toml"),
    ] {
        let ran = run(NOWHERE, &args);
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
}

#[test]
fn a_tool_that_is_missing_is_named() {
    for (lang, said) in [
        ("js", "Node.js 20 or newer: https://nodejs.org"),
        ("python", "Python 3.10 or newer"),
        ("rust", "Rust 1.90 or newer: https://rustup.rs"),
        ("go", "Go 1.24 or newer: https://go.dev/dl"),
        ("c", "apt install clang lld wasi-libc"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let dir = new(folder.path(), lang);
        let ran = Command::new(binary())
            .arg("build")
            .arg(&dir)
            .env("PATH", folder.path())
            .env_remove("WASI_SDK_PATH")
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{err}");
        assert!(
            err.contains("what is missing") && err.contains(said),
            "{err}"
        );
        assert!(!dir.join("step.wasm").exists());
    }
}

#[test]
fn a_step_in_c_imports_no_more_than_it_uses() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(built) = built_and_run(&new(folder.path(), "c")) {
        let imports = json!(["weir:step/settings@1.0.0", "weir:step/types@1.0.0"]);
        assert_eq!(built["interface"]["imports"], imports);
    }
}

/// Minutes where Rust's library has to be built, or packages have to be fetched; needs the registries.
#[test]
#[ignore = "slow: `make prove` runs it"]
fn every_language_builds_and_runs() {
    let (started, mut missing) = (std::time::Instant::now(), Vec::new());
    for lang in langs() {
        let folder = tempfile::tempdir().unwrap();
        if built_and_run(&new(folder.path(), &lang)).is_none() {
            missing.push(lang);
        }
    }
    xtask::proof::Row {
        id: "G2",
        title: "every language's template builds and runs",
        injected: langs().len(),
        expected: "each has its results and its dead letter".into(),
        passed: missing.is_empty(),
        took: started.elapsed(),
        ..Default::default()
    }
    .keep()
    .unwrap();
    assert!(missing.is_empty(), "tools are missing for {missing:?}");
}
