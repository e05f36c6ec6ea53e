//! The binary as a person uses it: real processes, real sockets, real kills.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authors;
mod bad_steps;
mod disk_full;
mod erase;
mod host_crash;
mod http;
mod kafka;
mod kafka_proxy;
mod kill;
mod lifecycle;
mod line;
mod payloads;
mod proof;
mod redrive;
mod registry;
mod serve;
mod steps;
mod weir;
