//! The components that are committed are those of their sources.

use xtask::guests::{self, Outcome};

/// Digests always; a rebuild, byte by byte, where the toolchain that made them is found. Says which.
#[test]
fn no_component_has_drifted() {
    let lines = guests::check(&xtask::root(), &[]).unwrap();
    for line in &lines {
        println!("{line}");
    }
    let drifted: Vec<String> = lines
        .iter()
        .filter(|line| matches!(line.outcome, Outcome::Drifted(_)))
        .map(ToString::to_string)
        .collect();
    assert!(drifted.is_empty(), "{}", drifted.join("\n"));
    assert_eq!(
        lines.len(),
        guests::folders(&xtask::root())
            .unwrap()
            .iter()
            .map(|f| f.guests.len())
            .sum::<usize>()
    );
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
