//! Topic → topic: runs the graphs' steps on committed triggers and hops, and commits what they came to together with the
//! consumed offsets.
//!
//! `run.rs` is the pure kernel; `execute.rs` drives it for one record with the WASM engine; `lane.rs` is the only commit of
//! outputs with offsets; `definitions.rs` holds the graphs in use. It knows no HTTP, no database sink and no schedule.

mod backoff;
#[cfg(feature = "broken")]
mod broken;
mod clock;
mod config;
mod definitions;
mod error;
mod execute;
mod follow;
pub mod isolation;
mod lane;
mod pending;
mod processor;
pub mod run;
mod started;
mod topic_ids;
pub mod wasm;
mod watch;
mod workers;

pub use clock::{Clock, SystemClock};
pub use config::{ProcessorConfig, Reads};
pub use definitions::{Definitions, Loaded};
pub use error::ProcessorError;
pub use execute::{Executor, Graphs, Steps};
pub use follow::follow;
pub use lane::{Lane, Surroundings};
pub use processor::Processor;
pub use topic_ids::TopicIds;
pub use workers::Work;
