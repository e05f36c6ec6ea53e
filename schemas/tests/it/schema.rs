//! The JSON Schema of the graph file: complete, described, and as checked in.

use schemas::graph::json_schema;
use serde_json::Value;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/graph.schema.json");

/// `UPDATE=1 cargo test -p schemas schema` writes the file anew.
#[test]
fn it_is_as_checked_in() {
    let now = format!(
        "{}\n",
        serde_json::to_string_pretty(&json_schema()).unwrap()
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PATH, &now).unwrap();
    }
    let before = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        before == now,
        "the JSON Schema of the graph file has changed; see the difference with UPDATE=1 and git diff"
    );
}

#[test]
fn it_names_its_draft_and_describes_every_field() {
    let schema = json_schema();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let mut objects = vec![&schema];
    objects.extend(schema["$defs"].as_object().unwrap().values());
    for object in objects {
        assert!(object["description"].is_string(), "{object:#}");
        for (name, field) in object["properties"].as_object().into_iter().flatten() {
            assert!(
                field["description"].is_string(),
                "{name} has no description"
            );
        }
        if object["properties"].is_object() {
            assert_eq!(
                object["additionalProperties"],
                Value::Bool(false),
                "{object:#}"
            );
        }
    }
}

#[test]
fn it_has_the_shape_of_the_example() {
    let schema = json_schema();
    let field = |of: &str, name: &str| schema["$defs"][of]["properties"][name].clone();
    assert_eq!(
        schema["required"],
        serde_json::json!(["weir", "name", "triggers"])
    );
    assert_eq!(
        schema["properties"]["steps"]["additionalProperties"]["$ref"],
        "#/$defs/Step"
    );
    for kind in ["webhook", "cron", "topic", "postgres", "manual", "key"] {
        assert!(field("Trigger", kind).is_object(), "{kind}");
    }
    for name in [
        "uses",
        "ports",
        "from",
        "when",
        "join",
        "hop",
        "settings",
        "limits",
        "retry",
        "isolation",
        "http",
        "secrets",
        "log",
        "on_error",
    ] {
        assert!(field("Step", name).is_object(), "{name}");
    }
    assert_eq!(
        schema["$defs"]["Step"]["required"],
        serde_json::json!(["uses", "from"])
    );
    assert_eq!(field("Step", "from")["type"], "array");
    let words = |of: &str| -> Vec<String> {
        schema["$defs"][of]["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["const"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(words("Scheme"), ["github", "standard"]);
    assert_eq!(words("Isolation"), ["record", "batch"]);
    assert_eq!(words("WriteMode"), ["insert", "upsert", "delete"]);
}
