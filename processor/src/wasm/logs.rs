//! The log of one call: bounded, in order, safe to print.

use std::sync::Arc;

use parking_lot::Mutex;

use super::call::{Level, Log};

const BYTES_MAX: usize = 64 << 10;
/// A longer line is cut.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Shared by the store and the streams that the guest holds.
pub(super) type SharedLogs = Arc<Mutex<Logs>>;

#[derive(Default)]
pub(super) struct Logs {
    lines: Vec<Log>,
    bytes: usize,
    dropped: u32,
    lines_max: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Logs {
    /// `limits: { logs }` of the call that begins.
    pub(super) fn begin(&mut self, lines_max: u32) {
        self.lines_max = usize::try_from(lines_max).unwrap_or(usize::MAX);
    }

    pub(super) fn line(&mut self, level: Level, message: &str) {
        if self.lines.len() >= self.lines_max || self.bytes >= BYTES_MAX {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let message = printable(message, LINE_BYTES_MAX.min(BYTES_MAX - self.bytes));
        self.bytes += message.len();
        self.lines.push(Log { level, message });
    }

    /// What a guest wrote to a stream becomes lines.
    pub(super) fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.partial(stream, &bytes[..end]);
            self.flush(stream);
            bytes = &bytes[end + 1..];
        }
        self.partial(stream, bytes);
    }

    /// The lines so far; what was begun on a stream counts as a line.
    pub(super) fn peek(&mut self) -> &[Log] {
        self.end_lines();
        &self.lines
    }

    /// All there is, and how much was dropped; the next call starts with nothing.
    pub(super) fn take(&mut self) -> (Vec<Log>, u32) {
        self.end_lines();
        self.bytes = 0;
        (
            std::mem::take(&mut self.lines),
            std::mem::take(&mut self.dropped),
        )
    }

    fn end_lines(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.buffer(stream).is_empty() {
                self.flush(stream);
            }
        }
    }

    /// Room for a cut line's first bytes only: the rest of it can never be shown.
    fn partial(&mut self, stream: Stream, bytes: &[u8]) {
        let buffer = self.buffer(stream);
        let room = (LINE_BYTES_MAX + 1).saturating_sub(buffer.len());
        buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn flush(&mut self, stream: Stream) {
        let level = match stream {
            Stream::Stdout => Level::Info,
            Stream::Stderr => Level::Warn,
        };
        let bytes = std::mem::take(self.buffer(stream));
        self.line(level, &String::from_utf8_lossy(&bytes));
    }

    fn buffer(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// At most `max` bytes of the text, without terminal escapes and control characters but tabs and line ends: a step's words reach terminals
/// and browsers.
pub(super) fn printable(text: &str, max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(max));
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\n' | '\t' => clean.push(c),
            c if c.is_control() => {}
            c => clean.push(c),
        }
        if clean.len() > max {
            let mut end = max.saturating_sub('…'.len_utf8());
            while !clean.is_char_boundary(end) {
                end -= 1;
            }
            clean.truncate(end);
            if max >= '…'.len_utf8() {
                clean.push('…');
            }
            break;
        }
    }
    clean
}

/// CSI: up to a byte in @…~. OSC: up to BEL or ST. Else: one character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => {
            chars.by_ref().find(|c| ('@'..='~').contains(c));
        }
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_control_characters_are_removed() {
        for (text, shown) in [
            ("plain\tä", "plain\tä"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]8;;x\u{1b}\\b", "ab"),
            ("\rover\u{8}\u{0}", "over"),
            ("end\u{1b}", "end"),
            ("\u{9b}31m", "31m"),
        ] {
            assert_eq!(printable(text, 100), shown);
        }
        assert_eq!(printable("äääää", 7), "ää…");
        assert_eq!(printable("abc", 0), "");
    }

    #[test]
    fn streams_become_lines_and_the_budget_holds() {
        let mut logs = Logs::default();
        logs.begin(1_000);
        logs.write(Stream::Stdout, b"one\ntw");
        logs.write(Stream::Stderr, b"oops\n");
        logs.write(Stream::Stdout, b"o");
        let (lines, dropped) = logs.take();
        let shown: Vec<_> = lines
            .iter()
            .map(|line| (line.level, line.message.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                (Level::Info, "one"),
                (Level::Warn, "oops"),
                (Level::Info, "two")
            ]
        );
        assert_eq!(dropped, 0);

        for _ in 0..2_000 {
            logs.line(Level::Info, "x");
        }
        let (lines, dropped) = logs.take();
        assert_eq!((lines.len(), dropped), (1_000, 1_000));

        for _ in 0..100 {
            logs.write(Stream::Stdout, &[b'y'; 100 << 10]);
            logs.write(Stream::Stdout, b"\n");
        }
        let (lines, dropped) = logs.take();
        assert!(lines.iter().map(|line| line.message.len()).sum::<usize>() <= BYTES_MAX);
        assert_eq!(lines.len() + dropped as usize, 100);
    }
}
