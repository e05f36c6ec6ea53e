//! One cargo call per guest, and the components that come out of it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use wit_component::ComponentEncoder;

use super::toolchain::Way;
use super::{Folder, Toolchain};

/// A small stack (a fresh instance clears what lies below its data) and a first memory that most calls never outgrow
/// (each `memory.grow` is a system call in the host).
pub(super) const LINK_ARGS: [&str; 2] = ["-zstack-size=65536", "--initial-memory=524288"];

/// Raised when a change of this file changes what comes out.
pub(super) const TARGETS_SALT: &str = "2";

/// Builds the folder's guests; gives the component of each.
pub fn build(
    root: &Path,
    folder: &Folder,
    toolchain: &Toolchain,
) -> Result<Vec<(String, Vec<u8>)>> {
    if folder.guests.is_empty() {
        return Ok(Vec::new());
    }
    let target_dir = root.join("target/guests");
    let target = match toolchain.way {
        Way::Target => "wasm32-wasip2",
        Way::BuildStd { .. } => "wasm32-unknown-unknown",
    };
    // Fetched first, so that the folder whose name is taken out of the components exists.
    run(cargo(root, folder, toolchain).args(["fetch", "--quiet", "--locked"]))?;
    // One by one: together they would all get the features of the SDK that any of them asks for.
    for guest in &folder.guests {
        let mut command = cargo(root, folder, toolchain);
        // a name alone may be another crate's, too
        let manifest = format!("{guest}/Cargo.toml");
        command.args([
            "build",
            "--quiet",
            "--manifest-path",
            &manifest,
            "--release",
            "--locked",
        ]);
        command.args(["--target", target]);
        command.arg("--target-dir").arg(&target_dir);
        if let Way::BuildStd { .. } = toolchain.way {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        run(command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain)?))?;
    }
    let component = |guest: &String| {
        let path = target_dir
            .join(target)
            .join("release")
            .join(format!("{}.wasm", guest.replace('-', "_")));
        let module =
            std::fs::read(&path).with_context(|| format!("cargo left no {}", path.display()))?;
        let component = match toolchain.way {
            Way::Target => module,
            Way::BuildStd { .. } => {
                encode(&module).with_context(|| format!("in the guest \"{guest}\""))?
            }
        };
        Ok((guest.clone(), component))
    };
    folder.guests.iter().map(component).collect()
}

/// A core module that carries its WIT in custom sections, as `wit-bindgen` leaves it, as a component.
fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)?
        .encode()
}

fn cargo(root: &Path, folder: &Folder, toolchain: &Toolchain) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root.join(&folder.path))
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1");
    // What the caller builds with is about another target.
    for name in [
        "RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "CARGO_INCREMENTAL",
    ] {
        command.env_remove(name);
    }
    command
}

/// Flags that make the same bytes on every machine (paths in the workspace are relative to it anyway), joined as `CARGO_ENCODED_RUSTFLAGS` wants them.
fn rustflags(toolchain: &Toolchain) -> Result<String> {
    let mut flags: Vec<String> = LINK_ARGS
        .iter()
        .map(|arg| format!("-Clink-arg={arg}"))
        .collect();
    if let Way::BuildStd {
        linker: Some(linker),
    } = &toolchain.way
    {
        flags.push(format!("-Clinker={}", linker.display()));
        flags.push("-Clinker-flavor=wasm-ld".into());
    }
    let library = toolchain.sysroot.join("lib/rustlib/src/rust");
    let mut remap =
        |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    remap(&library, "rust");
    let registries = cargo_home()?.join("registry/src");
    if let Ok(entries) = registries.read_dir() {
        for entry in entries {
            remap(&entry?.path(), "crates");
        }
    }
    Ok(flags.join("\u{1f}"))
}

fn cargo_home() -> Result<std::path::PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::home_dir().context("neither CARGO_HOME nor a home folder is known")?;
    Ok(home.join(".cargo"))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        let args: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_string_lossy())
            .collect();
        bail!("`cargo {}` failed", args.join(" "));
    }
    Ok(())
}
