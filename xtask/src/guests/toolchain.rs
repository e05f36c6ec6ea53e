//! Which compiler can make a component here.
//!
//! Two ways. A compiler that has the target `wasm32-wasip2`: what users do, nothing more is needed. A compiler that has
//! the standard library's source: the library is built for `wasm32-unknown-unknown` first (a minute, once) and
//! `wit-component` makes the component; for machines where the target cannot be had.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Neither way is open here.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "no toolchain for WASM components found; any one of these will do: \
     `rustup target add wasm32-wasip2`; \
     `rustup component add rust-src`; \
     on Debian `apt install rustc-web rust-web-src lld`"
)]
pub struct NoToolchain;

#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Names compiler, linker and way: equal ids make equal bytes.
    pub id: String,
    pub rustc: PathBuf,
    pub(super) sysroot: PathBuf,
    pub(super) way: Way,
}

#[derive(Clone, Debug)]
pub(super) enum Way {
    /// The target's libraries are installed.
    Target,
    /// The standard library is built too; the linker, where it is not the compiler's own.
    BuildStd { linker: Option<PathBuf> },
}

impl Toolchain {
    /// The first that works of the compiler in `RUSTC`, the one in `PATH` and the distribution's.
    pub fn find() -> Result<Self, NoToolchain> {
        let named = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
        let compilers = [PathBuf::from(named), PathBuf::from("/usr/bin/rustc")];
        let with_target = compilers.iter().find_map(|rustc| Self::with_target(rustc));
        with_target
            .or_else(|| compilers.iter().find_map(|rustc| Self::with_source(rustc)))
            .ok_or(NoToolchain)
    }

    fn with_target(rustc: &Path) -> Option<Self> {
        let sysroot = sysroot(rustc)?;
        let id = format!("{}, wasm32-wasip2", said(Command::new(rustc).arg("-V"))?);
        let installed = sysroot.join("lib/rustlib/wasm32-wasip2/lib").is_dir();
        installed.then(|| Self {
            id,
            rustc: rustc.into(),
            sysroot,
            way: Way::Target,
        })
    }

    fn with_source(rustc: &Path) -> Option<Self> {
        let sysroot = sysroot(rustc)?;
        if !sysroot
            .join("lib/rustlib/src/rust/library/Cargo.lock")
            .is_file()
        {
            return None;
        }
        let (linker, linker_id) = linker(rustc, &sysroot)?;
        let version = said(Command::new(rustc).arg("-V"))?;
        let id = format!("{version}, build-std wasm32-unknown-unknown, {linker_id}");
        Some(Self {
            id,
            rustc: rustc.into(),
            sysroot,
            way: Way::BuildStd { linker },
        })
    }
}

/// The compiler's own linker, or the newest `wasm-ld` in `PATH`; and what it calls itself.
fn linker(rustc: &Path, sysroot: &Path) -> Option<(Option<PathBuf>, String)> {
    let version = said(Command::new(rustc).arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))?;
    let own = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    if let Some(id) = said(Command::new(own).args(["-flavor", "wasm", "--version"])) {
        return Some((None, id));
    }
    let numbered = (14..40).rev().map(|n| format!("wasm-ld-{n}"));
    let mut names = std::iter::once("wasm-ld".to_owned()).chain(numbered);
    names.find_map(|name| {
        said(Command::new(&name).arg("--version")).map(|id| (Some(name.into()), id))
    })
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    said(Command::new(rustc).args(["--print", "sysroot"])).map(PathBuf::from)
}

/// What a command printed, or nothing where it is not there or failed.
fn said(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
