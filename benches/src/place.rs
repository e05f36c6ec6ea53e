//! Where things lie: the checkout, and what was built next to this program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// The root of the checkout that this was built from.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("benches lies in the workspace's root")
}

/// A folder that goes with the value, on the disk that holds the build: a temporary folder may be memory, where a sync
/// costs nothing.
pub(crate) fn scratch() -> Result<TempDir> {
    let beside = built()?;
    tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&beside)
        .with_context(|| format!("cannot make a folder in {}", beside.display()))
}

/// The `weir` that lies next to this program; `true`: it was missing and has just been built.
pub(crate) fn weir() -> Result<(PathBuf, bool)> {
    let binary = built()?.join("weir");
    if binary.is_file() {
        return Ok((binary, false));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = built()?;
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--workspace",
            "--bin",
            "weir",
            "--target-dir",
        ])
        .arg(target.parent().unwrap_or(&target))
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    ensure!(
        built.success() && binary.is_file(),
        "`cargo build --release --workspace --bin weir` did not give {}",
        binary.display()
    );
    Ok((binary, true))
}

/// The folder of this program's profile. A criterion bench lies one deeper, in `deps`.
fn built() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let folder = exe
        .parent()
        .context("this program lies in no folder")?
        .to_path_buf();
    Ok(match folder.parent() {
        Some(parent) if folder.ends_with("deps") => parent.to_path_buf(),
        _ => folder,
    })
}
