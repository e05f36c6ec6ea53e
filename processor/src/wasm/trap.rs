//! How a call broke, in words for the one who wrote the step: what happened, which limit, which setting raises it.

use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use super::call::{Broken, Call, Level, Log};

/// Weir refuses what the guest asks of it: the call ends as a trap.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(pub(super) String);

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
    }
}

/// Something of ours that the call needs does not answer: the record runs again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unavailable(pub(super) String);

/// The call waited for answers until its time was up.
#[derive(Debug, thiserror::Error)]
#[error("its time was up while it waited for an answer")]
pub(super) struct Waited;

/// What is known beside the error itself.
pub(super) struct Circumstances<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) memory_limit: u64,
    pub(super) memory_refused: bool,
    pub(super) logs: &'a [Log],
}

/// What wasmtime says when more was copied out of the guest than `set_hostcall_fuel` allows; the error's type is private.
const FUEL_MESSAGE: &str = "fuel allocated for hostcalls has been exhausted";
/// Bytes of the guest's last words in a message.
const WORDS_BYTES_MAX: usize = 1 << 10;

pub(super) fn classify(error: &wasmtime::Error, about: &Circumstances<'_>) -> (Broken, String) {
    if let Some(busy) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        return (
            Broken::HostBusy,
            format!("no wasm instance is free: {busy}"),
        );
    }
    if let Some(unavailable) = error.downcast_ref::<Unavailable>() {
        return (Broken::HostBusy, unavailable.to_string());
    }
    let time_is_up = || {
        let time = about.call.limits.time;
        format!("ran longer than {time:?} and was stopped (`limits: {{ time }}` allows more)")
    };
    let (broken, message) = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => (Broken::Timeout, time_is_up()),
        None if error.is::<Waited>() => (Broken::Timeout, time_is_up()),
        _ if about.memory_refused => {
            let limit = bytes(about.memory_limit);
            (
                Broken::OutOfMemory,
                format!("needs more memory than {limit} (`limits: {{ memory }}` allows more)"),
            )
        }
        Some(trap) => of_trap(*trap),
        None => of_error(error, about),
    };
    (broken, with_last_words(message, about.logs))
}

/// An error before the guest's first instruction: not the guest's doing, unless it wanted more memory than it may have.
pub(super) fn classify_start(
    error: &wasmtime::Error,
    about: &Circumstances<'_>,
) -> (Broken, String) {
    if about.memory_refused
        || error.is::<Trap>()
        || error.is::<I32Exit>()
        || error.is::<Refusal>()
        || error.is::<PoolConcurrencyLimitError>()
    {
        return classify(error, about);
    }
    (
        Broken::HostBusy,
        format!("no wasm instance could be made: {}", one_line(error)),
    )
}

pub(super) fn output_too_large(what: &str) -> (Broken, String) {
    (Broken::OutputTooLarge, what.to_owned())
}

/// `64 MiB`, `1.5 MiB`, `300 B`.
pub(super) fn bytes(n: u64) -> String {
    match n {
        n if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n if n >= 1 << 20 => format!("{:.1} MiB", n as f64 / f64::from(1 << 20)),
        n if n >= 1 << 10 && n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
        n => format!("{n} B"),
    }
}

fn of_trap(trap: Trap) -> (Broken, String) {
    let message = match trap {
        Trap::StackOverflow => {
            return (
                Broken::StackOverflow,
                "calls itself too deeply: its stack is used up".into(),
            );
        }
        Trap::InvalidChar
        | Trap::StringOutOfBounds
        | Trap::ListOutOfBounds
        | Trap::InvalidDiscriminant
        | Trap::UnalignedPointer => {
            return (
                Broken::Protocol,
                format!("gave Weir something that cannot be read: {}", name(trap)),
            );
        }
        Trap::CannotEnterComponent | Trap::CannotLeaveComponent => {
            return (
                Broken::Protocol,
                format!("called Weir at a moment when it may not: {}", name(trap)),
            );
        }
        Trap::UnreachableCodeReached => "panicked or aborted (wasm `unreachable`)".into(),
        Trap::MemoryOutOfBounds => {
            "reached outside its memory (recursion without end does this too)".into()
        }
        Trap::IntegerDivisionByZero => "divided by zero".into(),
        other => format!("trapped: {}", name(other)),
    };
    (Broken::Trap, message)
}

fn of_error(error: &wasmtime::Error, about: &Circumstances<'_>) -> (Broken, String) {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return (
            Broken::Trap,
            format!("called exit({}) instead of returning", exit.0),
        );
    }
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return (Broken::Trap, format!("was stopped: {refusal}"));
    }
    let text = one_line(error);
    if text.contains(FUEL_MESSAGE) {
        let limit = bytes(about.call.limits.output_bytes);
        return output_too_large(&format!(
            "gave Weir more than {limit} at once (`limits: {{ output }}` allows more)"
        ));
    }
    (
        Broken::Protocol,
        format!("gave Weir something that cannot be read: {text}"),
    )
}

fn name(trap: Trap) -> String {
    trap.to_string()
        .trim_start_matches("wasm trap: ")
        .to_owned()
}

fn one_line(error: &wasmtime::Error) -> String {
    error
        .root_cause()
        .to_string()
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What engines say at their end, whatever the reason was.
const NOISE: [&str; 4] = [
    "note: run with",
    "Redirecting call to abort()",
    "panicked at runtime/src/lib.rs",
    "Python function threw an unexpected exception",
];

/// A guest that fails by accident says why on stderr, if it has one: where it panicked and what follows, or its last lines.
fn with_last_words(mut message: String, logs: &[Log]) -> String {
    let words: Vec<&str> = logs
        .iter()
        .filter(|line| line.level >= Level::Warn)
        .map(|line| line.message.trim())
        .filter(|line| !line.is_empty() && !NOISE.iter().any(|noise| line.contains(noise)))
        .collect();
    let from = words
        .iter()
        .rposition(|line| line.contains("panicked at"))
        .unwrap_or(words.len().saturating_sub(LAST_LINES));
    if !words[from..].is_empty() {
        message.push_str(": ");
        message.push_str(&super::logs::printable(
            &words[from..].join(" "),
            WORDS_BYTES_MAX,
        ));
    }
    message
}

/// Of what a guest without Rust's panics wrote last: an exception and the end of its trace.
const LAST_LINES: usize = 4;
