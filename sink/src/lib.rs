//! Topic → database: reads committed results and dead letters and writes them so that a retry is never a second effect.
//!
//! `sink.rs` reads, `writer.rs` writes, one batch behind; each destination kind is one folder that says what it promises. Sinks keep
//! their positions in the destination and commit no offsets to the log.

mod batch;
#[cfg(feature = "broken")]
mod broken;
mod clock;
mod destination;
mod erase;
mod error;
mod postgres;
mod retention;
mod rows;
mod scylla;
mod sink;
mod sqlite;
mod writer;
mod writes;

pub use destination::{Destination, Options};
pub use erase::{Erased, Told};
pub use error::SinkError;
pub use postgres::{Postgres, Wanted};
pub use retention::Retention;
pub use scylla::{Scylla, ScyllaSettings, Tls, WriteTimes};
pub use sink::{Sink, SinkConfig};
pub use sqlite::Sqlite;
pub use writes::{Allowed, Definitions, Target};
