//! What needs a real Kafka broker: ours and the peers, on one broker that is started for the run.
//!
//! `cluster` is the broker and how the bench counts on it; `orders` the work; `child` our side as a process, `ours` a pass of
//! it; `pass` watches a process work; `plain` the line without transactions; `serve` the real `weir`. The rest are the rows:
//! `streams`, `raw`, `tax`, `latency`, `surface`, `user_topics`, `activation`, `line`.

pub(crate) mod activation;
pub mod child;
mod cluster;
pub(crate) mod latency;
pub(crate) mod line;
pub(crate) mod orders;
mod ours;
mod pass;
mod plain;
pub mod raw;
mod serve;
pub(crate) mod streams;
pub(crate) mod surface;
pub(crate) mod tax;
pub(crate) mod user_topics;
