//! A schema registry with Confluent's API: which schema a record of a user topic was written with, and under which ids
//! Weir's own schemas are known. The only place that knows the registry and its library.
//!
//! `Registry::known` answers from memory and never waits, for a lane's owner thread: what is not known is asked for in the
//! background. `memory` decides when (pure), `client` asks. `framing` finds a record's schema id, `own` registers Weir's own
//! schemas.
//!
//! Invariants: an outage never makes a schema unknown. At most one request is under way per schema, and while the registry
//! is down at most one per second in all. No url, log or error shows a password.

mod client;
mod config;
mod error;
mod framing;
mod known;
mod memory;
mod own;

pub use config::RegistryConfig;
pub use error::RegistryError;
pub use framing::{FramingError, SchemaId, framing, framing_of_key};
pub use known::{Known, Registry};
pub use own::register_own;
