//! The contract suite against the embedded log, in memory and in a file, and what only it promises.

use std::path::Path;
use std::sync::Arc;

use topics::Embedded;
use topics::embedded::EmbeddedConfig;

use crate::contract::{CASES, World};

fn run(log: impl Fn() -> Embedded) {
    for (name, case) in CASES {
        println!("{name}");
        case(&World { log: Arc::new(log()), name: (*name).to_owned() });
    }
}

fn path(folder: &Path) -> std::path::PathBuf {
    folder.join("log.db")
}

#[test]
fn memory_keeps_the_contract() {
    run(Embedded::memory);
}

#[test]
fn a_file_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(&path(folder.path())).unwrap();
    run(|| log.clone());
}

/// Nothing stays in memory: every read goes to the file.
#[test]
fn a_file_without_cache_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { cache_bytes_max: 0, file_bytes_max: None };
    let log = Embedded::open_with(&path(folder.path()), &config).unwrap();
    run(|| log.clone());
}
