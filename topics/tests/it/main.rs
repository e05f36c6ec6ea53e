//! One binary: the contract suite against the three logs, what only the embedded log has to show, and the registry.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and tells what it does"
)]

mod contract;
mod crash;
mod embedded;
mod kafka;
mod registry;
mod shards;
