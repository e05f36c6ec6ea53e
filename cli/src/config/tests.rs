//! Settings from file, environment and flags.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

fn loaded(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("weir.toml");
    std::fs::write(&path, file).expect("a file");
    let overrides = Overrides {
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        flags: Vec::new(),
    };
    load(Some(&path), overrides).map_err(|e| {
        e.to_string()
            .replace(&folder.path().display().to_string(), "DIR")
    })
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weir.toml");
    std::fs::write(
        &path,
        "listen = \"127.0.0.1:1\"\n[kafka]\nbrokers = \"file:1\"\nsocket_timeout = \"2s\"\n[processor]\nlanes = 3\n",
    )
    .expect("a file");
    let overrides = Overrides {
        environment: vec![
            ("WEIR_KAFKA__BROKERS".into(), "environment:1".into()),
            ("WEIR_PROCESSOR__WORKERS".into(), "7".into()),
            ("WEIR_TOPICS__CREATE".into(), "true".into()),
            ("WEIR_LISTEN".into(), "127.0.0.1:2".into()),
            ("WEIR_API_KEY".into(), "not of the file".into()),
            ("WEIR_SERVICE_HOST".into(), "what Kubernetes sets".into()),
            ("PATH".into(), "/".into()),
        ],
        flags: vec![("kafka.brokers", "flag:1".into())],
    };
    let config = load(Some(&path), overrides).expect("settings");
    assert_eq!(config.kafka.brokers.as_deref(), Some("flag:1"));
    assert_eq!(config.kafka.socket_timeout, Duration::from_secs(2));
    assert_eq!((config.processor.lanes, config.processor.workers), (3, 7));
    assert!(config.topics.create);
    assert_eq!(config.listen.port(), 2);
    assert_eq!(
        config.kafka.session_timeout,
        Duration::from_secs(10),
        "the default"
    );
}

