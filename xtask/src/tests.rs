//! `make tests`: the workspace's test programs, two at a time. Cargo runs one after the other, and most of them wait for servers
//! most of the time.
//!
//! What a program says is kept in target/tests, and printed when it fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// How many at a time.
const SIDE_BY_SIDE: usize = 2;
/// The longest one: it begins first.
const LONGEST: &str = "cli/it";

/// One program.
struct Program {
    /// `crate/target`.
    name: String,
    executable: PathBuf,
    /// Of its crate: where Cargo would run it.
    folder: PathBuf,
}

/// What one came to.
struct Outcome {
    passed: bool,
    took: Duration,
    log: PathBuf,
}

/// `cargo`: the arguments that say what to build (profile, features). `true`: all have passed.
pub fn run(root: &Path, cargo: &[String]) -> Result<bool> {
    let logs = root.join("target/tests");
    std::fs::create_dir_all(&logs)?;
    let programs = programs(root, cargo)?;
    ensure!(!programs.is_empty(), "cargo names no test programs");
    let count = programs.len();
    let queue = Mutex::new(programs.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                // each statement ends before the program runs
                while let Some(program) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    let outcome = program.run(&logs);
                    say(&program, &outcome);
                    if !outcome.is_ok_and(|outcome| outcome.passed)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(program.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    match &failed[..] {
        [] => eprintln!("{count} test programs passed"),
        failed => eprintln!("failed: {}", failed.join(", ")),
    }
    Ok(failed.is_empty())
}

/// Builds what is not built yet.
fn programs(root: &Path, cargo: &[String]) -> Result<Vec<Program>> {
    let built = Command::new("cargo")
        .arg("test")
        .args(cargo)
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo test")?;
    ensure!(built.status.success(), "the tests cannot be built");
    let said = String::from_utf8(built.stdout).context("cargo says JSON")?;
    let mut programs: Vec<Program> = said.lines().filter_map(program).collect();
    programs.sort_by_key(|program| program.name != LONGEST);
    Ok(programs)
}

/// Of a line of what Cargo says, if it is about one.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let executable = PathBuf::from(message["executable"].as_str()?);
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    let of = folder.file_name()?.to_str()?;
    Some(Program {
        name: format!("{of}/{}", message["target"]["name"].as_str()?),
        executable,
        folder: folder.to_path_buf(),
    })
}

impl Program {
    fn run(&self, logs: &Path) -> Result<Outcome> {
        let begun = Instant::now();
        let log = logs.join(format!("{}.log", self.name.replace('/', "-")));
        let file = File::create(&log)?;
        let status = Command::new(&self.executable)
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("cannot run {}", self.executable.display()))?;
        Ok(Outcome {
            passed: status.success(),
            took: begun.elapsed(),
            log,
        })
    }
}

fn say(program: &Program, outcome: &Result<Outcome>) {
    let name = &program.name;
    match outcome {
        Err(error) => eprintln!("{name}: {error:#}"),
        Ok(outcome) => {
            let said = std::fs::read(&outcome.log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let seconds = outcome.took.as_secs();
            if outcome.passed {
                let result = said.lines().rfind(|line| line.starts_with("test result:"));
                eprintln!("{name}, {seconds} s: {}", result.unwrap_or("no tests"));
            } else {
                eprintln!("{name} FAILED after {seconds} s; it said:\n{said}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_s_lines_name_the_programs() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/w/cli/Cargo.toml","target":{"name":"it"},"profile":{"test":true},"executable":"/w/target/it-1"}"#;
        let found = program(line).unwrap();
        assert_eq!(found.name, LONGEST);
        assert_eq!(found.folder, Path::new("/w/cli"));
        for other in [
            line.replace("true", "false"),
            line.replace("compiler-artifact", "build-script-executed"),
            line.replace(r#""/w/target/it-1""#, "null"),
            "no JSON".to_owned(),
        ] {
            assert!(program(&other).is_none(), "{other}");
        }
    }
}
