//! Topic → topic: runs the graphs' steps on committed triggers and hops, and commits what they came to together with the
//! consumed offsets.
//!
//! `run.rs` is the pure kernel; `execute/` drives it for one record with the WASM engine; `lane/` is the only commit of
//! outputs with offsets; `definitions.rs` holds the graphs in use; `large.rs` is for payloads that no record takes. It knows no HTTP, no database sink and no schedule.

mod backoff;
#[cfg(feature = "broken")]
mod broken;
mod clock;
mod config;
mod crew;
mod definitions;
mod error;
mod execute;
mod follow;
pub mod isolation;
mod lane;
mod large;
mod pending;
mod processor;
pub mod rehearsal;
mod released;
pub mod run;
mod settle;
mod started;
mod streams;
mod topic_ids;
pub mod wasm;
mod watch;
pub mod web;
mod workers;

pub use clock::{Clock, SystemClock};
pub use config::{ProcessorConfig, Reads};
pub use definitions::{Definitions, Demoted, Demotion, Loaded, Schema};
pub use error::ProcessorError;
pub use execute::{Active, Executor, Graphs, Notes, State, Steps, Subscriber, Way};
pub use follow::follow;
pub use lane::{Lane, Surroundings};
pub use processor::Processor;
pub use streams::{Releasing, Streams, Subscribed};
pub use topic_ids::TopicIds;
pub use workers::Work;
