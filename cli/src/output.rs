//! What commands print: data on standard output in the format that was asked for, progress on standard error.
//!
//! Invariant: JSON and YAML carry everything; a table is what a person wants to see of it. No colours anywhere, so there is
//! nothing for `NO_COLOR` to switch off.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::args::Format;

/// Where a command prints to.
pub(crate) struct Output {
    format: Format,
    out: Box<dyn Write>,
    progress: Progress,
}

/// Notes for the person who waits; written to standard error, and only where that is a terminal if they are not needed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    terminal: bool,
}

/// Rows for a person.
pub(crate) struct Rows {
    pub(crate) header: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
}

impl Output {
    pub(crate) fn standard(format: Format) -> Self {
        let progress = Progress {
            terminal: io::stderr().is_terminal(),
        };
        Self {
            format,
            out: Box::new(io::BufWriter::new(io::stdout())),
            progress,
        }
    }

    #[cfg(test)]
    pub(crate) fn to(format: Format, out: Box<dyn Write>) -> Self {
        Self {
            format,
            out,
            progress: Progress { terminal: false },
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// Prints a value, as a table by `rows`.
    pub(crate) fn print(
        &mut self,
        value: &Value,
        rows: impl FnOnce(&Value) -> Rows,
    ) -> io::Result<()> {
        match self.format {
            Format::Table => self.table(&rows(value)),
            Format::Json => self.json(value),
            Format::Yaml => self.text(&yaml(value)),
        }
    }

    /// A document rather than rows: JSON also where a table was asked for.
    pub(crate) fn document(&mut self, value: &Value) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Json => self.json(value),
            Format::Yaml => self.text(&yaml(value)),
        }
    }

    /// One value on one line (JSON) or as a document of its own (YAML).
    pub(crate) fn line(&mut self, value: &Value) -> io::Result<()> {
        match self.format {
            Format::Yaml => self.text(&format!("---\n{}", yaml(value))),
            Format::Table | Format::Json => {
                serde_json::to_writer(&mut self.out, value)?;
                self.out.write_all(b"\n")
            }
        }
    }

    pub(crate) fn table(&mut self, rows: &Rows) -> io::Result<()> {
        if rows.rows.is_empty() {
            return self.text("nothing\n");
        }
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(rows.header.to_vec());
        for row in &rows.rows {
            table.add_row(row.iter().map(|cell| clean(cell)));
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim())?;
        }
        self.out.flush()
    }

    /// Text as it is.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn json(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Progress {
    /// Something worth a line.
    pub(crate) fn note(self, text: &str) {
        // Nobody to tell is no reason to fail.
        drop(writeln!(io::stderr(), "{text}"));
    }

    /// Something that turns on a terminal, nothing elsewhere; it says what is being done.
    pub(crate) fn spinner(self) -> indicatif::ProgressBar {
        if !self.terminal {
            return indicatif::ProgressBar::hidden();
        }
        let spinner = indicatif::ProgressBar::new_spinner();
        spinner.enable_steady_tick(std::time::Duration::from_millis(100));
        spinner
    }

    /// A bar on a terminal, nothing elsewhere.
    pub(crate) fn bar(self, what: &'static str, length: u64) -> indicatif::ProgressBar {
        if !self.terminal {
            return indicatif::ProgressBar::hidden();
        }
        let style = indicatif::ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}");
        let bar = indicatif::ProgressBar::new(length).with_message(what);
        bar.with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
    }
}

/// Text from outside must not steer the terminal or break the row.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// At most `chars` of a text, with a mark where something is left out.
pub(crate) fn shorten(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars()
        .take(chars.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// A field of a JSON object as a cell: strings bare, nothing as `-`.
pub(crate) fn cell(value: &Value, field: &str) -> String {
    match &value[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Block YAML with JSON's scalars, every one of which is a YAML scalar of the same value.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    write_yaml(&mut out, value, 0, false);
    out
}

fn write_yaml(out: &mut String, value: &Value, indent: usize, inline: bool) {
    let pad = |out: &mut String, first: bool| {
        if !(first && inline) {
            out.extend(std::iter::repeat_n(' ', indent));
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (i, (name, field)) in fields.iter().enumerate() {
                pad(out, i == 0);
                let plain = name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                    && !matches!(
                        name.as_str(),
                        "" | "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
                    );
                if plain {
                    out.push_str(name);
                } else {
                    out.push_str(&Value::from(name.as_str()).to_string());
                }
                out.push(':');
                nested(out, field, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                pad(out, i == 0);
                out.push_str("- ");
                write_yaml(out, item, indent + 2, true);
            }
        }
        scalar => {
            out.push_str(&scalar.to_string());
            out.push('\n');
        }
    }
}

fn nested(out: &mut String, value: &Value, indent: usize) {
    let block = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if block {
        out.push('\n');
        write_yaml(out, value, indent, false);
    } else {
        out.push(' ');
        out.push_str(&value.to_string());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(format: Format, value: &Value) -> String {
        let shared = Shared::default();
        let mut output = Output::to(format, Box::new(shared.clone()));
        let rows = |value: &Value| Rows {
            header: &["NAME", "VERSION"],
            rows: value["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| vec![cell(item, "name"), cell(item, "version")])
                .collect(),
        };
        output.print(value, rows).expect("memory takes it");
        let bytes = shared.0.borrow().clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn the_same_value_in_every_format() {
        let value = json!({"items": [{"name": "orders", "version": "ab"}, {"name": "a\u{1b}[31m\nb", "version": null}], "next": null});
        let table = printed(Format::Table, &value);
        assert!(
            table.contains("orders") && table.starts_with("NAME"),
            "{table}"
        );
        assert_eq!(
            table.lines().count(),
            3,
            "a line break in a cell stays in its row: {table}"
        );
        assert!(!table.contains('\u{1b}'), "no escape sequence gets through");
        assert_eq!(
            serde_json::from_str::<Value>(&printed(Format::Json, &value)).ok(),
            Some(value.clone())
        );
        let yaml = printed(Format::Yaml, &value);
        assert_eq!(
            yaml,
            "items:\n  - name: \"orders\"\n    version: \"ab\"\n  - name: \"a\\u001b[31m\\nb\"\n    version: null\nnext: null\n"
        );
    }

    #[test]
    fn yaml_of_the_odd_ones() {
        assert_eq!(yaml(&json!([])), "[]\n");
        assert_eq!(
            yaml(&json!({"a": {}, "on": [[1, 2], []]})),
            "a: {}\n\"on\":\n  - - 1\n    - 2\n  - []\n"
        );
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(printed(Format::Table, &json!({"items": []})), "nothing\n");
    }

    #[test]
    fn long_texts_are_cut_at_characters() {
        assert_eq!(shorten("äöüß", 3), "äö…");
        assert_eq!(shorten("äöü", 3), "äöü");
    }
}
