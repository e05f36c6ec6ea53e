//! `weir test`: cases beside a graph, run in this process with no broker, no database and no network, in milliseconds.

mod case;
mod check;
mod junit;
mod mocks;

pub(super) use self::check::diff;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use processor::wasm::Engine;
use serde_json::json;

use self::case::{Case, Suite};
use super::validate::rows;
use super::{local, rehearse};
use crate::args::{Format, TestArgs};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Rows, cell};

/// How a case ended.
pub(super) struct Outcome {
    pub(super) file: PathBuf,
    pub(super) name: String,
    pub(super) took: Duration,
    /// `None`: as expected. Otherwise all that was not, with a diff.
    pub(super) fault: Option<String>,
}

pub(super) fn test(args: &TestArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let files = suites(&args.paths)?;
    if files.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            "there is no *.test.yaml here; write one beside a graph (`weir new` makes an example)",
        )
        .into());
    }
    let engine = rehearse::engine()?;
    let mut outcomes = Vec::new();
    for file in &files {
        outcomes.extend(suite(file, &engine, args.filter.as_deref())?);
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::report(&outcomes))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let failed = outcomes.iter().filter(|one| one.fault.is_some()).count();
    if output.format() == Format::Table {
        for one in outcomes.iter().filter(|one| one.fault.is_some()) {
            let fault = one.fault.as_deref().unwrap_or_default();
            output.text(&format!(
                "FAILED  {}: {}\n{fault}\n",
                one.file.display(),
                one.name
            ))?;
        }
    }
    let items: Vec<_> = outcomes
        .iter()
        .map(|one| {
            json!({
                "file": one.file.display().to_string(), "case": one.name, "passed": one.fault.is_none(),
                "ms": (one.took.as_secs_f64() * 100_000.0).round() / 100.0, "fault": one.fault,
            })
        })
        .collect();
    output.print(&json!({ "items": items }), |value| Rows {
        header: &["FILE", "CASE", "RESULT", "MS"],
        rows: rows(value, |item| {
            let result = if item["passed"] == true {
                "ok"
            } else {
                "FAILED"
            };
            vec![
                cell(item, "file"),
                cell(item, "case"),
                result.to_owned(),
                cell(item, "ms"),
            ]
        }),
    })?;
    output.flush()?;
    output.progress().note(&format!(
        "{} passed, {failed} failed",
        outcomes.len() - failed
    ));
    Ok(if failed == 0 { Exit::Ok } else { Exit::Failed })
}

fn suite(file: &Path, engine: &Engine, filter: Option<&str>) -> anyhow::Result<Vec<Outcome>> {
    let suite = Suite::read(file)?;
    let local = local::load(&suite.graph, None)?;
    let loaded = rehearse::loaded(engine, &local, None)?;
    let mut outcomes = Vec::new();
    let wanted = |case: &&Case| filter.is_none_or(|filter| case.name.contains(filter));
    for case in suite.cases.iter().filter(wanted) {
        let started = Instant::now();
        let fault = check::run(case, file, engine, &local.graph, loaded.clone())
            .with_context(|| format!("{}: {}", file.display(), case.name))?;
        outcomes.push(Outcome {
            file: file.to_owned(),
            name: case.name.clone(),
            took: started.elapsed(),
            fault,
        });
    }
    Ok(outcomes)
}

/// Files as they are, and every `*.test.yaml` in folders.
fn suites(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here[..] } else { paths };
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            search(path, &mut found)?;
        } else if path.is_file() {
            found.push(path.clone());
        } else {
            let what = format!("there is no {}", path.display());
            return Err(Failure::new(Exit::NotFound, what).into());
        }
    }
    Ok(found)
}

fn search(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.')) else {
            continue;
        };
        if path.is_dir() {
            if !matches!(name, "target" | "node_modules" | "vendor") {
                search(&path, found)?;
            }
        } else if name.ends_with(".test.yaml") || name.ends_with(".test.yml") {
            found.push(path);
        }
    }
    Ok(())
}
