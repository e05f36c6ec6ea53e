//! The log: on standard error, for people or as JSON, filtered by `WEIR_LOG` (or `RUST_LOG`), such as
//! `WEIR_LOG=warn,topics=debug`.

use std::io::{IsTerminal as _, Write as _};

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// `default`: the filter where the environment has none.
pub(crate) fn start(default: &str, format: LogFormat) {
    let set = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let filter = set("WEIR_LOG")
        .or_else(|| set("RUST_LOG"))
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// Progress goes to stderr. Whoever closed it does not want it.
pub(crate) fn say(text: &str) {
    if writeln!(std::io::stderr(), "{text}").is_err() {
        tracing::debug!("stderr is closed");
    }
}
