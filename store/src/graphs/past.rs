//! Which version a graph goes back to. Pure.

use std::fmt;

/// A change that chose a version: an application, or a way back.
pub(super) struct Chosen {
    pub(super) version: String,
    pub(super) back: bool,
}

/// The shortest text that names a version.
pub(super) const PREFIX_MIN: usize = 6;

/// Of the changes, oldest first: the version that was active before the present one was applied. Going back undoes
/// what was applied since, so that going back twice does not lead forward again.
pub(super) fn before(chosen: &[Chosen]) -> Option<&str> {
    let mut undo: Vec<&str> = Vec::new();
    for Chosen { version, back } in chosen {
        if *back && let Some(at) = undo.iter().rposition(|earlier| earlier == version) {
            undo.truncate(at + 1);
        } else if undo.last() != Some(&version.as_str()) {
            undo.push(version);
        }
    }
    undo.len().checked_sub(2).map(|at| undo[at])
}

/// Why a text names no version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unnamed {
    Form,
    Nothing,
    Several(Vec<String>),
}

/// Whether the text could name a version.
pub(super) fn is_prefix(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (PREFIX_MIN..=64).contains(&text.len()) && text.bytes().all(hex)
}

/// The one of these versions; they begin with the text.
pub(super) fn one(mut found: Vec<String>) -> Result<String, Unnamed> {
    match found.len() {
        0 => Err(Unnamed::Nothing),
        1 => Ok(found.remove(0)),
        _ => Err(Unnamed::Several(found)),
    }
}

impl Unnamed {
    /// In words, with the way out.
    pub(super) fn of<'a>(&'a self, text: &'a str) -> impl fmt::Display + 'a {
        struct Said<'a>(&'a Unnamed, &'a str);
        impl fmt::Display for Said<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self(why, text) = self;
                match why {
                    Unnamed::Form => write!(
                        f,
                        "\"{text}\" is no version; write the first {PREFIX_MIN} or more of its digits (0-9, a-f), as `weir graph history` shows them"
                    ),
                    Unnamed::Nothing => write!(
                        f,
                        "none of its versions begins with \"{text}\"; see `weir graph history`"
                    ),
                    Unnamed::Several(found) => write!(
                        f,
                        "\"{text}\" may be {}; write more of it",
                        found.join(" or ")
                    ),
                }
            }
        }
        Said(self, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"a b <a"`: a and b are applied, then it goes back to a.
    fn chosen(text: &str) -> Vec<Chosen> {
        text.split_whitespace()
            .map(|word| Chosen {
                version: word.trim_start_matches('<').to_owned(),
                back: word.starts_with('<'),
            })
            .collect()
    }

    #[test]
    fn the_version_before() {
        for (changes, expected) in [
            ("", None),
            ("a", None),
            ("a b", Some("a")),
            ("a b b", Some("a")),
            ("a b a", Some("b")),
            ("a b <a", None),
            ("a b c <b", Some("a")),
            ("a b c <b <a", None),
            // what is applied after a way back was good goes back to that
            ("a b c <b <a d", Some("a")),
            // a way forward: nothing is undone
            ("a b <a <b", Some("a")),
            ("a b c <a <c", Some("a")),
            // the beginning is no longer known
            ("<a", None),
            ("<a b", Some("a")),
        ] {
            assert_eq!(before(&chosen(changes)), expected, "{changes}");
        }
    }

    #[test]
    fn names() {
        assert!(is_prefix("012abc") && is_prefix(&"a".repeat(64)));
        for text in ["", "012ab", "012ABC", "012abg", &"a".repeat(65)] {
            assert!(!is_prefix(text), "{text}");
        }
        assert_eq!(one(vec![]), Err(Unnamed::Nothing));
        assert_eq!(one(vec!["a".into()]), Ok("a".into()));
        let several = one(vec!["ab".into(), "ac".into()]);
        let said = several.err().map(|why| why.of("a").to_string());
        assert_eq!(
            said.as_deref(),
            Some("\"a\" may be ab or ac; write more of it")
        );
    }
}