#[test]
fn a_wrong_key_is_named_with_its_place() {
    for (file, expected) in [
        (
            "[kafka]\nbroker = \"a:1\"\n",
            "DIR/weir.toml:2: there is no key \"broker\"; did you mean \"brokers\"?",
        ),
        (
            "\n\n[kafak]\n",
            "DIR/weir.toml:3: there is no key \"kafak\"; did you mean \"kafka\"?",
        ),
        (
            "[kafka]\n\nsocket_timeout = \"2 s\"\n",
            "DIR/weir.toml:3: \"2 s\" is no time",
        ),
        (
            "[processor]\nlanes = \"two\"\n",
            "DIR/weir.toml:2: invalid type",
        ),
        ("[processor\n", "DIR/weir.toml:1: "),
        (
            "[processor]\nlanes = 0\n",
            "processor.lanes is 0; set it to 1 to 256",
        ),
        (
            "[kafka]\ntransaction_timeout = \"1h\"\n",
            "kafka.transaction_timeout is 1h; set it to 1s to 15m",
        ),
    ] {
        let error = loaded(file, &[]).expect_err(file);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, expected) in [
        (
            "WEIR_KAFKA__BROKER",
            "a:1",
            "environment variable WEIR_KAFKA__BROKER: there is no key \"broker\"; did you mean \"brokers\"?",
        ),
        (
            "WEIR_PROCESSOR__LANES",
            "two",
            "environment variable WEIR_PROCESSOR__LANES: invalid type",
        ),
        (
            "WEIR_KAFKA__SOCKET_TIMEOUT",
            "2",
            "environment variable WEIR_KAFKA__SOCKET_TIMEOUT: ",
        ),
        (
            "WEIR_NOTHING__X",
            "1",
            "environment variable WEIR_NOTHING__X: there is no key \"nothing\"",
        ),
    ] {
        let error = loaded("", &[(name, value)]).expect_err(name);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn destinations_from_the_environment() {
    let config = loaded(
        "[destinations.big-shop]\nwriters = 3\n",
        &[
            ("WEIR_DESTINATIONS__BIG_SHOP__URL", "postgres://h/d"),
            ("WEIR_DESTINATIONS__BIG_SHOP__HISTORY", "true"),
            ("WEIR_TENANTS__DEFAULT__TABLES", "big-shop/a,big-shop/b.*"),
        ],
    )
    .expect("settings");
    let shop = &config.destinations["big-shop"];
    assert_eq!((shop.writers, shop.history), (3, true));
    assert_eq!(
        config.tenants["default"].tables,
        ["big-shop/a", "big-shop/b.*"]
    );
}

#[test]
fn properties_and_secrets() {
    let config = loaded(
        "[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n\"queue.buffering.max.ms\" = 5\n\"ssl.endpoint\" = true\n[store]\nurl = \"postgres://weir:hunter2@db/weir\"\n[client]\napi_key = \"hunter2\"\n",
        &[("WEIR_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL"), ("WEIR_KAFKA__BROKERS", "a:1"), ("WEIR_KAFKA__PROPERTIES__SASL_USERNAME", "007")],
    )
    .expect("settings");
    let kafka = config.kafka.clients().expect("brokers");
    let property = |name: &str| {
        kafka
            .properties
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    assert_eq!(property("security.protocol"), Some("SASL_SSL"));
    assert_eq!(property("sasl.password"), Some("hunter2"));
    assert_eq!(
        property("sasl.username"),
        Some("007"),
        "text stays as it is"
    );
    assert_eq!(property("queue.buffering.max.ms"), Some("5"));
    for shown in [
        format!("{config:?}"),
        format!("{config:#?}"),
        format!("{kafka:?}"),
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_registry_and_its_secrets() {
    assert_eq!(loaded("", &[]).expect("settings").registry.client(), None);
    let empty = loaded("", &[("WEIR_REGISTRY__URL", "")]).expect("settings");
    assert_eq!(empty.registry.client(), None, "as none");
    let config = loaded(
        "[registry]\nurl = \"http://weir:hunter2@registry:8081\"\nuser = \"ada\"\n",
        &[
            ("WEIR_REGISTRY__PASSWORD", "hunter2"),
            ("WEIR_REGISTRY__TIMEOUT", "500ms"),
        ],
    )
    .expect("settings");
    let client = config.registry.client().expect("a registry");
    assert_eq!(client.user.as_deref(), Some("ada"));
    assert_eq!(client.password.as_deref(), Some("hunter2"));
    assert_eq!(client.timeout, Duration::from_millis(500));
    for shown in [format!("{config:?}"), format!("{client:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let error = loaded("[registry]\ntimeout = \"2m\"\n", &[]).expect_err("refused");
    assert_eq!(error, "registry.timeout is 2m; set it to 100ms to 1m");
}

#[test]
fn a_secret_of_the_environment_is_not_repeated() {
    let error =
        loaded("", &[("WEIR_STORE__URLL", "postgres://u:hunter2@h/d")]).expect_err("refused");
    assert!(!error.contains("hunter2"), "{error}");
    let error = loaded("", &[("WEIR_KAFKA__SOCKET_TIMEOUT", "hunter2")]).expect_err("refused");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn the_schema_knows_every_section() {
    let schema = json_schema();
    for section in [
        "client",
        "kafka",
        "topics",
        "registry",
        "store",
        "payloads",
        "ingest",
        "processor",
        "sink",
        "control",
        "tenants",
    ] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn what_a_tenant_may_read_and_write() {
    let file = "[tenants.default]\ntopics_read = [\"orders\", \"shop.*\"]\n";
    let environment = [("WEIR_TENANTS__DEFAULT__TOPICS_WRITE", "priced, bills.*")];
    let config = loaded(file, &environment).expect("settings");
    let tenant = &config.tenants["default"];
    assert_eq!(tenant.topics_read, ["orders", "shop.*"]);
    assert_eq!(tenant.topics_write, ["priced", "bills.*"]);
    for (wrong, said) in [
        ("topics_read = [\"a*b\"]", "tenants.default.topics_read"),
        ("topics_write = [\"weir.results\"]", "Weir's own"),
        ("topics_write = 3", "write a list"),
        ("topics = []", "topics_read"),
    ] {
        let error = loaded(&format!("[tenants.default]\n{wrong}\n"), &[]).expect_err(wrong);
        assert!(error.contains(said), "{wrong}: {error}");
    }
}

#[test]
fn where_payloads_are() {
    let config = loaded("", &[]).expect("settings");
    assert_eq!(config.payloads.settings(None), None);
    let folder = config.payloads.settings(Some(Path::new(".weir")));
    let folder = folder.expect("a folder");
    assert_eq!(folder.url, "file:.weir/payloads");
    let config = loaded(
        "[payloads]\nurl = \"s3://weir/a\"\nendpoint = \"http://minio:9000\"\nretention = \"30d\"\n[ingest]\nbody_bytes_max = \"5MiB\"\n",
        &[
            ("WEIR_PAYLOADS__ACCESS_KEY", "hunter1"),
            ("WEIR_PAYLOADS__SECRET_KEY", "hunter2"),
        ],
    )
    .expect("settings");
    let bucket = config.payloads.settings(Some(Path::new(".weir")));
    let bucket = bucket.expect("a bucket");
    assert_eq!(bucket.url, "s3://weir/a");
    assert_eq!(bucket.secret_key.as_deref(), Some("hunter2"));
    assert_eq!(bucket.retention, Duration::from_secs(30 * 86_400));
    assert_eq!(config.ingest.config().body_bytes_max, 5 << 20);
    let shown = format!("{config:?} {bucket:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    for (file, said) in [
        (
            "[payloads]\nretention = \"1d\"\n",
            "payloads.retention is 1d",
        ),
        (
            "[ingest]\nbody_bytes_max = \"1GiB\"\n",
            "ingest.body_bytes_max",
        ),
    ] {
        let error = loaded(file, &[]).expect_err(file);
        assert!(error.contains(said), "{error}");
    }
}

/// What is kept by default outlives every record that may refer to it.
#[test]
fn payloads_are_kept_as_long_as_their_references() {
    let longest = topics::catalog::topics()
        .into_iter()
        .filter_map(|topic| topic.retention_ms)
        .max();
    let kept_ms = store::PAYLOAD_RETENTION.as_millis() as u64;
    assert!(
        longest.is_some_and(|longest| longest < kept_ms),
        "{longest:?}"
    );
}
