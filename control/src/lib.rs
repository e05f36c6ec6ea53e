//! The control plane: graphs and modules come in and are proven again, executions and dead letters are shown, and the
//! changes of graphs are copied to `weir.graphs`. Dead letters are redriven and purged, and payloads that nothing refers to any more are removed.
//!
//! Invariants: nothing becomes active that was not proven here, whatever a client claims; the history database is only
//! read; every list is bounded. This crate does not run graphs and does not write history: the processor and the sink do.

mod activations;
mod apply;
mod auth;
mod clock;
mod copier;
mod dead_letters;
mod executions;
mod grants;
mod graphs;
mod history;
mod lifecycle;
mod modules;
mod payloads;
mod problem;
mod redrives;
mod replays;
mod router;
mod secrets;
mod show;
mod sink_schemas;
mod sweeper;
mod tables;
mod user_topics;

pub use activations::{Activations, KIND};
pub use apply::unsupported;
pub use clock::{instant, rfc3339};
pub use grants::{Granted, Grants};
pub use history::{Connect, Connecting, History, HistoryError};
pub use redrives::{KIND as REDRIVES_KIND, Redrives};
pub use router::{ControlState, Readiness, api, router};
pub use show::shown;
pub use sweeper::Sweeper;
pub use tables::{Looked, Tables};
pub use user_topics::MissingTopics;
