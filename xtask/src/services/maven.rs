//! Jars from Maven, into a folder of their own.

use std::path::Path;
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
