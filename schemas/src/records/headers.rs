//! Headers that Weir puts on records of its own topics. Text, so that any Kafka client can read them.
//!
//! On a record of `weir.triggers` or `weir.hops` these names are Weir's; what a sender's own headers were stands in the
//! record itself.

/// On `weir.triggers`: run this version (sha256 in hex) instead of the active one.
pub const VERSION: &str = "weir-version";
/// On a redriven record: the id of the redrive.
pub const REDRIVE: &str = "weir-redrive";
/// On a redriven record: the dead letter that it repeats.
pub const ORIGIN: &str = "weir-origin";
/// On a redriven record: the dead letter that the first redrive of all repeated.
pub const FIRST_ORIGIN: &str = "weir-first-origin";
/// On `weir.dead-letters`: this record is no dead letter; it purges the one with this id, in the same partition before it.
pub const PURGE: &str = "weir-purge";

/// The W3C trace of whoever sent the original.
pub const TRACE: &str = "traceparent";
