//! One binary: the contract suite against the three logs, and what only the embedded log has to show.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and tells what it does"
)]

mod contract;
mod crash;
mod embedded;
mod kafka;
mod shards;
