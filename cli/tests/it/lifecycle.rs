//! `weir graph pause|resume|rollback|delete`, as a person types them.

use crate::weir::{Start, Weir, file, guest};

#[test]
fn a_graph_is_paused_rolled_back_and_deleted_by_commands() {
    let data = tempfile::tempdir().unwrap();
    let weir = Weir::start(&Start::new(&data.path().join("data"), &[]));
    let apply = |step: &str| {
        let text = format!(
            "weir: 1\nname: hello\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  {step}: {{ uses: {}, from: [hand] }}\n",
            guest("copy").display()
        );
        let graph = file(data.path(), "hello.yaml", &text);
        weir.run(&["apply", graph.to_str().unwrap(), "-o", "json"])
            .ok()
    };
    let graph = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        weir.run(&[&["graph"], &words[..]].concat())
    };
    let first = apply("one").json()["items"][0].clone();
    assert_eq!(first["state"], "active");
    let second = apply("two").json()["items"][0].clone();

    let paused = graph("pause hello -o json").ok().json();
    assert_eq!(
        (&paused["state"], &paused["changed"]),
        (&"paused".into(), &true.into())
    );
    let again = graph("pause hello").ok();
    assert!(
        again.out.contains("no, was paused already"),
        "{}",
        again.out
    );
    let listed = graph("list").ok();
    assert!(
        listed.out.contains("STATE") && listed.out.contains("paused"),
        "{}",
        listed.out
    );
    assert!(graph("get hello").ok().out.contains("paused at 20"));
    let applied = apply("two");
    assert!(
        applied.err.contains("weir graph resume hello"),
        "{}",
        applied.err
    );
    let input = file(data.path(), "in.ndjson", "1\n");
    let ran = weir.run(&["run", "hello", "--input", input.to_str().unwrap()]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("weir graph resume hello"), "{}", ran.err);

    let back = graph("rollback hello -o json").ok().json();
    assert_eq!(back["version"], first["version"]);
    assert_eq!(back["state"], "paused", "it stays so");
    assert_eq!(graph("rollback hello").code, 3, "nothing was before");
    let to = second["version"].as_str().unwrap();
    let forward = graph(&format!("rollback hello --to {} -o json", &to[..6]));
    assert_eq!(forward.ok().json()["version"], to);

    let history = graph("history hello").ok().out;
    for word in ["STATE", "applied", "paused", "rolled-back"] {
        assert!(history.contains(word), "{word}: {history}");
    }
    let unasked = graph("delete hello");
    assert_eq!(unasked.code, 2, "nobody can be asked: {}", unasked.err);
    assert!(unasked.err.contains("--yes"), "{}", unasked.err);
    let deleted = graph("delete hello --yes -o json").ok().json();
    assert_eq!(deleted["state"], "deleted");
    assert!(!graph("list").ok().out.contains("hello"));
    assert!(graph("list --deleted").ok().out.contains("deleted"));
    for words in [
        "pause hello",
        "resume hello",
        "rollback hello",
        "delete none --yes",
    ] {
        let refused = graph(words);
        assert_eq!(refused.code, 3, "{words}: {}", refused.err);
    }
}
