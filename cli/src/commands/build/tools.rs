//! The tools of a language: are they there, what are they called here, and their runs.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use indicatif::ProgressBar;

use super::below;
use super::toolchain::{NoToolchain, Toolchain as Rust, Way};
use crate::commands::new::templates::{Template, Toolchain};
use crate::exit::Failure;

/// What the template says; other compilers are found by what is done where this is named.
const RUST_TARGET: &str = "wasm32-wasip2";
const RUST_TARGET_BUILT: &str = "wasm32-unknown-unknown";

/// All that is needed to build one folder.
pub(super) struct Tools<'a> {
    template: &'a Template,
    dir: &'a Path,
    compiler: Compiler,
}

enum Compiler {
    /// The command names it.
    Named,
    Clang(PathBuf),
    Rust(Rust),
}

impl<'a> Tools<'a> {
    /// Fails with a line for each tool that is missing.
    pub(super) fn find(template: &'a Template, dir: &'a Path) -> Result<Self, Failure> {
        let mut missing: Vec<String> = template
            .needs
            .iter()
            .filter(|need| !succeeds(&mut command(&need.check, dir)))
            .map(|need| format!("{}: {}", need.tool, need.get))
            .collect();
        let compiler = match template.toolchain {
            None => Compiler::Named,
            Some(Toolchain::Clang) => match clang() {
                Some(path) => Compiler::Clang(path),
                None => {
                    missing.push(NO_CLANG.to_owned());
                    Compiler::Named
                }
            },
            Some(Toolchain::Rust) => match Rust::find() {
                Ok(rust) => Compiler::Rust(rust),
                Err(no @ NoToolchain) => {
                    missing.push(no.to_string());
                    Compiler::Named
                }
            },
        };
        if missing.is_empty() {
            return Ok(Self {
                template,
                dir,
                compiler,
            });
        }
        Err(Failure::failed(format!(
            "{} cannot be built here; what is missing:\n  {}",
            template.title,
            missing.join("\n  ")
        )))
    }

    /// What was found where there was a choice.
    pub(super) fn toolchain(&self) -> Option<String> {
        match &self.compiler {
            Compiler::Named => None,
            Compiler::Clang(path) => Some(path.display().to_string()),
            Compiler::Rust(rust) => Some(rust.id.clone()),
        }
    }

    /// Runs what comes before the first build.
    pub(super) fn install(&self, spinner: &ProgressBar) -> anyhow::Result<()> {
        let Some(install) = &self.template.install else {
            return Ok(());
        };
        if below(self.dir, &install.unless).exists() {
            return Ok(());
        }
        for words in &install.run {
            spinner.set_message(words.join(" "));
            run(&mut command(words, self.dir), spinner)?;
        }
        Ok(())
    }

    /// Builds; gives the file that it left.
    pub(super) fn build(&self, spinner: &ProgressBar) -> anyhow::Result<PathBuf> {
        let left = below(self.dir, &self.output()?);
        if let Some(folder) = left.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mut words = self.template.build.clone();
        if let Compiler::Clang(path) = &self.compiler {
            words[0] = path.display().to_string();
        }
        let built = self.builds_std();
        if built.is_some() {
            for word in words.iter_mut().filter(|word| *word == RUST_TARGET) {
                RUST_TARGET_BUILT.clone_into(word);
            }
            words.push("-Zbuild-std=std,panic_abort".to_owned());
        }
        let mut command = command(&words, self.dir);
        command.envs(&self.template.env);
        if let Compiler::Rust(rust) = &self.compiler {
            command.env("RUSTC", &rust.rustc);
            // The folder's own settings count, whatever the caller builds with.
            for name in [
                "RUSTFLAGS",
                "CARGO_ENCODED_RUSTFLAGS",
                "CARGO_BUILD_TARGET",
                "CARGO_TARGET_DIR",
            ] {
                command.env_remove(name);
            }
        }
        if let Some(linker) = built {
            command.env("RUSTC_BOOTSTRAP", "1");
            command
                .envs(linker.map(|linker| ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)));
        }
        run(&mut command, spinner)?;
        Ok(left)
    }

    /// Whether the standard library has to be built too; then the linker, where it is not the compiler's own.
    fn builds_std(&self) -> Option<Option<&PathBuf>> {
        match &self.compiler {
            Compiler::Rust(Rust {
                way: Way::BuildStd { linker },
                ..
            }) => Some(linker.as_ref()),
            _ => None,
        }
    }

    fn output(&self) -> anyhow::Result<String> {
        let mut output = self.template.output.clone();
        if output.contains("{{crate}}") {
            output = output.replace("{{crate}}", &crate_name(self.dir)?);
        }
        if self.builds_std().is_some() {
            output = output.replace(RUST_TARGET, RUST_TARGET_BUILT);
        }
        Ok(output)
    }
}

