//! Rows, the table, and `target/bench.json`.
//!
//! Invariant of the file: one row a name; a partial run replaces only the rows that it was asked for.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::place;

/// What a row should come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn number(self) -> f64 {
        match self {
            Self::AtMost(number) | Self::AtLeast(number) => number,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtMost(number) => format!("target ≤ {number}"),
            Self::AtLeast(number) => format!("target ≥ {number}"),
        }
    }
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub value: f64,
    pub unit: String,
    /// What it was held against, in words.
    pub against: String,
    /// Ours over theirs, or over the target.
    pub ratio: Option<f64>,
    pub note: String,
    #[serde(skip)]
    target: Option<Target>,
    #[serde(skip)]
    ratio_target: Option<Target>,
}

impl Row {
    pub fn new(name: &str, value: f64, unit: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: round(value),
            unit: unit.to_owned(),
            against: String::new(),
            ratio: None,
            note: String::new(),
            target: None,
            ratio_target: None,
        }
    }

    /// Held against a peer that was measured in the same run.
    pub fn peer(mut self, words: &str, theirs: f64) -> Self {
        words.clone_into(&mut self.against);
        self.ratio = Some(round(self.value / theirs));
        self
    }

    /// Without a peer, the ratio is to the target.
    pub fn target(mut self, target: Target) -> Self {
        if !self.against.is_empty() {
            self.against.push_str("; ");
        }
        self.against.push_str(&target.words());
        self.ratio
            .get_or_insert(round(self.value / target.number()));
        self.target = Some(target);
        self
    }

    /// The target is for the ratio to the peer.
    pub fn ratio_target(mut self, target: Target) -> Self {
        self.against.push_str("; ");
        self.against.push_str(&target.words());
        self.against.push_str(" ×");
        self.ratio_target = Some(target);
        self
    }

    pub fn note(mut self, note: String) -> Self {
        self.note = note;
        self
    }

    fn missed(&self) -> bool {
        let ratio = self.ratio.unwrap_or(f64::NAN);
        self.target.is_some_and(|target| !target.met(self.value))
            || self.ratio_target.is_some_and(|target| !target.met(ratio))
    }
}

/// Four digits say all that such a measurement knows.
fn round(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// What one run came to.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    /// Name, why.
    failed: Vec<(String, String)>,
}

/// Where the rows are kept.
pub fn file() -> PathBuf {
    place::root().join("target/bench.json")
}

impl Report {
    pub fn measured(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub fn failed(&mut self, names: &[&str], why: &str) {
        self.failed
            .extend(names.iter().map(|&name| (name.to_owned(), why.to_owned())));
    }

    /// Everything could be measured.
    pub fn complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// `whole`: everything was asked for, so nothing old stays.
    pub fn write(&self, path: &Path, whole: bool) -> Result<()> {
        let mut rows: Vec<Row> = match std::fs::read(path) {
            // a file that cannot be read as rows is written anew
            Ok(text) if !whole => serde_json::from_slice(&text).unwrap_or_default(),
            _ => Vec::new(),
        };
        rows.retain(|row| {
            !self.rows.iter().any(|new| new.name == row.name)
                && !self.failed.iter().any(|(name, _)| *name == row.name)
        });
        rows.extend(self.rows.iter().cloned());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(&rows)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The rows of this run, with misses marked; what could not be measured says why.
    pub fn table(&self) -> String {
        let mut lines =
            vec![["", "name", "value", "unit", "ratio", "against", "note"].map(str::to_owned)];
        for row in &self.rows {
            let mark = match row.target.or(row.ratio_target) {
                Some(_) if row.missed() => "MISS",
                Some(_) => "ok",
                None => "",
            };
            lines.push([
                mark.to_owned(),
                row.name.clone(),
                number(row.value),
                row.unit.clone(),
                row.ratio.map(number).unwrap_or_default(),
                row.against.clone(),
                row.note.clone(),
            ]);
        }
        let mut widths = [0; 6];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut table = String::new();
        for [mark, name, value, unit, ratio, against, note] in &lines {
            let [w0, w1, w2, w3, w4, w5] = widths;
            let line = format!(
                "{mark:w0$}  {name:w1$}  {value:>w2$}  {unit:w3$}  {ratio:>w4$}  {against:w5$}  {note}"
            );
            table.push_str(line.trim_end());
            table.push('\n');
        }
        for (name, why) in &self.failed {
            writeln!(table, "not measured: {name}: {why}").expect("a string takes all");
        }
        let missed = self.rows.iter().filter(|row| row.missed()).count();
        if missed > 0 {
            writeln!(table, "{missed} of the targets missed").expect("a string takes all");
        }
        table
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_run_replaces_only_its_own_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("target/bench.json");
        let write = |rows: &[(&str, f64)], failed: &[&str], whole| {
            let mut report = Report::default();
            report.measured(rows.iter().map(|(n, v)| Row::new(n, *v, "us")).collect());
            report.failed(failed, "it is not there");
            report.write(&path, whole).unwrap();
            let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            rows.into_iter()
                .map(|row| (row.name, row.value))
                .collect::<Vec<_>>()
        };
        let row = |name: &str, value| (name.to_owned(), value);
        assert_eq!(
            write(&[("a", 1.0), ("b", 2.0), ("c", 3.0)], &[], true).len(),
            3
        );
        assert_eq!(
            write(&[("b", 5.0)], &["c"], false),
            [row("a", 1.0), row("b", 5.0)]
        );
        assert_eq!(write(&[("d", 1.0)], &[], true), [row("d", 1.0)]);
    }

    #[test]
    fn a_miss_is_marked_and_a_failure_says_why() {
        let mut report = Report::default();
        report.measured(vec![
            Row::new("a", 3.0, "us").target(Target::AtMost(2.0)),
            Row::new("b", 3.0, "us")
                .peer("the same", 2.0)
                .target(Target::AtLeast(2.0)),
        ]);
        report.failed(&["c"], "it is not there");
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[1].starts_with("MISS  a") && lines[1].contains("1.500"),
            "{table}"
        );
        assert!(
            lines[2].starts_with("ok    b") && lines[2].contains("the same; target ≥ 2"),
            "{table}"
        );
        assert_eq!(lines[3], "not measured: c: it is not there");
        assert!(!report.complete());
    }
}
