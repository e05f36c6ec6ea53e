//! Topic → database: reads committed results and dead letters and writes them so that a retry is never a second effect.
//!
//! `sink.rs` is the loop; each destination kind is one file that says what it promises. Sinks keep their positions in the
//! destination, in the same database transaction as the rows, and commit no offsets to the log.

mod batch;
mod error;
mod sink;
mod sqlite;

pub use error::SinkError;
pub use sink::{Sink, SinkConfig};
pub use sqlite::Sqlite;
