//! What Maven fetches: the jars that a pom names, into a folder of their own, or one artifact.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::process::succeed;

/// Copies what the pom needs at run time into a folder that is not there yet.
pub fn fetch(pom: &Path, jars: &Path) -> Result<()> {
    // under another name until it is whole
    let partial = jars.with_extension("partial");
    let mut mvn = Command::new("mvn");
    mvn.args([
        "-q",
        "-B",
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        "-f",
    ])
    .arg(pom);
    mvn.arg(format!("-DoutputDirectory={}", partial.display()));
    succeed(&mut mvn, "install Maven (package maven)")?;
    Ok(std::fs::rename(&partial, jars)?)
}

/// Copies one artifact (`group:name:version:type:classifier`) into a folder, where it has this name.
pub fn copy(artifact: &str, into: &Path, name: &str) -> Result<PathBuf> {
    let mut mvn = Command::new("mvn");
    mvn.args(["-q", "-B", "dependency:copy"])
        .arg(format!("-Dartifact={artifact}"))
        .arg(format!("-DoutputDirectory={}", into.display()));
    succeed(&mut mvn, "install Maven (package maven)")?;
    Ok(into.join(name))
}
