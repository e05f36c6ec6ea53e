//! The control plane over real HTTP, on a store in memory, the embedded log in memory and a history file that the tests fill.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod activations;
mod dead_letters;
mod executions;
mod graphs;
mod lifecycle;
mod payloads;
mod redrives;
mod support;
mod topics;
