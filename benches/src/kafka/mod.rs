//! What needs a real Kafka broker: ours and the peers, on one broker that is started for the run.
//!
//! `cluster` is the broker and how the bench counts on it; `orders` the work; `child` our side as a process; `pass` watches a
//! process work; the rest are the rows.

pub mod child;
mod cluster;
mod orders;
mod pass;
pub(crate) mod streams;
