//! Dead letters on `weir dev`: found, repaired, run again, let go; by the commands that a person types.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::weir::{Start, Weir, file, guest, until};

/// A graph whose step rejects what asks for it, or copies everything.
fn graph(folder: &Path, module: &str) -> PathBuf {
    let uses = guest(module);
    let uses = uses.display();
    let text = format!(
        "weir: 1\nname: mend\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  first: {{ uses: \"{uses}\", from: [hand] }}\n  second: {{ uses: \"{uses}\", from: [first], hop: event.data.do }}\n"
    );
    file(folder, "mend.yaml", &text)
}

fn letters(weir: &Weir, arguments: &[&str]) -> Vec<Value> {
    let list = weir.run(&[&["dlq", "list", "-o", "json"], arguments].concat());
    list.ok().json()["items"].as_array().unwrap().clone()
}

fn id(letter: &Value) -> &str {
    letter["id"].as_str().unwrap()
}

#[test]
fn dead_letters_are_found_repaired_run_again_and_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let graphs = [graph(folder.path(), "bad")];
    let data = folder.path().join("data");
    let weir = Weir::start(&Start::new(&data, &graphs));
    let input = "{\"do\":\"reject\",\"n\":1}\n".repeat(3);
    let input = file(folder.path(), "in.ndjson", &input);
    let ran = weir.run(&["run", "mend", "--input", input.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let dead = letters(
        &weir,
        &["--graph", "mend", "--step", "first", "--since", "1h"],
    );
    assert_eq!(dead.len(), 3);
    assert!(letters(&weir, &["--step", "second"]).is_empty());

    // nothing is mended yet: it runs the version that it died in, and dies again
    let first = id(&dead[0]);
    let again = weir.run(&[
        "dlq",
        "redrive",
        first,
        "--version",
        "original",
        "-o",
        "json",
    ]);
    let again = again.ok().json();
    assert_eq!(
        (&again["letters"], &again["emitted"]),
        (&1.into(), &1.into())
    );
    until("it has died again", || letters(&weir, &[]).len() == 4);
    let newest = &letters(&weir, &["--limit", "1"])[0];
    let shown = weir
        .run(&["dlq", "show", id(newest), "-o", "json"])
        .ok()
        .json();
    assert_eq!(shown["origin"], first);
    assert_eq!(shown["first_origin"], first);

    weir.run(&["apply", graph(folder.path(), "copy").to_str().unwrap()])
        .ok();
    let mended = weir.run(&["dlq", "redrive", "--graph", "mend", "-o", "json"]);
    let mended = mended.ok().json();
    assert_eq!(
        mended["letters"], 3,
        "the first was redriven before: {mended}"
    );
    until("all of them have run well", || {
        let list = weir.run(&["exec", "list", "--status", "succeeded", "-o", "json"]);
        list.ok().json()["items"].as_array().unwrap().len() == 3
    });
    for letter in letters(&weir, &[]) {
        assert!(letter["redriven_at"].is_string(), "{letter}");
    }
    let request = mended["request"].as_str().unwrap();
    let known = weir.run(&[
        "dlq",
        "redrive",
        "--graph",
        "mend",
        "--request",
        request,
        "-o",
        "json",
    ]);
    assert_eq!(known.ok().json()["redrive"], mended["redrive"]);
    let other = weir.run(&["dlq", "redrive", "--kind", "trap", "--request", request]);
    assert_eq!(other.code, 1);
    assert!(other.err.contains("something else"), "{}", other.err);
    let unknown = weir.run(&["dlq", "redrive", "0-99999"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("\"0-99999\""), "{}", unknown.err);

    let careful = weir.run(&["dlq", "purge", "--graph", "mend"]);
    assert_eq!(careful.code, 2, "{}", careful.err);
    assert!(careful.err.contains("--yes"), "{}", careful.err);
    weir.run(&["dlq", "purge", "--graph", "mend", "--yes"]).ok();
    assert!(letters(&weir, &[]).is_empty());
    until("the history has dropped their bytes", || {
        letters(&weir, &["--purged"]).len() == 4
    });
    let shown = weir.run(&["dlq", "show", first, "-o", "json"]).ok().json();
    assert_eq!(shown["value"], Value::Null);
    assert!(shown["purged_at"].is_string(), "{shown}");
    let gone = weir.run(&["dlq", "redrive", first]);
    assert_eq!(gone.code, 1);
    assert!(gone.err.contains("was purged"), "{}", gone.err);
    weir.stop();
}
