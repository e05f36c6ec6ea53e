//! What is wrong with a graph file: where, what, and the way out.

use std::fmt;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    pub message: String,
    /// The way out, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Byte offset and length in the source.
    #[serde(skip)]
    pub span: (usize, usize),
}

/// All that is wrong with one graph file; never empty. `Display` prints each with its place, its line of the source, a caret
/// and the way out; as a `Diagnostic` it can be drawn by miette's handlers.
#[derive(Clone, Debug)]
pub struct Problems {
    pub file: String,
    /// In the order of their places.
    pub problems: Vec<Problem>,
    source: Arc<NamedSource<String>>,
}

/// The start of a value in the source, and its length, in bytes.
pub(super) type Span = (usize, usize);

/// The way out of a problem, or none.
pub(super) struct Help(Option<String>);

impl From<&str> for Help {
    fn from(text: &str) -> Self {
        Self(Some(text.to_owned()))
    }
}

impl From<String> for Help {
    fn from(text: String) -> Self {
        Self(Some(text))
    }
}

impl From<Option<String>> for Help {
    fn from(text: Option<String>) -> Self {
        Self(text)
    }
}

/// Gathers problems while a graph is proven.
pub(super) struct Report<'a> {
    text: &'a str,
    found: Vec<Problem>,
}

impl Problems {
    /// One list for `{message, help, line, column}` objects.
    pub fn list(&self) -> &[Problem] {
        &self.problems
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            found: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, span: Span, message: impl Into<String>, help: impl Into<Help>) {
        let (start, len) = clamp(self.text, span);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let problem = Problem {
            message: message.into(),
            help: help.into().0,
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span: (start, len),
        };
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }

    /// The line that a span begins on, from 1.
    pub(super) fn line(&self, span: Span) -> usize {
        let (start, _) = clamp(self.text, span);
        self.text[..start].bytes().filter(|b| *b == b'\n').count() + 1
    }

    pub(super) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// Of a report that has something to say.
    pub(super) fn finish(mut self, file: &str) -> Problems {
        self.found.sort_by_key(|problem| problem.span.0);
        let source = Arc::new(NamedSource::new(file, self.text.to_owned()));
        Problems {
            file: file.to_owned(),
            problems: self.found,
            source,
        }
    }
}

/// Moves a span onto character borders within the text.
fn clamp(text: &str, (start, len): Span) -> Span {
    let start = text.floor_char_boundary(start.min(text.len()));
    let end = text.floor_char_boundary(start.saturating_add(len).min(text.len()));
    (start, end.max(start) - start)
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write_problem(f, &self.file, self.source.inner(), problem)?;
        }
        Ok(())
    }
}

/// `file:line:col: message`, the line, a caret below the place, the help.
fn write_problem(
    f: &mut fmt::Formatter<'_>,
    file: &str,
    text: &str,
    problem: &Problem,
) -> fmt::Result {
    writeln!(
        f,
        "{file}:{}:{}: {}",
        problem.line, problem.column, problem.message
    )?;
    let line = text.lines().nth(problem.line - 1).unwrap_or_default();
    let margin = problem.line.to_string().len();
    // Very long lines are cut around the place.
    let skip = if problem.column > LINE_CHARS {
        problem.column - LINE_CHARS / 2
    } else {
        0
    };
    let shown: String = line
        .chars()
        .skip(skip)
        .take(LINE_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let at = problem.column - 1 - skip;
    let (start, len) = problem.span;
    let spanned = text[start..start + len]
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .count();
    let carets = spanned.clamp(1, shown.chars().count().saturating_sub(at).max(1));
    writeln!(f, "{} | {shown}", problem.line)?;
    writeln!(f, "{:margin$} | {:at$}{}", "", "", "^".repeat(carets))?;
    if let Some(help) = &problem.help {
        writeln!(f, "{:margin$} = help: {help}", "")?;
    }
    Ok(())
}

const LINE_CHARS: usize = 160;

impl std::error::Error for Problems {}
impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The whole list, as `[{message, help, line, column}]`.
impl serde::Serialize for Problems {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.problems.serialize(serializer)
    }
}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (start, len) = self.span;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(
            Some("here".into()),
            SourceSpan::new(start.into(), len),
        ))))
    }
}

impl Diagnostic for Problems {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(
            self.problems
                .iter()
                .map(|problem| problem as &dyn Diagnostic),
        ))
    }
}
