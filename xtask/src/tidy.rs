//! What the compiler does not check: which crate may know which, and where a library may be named.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// A crate and those of ours that it may depend on. Stages never depend on each other.
const MAY_KNOW: [(&str, &[&str]); 11] = [
    ("schemas", &[]),
    ("topics", &["schemas"]),
    ("store", &["schemas"]),
    ("ingest", &["schemas", "topics", "store"]),
    ("processor", &["schemas", "topics", "store"]),
    ("sink", &["schemas", "topics", "store"]),
    ("control", &["schemas", "topics", "store"]),
    (
        "cli",
        &[
            "schemas",
            "topics",
            "store",
            "ingest",
            "processor",
            "sink",
            "control",
        ],
    ),
    (
        "benches",
        &[
            "schemas",
            "topics",
            "store",
            "ingest",
            "processor",
            "sink",
            "control",
            "cli",
            "xtask",
        ],
    ),
    ("sim", &["schemas", "topics", "processor"]),
    ("xtask", &[]),
];

/// A word, and the only places below which Rust code may say it.
const ONLY_IN: [(&str, &[&str]); 7] = [
    ("rdkafka::", &["topics/src/kafka", "benches/src/kafka"]),
    (
        "wasmtime::",
        &[
            "processor/src/wasm",
            "processor/tests",
            "cli/src/commands/build",
            "benches/src/languages.rs",
        ],
    ),
    (
        "apache_avro::",
        &[
            "schemas/src/avro",
            "schemas/src/records",
            "schemas/examples",
            "cli/tests",
        ],
    ),
    ("schema_registry_converter::", &["topics/src/registry"]),
    (
        "scylla::client",
        &[
            "sink/src/scylla",
            "sink/tests",
            "control/src/history/scylla",
            "benches/src/landing",
            "cli/tests/it/kafka/sinks",
        ],
    ),
    ("\"weir.triggers\"", &["topics/"]),
    ("\"weir.results\"", &["topics/"]),
];

const ARCHITECTURE_LINES_MAX: usize = 200;

/// What is untidy, a line each.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut found = dependencies(root)?;
    for file in rust_files(root)? {
        let text = std::fs::read_to_string(&file)?;
        let path = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        let example = path.starts_with("examples/");
        if !example && !text.starts_with("//!") && !text.starts_with("#![doc") {
            found.push(format!(
                "{path}:1: a file starts with `//!`: what it is for, and what it does not do"
            ));
        }
        for (word, places) in ONLY_IN {
            let here = path == "xtask/src/tidy.rs"
                || path.ends_with("tests.rs")
                || places.iter().any(|place| path.starts_with(place));
            if let Some(line) = (!here)
                .then(|| text.lines().position(|line| line.contains(word)))
                .flatten()
            {
                found.push(format!(
                    "{path}:{}: `{word}` belongs in {}",
                    line + 1,
                    places.join(", ")
                ));
            }
        }
    }
    let lines = std::fs::read_to_string(root.join("ARCHITECTURE.md"))
        .map_or(0, |text| text.lines().count());
    if lines == 0 || lines > ARCHITECTURE_LINES_MAX {
        found.push(format!(
            "ARCHITECTURE.md: {lines} lines; it has 1 to {ARCHITECTURE_LINES_MAX}"
        ));
    }
    Ok(found)
}

/// `cargo metadata` against `MAY_KNOW`; what only tests use does not count.
fn dependencies(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let mut found = Vec::new();
    let names = |list: &serde_json::Value| list.as_array().cloned().unwrap_or_default();
    for package in names(&metadata["packages"]) {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let Some((_, may)) = MAY_KNOW.iter().find(|(known, _)| *known == name) else {
            found.push(format!(
                "{name}/Cargo.toml: a new crate; say in xtask/src/tidy.rs what it may depend on"
            ));
            continue;
        };
        for dependency in names(&package["dependencies"]) {
            let on = dependency["name"].as_str().unwrap_or_default();
            let ours = MAY_KNOW.iter().any(|(known, _)| *known == on);
            if ours && dependency["kind"].is_null() && !may.contains(&on) {
                found.push(format!(
                    "{name}/Cargo.toml: `{name}` must not depend on `{on}`"
                ));
            }
        }
    }
    Ok(found)
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "*.rs"])
        .current_dir(root)
        .output()
        .context("cannot run git")?;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(list
        .lines()
        .map(|line| root.join(line))
        .filter(|path| path.is_file() && !path.is_symlink())
        .collect())
}
