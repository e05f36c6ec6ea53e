//! Lines for the execution's log. A step that calls one of these imports `weir:step/log`, so its graph must say
//! `log: true`; a step that calls none does not import it.

pub use crate::bindings::weir::step::log::Level;

/// Writes one line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::weir::step::log::write(level, message);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}

/// A line for who looks into one execution closely.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// A line for everyone.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Something odd that the step could live with.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Something that went wrong.
pub fn error(message: &str) {
    write(Level::Error, message);
}
