//! The embedded log: what Kafka promises, for one process, in one SQLite file or in memory.
//!
//! - `state` is everything as a pure machine (partitions, groups, fences); `group` and `batch` are its parts.
//! - `writer` is the one thread that writes: it stages what waits, writes it in one transaction, applies it.
//! - `file` is the only place that knows SQLite; `encode` turns records into chunks.
//! - `member`, `source`, `append` are the handles; `open` is the log itself.
//!
//! Invariants: a record is visible only after it is durable; a plan is applied whole or not at all; one process opens a
//! file. Not here: other processes as readers, replication. In memory everything is applied by the calling thread, in
//! order: driven by one thread it is deterministic.

mod append;
mod batch;
mod encode;
mod file;
mod group;
mod member;
mod open;
mod source;
mod state;
mod writer;

pub use open::{Embedded, EmbeddedConfig};
