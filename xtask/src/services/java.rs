//! Which Java to run a server with, where the one in the PATH may be too old.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Where Debian's packages, and those of others for Debian, put them.
const PLACES: &str = "/usr/lib/jvm";

/// The newest on this machine, if that is new enough.
pub(super) fn newest(least: u32) -> Result<PathBuf> {
    let installed = installed();
    let newest = installed.last().filter(|(version, _)| *version >= least);
    newest.map(|(_, java)| java.clone()).with_context(|| {
        format!(
            "Java {least} or newer is needed, in {PLACES} or in the PATH (package temurin-25-jdk of adoptium.net, or openjdk-21-jre-headless); {}",
            said(&installed)
        )
    })
}

/// One of this version, where newer ones do not do.
pub(super) fn exactly(wanted: u32) -> Result<PathBuf> {
    let installed = installed();
    let found = installed.iter().find(|(version, _)| *version == wanted);
    found.map(|(_, java)| java.clone()).with_context(|| {
        format!(
            "Java {wanted} is needed, in {PLACES} or in the PATH (package openjdk-{wanted}-jre-headless, or temurin-{wanted}-jdk of adoptium.net); {}",
            said(&installed)
        )
    })
}

/// Those that are there, the newest last.
fn installed() -> Vec<(u32, PathBuf)> {
    let places = std::fs::read_dir(PLACES).into_iter().flatten();
    let places = places.filter_map(|entry| Some(entry.ok()?.path().join("bin/java")));
    let found = places.filter(|java| java.exists());
    let found = found.chain([PathBuf::from("java")]);
    let mut versions: Vec<(u32, PathBuf)> = found
        .filter_map(|java| Some((version(&java)?, java)))
        .collect();
    versions.sort();
    versions
}

fn said(installed: &[(u32, PathBuf)]) -> String {
    let seen: Vec<String> = installed
        .iter()
        .map(|(version, java)| format!("{} is {version}", java.display()))
        .collect();
    match seen.is_empty() {
        true => "found: none".to_owned(),
        false => format!("found: {}", seen.join(", ")),
    }
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
