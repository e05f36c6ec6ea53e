//! Whatever is in a file, reading it ends in a graph or in problems with a place inside the file; never in a panic.

use proptest::prelude::*;
use schemas::graph::parse;

use crate::files::ORDERS;

const WRONG: &str = include_str!("wrong.yaml");
const PIECES: [&str; 24] = [
    "{", "}", "[", "]", ":", ",", "- ", "\n", "  ", "\t", "&a ", "*a", "<<: ", "!!str ", "'", "\"",
    "|", "? ", "null", "from", "uses", "\u{feff}", "ä", "\0",
];

fn never_panics(text: &str) {
    if let Err(problems) = parse(text, "g.yaml") {
        assert!(!problems.list().is_empty());
        for problem in problems.list() {
            assert!(problem.line >= 1 && problem.line <= text.lines().count() + 1);
            assert!(problem.span.0 + problem.span.1 <= text.len());
        }
        drop(problems.to_string());
    }
}

fn at_border(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at % (text.len() + 1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn mutated_files(wrong: bool, edits in prop::collection::vec((any::<usize>(), 0usize..12, 0..PIECES.len()), 1..6)) {
        let mut text = if wrong { WRONG } else { ORDERS }.to_owned();
        for (at, removed, piece) in edits {
            let start = at_border(&text, at);
            let end = at_border(&text, (start + removed).min(text.len()));
            text.replace_range(start..end.max(start), PIECES[piece]);
        }
        never_panics(&text);
    }

    #[test]
    fn moved_lines(wrong: bool, moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..5)) {
        let mut lines: Vec<&str> = if wrong { WRONG } else { ORDERS }.lines().collect();
        for (from, to) in moves {
            let line = lines[from.index(lines.len())];
            lines.insert(to.index(lines.len()), line);
        }
        never_panics(&lines.join("\n"));
    }

    #[test]
    fn any_text(text: String) {
        never_panics(&text);
    }
}
