//! Which Java to run a server with, where the one in the PATH may be too old.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Where Debian's packages, and those of others for Debian, put them.
const PLACES: &str = "/usr/lib/jvm";

/// The newest on this machine, if that is new enough.
pub(super) fn newest(least: u32) -> Result<PathBuf> {
    let installed = std::fs::read_dir(PLACES).into_iter().flatten();
    let installed = installed.filter_map(|entry| Some(entry.ok()?.path().join("bin/java")));
    let found = installed.filter(|java| java.exists());
    let found = found.chain([PathBuf::from("java")]);
    let mut versions: Vec<(u32, PathBuf)> = found
        .filter_map(|java| Some((version(&java)?, java)))
        .collect();
    versions.sort();
    let seen: Vec<String> = versions
        .iter()
        .map(|(version, java)| format!("{} is {version}", java.display()))
        .collect();
    let newest = versions.pop().filter(|(version, _)| *version >= least);
    newest.map(|(_, java)| java).with_context(|| {
        format!(
            "Java {least} or newer is needed, in {PLACES} or in the PATH (package temurin-25-jdk of adoptium.net, or openjdk-21-jre-headless); found: {}",
            if seen.is_empty() { "none".to_owned() } else { seen.join(", ") }
        )
    })
}

/// `openjdk version "17.0.15" 2025-04-15` → 17
fn version(java: &Path) -> Option<u32> {
    let output = Command::new(java)
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let (_, version) = said.split_once('"')?;
    let end = version.find(|c: char| !c.is_ascii_digit())?;
    version[..end].parse().ok()
}
