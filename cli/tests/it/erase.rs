//! `weir history erase`, as a person types it: on the history in SQLite, and with a destination that does not answer.

use serde_json::{Value, json};

use crate::weir::{Start, Weir, file, guest, until};

#[test]
fn a_tenant_is_erased_by_a_command_that_has_to_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let uses = guest("bad");
    let graph = format!(
        "weir: 1\nname: mend\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  first: {{ uses: \"{}\", from: [hand] }}\n",
        uses.display()
    );
    let graphs = [file(folder.path(), "mend.yaml", &graph)];
    let data = folder.path().join("data");
    let weir = Weir::start(&Start::new(&data, &graphs));
    let input = "{\"do\":\"reject\"}\n{\"n\":1}\n".repeat(2);
    let input = file(folder.path(), "in.ndjson", &input);
    let ran = weir.run(&["run", "mend", "--input", input.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let items = |noun: &str| -> usize {
        let list = weir.run(&[noun, "list", "-o", "json"]).ok().json();
        list["items"].as_array().unwrap().len()
    };
    until("all have landed", || {
        (items("exec"), items("dlq")) == (4, 2)
    });

    let path = data.join("history.db");
    let sink = format!("[sink]\npath = {:?}\n", path.display().to_string());
    let settings = file(folder.path(), "weir.toml", &sink);
    let erase = |tenant: &str, more: &[&str]| {
        let words = ["history", "erase", "--tenant", tenant, "-o", "json"];
        let config = ["--config", settings.to_str().unwrap()];
        weir.run(&[&words[..], &config, more].concat())
    };
    let asked = erase("default", &[]);
    assert_eq!(asked.code, 2);
    assert!(asked.err.contains("say --yes"), "{}", asked.err);
    let gone = |tables: &Value| -> Vec<u64> {
        let tables = tables["erased"].as_array().unwrap().iter();
        tables.map(|of| of["rows"].as_u64().unwrap()).collect()
    };
    let nobody = erase("nobody", &["--yes"]).ok();
    assert_eq!(gone(&nobody.json()), [0, 0, 0]);
    assert_eq!((items("exec"), items("dlq")), (4, 2));

    // what does not answer keeps nobody from what does
    let lost = "[destinations.lost]\nurl = \"postgres://weir:secret@127.0.0.1:1/weir\"\n";
    file(folder.path(), "weir.toml", &format!("{sink}{lost}"));
    let erased = erase("default", &["--yes"]);
    assert_eq!(erased.code, 1);
    assert!(erased.err.contains("  - lost: "), "{}", erased.err);
    assert!(
        erased.err.contains("not erased: your own tables"),
        "{}",
        erased.err
    );
    let report = erased.json();
    assert!(!format!("{}{report}", erased.err).contains("secret"));
    assert_eq!(report["failed"][0]["destination"], "lost");
    assert_eq!(
        report["erased"],
        json!([
            {"destination": path, "table": "weir_outputs", "rows": 2},
            {"destination": path, "table": "weir_executions", "rows": 4},
            {"destination": path, "table": "weir_dead_letters", "rows": 2},
        ])
    );
    assert_eq!((items("exec"), items("dlq")), (0, 0));
    // the line goes on, and what it lands from now on stays
    let ran = weir.run(&["run", "mend", "--input", input.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    until("all have landed", || {
        (items("exec"), items("dlq")) == (4, 2)
    });
    weir.stop();
}
