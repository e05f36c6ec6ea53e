//! One binary: the contract suite against the three logs, and what only the embedded log has to show.

mod contract;
mod crash;
mod embedded;
mod kafka;
