//! The components that are committed are those of their sources.

use std::time::Instant;

use xtask::guests::{self, Line, Outcome};
use xtask::proof::Row;

fn none_drifted(lines: &[Line]) {
    let drifted = lines
        .iter()
        .filter(|line| matches!(line.outcome, Outcome::Drifted(_)));
    let drifted: Vec<String> = drifted.map(ToString::to_string).collect();
    assert!(drifted.is_empty(), "{}", drifted.join("\n"));
}

/// Digests of all; one is built again, where the toolchain that made it is found.
#[test]
fn no_component_has_drifted() {
    none_drifted(&guests::digests(&xtask::root()).unwrap());
    let lines = guests::check(&xtask::root(), &["copy".into()]).unwrap();
    none_drifted(&lines);
    assert_eq!(lines.len(), 1);
}

/// Row `G1` of `make prove`.
#[test]
#[ignore = "builds all steps: make prove"]
fn all_components_are_built_again_byte_by_byte() {
    let begun = Instant::now();
    let lines = guests::check(&xtask::root(), &[]).unwrap();
    for line in &lines {
        println!("{line}");
    }
    none_drifted(&lines);
    let all = guests::folders(&xtask::root()).unwrap();
    assert_eq!(
        lines.len(),
        all.iter().map(|folder| folder.guests.len()).sum::<usize>()
    );
    let is_rebuilt = |line: &&Line| line.outcome == Outcome::Rebuilt;
    let rebuilt = lines.iter().filter(is_rebuilt).count();
    let row = Row {
        id: "G1",
        title: "committed components are those of their sources",
        expected: format!(
            "{rebuilt} of {} built again to the same bytes; where the toolchain is another one, by their digests",
            lines.len()
        ),
        passed: true,
        took: begun.elapsed(),
        ..Row::default()
    };
    row.keep().unwrap();
}

#[test]
fn an_unknown_guest_is_named() {
    let error = guests::check(&xtask::root(), &["nobody".into()])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("there is no guest \"nobody\"") && error.contains("normalise"),
        "{error}"
    );
}