const NO_CLANG: &str = "clang for wasm32-wasi, with wasm-ld and wasi-libc: the wasi-sdk (https://github.com/WebAssembly/wasi-sdk/releases), with \
                        WASI_SDK_PATH set, or on Debian `apt install clang lld wasi-libc libclang-rt-dev-wasm32`";

/// The first clang that makes a module.
fn clang() -> Option<PathBuf> {
    let named = std::env::var_os("WASI_SDK_PATH").map(|sdk| Path::new(&sdk).join("bin/clang"));
    let numbered = (14..40).rev().map(|n| format!("clang-{n}").into());
    let places = ["/opt/wasi-sdk/bin/clang".into(), "clang".into()];
    named
        .into_iter()
        .chain(places)
        .chain(numbered)
        .find(|clang| links(clang))
}

/// Whether compiler, linker, headers and library are all there: by using them.
fn links(clang: &Path) -> bool {
    let Ok(dir) = tempfile::tempdir() else {
        return false;
    };
    let source = dir.path().join("try.c");
    let program = "#include <stdlib.h>\nvoid *try(size_t n) { return malloc(n); }\n";
    std::fs::write(&source, program).is_ok()
        && succeeds(
            Command::new(clang)
                .args([
                    "--target=wasm32-wasi",
                    "-nostartfiles",
                    "-Wl,--no-entry",
                    "-Wl,--export=try",
                    "-o",
                ])
                .arg(dir.path().join("try.wasm"))
                .arg(&source),
        )
}

fn crate_name(dir: &Path) -> anyhow::Result<String> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        package: Named,
        lib: Option<Named>,
    }
    #[derive(serde::Deserialize)]
    struct Named {
        name: Option<String>,
    }
    let file = dir.join("Cargo.toml");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let manifest: Manifest =
        toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
    let name = manifest
        .lib
        .and_then(|lib| lib.name)
        .or(manifest.package.name);
    let name = name.with_context(|| format!("{} names no package", file.display()))?;
    Ok(name.replace('-', "_"))
}

fn command(words: &[String], dir: &Path) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words).current_dir(dir).stdin(Stdio::null());
    command
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Runs a tool to its end; what it says goes to standard error, line by line.
fn run(command: &mut Command, spinner: &ProgressBar) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(|| show(out, spinner));
        scope.spawn(|| show(err, spinner));
    });
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let arguments: Vec<_> = command
        .get_args()
        .map(|arg| arg.to_string_lossy())
        .collect();
    Err(Failure::failed(format!(
        "`{name} {}` failed ({status})",
        arguments.join(" ")
    ))
    .into())
}

fn show(stream: Option<impl Read>, spinner: &ProgressBar) {
    let lines = stream
        .into_iter()
        .flat_map(|stream| BufReader::new(stream).split(b'\n'));
    for line in lines.map_while(Result::ok) {
        spinner.suspend(|| eprintln!("{}", String::from_utf8_lossy(&line).trim_end()));
    }
}
