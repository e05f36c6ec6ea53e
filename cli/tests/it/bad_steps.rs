//! Steps that loop for ever, allocate without end, trap or return too much: clear failures in time, and the others go on.

use serde_json::{Value, json};

use crate::weir::{Start, Weir, file, guest, run};

/// The behaviours of the guest `bad`, and what each comes to.
const CASES: [(&str, &str, &str); 6] = [
    ("loop", "time-out", "limits"),
    ("bomb", "out-of-memory", "limits"),
    ("panic", "trap", ""),
    ("huge", "output-too-large", ""),
    ("reject", "rejected", ""),
    ("port", "protocol", "port"),
];

#[test]
fn a_bad_step_fails_its_own_execution_and_no_other() {
    let data = tempfile::tempdir().unwrap();
    let weir = Weir::start(&Start::new(&data.path().join("data"), &[]));
    let bad = graph(
        "bad",
        "bad",
        "limits: { time: 4s, memory: 128MiB, output: 1MiB }",
    );
    let good = graph("good", "copy", "isolation: batch");
    for (name, text) in [("bad.yaml", bad), ("good.yaml", good)] {
        weir.run(&["apply", file(data.path(), name, &text).to_str().unwrap()])
            .ok();
    }
    let events: String = CASES
        .iter()
        .map(|(case, _, _)| format!("{}\n", json!({ "do": case })))
        .collect();
    let bad_input = file(data.path(), "bad.ndjson", &events);
    let good_events: String = (0..200).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let good_input = file(data.path(), "good.ndjson", &good_events);

    let url = weir.url();
    let ran = std::thread::scope(|scope| {
        let good = scope.spawn(|| {
            run(
                &url,
                &[
                    "run",
                    "good",
                    "--input",
                    good_input.to_str().unwrap(),
                    "-o",
                    "json",
                ],
            )
        });
        let bad = weir.run(&[
            "run",
            "bad",
            "--input",
            bad_input.to_str().unwrap(),
            "-o",
            "json",
        ]);
        let good = good.join().unwrap().ok();
        assert_eq!(good.lines().len(), 200);
        bad
    });
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    for (line, (case, kind, word)) in ran.lines().iter().zip(CASES) {
        assert_eq!(line["status"], "failed", "{case}: {line}");
        assert_eq!(line["failure"]["kind"], kind, "{case}: {line}");
        assert!(
            line["failure"]["reason"].as_str().unwrap().contains(word),
            "{case}: {line}"
        );
    }
    let letters = weir
        .run(&["dlq", "list", "--graph", "bad", "-o", "json"])
        .ok()
        .json();
    let letters = letters
        .as_array()
        .or(letters["items"].as_array())
        .unwrap()
        .clone();
    assert_eq!(letters.len(), CASES.len(), "a dead letter each");
    let shown = weir
        .run(&[
            "dlq",
            "show",
            letters[0]["id"].as_str().unwrap(),
            "-o",
            "json",
        ])
        .ok()
        .json();
    assert_ne!(
        shown["value"],
        Value::Null,
        "with the original bytes: {shown}"
    );
}

fn graph(name: &str, module: &str, settings: &str) -> String {
    format!(
        "weir: 1\nname: {name}\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  only: {{ uses: {}, from: [hand], {settings} }}\n",
        guest(module).display()
    )
}
