//! Results in databases, while sinks and databases die. T2: `kill -9` right before and after a write is committed; T19: a database
//! that is down; T28: the last update of each key stands.

mod databases;
mod kills;
mod outage;
mod results;
mod updates;

use super::cluster::Cluster;
use super::process::{Process, Recipe};
use crate::kill::broken_binary;
use crate::weir::{run, until};
use databases::{Database, Postgres};

/// What a graph calls the destinations.
const ROWS: &str = "rows";
const WIDE: &str = "wide";

/// A sink of these destinations.
fn recipe(destinations: &[(&str, &dyn Database)], history: bool) -> Recipe {
    let recipe = Recipe {
        binary: broken_binary(),
        ..Recipe::of("sink")
    };
    let mut recipe = recipe
        .with("WEIR_KAFKA__SESSION_TIMEOUT", "1s")
        .with("WEIR_TENANTS__DEFAULT__TABLES", "*");
    for (name, database) in destinations {
        let name = name.to_uppercase();
        let set = |key: &str| format!("WEIR_DESTINATIONS__{name}__{key}");
        recipe = recipe
            .with(&set("URL"), &database.url())
            .with(&set("HISTORY"), &history.to_string())
            .with(&set("BATCH_RECORDS_MAX"), "200");
    }
    recipe
}

/// As a user would: destinations in settings, a graph applied over HTTP, a row in the user's own table, the history read back.
#[test]
fn a_graph_with_a_table_of_its_own_is_applied_and_its_history_read_from_postgres() {
    // a new destination begins with all results that there are: those of other tests would come first
    let cluster = Cluster::new(1);
    let database = Postgres::start();
    let all =
        recipe(&[("shop", &database)], true).with("WEIR_TENANTS__DEFAULT__TABLES", "shop/latest");
    let all = Recipe { role: "all", ..all };
    let weir = Process::start_all(&cluster, &all, 1);
    let url = weir[0].url();
    let file = cluster.folder().join("tables.yaml");
    let apply = |table: &str, to: &str| {
        let text = format!(
            "weir: 1\nname: tables\ntriggers:\n  t: {{ manual: {{}} }}\nsteps: {{}}\nsinks:\n  rows: {{ postgres: {{ to: {to}, table: {table}, mode: upsert, key: [id] }}, from: [t] }}\n"
        );
        std::fs::write(&file, text).unwrap();
        run(&url, &["apply", &file.display().to_string()])
    };
    for (table, to, expected) in [
        ("latest", "nowhere", "there is no destination \"nowhere\""),
        ("other", "shop", "is not granted"),
    ] {
        let refused = apply(table, to);
        assert!(refused.err.contains(expected), "{}", refused.err);
    }
    apply("latest", "shop").ok();
    let sent = weir[0].post(
        "/api/v1/graphs/tables/triggers/t",
        &serde_json::json!({"id": "a", "n": 7}),
    );
    let execution = sent["execution"].as_str().unwrap().to_owned();
    let got = run(
        &url,
        &["exec", "get", &execution, "--wait", "30s", "-o", "json"],
    )
    .ok()
    .json();
    assert_eq!(got["status"], "succeeded", "{got}");
    assert_eq!(database.sql("select id, n from latest"), "a|7");
    let listed = run(
        &url,
        &[
            "exec", "list", "--graph", "tables", "--since", "1h", "-o", "json",
        ],
    )
    .ok()
    .json();
    assert_eq!(listed["items"][0]["execution"], *execution, "{listed}");
    // what the table does not take is a dead letter of this destination
    weir[0].post(
        "/api/v1/graphs/tables/triggers/t",
        &serde_json::json!({"id": "b"}),
    );
    until("it has died", || {
        let list = run(&url, &["dlq", "list", "--graph", "tables", "-o", "json"])
            .ok()
            .json();
        list["items"][0]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("not-null"))
    });
    Process::stop_all(weir);
}
