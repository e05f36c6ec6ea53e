//! Compiled modules on disk: used when whole, refused when not.

use std::fs;
use std::path::{Path, PathBuf};

use processor::wasm::{EngineConfig, EngineStats};

use crate::wasm::Steps;

fn steps(dir: &Path) -> Steps {
    Steps::with(EngineConfig {
        cache_dir: Some(dir.to_owned()),
        instances_max: 2,
        ..EngineConfig::default()
    })
}

fn works(steps: &mut Steps) -> EngineStats {
    let bad = steps.guest("bad");
    assert_eq!(steps.text(&bad, "{}"), r#"{"calls":1}"#);
    steps.engine.stats()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

const COMPILED: EngineStats = EngineStats {
    compiled: 1,
    from_cache: 0,
    cache_rejected: 0,
};
const FROM_CACHE: EngineStats = EngineStats {
    compiled: 0,
    from_cache: 1,
    cache_rejected: 0,
};
const REJECTED: EngineStats = EngineStats {
    compiled: 1,
    from_cache: 0,
    cache_rejected: 1,
};

#[test]
fn a_second_engine_does_not_compile() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("not").join("there yet");
    assert_eq!(works(&mut steps(&dir)), COMPILED);
    assert_eq!(files(&dir).len(), 1);
    assert_eq!(works(&mut steps(&dir)), FROM_CACHE);
    // Other settings make other code.
    let config = EngineConfig {
        cache_dir: Some(dir.clone()),
        memory_max_bytes: 4 << 30,
        instances_max: 2,
        ..EngineConfig::default()
    };
    works(&mut Steps::with(config));
    assert_eq!(works(&mut steps(&dir)), FROM_CACHE);
}

#[test]
fn a_damaged_file_is_refused_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    works(&mut steps(dir));
    let file = files(dir).remove(0);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let half = whole[..whole.len() / 2].to_vec();
    for damaged in [flipped, half, Vec::new(), b"#!/bin/sh".to_vec()] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(works(&mut steps(dir)), REJECTED);
        assert_eq!(works(&mut steps(dir)), FROM_CACHE);
    }
    // Whole by its name, but no code of this engine.
    let name = file.file_name().unwrap().to_str().unwrap();
    let foreign = b"\x7fELF but not ours".to_vec();
    let (prefix, _) = name
        .strip_suffix(".cwasm")
        .unwrap()
        .rsplit_once('.')
        .unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(
        dir.join(format!("{prefix}.{}.cwasm", crate::wasm::digest(&foreign))),
        foreign,
    )
    .unwrap();
    assert_eq!(works(&mut steps(dir)), REJECTED);
    assert_eq!(files(dir), [file]);
}

#[test]
fn a_folder_that_cannot_be_written_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(works(&mut steps(&file)), COMPILED);
}
